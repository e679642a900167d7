//! Embedding one batch and waiting for it: as few calls as it takes, one after the other.

use backon::Retryable;
use tonic::{Code, Request};
use vectron_embedding::pb::v1::{EmbedRequest, EmbedResponse};

use super::answer::{append, check, code, error_of, timed_out};
use super::parts::split;
use super::{EmbedError, Embedded, EmbeddingClient, InputType, backoff};

impl EmbeddingClient {
    /// Embeds at least one text. An empty `model_id` is the service's default model.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        model_id: &str,
        input_type: InputType,
    ) -> Result<Embedded, EmbedError> {
        assert!(!texts.is_empty(), "there is something to embed");
        let mut all = None;
        for texts in split(texts) {
            let count = texts.len();
            let request = EmbedRequest {
                texts,
                model_id: model_id.to_owned(),
                input_type: input_type.into(),
                normalize: Some(true),
            };
            append(&mut all, check(self.call(request).await?, count)?)?;
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
        let answer = attempt.retry(backoff()).when(|status| code(status) == Code::Unavailable);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error_of(&status, &self.place)),
            Err(_) => Err(timed_out(&self.place, self.timeout)),
        }
    }
}
