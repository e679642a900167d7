//! The typed client of the embedding service, with deadline and retry.
//!
//! In-process or over the network it is the same client: only the channel differs. Nothing is written before the
//! service has answered for every text, and every answer is checked: count, dimension, one fingerprint.
//!
//! - `call`: one batch, one call after the other;
//! - `stream`: many batches in flight, on a stream that survives broken connections;
//! - `parts`: batches cut into what the service takes at once, and put together again;
//! - `answer`: what the service says, checked.

mod answer;
mod call;
mod parts;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use tonic::Code;
use tonic::transport::Channel;
use vectron_embedding::pb::v1::embedding_service_client::EmbeddingServiceClient;
use vectron_embedding::remote::{KeyedChannel, Remote};

use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::{TextModel, Vector};

pub use stream::{EmbedAnswer, EmbedStream};
pub use vectron_embedding::pb::v1::InputType;
pub use vectron_embedding::remote::{EmbeddingKey, RemoteError};

/// A service that accepts no connection in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first try, and three more where the service cannot be reached.
const RETRIES: usize = 3;
/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A client of the embedding service; clones share the connection.
#[derive(Clone)]
pub struct EmbeddingClient {
    client: EmbeddingServiceClient<KeyedChannel>,
    /// For messages: where the service is.
    place: Arc<str>,
    timeout: Duration,
}

/// Embeddings of texts by one model.
#[derive(Debug)]
pub struct Embedded {
    /// The model that served, and the fingerprint of its space.
    pub model: TextModel,
    /// One for each text, in their order.
    pub embeddings: Vec<Embedding>,
}

/// The embedding of one text.
#[derive(Debug)]
pub struct Embedding {
    /// The vector, of unit length.
    pub vector: Vector,
    /// Whether the text was longer than the model's limit, so that only its beginning was embedded.
    pub is_truncated: bool,
}

/// Why texts could not be embedded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EmbedError {
    /// The service's code.
    pub code: Code,
    /// What was expected and what came.
    pub message: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl EmbeddingClient {
    /// Talks to the service in this process. `timeout` is the most that one call may take.
    pub fn in_process(channel: Channel, timeout: Duration) -> Self {
        Self::new(KeyedChannel::new(channel, EmbeddingKey::default()), "in this process", timeout)
    }

    fn new(channel: KeyedChannel, place: &str, timeout: Duration) -> Self {
        let client = EmbeddingServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { client, place: place.into(), timeout }
    }

    /// Talks to a service elsewhere, by http or https; connects at the first call, and again after a broken connection.
    pub fn connect(url: &str, key: EmbeddingKey, timeout: Duration) -> Result<Self, RemoteError> {
        let remote = Remote::new(url, key, CONNECT_TIMEOUT)?;
        if let Some(warning) = remote.warning() {
            tracing::warn!("{warning}");
        }
        Ok(Self::new(remote.connect_lazy(), url, timeout))
    }
}

/// The pauses between tries.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(PAUSE_MAX)
        .with_max_times(RETRIES)
        .with_jitter()
}
