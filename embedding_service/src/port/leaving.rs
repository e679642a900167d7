//! What is told to requests that the service does not wait for when it stops.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::watch;

use super::{Door, Failure};

/// How long the last answers have to reach their clients. A process that ended at once would break their connections instead.
pub(super) const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(2);

/// A layer: a request that has no answer when `left` becomes true is dropped, and told that the service is stopping.
pub(super) async fn answer_when_left(
    State(mut left): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    let door = Door::of(request.headers());
    tokio::select! {
        response = next.run(request) => response,
        Ok(_) = left.wait_for(|left| *left) => door.answer(Failure::stopping()),
    }
}
