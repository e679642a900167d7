//! The only copy of each call's logic. Handlers speak the contract's messages, so that both doors give the same answer.

mod admin;
mod collections;
mod delete;
mod place;
mod read;
mod search;
mod search_batch;
mod search_pool;
mod snapshots;
mod stream_search;
mod stream_upsert;
mod upsert;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prost::Message;
use tokio::sync::{Semaphore, watch};
use tokio::task;
use tokio::time::timeout;
use vectron_embedding::port::Figures;

use crate::api::convert::invalid;
use crate::api::error::{ApiError, Reason};
use crate::collection::{Applied, Collection, Operation};
use crate::database::Database;
use crate::embedding::{Embedded, EmbeddingClient, InputType};
use crate::storage::log::Durability;
use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::{CollectionName, Sequence};

use search_batch::SearchBatches;
pub use search_pool::SearchPool;
pub use stream_search::SearchAnswers;
use stream_upsert::Streams;

/// The longest that a read waits for its `min_sequence`.
const SEQUENCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The handlers; clones share everything.
#[derive(Clone)]
pub struct Handlers {
    /// Set when recovery is done.
    database: Arc<OnceLock<Arc<Database>>>,
    embedding: EmbeddingClient,
    pool: SearchPool,
    batches: SearchBatches,
    figures: Figures,
    /// One benchmark at a time: two would measure each other.
    benchmark: Arc<tokio::sync::Mutex<()>>,
    streams: Streams,
    /// Turns to send snapshots or to take them in.
    transfers: Arc<Semaphore>,
    /// Told to streams, which would go on for ever.
    stopping: watch::Sender<bool>,
}

impl Handlers {
    /// Handlers that answer NOT_READY until `set_ready`.
    pub fn new(embedding: EmbeddingClient, pool: SearchPool, figures: Figures) -> Self {
        let stopping = watch::Sender::new(false);
        Self {
            database: Arc::default(),
            embedding,
            pool,
            batches: SearchBatches::default(),
            figures,
            benchmark: Arc::default(),
            streams: Streams::default(),
            transfers: Arc::new(Semaphore::new(snapshots::TRANSFERS_MAX)),
            stopping,
        }
    }

    /// Ends the streams: what had reached the log is settled, and each client is told to come back.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// The database is open: from here on calls are answered.
    pub fn set_ready(&self, database: Arc<Database>) {
        assert!(self.database.set(database).is_ok(), "the database is opened once");
    }

    /// Whether calls are answered.
    pub fn is_ready(&self) -> bool {
        self.database.get().is_some()
    }

    /// Whether this server is to be given requests: its logs are read, all of them can be written, and it is not stopping.
    pub fn readiness(&self) -> Result<(), ApiError> {
        if *self.stopping.borrow() {
            return Err(ApiError::new(Reason::NotReady, "the server is stopping"));
        }
        Ok(self.database()?.health()?)
    }

    /// What was counted so far.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    fn database(&self) -> Result<&Arc<Database>, ApiError> {
        self.database.get().ok_or_else(|| {
            ApiError::new(Reason::NotReady, "the server is starting: it still reads its logs")
                .with_retry_after(Duration::from_secs(1))
        })
    }

    /// Refuses a write that would leave too little room on the disk.
    fn admit(&self, bytes: usize) -> Result<(), ApiError> {
        Ok(self.database()?.admit(bytes as u64)?)
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, ApiError> {
        let name = read_name("collection", name)?;
        Ok(self.database()?.get(name.as_str())?)
    }

    /// The collection, once writes up to `min_sequence` are visible in it.
    async fn collection_at(&self, name: &str, min_sequence: u64) -> Result<Arc<Collection>, ApiError> {
        let collection = self.collection(name)?;
        if min_sequence > collection.view().sequence().0
            && timeout(SEQUENCE_WAIT_MAX, collection.wait_for(Sequence(min_sequence))).await.is_err()
        {
            let visible = collection.view().sequence();
            let message = format_args!("waited for sequence {min_sequence}, but writes are visible up to {visible}");
            return Err(ApiError::new(Reason::SequenceNotReached, message));
        }
        Ok(collection)
    }

    /// Appends, and waits until the operation is applied. A caller that leaves meanwhile cancels nothing.
    async fn write(
        &self,
        collection: &Collection,
        operation: Operation,
        durability: Durability,
    ) -> Result<Applied, ApiError> {
        let answer = collection.submit(operation, durability)?;
        let lost = |_| ApiError::new(Reason::Internal, "the thread that applies writes has ended; restart the server");
        Ok(answer.await.map_err(lost)???)
    }

    async fn embed_texts(
        &self,
        texts: Vec<String>,
        model_id: &str,
        input_type: InputType,
    ) -> Result<Embedded, ApiError> {
        Ok(self.embedding.embed(texts, model_id, input_type).await?)
    }
}

fn read_name(field: &str, name: &str) -> Result<CollectionName, ApiError> {
    CollectionName::new(name).map_err(|error| invalid(field, error))
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let failed = |error| ApiError::new(Reason::Internal, format_args!("a task has failed: {error}"));
    task::spawn_blocking(work).await.map_err(failed)?
}

/// The size of an answer while it is built: one that no client could take is given up early, with a word on how to get
/// it.
struct AnswerSize {
    bytes: usize,
    ask_for: &'static str,
}

impl AnswerSize {
    fn new(ask_for: &'static str) -> Self {
        Self { bytes: 0, ask_for }
    }

    fn add(&mut self, part: &impl Message) -> Result<(), ApiError> {
        self.bytes += part.encoded_len();
        if self.bytes <= MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let ask_for = self.ask_for;
        let message =
            format_args!("the answer has more than {MESSAGE_BYTES_MAX} bytes: ask for {ask_for}, or less of each");
        Err(ApiError::new(Reason::MessageTooLarge, message))
    }
}
