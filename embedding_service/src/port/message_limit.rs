//! What the protocol stack refuses before a handler sees it, told in our own words.

use axum::response::Response;
use http::HeaderValue;
use tonic::{Code, Status};

use super::Failure;

/// tonic answers a message over its limit with OUT_OF_RANGE; what the contract promises is RESOURCE_EXHAUSTED with a
/// reason. Its text names both sizes and is kept. A layer for `axum::middleware::map_response`.
pub async fn name_message_limit(response: Response) -> Response {
    let out_of_range = HeaderValue::from(Code::OutOfRange as i32);
    if response.headers().get(Status::GRPC_STATUS) != Some(&out_of_range) {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.message().contains("message length too large") => {
            Status::from(Failure::too_large(status.message().trim_start_matches("Error, "))).into_http()
        }
        _ => response,
    }
}
