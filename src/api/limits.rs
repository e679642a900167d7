//! What the protocol stack refuses before a handler sees it, told in our own words.

use axum::response::Response;
use http::HeaderValue;
use tonic::{Code, Status};

use crate::api::error::{ApiError, Reason};
use crate::types::limits::MESSAGE_BYTES_MAX;

/// tonic answers a message over its limit with OUT_OF_RANGE; what the contract promises is RESOURCE_EXHAUSTED with a
/// reason. Its text names both sizes and is kept.
pub async fn name_the_message_limit(response: Response) -> Response {
    let out_of_range = HeaderValue::from(Code::OutOfRange as i32);
    if response.headers().get(Status::GRPC_STATUS) != Some(&out_of_range) {
        return response;
    }
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if !status.message().contains("message length too large") {
        return response;
    }
    let message =
        format!("expected a message of at most {MESSAGE_BYTES_MAX} bytes; send smaller batches ({})", status.message());
    Status::from(ApiError::new(Reason::MessageTooLarge, message)).into_http()
}
