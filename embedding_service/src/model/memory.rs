//! The memory that models may take, and which of them give theirs up.
//!
//! A model takes its part before its files are read, and gives it back when it is dropped, which is when the last call that
//! uses it has ended. Where there is no room, the models that were used longest ago are asked to leave, no more of them than
//! it takes; the default model never is. It is loaded even beyond the limit: without it there would be no service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::slot::Slot;

/// For those who use a model that was asked to leave.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(30);
/// Another model may be in use only now, so that it could be asked to leave.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The memory of all models.
pub(super) struct Memory {
    bytes_max: usize,
    leave_time_max: Duration,
    /// Guards three numbers, for moments; told of every part that comes back.
    bytes: Mutex<Bytes>,
    freed: Condvar,
    slots: OnceLock<Vec<Weak<Slot>>>,
    /// Held by the one whose files are in memory beside what is made of them.
    loading: Mutex<()>,
}

#[derive(Default)]
struct Bytes {
    taken: usize,
    /// Of these, what does not come back.
    staying: usize,
    /// Of these, what comes back as soon as the calls end that use it.
    leaving: usize,
}

/// A model's part of the memory, until it is dropped.
pub(super) struct Part {
    memory: Arc<Memory>,
    bytes: usize,
    stays: Stays,
    is_leaving: AtomicBool,
}

/// How long a model stays in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// Once it is there.
    Always,
    /// Until another one needs the room.
    UntilRoomIsNeeded,
}

/// There is no memory for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NoRoom {
    reason: String,
    /// Whether there may be room later: models that are in use have it.
    pub passes: bool,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self::with_patience(bytes_max, LEAVE_TIME_MAX))
    }

    fn with_patience(bytes_max: usize, leave_time_max: Duration) -> Self {
        Self {
            bytes_max,
            leave_time_max,
            bytes: Mutex::default(),
            freed: Condvar::new(),
            slots: OnceLock::new(),
            loading: Mutex::default(),
        }
    }

    /// Says which models there are that can be asked to leave. Called once.
    pub(super) fn watch_over(&self, slots: &[Arc<Slot>]) {
        let set = self.slots.set(slots.iter().map(Arc::downgrade).collect());
        assert!(set.is_ok(), "they are told once");
    }

    /// A part for the model `id`; waits for others to leave. Blocks.
    pub(super) fn take(self: &Arc<Self>, id: &str, bytes: usize, stays: Stays) -> Result<Part, NoRoom> {
        let since = Instant::now();
        loop {
            let mut taken = self.lock();
            let room = self.bytes_max.saturating_sub(taken.taken);
            let never_fits = taken.staying.saturating_add(bytes) > self.bytes_max;
            if never_fits && stays == Stays::Always {
                tracing::warn!(
                    "the default model {id} needs {bytes} bytes of memory, more than --models-memory-bytes-max allows ({}); \
                     it is loaded nevertheless, and no other one that runs here will be",
                    self.bytes_max
                );
            }
            if bytes <= room || (never_fits && stays == Stays::Always) {
                taken.taken += bytes;
                taken.staying += if stays == Stays::Always { bytes } else { 0 };
                return Ok(Part { memory: self.clone(), bytes, stays, is_leaving: AtomicBool::new(false) });
            }
            // Before others leave in vain.
            if never_fits || since.elapsed() > self.leave_time_max {
                return Err(NoRoom {
                    reason: format!(
                        "it needs {bytes} bytes of memory, and {room} of the {} that --models-memory-bytes-max allows are free",
                        self.bytes_max
                    ),
                    passes: !never_fits,
                });
            }
            let is_coming = bytes <= room.saturating_add(taken.leaving);
            drop(taken);
            // Not under the lock: whoever leaves takes it.
            if is_coming || !self.ask_one_to_leave(id) {
                let taken = self.lock();
                drop(self.freed.wait_timeout(taken, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Leave to have a model's files in memory: one at a time, for they are beside the limit. Blocks.
    pub(super) fn load_alone(&self) -> MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_one_to_leave(&self, id: &str) -> bool {
        let slots = self.slots.get().into_iter().flatten().filter_map(Weak::upgrade);
        let mut others: Vec<_> = slots.filter(|slot| slot.may_leave() && slot.spec().id != id).collect();
        others.sort_by_key(|slot| slot.used());
        others.iter().any(|slot| slot.leave())
    }

    /// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says that it comes back soon.
    pub(super) fn leave(&self) {
        let mut taken = self.memory.lock();
        if !self.is_leaving.swap(true, Ordering::Relaxed) {
            taken.leaving += self.bytes;
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        taken.taken -= self.bytes;
        taken.staying -= if self.stays == Stays::Always { self.bytes } else { 0 };
        taken.leaving -= if *self.is_leaving.get_mut() { self.bytes } else { 0 };
        drop(taken);
        self.memory.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[test]
    fn room_that_others_have_may_come_and_what_never_fits_is_told_at_once() {
        let memory = Arc::new(Memory::with_patience(100, SOON));
        let first = memory.take("a", 60, Stays::UntilRoomIsNeeded).unwrap();
        let since = Instant::now();
        assert!(!memory.take("c", 101, Stays::UntilRoomIsNeeded).map(drop).unwrap_err().passes);
        assert!(since.elapsed() < SOON);
        let error = memory.take("b", 60, Stays::UntilRoomIsNeeded).map(drop).unwrap_err();
        assert!(error.passes && since.elapsed() >= SOON, "{error}");

        first.leave();
        let waiting = thread::spawn({
            let memory = memory.clone();
            move || memory.take("b", 60, Stays::UntilRoomIsNeeded).map(drop)
        });
        drop(first);
        waiting.join().unwrap().unwrap();
        let left = memory.lock();
        assert_eq!((left.taken, left.staying, left.leaving), (0, 0, 0));
    }

    #[test]
    fn default_model_is_taken_beyond_the_limit_and_then_no_other() {
        let memory = Arc::new(Memory::with_patience(100, SOON));
        let default = memory.take("default", 200, Stays::Always).unwrap();
        assert!(!memory.take("b", 1, Stays::UntilRoomIsNeeded).map(drop).unwrap_err().passes);
        drop(default);
        memory.take("b", 100, Stays::UntilRoomIsNeeded).unwrap();
    }
}
