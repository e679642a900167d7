//! What a log's callers and its two threads know together: what waits, what is written, what is synced.
//!
//! Bookkeeping only: no waiting, no input or output. Invariants: `durable <= written`; a promise is in exactly one
//! place: in the queue, with the append thread, among the unsynced, or answered. Groups are counted from 1 as they are
//! written, marks included: that is what a sync covers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::files::LogFile;
use super::recover::Recovered;
use super::writer::{OpenFile, Written};
use super::{Committed, Completion, Durability, LogError, Promise};
use crate::types::Sequence;

/// Durable appends up to this wait for the running sync; more of them are written while it runs.
const GATHERED_BYTES_MAX: u64 = 1024 * 1024;

/// What one caller has appended at once. Without payloads it only carries the fence to the disk.
pub(super) struct Batch {
    pub payloads: Vec<Vec<u8>>,
    pub promise: Promise,
    bytes: u64,
    durability: Durability,
}

/// A durable append that is written and not synced yet.
struct Unsynced {
    group: u64,
    committed: Committed,
    promise: Promise,
}

/// A promise that can be kept now.
pub(super) type Kept = (Promise, Committed);

/// What a group says about the log before it.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    pub durable: Sequence,
    pub fence: u64,
}

/// What one sync has to cover: all that is written when it begins.
pub(super) struct Sync {
    pub files: Vec<Arc<OpenFile>>,
    groups: u64,
    written: Sequence,
}

pub(super) struct State {
    queue: VecDeque<Batch>,
    /// Bytes of records in the queue and in the group being written: what `pending_bytes_max` bounds.
    pub pending_bytes: u64,
    queued_buffered: usize,
    unsynced: VecDeque<Unsynced>,
    /// Files with groups that no sync has begun to cover, oldest first.
    dirty: Vec<Arc<OpenFile>>,
    pub dirty_since: Instant,
    syncing: bool,
    pub synced_at: Instant,
    groups_written: u64,
    groups_synced: u64,
    pub written: Sequence,
    pub durable: Sequence,
    /// The highest durable mark that is written.
    marked: Sequence,
    pub fence: u64,
    /// Never empty; the last one is being written.
    pub files: Vec<LogFile>,
    pub closing: bool,
    pub append_ended: bool,
    failed: Option<LogError>,
}

impl State {
    pub(super) fn new(recovered: &Recovered) -> Self {
        Self {
            queue: VecDeque::new(),
            pending_bytes: 0,
            queued_buffered: 0,
            unsynced: VecDeque::new(),
            dirty: Vec::new(),
            dirty_since: Instant::now(),
            syncing: false,
            synced_at: Instant::now(),
            groups_written: 0,
            groups_synced: 0,
            written: recovered.report.last,
            durable: recovered.report.last, // recovery has synced what it has read
            marked: recovered.marked,
            fence: recovered.fence,
            files: recovered.files.clone(),
            closing: false,
            append_ended: false,
            failed: None,
        }
    }

    pub(super) fn health(&self) -> Result<(), LogError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    pub(super) fn is_open(&self) -> Result<(), LogError> {
        self.health()?;
        if self.closing { Err(LogError::Closed) } else { Ok(()) }
    }

    pub(super) fn accepts(&self, epoch: u64) -> Result<(), LogError> {
        self.is_open()?;
        if epoch < self.fence {
            return Err(LogError::Fenced { epoch, fence: self.fence });
        }
        Ok(())
    }

    pub(super) fn enqueue(&mut self, payloads: Vec<Vec<u8>>, bytes: u64, durability: Durability) -> Completion {
        let (promise, completion) = Completion::pair();
        self.pending_bytes += bytes;
        self.queued_buffered += usize::from(durability == Durability::Buffered);
        self.queue.push_back(Batch { payloads, promise, bytes, durability });
        completion
    }

    /// Whether something is queued and had better not wait for others.
    pub(super) fn has_group(&self) -> bool {
        let all_wait_for_the_sync = self.syncing && self.queued_buffered == 0 && !self.closing;
        let gathers = all_wait_for_the_sync && self.pending_bytes < GATHERED_BYTES_MAX;
        !gathers && !self.queue.is_empty()
    }

    pub(super) fn take_group(&mut self, group_bytes_max: u64) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = self.queue.front() {
            if !batches.is_empty() && bytes + batch.bytes > group_bytes_max {
                break;
            }
            bytes += batch.bytes;
            self.queued_buffered -= usize::from(batch.durability == Durability::Buffered);
            batches.extend(self.queue.pop_front());
        }
        batches
    }

    /// Whether everything handed over is on the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.groups_synced == self.groups_written
    }

    /// Whether the disk promises less than was promised to callers.
    pub(super) fn lacks_mark(&self) -> bool {
        self.durable > self.marked
    }

    pub(super) fn marks(&self) -> Marks {
        Marks { durable: self.durable, fence: self.fence }
    }

    /// The append thread has tried a group; `written` says whether its mark, too, need not be tried again.
    pub(super) fn group_ended(&mut self, batches: &[Batch], marks: Marks, written: bool) {
        self.pending_bytes -= batches.iter().map(|batch| batch.bytes).sum::<u64>();
        // A mark that was refused waits until there is more to say.
        if written || batches.is_empty() {
            self.marked = self.marked.max(marks.durable);
        }
    }

    /// Returns the promises that hold now: the buffered ones.
    pub(super) fn group_written(&mut self, batches: Vec<Batch>, written: Written) -> Vec<Kept> {
        self.groups_written += 1;
        self.written = written.last;
        if self.dirty.is_empty() {
            self.dirty_since = Instant::now();
        }
        if !self.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &written.file)) {
            self.dirty.push(written.file);
        }
        let group = self.groups_written;
        let mut kept = Vec::new();
        for (Batch { promise, durability, .. }, committed) in batches.into_iter().zip(written.committed) {
            match durability {
                Durability::Buffered => kept.push((promise, committed)),
                Durability::Durable => self.unsynced.push_back(Unsynced { group, committed, promise }),
            }
        }
        kept
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether somebody waits for a sync.
    pub(super) fn sync_is_urgent(&self) -> bool {
        !self.unsynced.is_empty() || self.closing
    }

    pub(super) fn begin_sync(&mut self) -> Sync {
        self.syncing = true;
        Sync { files: std::mem::take(&mut self.dirty), groups: self.groups_written, written: self.written }
    }

    /// Returns the promises that hold now: the durable ones of groups written before the sync began.
    pub(super) fn end_sync(&mut self, sync: &Sync) -> Vec<Kept> {
        self.syncing = false;
        self.synced_at = Instant::now();
        self.groups_synced = sync.groups;
        self.durable = sync.written;
        let covered = self.unsynced.partition_point(|unsynced| unsynced.group <= sync.groups);
        self.unsynced.drain(..covered).map(|unsynced| (unsynced.promise, unsynced.committed)).collect()
    }

    /// Remembers the first failure and returns the promises that cannot be kept any more.
    pub(super) fn fail(&mut self, error: LogError) -> Vec<Promise> {
        self.failed = Some(error);
        self.queued_buffered = 0;
        let unsynced = std::mem::take(&mut self.unsynced).into_iter().map(|unsynced| unsynced.promise);
        let queued = std::mem::take(&mut self.queue).into_iter().map(|batch| batch.promise);
        unsynced.chain(queued).collect()
    }
}
