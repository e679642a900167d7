//! The typed client of the embedding service, with deadline and retry.
//!
//! In-process or over the network it is the same client: only the channel differs. Nothing is written before the
//! service has answered for every text, and every answer is checked: count, dimension, one fingerprint.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vectron_embedding::pb::v1::embedding_service_client::EmbeddingServiceClient;
use vectron_embedding::pb::v1::{self as pb, EmbedRequest, EmbedResponse};

use crate::types::limits::MESSAGE_BYTES_MAX;
use crate::types::{TextModel, Vector};

pub use vectron_embedding::pb::v1::InputType;

/// Texts of one call to the service; a larger batch becomes several calls.
const CALL_TEXTS_MAX: usize = 512;
/// Bytes of the texts of one call, which is under the service's limit of a message.
const CALL_BYTES_MAX: usize = 8 << 20;
/// A service that accepts no connection in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first try, and three more where the service cannot be reached.
const RETRIES: usize = 3;

/// A client of the embedding service; clones share the connection.
#[derive(Clone)]
pub struct EmbeddingClient {
    client: EmbeddingServiceClient<Channel>,
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

/// Not where an embedding service can be.
#[derive(Debug, thiserror::Error)]
#[error("{url:?} is not the URL of an embedding service: expected http://host:port, for example http://127.0.0.1:8000")]
pub struct InvalidUrl {
    url: String,
}

impl EmbeddingClient {
    /// Talks to the service in this process. `timeout` is the most that one call may take.
    pub fn in_process(channel: Channel, timeout: Duration) -> Self {
        Self::new(channel, "in this process", timeout)
    }

    fn new(channel: Channel, place: &str, timeout: Duration) -> Self {
        let client = EmbeddingServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Self { client, place: place.into(), timeout }
    }

    /// Talks to a service elsewhere; connects at the first call, and again after a broken connection.
    pub fn connect(url: &str, timeout: Duration) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl { url: url.to_owned() };
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| invalid())?;
        let uri = endpoint.uri();
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        if uri.scheme_str() != Some("http") || !has_host || !matches!(uri.path(), "" | "/") {
            return Err(invalid());
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        Ok(Self::new(endpoint.connect_lazy(), url, timeout))
    }

    /// Embeds at least one text. An empty `model_id` is the service's default model.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        model_id: &str,
        input_type: InputType,
    ) -> Result<Embedded, EmbedError> {
        assert!(!texts.is_empty(), "there is something to embed");
        let mut all: Option<Embedded> = None;
        for texts in calls(texts) {
            let count = texts.len();
            let request = EmbedRequest {
                texts,
                model_id: model_id.to_owned(),
                input_type: input_type.into(),
                normalize: Some(true),
            };
            let embedded = check(self.call(request).await?, count)?;
            match &mut all {
                None => all = Some(embedded),
                Some(all) if all.model == embedded.model => all.embeddings.extend(embedded.embeddings),
                Some(all) => {
                    let (before, now) = (&all.model.fingerprint, &embedded.model.fingerprint);
                    return Err(garbled(format!("the model changed within one batch, from {before} to {now}")));
                }
            }
        }
        Ok(all.expect("there was at least one call"))
    }

    async fn call(&self, request: EmbedRequest) -> Result<EmbedResponse, EmbedError> {
        let attempt = || {
            let mut client = self.client.clone();
            let mut request = Request::new(request.clone());
            // Sent as `grpc-timeout`, so that the service stops too.
            request.set_timeout(self.timeout);
            async move { client.embed(request).await }
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(RETRIES)
            .with_jitter();
        let answer = attempt.retry(backoff).when(|status| code(status) == Code::Unavailable);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(EmbedError {
                code: code(&status),
                message: format!("{} (the embedding service {})", describe(&status), self.place),
                retry_after: status.get_details_retry_info().and_then(|retry| retry.retry_delay),
            }),
            Err(_) => Err(EmbedError {
                code: Code::DeadlineExceeded,
                message: format!("the embedding service {} did not answer within {:?}", self.place, self.timeout),
                retry_after: None,
            }),
        }
    }
}

