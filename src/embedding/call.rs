//! Embedding one batch and waiting for it: as few calls as it takes, one after the other.

use backon::Retryable;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use vectron_embedding::pb::v1::{EmbedRequest, EmbedResponse};

use super::answer::{append, check, code, error_of, timed_out};
use super::parts::split;
use super::{EmbedError, Embedded, EmbeddingClient, InputType, PAUSE_MAX, backoff};

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
        let answer = attempt.retry(backoff()).when(may_pass);
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error_of(&status, &self.place)),
            Err(_) => Err(timed_out(&self.place, self.timeout)),
        }
    }
}

/// Whether another try may help: the service is away, and does not say that it will be for longer than a pause. What it
/// says of a model's provider it has tried itself, as often as models.toml allows.
fn may_pass(status: &Status) -> bool {
    if status.get_details_error_info().is_some_and(|info| info.reason.starts_with("PROVIDER_")) {
        return false;
    }
    let away_for = status.get_details_retry_info().and_then(|retry| retry.retry_delay).unwrap_or_default();
    code(status) == Code::Unavailable && away_for <= PAUSE_MAX
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn service_that_says_when_to_come_back_is_not_asked_long_before() {
        let told = |reason: &str, seconds| {
            let mut details = ErrorDetails::with_error_info(reason, "vectron", []);
            details.set_retry_info(Some(Duration::from_secs(seconds)));
            Status::with_error_details(Code::Unavailable, "away", details)
        };
        assert!(may_pass(&told("MODEL_LOADING", 1)) && may_pass(&Status::unavailable("connection refused")));
        assert!(!may_pass(&told("PROVIDER_UNAVAILABLE", 0)), "the service has tried often enough");
        assert!(!may_pass(&told("MODEL_LOADING", 5)) && !may_pass(&Status::deadline_exceeded("late")));
        assert!(!may_pass(&Status::unauthenticated("a proxy's")) && !may_pass(&Status::permission_denied("a proxy's")));
    }
}
