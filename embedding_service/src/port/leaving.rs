//! What is told to requests that the service does not wait for when it stops.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::watch;

use super::{Door, Failure};

/// How long the last answers have to reach their clients. A process that ended at once would break their connections instead.
pub(super) const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(2);

/// Of a request, in its extensions: whether its port waits for it no more.
#[derive(Clone)]
pub(super) struct Left(pub(super) watch::Receiver<bool>);

/// A layer, innermost: whatever forms and counts answers does so with these too. From when the port waits no more, nothing is
/// begun, and what has no answer is dropped; both are told so. An answer that is there by then is sent.
pub(super) async fn answer_when_left(request: Request, next: Next) -> Response {
    let Some(Left(mut left)) = request.extensions().get().cloned() else { return next.run(request).await };
    let door = Door::of(request.headers());
    if *left.borrow() {
        return door.answer(Failure::stopping("the service is stopping"));
    }
    tokio::select! {
        biased;
        response = next.run(request) => response,
        Ok(_) = left.wait_for(|left| *left) => {
            door.answer(Failure::stopping("the service is stopping, and did not finish the request"))
        }
    }
}