/// What the service itself refuses carries its reason. Everything else comes from between here and there: broken
/// connections, or a server that is no embedding service.
fn code(status: &Status) -> Code {
    let is_from_service = status.get_details_error_info().is_some_and(|info| info.domain == "vectron");
    if is_from_service || status.code() == Code::DeadlineExceeded { status.code() } else { Code::Unavailable }
}

/// Splits texts into calls that the service takes.
fn calls(texts: Vec<String>) -> Vec<Vec<String>> {
    let mut calls: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        bytes += text.len();
        match calls.last_mut() {
            Some(call) if call.len() < CALL_TEXTS_MAX && bytes <= CALL_BYTES_MAX => call.push(text),
            _ => {
                bytes = text.len();
                calls.push(vec![text]);
            }
        }
    }
    calls
}

fn check(response: EmbedResponse, count: usize) -> Result<Embedded, EmbedError> {
    if response.embeddings.len() != count {
        return Err(garbled(format!("it sent {} embeddings for {count} texts", response.embeddings.len())));
    }
    let read = |embedding: pb::Embedding| {
        let vector = Vector::from_f32_le(&embedding.f32_le).map_err(|error| garbled(error.to_string()))?;
        if vector.dimension().get() != response.dimension as usize {
            let (expected, got) = (response.dimension, vector.dimension());
            return Err(garbled(format!("an embedding has {got} components instead of {expected}")));
        }
        Ok(Embedding { vector, is_truncated: embedding.truncated })
    };
    let embeddings = response.embeddings.into_iter().map(read).collect::<Result<_, _>>()?;
    let model = TextModel { model_id: response.model_id, fingerprint: response.fingerprint };
    Ok(Embedded { model, embeddings })
}

fn garbled(what: String) -> EmbedError {
    let message = format!("the embedding service sent a wrong answer: {what}");
    EmbedError { code: Code::Internal, message, retry_after: None }
}

/// The status, and below it what the transport met: "Connection refused" says more than "transport error".
fn describe(status: &Status) -> String {
    let mut message = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = error.source();
    }
    message
}

/// Embeds batches of texts as they come, a call for each.
pub struct EmbedStream(EmbeddingClient, String, InputType);
/// The embeddings of one batch, to come.
pub type EmbedAnswer = std::pin::Pin<Box<dyn Future<Output = Result<Embedded, EmbedError>> + Send>>;
impl EmbeddingClient {
    /// For batches of texts that come one after the other.
    pub fn stream(&self, model_id: &str, input_type: InputType) -> EmbedStream {
        EmbedStream(self.clone(), model_id.to_owned(), input_type)
    }
}
impl EmbedStream {
    /// Begins to embed a batch.
    pub fn embed(&self, texts: Vec<String>) -> EmbedAnswer {
        let (client, model_id, input_type) = (self.0.clone(), self.1.clone(), self.2);
        let task = tokio::spawn(async move { client.embed(texts, &model_id, input_type).await });
        Box::pin(async move { task.await.map_err(|error| garbled(error.to_string()))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_by_count_and_by_bytes() {
        let sizes = |texts: Vec<String>| calls(texts).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec!["x".to_owned(); 1025]), [512, 512, 1]);
        assert_eq!(sizes(vec!["x".repeat(3 << 20); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec!["x".repeat(9 << 20); 2]), [1, 1]);
    }

    #[test]
    fn wrong_answers_are_refused() {
        let embedding = |bytes: usize| pb::Embedding { f32_le: vec![0; bytes].into(), tokens: 1, truncated: false };
        let answer = |embeddings| EmbedResponse { embeddings, dimension: 2, ..EmbedResponse::default() };
        assert!(check(answer(vec![embedding(8)]), 1).is_ok());
        for (embeddings, expected) in [
            (vec![], "0 embeddings for 1 texts"),
            (vec![embedding(7)], "4 bytes each"),
            (vec![embedding(12)], "3 components instead of 2"),
        ] {
            let error = check(answer(embeddings), 1).unwrap_err();
            assert!(error.message.contains(expected), "{error}");
        }
    }
}
