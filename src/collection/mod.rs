//! One collection: a log, and the view that is the fold of it.
//!
//! Invariants: a view is what the log says up to its sequence and nothing else; a batch appears whole; a write is
//! answered after it is visible; readers never wait. Knows no protocol, no network and no model: texts come embedded.

mod apply;
mod ledger;
mod memtable;
mod op;
mod recover;
mod request;
mod search;
mod stream;
mod view;
mod write;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub use apply::{Applied, Outcome, Refusal};
pub use memtable::Row;
pub use op::{
    Change, Content, Created, DecodeError, FrameFault, Operation, REVISION, RecordFault, RecordRemoved, RecordWritten,
    RequestKey, StreamFrame, Updated, Upserted,
};
pub use recover::RecoverError;
pub use request::{RequestTable, Seen};
pub use search::{Effort, Found, Search, SearchStats, has_direction};
pub use stream::{FrameRefusal, StreamMark};
pub use view::{NoPlace, SpaceNumber, View, describe};
pub use write::Answer;

use crate::storage::log::{Durability, LogError};
use crate::types::{Sequence, StreamId};
use write::{Shared, Writer, lock};

/// Sizes of what a collection holds in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    /// Segments.
    pub segment_count: usize,
    /// Rows outside of segments.
    pub memtable_rows: usize,
    /// Rows of segments.
    pub segment_rows: usize,
    /// Rows that were built into graphs since the start.
    pub rows_built: u64,
    /// Bytes of the blocks of graphs.
    pub graph_bytes: u64,
    /// Bytes of codes.
    pub code_bytes: u64,
    /// Bytes of vectors.
    pub vector_bytes: u64,
    /// Bytes of ids, texts and metadata.
    pub other_bytes: u64,
    /// Time that building has taken.
    pub build_seconds: f64,
}

/// An open collection. Dropping it closes it.
pub struct Collection {
    folder: PathBuf,
    shared: Arc<Shared>,
    writer: Writer,
    applier: Mutex<Option<JoinHandle<()>>>,
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

    /// Builds everything into one segment for each space, and waits for it. `progress` is told the rows built and the rows
    /// in all, now and then. There are no segments yet.
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) {
        let rows = self.view().record_count() as u64;
        progress(rows, rows);
    }

    /// Sizes of what is in memory.
    pub fn statistics(&self) -> Statistics {
        let view = self.view();
        Statistics {
            memtable_rows: view.record_count(),
            vector_bytes: view.vector_bytes() as u64,
            other_bytes: view.list(None).map(|(row, _)| row.id.as_str().len() as u64).sum(),
            ..Statistics::default()
        }
    }

    /// Whether writes are possible.
    pub fn health(&self) -> Result<(), LogError> {
        self.writer.log.health()
    }

    /// Bytes of the log on disk.
    pub fn log_bytes(&self) -> u64 {
        self.writer.log.bytes()
    }

    /// Applies what is queued, syncs it, and ends the threads. Later writes are refused; reads go on.
    pub fn close(&self) {
        self.writer.stop();
        if let Some(applier) = lock(&self.applier).take()
            && applier.join().is_err()
        {
            tracing::error!(folder = %self.folder.display(), "the thread that applies writes had panicked");
        }
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
