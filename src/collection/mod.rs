//! One collection: a log, and the view that is the fold of it.
//!
//! Invariants: a view is what the log says up to its sequence and nothing else; a batch appears whole; a write is
//! answered after it is visible; readers never wait. Knows no protocol, no network and no model: texts come embedded.

mod apply;
mod compact;
mod disk;
mod keep;
mod ledger;
mod load;
mod memtable;
mod mend;
mod op;
mod parts;
mod plan;
mod recover;
mod request;
mod row_set;
mod scan;
mod search;
mod segment;
mod selections;
mod snapshot;
mod statistics;
mod stream;
mod view;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use crate::index::graph::Residence;
pub use apply::{Applied, Outcome, Refusal};
pub use disk::{DiskError, Figures};
pub use keep::Keeping;
pub use memtable::Row;
pub use mend::{DamagedFile, FileLoss, FilesFound, begin_log_anew, examine_files, leave_out};
pub use op::{
    Change, Content, Created, DecodeError, FrameFault, Operation, REVISION, RecordFault, RecordRemoved, RecordWritten,
    RequestKey, StreamFrame, Updated, Upserted,
};
pub use plan::Plan;
pub use recover::{CollectionOptions, RecoverError};
pub use request::{RequestTable, Seen};
pub use search::{Effort, Found, Search, SearchStats, has_direction};
pub use snapshot::{CopyError, copied_files, create_copy_folder, sync_copy, verify_copy};
pub use statistics::Statistics;
pub use stream::{FrameRefusal, StreamMark};
pub use view::{NoPlace, SpaceNumber, View, describe};
pub use write::Answer;

use crate::storage::fs::Fs;
use crate::storage::log::{Durability, LogError};
use crate::storage::memory::MemoryShare;
use crate::types::{Sequence, StreamId};
use compact::Compactor;
use keep::Keeper;
use write::{Shared, Work, Writer, lock};

/// Why a checkpoint could not be written. The log has everything all the same.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub struct CheckpointError(Arc<DiskError>);

/// An open collection. Dropping it closes it.
pub struct Collection {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    applier: Mutex<Option<JoinHandle<()>>>,
    compactor: Compactor,
    keeper: Arc<Keeper>,
    /// Given back with the collection.
    _memory: Option<MemoryShare>,
}

impl CheckpointError {
    /// What was refused.
    pub fn reason(&self) -> &DiskError {
        &self.0
    }
}

impl Collection {
    /// The collection as it stands.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Appends an operation to the log. The answer comes when it is applied and visible; dropping it cancels nothing.
    pub fn submit(&self, operation: Operation, durability: Durability) -> Result<Answer, LogError> {
        self.writer.submit(operation, durability)
    }

    /// How a request was decided before, if it was.
    pub fn seen(&self, key: &RequestKey) -> Seen<Outcome> {
        lock(&self.shared.ledger).requests.seen(key)
    }

    /// How far a stream of writes has come, as far as its writes are visible.
    pub fn stream_mark(&self, stream_id: &StreamId) -> StreamMark {
        lock(&self.shared.ledger).streams.mark(stream_id)
    }

    /// Waits until writes up to the sequence are visible; for ever, if they never come.
    pub async fn wait_for(&self, sequence: Sequence) {
        let mut visible = self.shared.visible.subscribe();
        let reached = visible.wait_for(|&visible| visible >= sequence).await;
        assert!(reached.is_ok(), "the sender lives as long as the collection");
    }

    /// Whether writes are possible.
    pub fn health(&self) -> Result<(), LogError> {
        self.writer.log.health()
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.writer.log.bytes()
    }

    /// How it goes to write files beside the log.
    pub fn keeping(&self) -> Keeping {
        self.keeper.keeping()
    }

    /// Has everything that is visible now written to files beside the log, and waits for it: a start then has nothing to replay.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        let stopped = || CheckpointError(Arc::new(DiskError::Stopped));
        self.writer.arrange(Work::Seal).ok_or_else(stopped)?;
        self.keeper.wait().map_err(CheckpointError)
    }

    /// Builds what is there now into one segment for each space, and waits for it; what is written meanwhile may be left for later.
    /// `progress` is told (rows built, rows in all).
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) {
        self.compactor.compact(progress);
    }

    /// Whether nothing is being built, and nothing waits to be.
    pub fn is_settled(&self) -> bool {
        compact::is_settled(&self.view())
    }

    /// Sizes of what is in memory.
    pub fn statistics(&self) -> Statistics {
        Statistics::of(&self.view(), self.compactor.built())
    }

    /// Rows that were built into segments since the start, those that were built again among them, and the time that it took.
    pub fn built(&self) -> (u64, Duration) {
        self.compactor.built()
    }

    /// Whether something is being built, or will be once the collection is at rest. Where nothing is, no part changes without
    /// a write.
    pub fn is_building(&self) -> bool {
        self.compactor.is_running()
    }

    /// Applies what is queued, syncs it, and ends the threads. Later writes are refused; reads go on.
    pub fn close(&self) {
        self.compactor.close();
        self.writer.stop();
        if let Some(applier) = lock(&self.applier).take()
            && applier.join().is_err()
        {
            tracing::error!(folder = %self.folder.display(), "the thread that applies writes had panicked");
        }
        self.keeper.close();
        self.writer.log.close();
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests;
