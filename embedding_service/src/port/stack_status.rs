//! What the protocol stack refuses before or besides a handler, told in our own words and codes, with a reason.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use tonic::{Code, Status};

use super::{Door, Failure};

/// tonic's own limit on time stands outside of every layer and answers CANCELLED; this one has to come before it. Timers
/// tick in milliseconds.
const BEFORE_TONIC: Duration = Duration::from_millis(2);

/// When a call's caller leaves, for handlers that can make something of it; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// Names the stack's statuses, and keeps a call's deadline. A layer for `axum::middleware::from_fn`.
pub(super) async fn name_stack_statuses(mut request: Request, next: Next) -> Response {
    if Door::of(request.headers()) == Door::Rest {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let Some(time_max) = grpc_timeout(request.headers()) else {
        return renamed(&path, next.run(request).await);
    };
    let time = time_max.saturating_sub(BEFORE_TONIC);
    // A deadline of years has no end that the clock could tell.
    if let Some(deadline) = Instant::now().checked_add(time) {
        request.extensions_mut().insert(Deadline(deadline));
    }
    match tokio::time::timeout(time, next.run(request)).await {
        Ok(response) => renamed(&path, response),
        Err(_) => {
            let codes = ("DEADLINE_EXCEEDED", Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT);
            let message = format!("{path} was not answered within the {} ms that it had", time_max.as_millis());
            Status::from(Failure::new(codes, message)).into_http()
        }
    }
}

fn renamed(path: &str, response: Response) -> Response {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    match own_words(path, &status) {
        Some(failure) => Status::from(failure).into_http(),
        None => response,
    }
}

/// The same for what the stack says of a message within a stream, which no layer sees.
pub fn name_status(path: &str, status: Status) -> Status {
    own_words(path, &status).map_or(status, Status::from)
}

fn own_words(path: &str, status: &Status) -> Option<Failure> {
    let message = status.message();
    Some(match status.code() {
        // Its text names both sizes and is kept.
        Code::OutOfRange if message.contains("message length too large") => {
            Failure::too_large(message.trim_start_matches("Error, "))
        }
        Code::Internal if message.starts_with("failed to decode Protobuf message") => {
            let codes = ("MALFORMED_MESSAGE", Code::InvalidArgument, StatusCode::BAD_REQUEST);
            // The text names every level before it comes to the point.
            let is_too_deep = message.ends_with("recursion limit reached");
            let what = if is_too_deep { "it is nested deeper than 100 levels (recursion limit)" } else { message };
            Failure::new(codes, format!("the message is not one that {path} takes: {what}"))
        }
        Code::Unimplemented if message.is_empty() => Failure::not_found(format!("there is no method {path}")),
        _ => return None,
    })
}

/// `grpc-timeout`: 1 to 8 digits and a unit. What is malformed is ignored, as tonic ignores it.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use http::header;
    use tonic_types::StatusExt;
    use tower::ServiceExt;

    use super::*;

    #[test]
    fn deadlines_are_read_as_the_protocol_has_them() {
        let read = |value: &'static str| {
            grpc_timeout(&HeaderMap::from_iter([(
                header::HeaderName::from_static("grpc-timeout"),
                value.parse().unwrap(),
            )]))
        };
        assert_eq!(read("80m"), Some(Duration::from_millis(80)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        for malformed in ["", "m", "5", "123456789S", "-1S", "1x"] {
            assert_eq!(read(malformed), None, "{malformed}");
        }
    }

    #[tokio::test]
    async fn the_stacks_statuses_get_codes_and_reasons() {
        let cases = [
            (
                Status::out_of_range("Error, decoded message length too large: found 9 bytes"),
                Code::ResourceExhausted,
                "MESSAGE_TOO_LARGE",
            ),
            (
                Status::internal("failed to decode Protobuf message: invalid varint"),
                Code::InvalidArgument,
                "MALFORMED_MESSAGE",
            ),
            (Status::unimplemented(""), Code::Unimplemented, "ROUTE_NOT_FOUND"),
        ];
        for (answered, code, reason) in cases {
            let router = Router::new()
                .route("/a.B/C", post(async move || answered.into_http::<Body>()))
                .layer(axum::middleware::from_fn(name_stack_statuses));
            let request = Request::post("/a.B/C").header(header::CONTENT_TYPE, "application/grpc").body(Body::empty());
            let response = router.oneshot(request.unwrap()).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), status.get_details_error_info().unwrap().reason.as_str()), (code, reason));
        }
    }

    #[test]
    fn statuses_of_handlers_stay() {
        for status in [Status::internal("our mistake"), Status::unimplemented("X is not built yet")] {
            let response = renamed("/a.B/C", status.clone().into_http());
            let same = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((same.code(), same.message()), (status.code(), status.message()));
        }
    }
}
