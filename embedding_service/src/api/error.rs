//! Errors as callers see them, and the one table from each to its gRPC and its HTTP status.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::limits::{BODY_BYTES_MAX, PAGE_SIZE_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
use crate::port;

const DOMAIN: &str = "vectron";

/// What went wrong. Says what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A call without texts.
    #[error("texts: expected 1 to {TEXTS_MAX}, got none")]
    NoTexts,
    /// A call with too many texts.
    #[error("texts: expected 1 to {TEXTS_MAX}, got {count}")]
    TooManyTexts {
        /// How many came.
        count: usize,
    },
    /// A text of no bytes.
    #[error("{field} is empty: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)")]
    EmptyText {
        /// Which one.
        field: String,
    },
    /// A text of too many bytes.
    #[error("{field} has {bytes} bytes: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)")]
    TextTooLong {
        /// Which one.
        field: String,
        /// How long it is.
        bytes: usize,
    },
    /// A text that the model's tokenizer refuses.
    #[error("{field} {reason}")]
    TextRefused {
        /// Which one.
        field: String,
        /// Why.
        reason: String,
    },
    /// A model that the registry does not have.
    #[error("there is no model `{id}`; the models are {}", known.join(", "))]
    UnknownModel {
        /// What was asked for.
        id: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The model is named twice, in the query and in the body, and differently.
    #[error("model_id is `{query}` in the query and `{body}` in the body: expected one of them, or the same twice")]
    TwoModels {
        /// In the query.
        query: String,
        /// In the body.
        body: String,
    },
    /// A value of `input_type` that the contract does not have.
    #[error("input_type: expected 0 (default), 1 (document) or 2 (query), got {value}")]
    UnknownInputType {
        /// What came.
        value: i32,
    },
    /// A page of too many models.
    #[error("page_size: expected 1 to {PAGE_SIZE_MAX}, or 0 for the default, got {size}")]
    PageSize {
        /// What came.
        size: u32,
    },
    /// A page token that no answer has given.
    #[error("page_token `{token}` is none that was given in `next_page_token`")]
    PageToken {
        /// What came.
        token: String,
    },
    /// The model is still being loaded.
    #[error("the model `{id}` is still being loaded; try again")]
    ModelLoading {
        /// Which one.
        id: String,
    },
    /// The model could not be loaded.
    #[error("the model `{id}` cannot be used: {reason}")]
    ModelFailed {
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// No room in the queue.
    #[error("too much is waiting: {queued} {unit} of at most {queued_max}, and this call has {wanted}; try again")]
    QueueFull {
        /// Of this call.
        wanted: usize,
        /// Waiting.
        queued: usize,
        /// What may wait.
        queued_max: usize,
        /// Of what.
        unit: &'static str,
    },
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// Part of the contract, but not built.
    #[error("{rpc} is not built yet")]
    NotBuilt {
        /// Which RPC.
        rpc: &'static str,
    },
    /// A REST body that is not sent as JSON.
    #[error("send `content-type: application/json`; got {}", got.as_deref().unwrap_or("no content type"))]
    ContentType {
        /// What came.
        got: Option<String>,
    },
    /// A REST body that is not the expected JSON. The reason names line and column.
    #[error("the body is not the expected JSON: {reason}")]
    Body {
        /// What is wrong.
        reason: String,
        /// In which line.
        line: usize,
        /// In which column.
        column: usize,
    },
    /// A REST query that is not the expected one.
    #[error("the query is not the expected one: {reason}")]
    Query {
        /// What is wrong.
        reason: String,
    },
    /// A REST body that is too long.
    #[error("the body has more than 16 MiB ({BODY_BYTES_MAX} bytes)")]
    BodyTooLong,
    /// A REST body that broke off.
    #[error("the body could not be read: {reason}")]
    BodyBroken {
        /// Why.
        reason: String,
    },
    /// Our own mistake.
    #[error("the service made a mistake: {what}; its log has more")]
    Internal {
        /// What happened.
        what: &'static str,
    },
}

impl ApiError {
    /// The same error for a call that has `text` where the handlers see `texts[0]`.
    pub(super) fn of_single_text(self) -> Self {
        let field = "text".to_owned();
        match self {
            Self::EmptyText { .. } => Self::EmptyText { field },
            Self::TextTooLong { bytes, .. } => Self::TextTooLong { field, bytes },
            Self::TextRefused { reason, .. } => Self::TextRefused { field, reason },
            other => other,
        }
    }

    /// The table: reason, gRPC code, HTTP status.
    fn codes(&self) -> (&'static str, Code, StatusCode) {
        match self {
            Self::NoTexts => ("NO_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TooManyTexts { .. } => ("TOO_MANY_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::EmptyText { .. } => ("EMPTY_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TextTooLong { .. } => ("TEXT_TOO_LONG", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TextRefused { .. } => ("INVALID_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::UnknownModel { .. } => ("MODEL_NOT_FOUND", Code::NotFound, StatusCode::NOT_FOUND),
            Self::TwoModels { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::UnknownInputType { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::PageSize { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::PageToken { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::ModelLoading { .. } => ("MODEL_LOADING", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::ModelFailed { .. } => ("MODEL_FAILED", Code::FailedPrecondition, StatusCode::SERVICE_UNAVAILABLE),
            Self::QueueFull { .. } => ("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
            Self::Stopping => ("NOT_READY", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::NotBuilt { .. } => ("NOT_IMPLEMENTED", Code::Unimplemented, StatusCode::NOT_IMPLEMENTED),
            Self::ContentType { .. } => {
                ("UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::Body { .. } => ("MALFORMED_JSON", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::Query { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::BodyTooLong => ("MESSAGE_TOO_LARGE", Code::OutOfRange, StatusCode::PAYLOAD_TOO_LARGE),
            Self::BodyBroken { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::Internal { .. } => ("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The field of the request that is wrong.
    fn field(&self) -> Option<&str> {
        match self {
            Self::NoTexts | Self::TooManyTexts { .. } => Some("texts"),
            Self::EmptyText { field } | Self::TextTooLong { field, .. } | Self::TextRefused { field, .. } => {
                Some(field)
            }
            Self::UnknownModel { .. } | Self::TwoModels { .. } => Some("model_id"),
            Self::UnknownInputType { .. } => Some("input_type"),
            Self::PageSize { .. } => Some("page_size"),
            Self::PageToken { .. } => Some("page_token"),
            _ => None,
        }
    }

    /// After which time another try makes sense.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ModelLoading { .. } | Self::QueueFull { .. } | Self::Stopping => Some(Duration::from_secs(1)),
            Self::ModelFailed { .. } => Some(Duration::from_secs(6)),
            _ => None,
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (reason, code, _) = error.codes();
        let message = error.to_string();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, [] as [(String, String); 0]);
        if let (Some(field), Code::InvalidArgument) = (error.field(), code) {
            details.add_bad_request_violation(field, &message);
        }
        if let ApiError::UnknownModel { id, .. } = &error {
            details.set_resource_info("model", id, "", &message);
        }
        if let Some(delay) = error.retry_after() {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code, message, details)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (reason, _, status) = self.codes();
        let mut details = serde_json::Map::new();
        if let Some(field) = self.field() {
            details.insert("field".to_owned(), json!(field));
        }
        if let Self::UnknownModel { known, .. } = &self {
            details.insert("models".to_owned(), json!(known));
        }
        if let Self::Body { line, column, .. } = &self {
            details.insert("line".to_owned(), json!(line));
            details.insert("column".to_owned(), json!(column));
        }
        if let Some(delay) = self.retry_after() {
            details.insert("retry_after_s".to_owned(), json!(delay.as_secs()));
        }
        let mut response = port::rest_error(status, reason, &self.to_string(), details.into());
        if let Some(delay) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs()));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_error_carries_reason_field_and_hint() {
        let status = Status::from(ApiError::EmptyText { field: "texts[3]".to_owned() });
        assert_eq!(status.code(), Code::InvalidArgument);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("EMPTY_TEXT", "vectron"));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "texts[3]");

        let status = Status::from(ApiError::QueueFull { wanted: 1, queued: 2, queued_max: 2, unit: "tokens" });
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }
}
