//! Write-ahead log: an append-only sequence of opaque records, each with a stated promise.
//!
//! Invariants:
//! - Sequences begin at 1 and have no gaps; their order is the order of the calls to [`Log::append`].
//! - What is appended in one call is there after an accident completely or not at all.
//! - A durable completion is ready only after a sync that began when its group was written; a buffered one when the
//!   operating system has the bytes. An acknowledged durable record is never lost without an error.
//! - Nothing after a broken record is ever read. Opening tells a *torn tail* (cut off and reported) from *damage*
//!   (refused, with file, offset and sequence); `docs/data_format.md` says how.
//! - After a failed write or sync the log is poisoned: it acknowledges nothing any more and never syncs again.
//!
//! How it is built: `format` has the bytes, `reader` verifies the groups of one file, `recover` puts the files of a
//! folder together, `torn` judges a break, `repair` cuts a damaged log where its owner accepts the loss, `writer` owns
//! the file that grows, `state` and `commit` have the queue and the two threads, `tail` follows what is written. Knows
//! nothing about what is in a record: see `collection::op`.

mod commit;
mod completion;
mod error;
mod file_log;
mod files;
mod format;
mod options;
mod reader;
mod recover;
mod repair;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod torn;
mod writer;

pub use completion::{Committed, Completion, Promise};
pub use error::{LogError, OpenError};
pub use file_log::FileLog;
pub use options::LogOptions;
pub use recover::OpenReport;
pub use repair::{Damage, End, Examined, examine};
pub use torn::TornTail;

use crate::types::Sequence;

/// What has happened when a completion is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The record is on the disk: it survives a power cut.
    Durable,
    /// The operating system has the record: it survives the death of this process. It is synced soon after.
    Buffered,
}

/// One record, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// Its number.
    pub sequence: Sequence,
    /// The epoch of the writer that appended it.
    pub epoch: u64,
    /// The writer's clock when it was written: microseconds since the Unix epoch. Nothing is ordered by it.
    pub time_us: i64,
    /// What was appended.
    pub payload: &'a [u8],
}

/// A log, wherever it is kept.
pub trait Log: Send + Sync {
    /// Queues `payloads` as consecutive records and returns at once; dropping the completion cancels nothing.
    ///
    /// The records are in one group: after an accident all of them are there or none. The order of calls is the order
    /// of sequences. A full queue refuses with [`LogError::Full`]; the caller tries again when others are through.
    fn append(&self, payloads: Vec<Vec<u8>>, durability: Durability) -> Result<Completion, LogError>;

    /// Records that are written, durable or not yet, from `from` on.
    fn tail(&self, from: Sequence) -> Result<Tail, LogError>;

    /// The last written sequence; [`Sequence::ZERO`] before the first.
    fn last(&self) -> Sequence;

    /// The last sequence known to be durable.
    fn durable(&self) -> Sequence;

    /// Gives back space: drops whole files that hold only records before `sequence`. Some may remain.
    fn truncate_before(&self, sequence: Sequence) -> Result<(), LogError>;

    /// Shuts out earlier writers: once this returns, appends of an epoch before `epoch` are refused, also after a
    /// restart. What was queued before may still be written. An epoch that is not later than the present fence changes
    /// nothing.
    fn fence(&self, epoch: u64) -> Result<(), LogError>;

    /// Bytes on disk, with what is allocated ahead.
    fn bytes(&self) -> u64;

    /// Whether appends are accepted: an error once the log is poisoned.
    fn health(&self) -> Result<(), LogError>;

    /// Writes and syncs all that is queued, adds a last mark, and ends the threads. Later appends are refused; reading
    /// goes on. Calling it again does nothing.
    fn close(&self);
}

/// Follows a log; see [`Log::tail`].
pub type Tail = Box<dyn LogTail>;

/// A place in a log.
pub trait LogTail: Send {
    /// The next record, or `None` if there is none *yet*: a later call may find one.
    fn next(&mut self) -> Result<Option<LogRecord<'_>>, LogError>;
}
