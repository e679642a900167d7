//! An error as both doors tell it, whichever service it comes from.
//!
//! gRPC: a `google.rpc.Status` with `ErrorInfo` (domain `vectron`) and, where it fits, `BadRequest`, `ResourceInfo` and
//! `RetryInfo`. REST: an HTTP status and `{success: false, message, code, details}`.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use utoipa::ToSchema;

const DOMAIN: &str = "vectron";

/// Bytes of a message. gRPC sends it in a header, and clients refuse headers of more than some 8 KiB in all; what a
/// message repeats of a request may be longer.
const MESSAGE_BYTES_MAX: usize = 1_000;
/// Bytes of a field or of a name in the details, which are in a header too.
pub(super) const NAME_BYTES_MAX: usize = 512;

/// An error as both doors tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The machine-readable reason, in UPPER_SNAKE_CASE.
    pub reason: &'static str,
    /// The gRPC code.
    pub code: Code,
    /// The HTTP status.
    pub status: StatusCode,
    /// What was expected and what came.
    pub message: String,
    /// The field that is at fault.
    pub field: Option<Box<str>>,
    /// Kind and name of what is missing or in the way.
    pub resource: Option<(&'static str, String)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

/// Answer to everything that fails.
#[derive(Serialize, ToSchema)]
pub struct FailureBody {
    /// Always false.
    success: bool,
    /// What was expected and what came.
    message: String,
    /// The machine-readable reason, such as `DIMENSION_MISMATCH`.
    code: &'static str,
    /// The field or the resource that is at fault, where there is one.
    #[schema(value_type = Object)]
    details: Map<String, Value>,
}

impl Failure {
    /// A failure that is all in its message.
    pub fn new((reason, code, status): (&'static str, Code, StatusCode), message: impl Into<String>) -> Self {
        let message = cut(message.into(), MESSAGE_BYTES_MAX);
        Self { reason, code, status, message, field: None, resource: None, retry_after: None }
    }

    /// A message or body that is over its limit; `what` names the limit.
    pub(super) fn too_large(what: &str) -> Self {
        let codes = ("MESSAGE_TOO_LARGE", Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE);
        Self::new(codes, format!("{what}; send less at once"))
    }

    /// A path that nothing answers.
    pub(super) fn not_found(message: String) -> Self {
        Self::new(("ROUTE_NOT_FOUND", Code::Unimplemented, StatusCode::NOT_FOUND), message)
    }

    /// A path that does not take the method.
    pub(super) fn method_not_allowed(message: String) -> Self {
        Self::new(("METHOD_NOT_ALLOWED", Code::Unimplemented, StatusCode::METHOD_NOT_ALLOWED), message)
    }

    /// The service stops before the request has an answer; a retry elsewhere, or soon, may have one.
    pub(super) fn stopping(message: &str) -> Self {
        let codes = ("NOT_READY", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE);
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(codes, message) }
    }

    /// Our own mistake.
    pub(super) fn internal(message: &str) -> Self {
        Self::new(("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR), message)
    }
}

/// The beginning of a text that is longer than that, and a word that there was more.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push_str(" … (cut)");
    }
    text
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::with_error_info(failure.reason, DOMAIN, HashMap::new());
        // What else concerns a field is not for the caller to correct, and `BadRequest` would say so.
        if let Some(field) = failure.field
            && matches!(failure.code, Code::InvalidArgument | Code::OutOfRange)
        {
            details.add_bad_request_violation(cut(field.into(), NAME_BYTES_MAX), &failure.message);
        }
        if let Some((kind, name)) = failure.resource {
            details.set_resource_info(kind, cut(name, NAME_BYTES_MAX), "", "");
        }
        if let Some(retry_after) = failure.retry_after {
            details.set_retry_info(Some(retry_after));
        }
        Status::with_error_details(failure.code, failure.message, details)
    }
}

impl IntoResponse for Failure {
    /// The failure itself is in the response's extensions, for a layer that tells it otherwise.
    fn into_response(self) -> Response {
        let failure = self.clone();
        let mut details = Map::new();
        if let Some(field) = self.field {
            details.insert("field".to_owned(), String::from(field).into());
        }
        if let Some((kind, name)) = self.resource {
            details.insert(kind.to_owned(), name.into());
        }
        // Whole seconds, rounded up: what the header can say.
        let retry_after_s = self.retry_after.map(|retry_after| retry_after.as_secs_f64().ceil() as u64);
        if let Some(seconds) = retry_after_s {
            details.insert("retry_after_s".to_owned(), seconds.into());
        }
        let body = FailureBody { success: false, message: self.message, code: self.reason, details };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(failure);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_repeats_is_cut_so_that_clients_take_the_header() {
        let codes = ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST);
        let long = "ä".repeat(10_000);
        let failure = Failure {
            field: Some(long.as_str().into()),
            resource: Some(("thing", long.clone())),
            ..Failure::new(codes, long)
        };
        let headers = Status::from(failure).into_http::<()>().into_parts().0.headers;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        assert!(bytes < 8 << 10, "{bytes}");
        assert!(headers["grpc-message"].as_bytes().ends_with(b"(cut)"));
    }

    #[test]
    fn a_status_carries_reason_field_resource_and_hint() {
        let failure = Failure {
            field: Some("texts[3]".into()),
            resource: Some(("model", "x".to_owned())),
            retry_after: Some(Duration::from_millis(1500)),
            ..Failure::new(("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS), "too much")
        };
        let status = Status::from(failure.clone());
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too much"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", "vectron"));
        assert!(status.get_details_bad_request().is_none(), "a full queue is no mistake in the field");
        let mistake = Failure { code: Code::InvalidArgument, ..failure.clone() };
        let violations = Status::from(mistake).get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "texts[3]");
        assert_eq!(status.get_details_resource_info().unwrap().resource_name, "x");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
        let response = failure.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()["retry-after"], "2");
    }
}
