//! The two threads of a log: one writes groups, the other syncs them.
//!
//! The append thread drains the queue into one group and writes it. The sync thread syncs all that is written and moves
//! the durable mark. They are apart so that a buffered append never waits for a sync; a small group of durable appends
//! does wait for the sync that is running, because it could not be acknowledged earlier anyway and others join it
//! meanwhile.
//!
//! Invariants: a durable promise is kept only after a sync that began after its group was written; after the first
//! failure everything unfinished is answered with it, and no file is synced again.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::format::RECORD_HEADER_BYTES;
use super::recover::Recovered;
use super::state::{Batch, Kept, Marks, State, Sync};
use super::writer::{GroupContext, WriteError, Writer};
use super::{Completion, Durability, LogError, LogOptions};

/// What callers and both threads share.
pub(super) struct Shared {
    /// Held for bookkeeping only: never during input or output, nor while the clock is read or a promise answered.
    state: Mutex<State>,
    /// Wakes the append thread: work, a sync that ended, closing.
    for_append: Condvar,
    /// Wakes the sync thread: a group that was written, closing.
    for_sync: Condvar,
    options: LogOptions,
}

/// What the append thread does next.
enum Work {
    /// A mark, if there are no batches.
    Group(Vec<Batch>, Marks),
    End,
}

impl Shared {
    pub(super) fn new(recovered: &Recovered, options: LogOptions) -> Self {
        let state = Mutex::new(State::new(recovered));
        Self { state, for_append: Condvar::new(), for_sync: Condvar::new(), options }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(&self, payloads: Vec<Vec<u8>>, durability: Durability) -> Result<Completion, LogError> {
        if payloads.is_empty() {
            return Err(LogError::Empty);
        }
        // With the records' headers: payloads may be empty, but never free.
        let append_bytes = payloads.iter().map(|payload| (RECORD_HEADER_BYTES + payload.len()) as u64).sum();
        // Lengths and counts in the format have 32 bits.
        let append_bytes_max = self.options.pending_bytes_max.min(u64::from(u32::MAX));
        if append_bytes > append_bytes_max {
            return Err(LogError::TooLarge { append_bytes, append_bytes_max });
        }
        let mut state = self.lock();
        state.accepts(self.options.epoch)?;
        let (pending_bytes, pending_bytes_max) = (state.pending_bytes, self.options.pending_bytes_max);
        if pending_bytes + append_bytes > pending_bytes_max {
            return Err(LogError::Full { pending_bytes, append_bytes, pending_bytes_max });
        }
        let completion = state.enqueue(payloads, append_bytes, durability);
        drop(state);
        self.for_append.notify_one();
        Ok(completion)
    }

    pub(super) fn fence(&self, epoch: u64) -> Result<(), LogError> {
        let mut state = self.lock();
        state.is_open()?;
        state.fence = state.fence.max(epoch);
        // Also where it changes nothing: the call that set it may not have reached the disk yet.
        let completion = state.enqueue(Vec::new(), 0, Durability::Durable);
        drop(state);
        self.for_append.notify_one();
        completion.wait().map(|_| ())
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.for_append.notify_one();
        self.for_sync.notify_one();
    }

    /// The append thread.
    pub(super) fn run_append(&self, mut writer: Writer) {
        let _poison = PoisonOnPanic(self);
        while let Work::Group(batches, marks) = self.next_work() {
            self.write_group(&mut writer, batches, marks);
        }
        self.lock().append_ended = true;
        self.for_sync.notify_one();
    }

    fn next_work(&self) -> Work {
        let mut state = self.lock();
        loop {
            if state.health().is_err() {
                return Work::End;
            }
            if state.has_group() {
                return Work::Group(state.take_group(self.options.group_bytes_max), state.marks());
            }
            let mark_due = (state.is_idle() && state.lacks_mark()).then(|| state.synced_at + self.options.mark_delay);
            match mark_due {
                Some(due) if state.closing || due <= Instant::now() => return Work::Group(Vec::new(), state.marks()),
                Some(due) => state = wait_until(&self.for_append, state, due),
                None if state.is_idle() && state.closing => return Work::End,
                None => state = wait(&self.for_append, state),
            }
        }
    }

    fn write_group(&self, writer: &mut Writer, batches: Vec<Batch>, marks: Marks) {
        // Here too, so that the log is poisoned before the batches' promises are dropped.
        let _poison = PoisonOnPanic(self);
        let Marks { durable, fence } = marks;
        let context = GroupContext { epoch: self.options.epoch, time_us: (self.options.clock)(), durable, fence };
        let written = writer.write(&batches, context);
        let mut state = self.lock();
        state.group_ended(&batches, marks, written.is_ok());
        state.files.extend(writer.take_begun());
        if let Some(current) = state.files.last_mut() {
            current.bytes = writer.file_bytes();
        }
        let refusal = match (written, state.health()) {
            (Ok(written), Ok(())) => {
                let kept = state.group_written(batches, written);
                drop(state);
                self.for_sync.notify_one();
                return keep(kept);
            }
            (Err(WriteError::Refused(error)), Ok(())) => error,
            (Err(WriteError::Failed(error)), Ok(())) => {
                drop(state);
                self.poison(error.to_string())
            }
            (_, Err(earlier)) => earlier,
        };
        for batch in batches {
            batch.promise.answer(Err(refusal.clone()));
        }
    }

    /// The sync thread.
    pub(super) fn run_sync(&self) {
        let _poison = PoisonOnPanic(self);
        while let Some(sync) = self.next_sync() {
            for file in &sync.files {
                if let Err(error) = file.file.sync_data() {
                    self.poison(format!("cannot sync {}: {error}", file.path.display()));
                    return;
                }
            }
            let kept = self.lock().end_sync(&sync);
            self.for_append.notify_one();
            keep(kept);
        }
    }

    /// Waits until something has to be durable.
    fn next_sync(&self) -> Option<Sync> {
        let mut state = self.lock();
        loop {
            if state.health().is_err() {
                return None;
            }
            if !state.is_dirty() {
                if state.append_ended {
                    return None;
                }
                state = wait(&self.for_sync, state);
                continue;
            }
            let due = state.dirty_since + self.options.sync_delay;
            if state.sync_is_urgent() || due <= Instant::now() {
                return Some(state.begin_sync());
            }
            state = wait_until(&self.for_sync, state, due);
        }
    }

    /// Answers everything unfinished with the first failure, and everything later too.
    fn poison(&self, reason: String) -> LogError {
        let mut state = self.lock();
        if let Err(earlier) = state.health() {
            return earlier;
        }
        tracing::error!(reason, "the log is poisoned");
        let error = LogError::Poisoned { reason: reason.into() };
        let broken = state.fail(error.clone());
        drop(state);
        self.for_append.notify_one();
        self.for_sync.notify_one();
        for promise in broken {
            promise.answer(Err(error.clone()));
        }
        error
    }
}

fn keep(kept: Vec<Kept>) {
    for (promise, committed) in kept {
        promise.answer(Ok(committed));
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

fn wait_until<'a>(condition: &Condvar, state: MutexGuard<'a, State>, due: Instant) -> MutexGuard<'a, State> {
    let left = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    condition.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
}

/// A thread that is gone must not leave anybody waiting.
struct PoisonOnPanic<'a>(&'a Shared);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison("a commit thread has panicked".to_owned());
        }
    }
}
