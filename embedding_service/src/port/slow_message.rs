//! The message of a unary gRPC call has to come within the time that a REST body has: one that never ends would hold
//! its call and its memory. Calls of many messages have bounds of their own.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::json::BODY_TIME_MAX;
use super::methods::Methods;
use super::{Door, Failure};

/// Bytes a second that a large message has to come with.
const RATE_MIN: f64 = 65_536.0;

/// A layer for `axum::middleware::from_fn_with_state`.
pub(super) async fn limit_message_time(State(methods): State<Arc<Methods>>, request: Request, next: Next) -> Response {
    if Door::of(request.headers()) == Door::Rest || methods.takes_stream(request.uri().path()) {
        return next.run(request).await;
    }
    next.run(request.map(|body| within(body, BODY_TIME_MAX))).await
}

/// The same body, which fails where its end has not come within this time, and a second more for each `RATE_MIN` that came.
fn within(body: Body, time_max: Duration) -> Body {
    let until = Instant::now() + time_max;
    let parts = stream::unfold(Some((body.into_data_stream(), until)), move |left| async move {
        let (mut left, until) = left?;
        match timeout_at(until, left.next()).await {
            Ok(part) => {
                let part = part?;
                let bytes = part.as_ref().map_or(0, Bytes::len);
                Some((part, Some((left, until + Duration::from_secs_f64(bytes as f64 / RATE_MIN)))))
            }
            Err(_) => Some((Err(axum::Error::new(too_slow(time_max))), None)),
        }
    });
    Body::from_stream(parts)
}

fn too_slow(time_max: Duration) -> Status {
    let codes = ("BODY_TOO_SLOW", Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT);
    Failure::new(
        codes,
        format!("expected the whole message within {} s, and a second more for each 64 KiB", time_max.as_secs()),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::to_bytes;
    use tonic_types::StatusExt;

    use super::*;

    #[tokio::test]
    async fn message_that_never_ends_is_given_up_and_one_in_time_is_whole() {
        let part = || Ok::<_, Infallible>("part ");
        let never = Body::from_stream(stream::iter([part()]).chain(stream::pending()));
        let error = to_bytes(within(never, Duration::from_millis(20)), 1000).await.unwrap_err();
        let status = Status::from_error(error.into());
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.get_details_error_info().unwrap().reason, "BODY_TOO_SLOW");
        let whole = Body::from_stream(stream::iter([part(), part()]));
        assert_eq!(to_bytes(within(whole, Duration::from_secs(60)), 1000).await.unwrap(), "part part ");
    }

    #[test]
    fn streams_of_the_contract_are_known() {
        let methods = Methods::of(&[crate::pb::DESCRIPTOR_SET]);
        assert!(methods.takes_stream("/vectron.embedding.v1.EmbeddingService/StreamEmbed"));
        assert!(!methods.takes_stream("/vectron.embedding.v1.EmbeddingService/Embed"));
        assert_eq!(methods.known("/vectron.embedding.v1.EmbeddingService/Thought"), None);
    }
}
