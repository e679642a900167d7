//! What the service says: embeddings, checked, and errors in one form.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::remote::KEY_VARIABLE;

use super::{EmbedError, Embedded, Embedding};
use crate::types::{TextModel, Vector};

/// The embeddings of `count` texts, if that is what the response has.
pub(super) fn check(response: pb::EmbedResponse, count: usize) -> Result<Embedded, EmbedError> {
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

/// Adds the next part of a batch to those before it. All have to be of one fingerprint: of one model, or of those that the
/// service knows to embed alike.
pub(super) fn append(all: &mut Option<Embedded>, next: Embedded) -> Result<(), EmbedError> {
    match all {
        None => *all = Some(next),
        Some(all) if all.model.fingerprint == next.model.fingerprint => all.embeddings.extend(next.embeddings),
        Some(all) => {
            let (before, now) = (&all.model.fingerprint, &next.model.fingerprint);
            return Err(garbled(format!("the model changed within one batch, from {before} to {now}")));
        }
    }
    Ok(())
}

/// What the service itself refuses carries its reason. Everything else comes from between here and there: broken
/// connections, or a server that is no embedding service. Of that, what asks for another key stays so, whoever asks: a proxy may,
/// by gRPC or by HTTP's 401 and 403, and another try would not help.
pub(super) fn code(status: &Status) -> Code {
    let is_from_service = status.get_details_error_info().is_some_and(|info| info.domain == "vectron");
    match status.code() {
        code @ (Code::DeadlineExceeded | Code::Unauthenticated | Code::PermissionDenied) => code,
        code if is_from_service => code,
        _ => Code::Unavailable,
    }
}

pub(super) fn error_of(status: &Status, place: &str) -> EmbedError {
    let code = code(status);
    let message = match code {
        // For whoever runs the store; its callers can do nothing about it.
        Code::Unauthenticated | Code::PermissionDenied => format!(
            "the embedding service {place} refuses the key of the environment variable {KEY_VARIABLE}: {}",
            describe(status)
        ),
        _ => format!("{} (the embedding service {place})", describe(status)),
    };
    EmbedError { code, message, retry_after: status.get_details_retry_info().and_then(|retry| retry.retry_delay) }
}

/// The error of one batch of a stream.
pub(super) fn error_of_batch(error: pb::StreamEmbedError, place: &str) -> EmbedError {
    EmbedError {
        code: Code::from(error.code),
        message: format!("{} (the embedding service {place})", error.message),
        retry_after: (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms.into())),
    }
}

pub(super) fn timed_out(place: &str, timeout: Duration) -> EmbedError {
    EmbedError {
        code: Code::DeadlineExceeded,
        message: format!("the embedding service {place} did not answer within {timeout:?}"),
        retry_after: None,
    }
}

pub(super) fn garbled(what: String) -> EmbedError {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_a_proxy_names_the_key_and_other_troubles_on_the_way_do_not() {
        for code_of_proxy in [Code::Unauthenticated, Code::PermissionDenied] {
            let status = Status::new(code_of_proxy, "grpc-status header missing, mapped from HTTP status code 401");
            let error = error_of(&status, "http://there:8000");
            assert_eq!(error.code, code_of_proxy);
            assert!(error.message.contains(KEY_VARIABLE), "{error}");
        }
        assert_eq!(code(&Status::new(Code::Unimplemented, "what")), Code::Unavailable);
        assert_eq!(code(&Status::new(Code::Internal, "what")), Code::Unavailable);
    }

    #[test]
    fn parts_by_models_of_one_fingerprint_are_one_batch() {
        let part = |model_id: &str, fingerprint: &str| Embedded {
            model: TextModel { model_id: model_id.to_owned(), fingerprint: fingerprint.to_owned() },
            embeddings: Vec::new(),
        };
        let mut all = None;
        append(&mut all, part("asked for", "f")).unwrap();
        append(&mut all, part("fallback", "f")).unwrap();
        let error = append(&mut all, part("asked for", "g")).unwrap_err();
        assert!(error.message.contains("from f to g"), "{error}");
    }

    #[test]
    fn wrong_answers_are_refused() {
        let embedding = |bytes: usize| pb::Embedding { f32_le: vec![0; bytes].into(), tokens: 1, ..Default::default() };
        let answer = |embeddings| pb::EmbedResponse { embeddings, dimension: 2, ..Default::default() };
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
