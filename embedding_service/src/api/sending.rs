//! Answers on their way to their clients.
//!
//! An answer holds its part of the budget of bytes until it is sent: else clients that do not read their answers could fill the
//! memory with them. Bodies are given to HTTP in pieces, for it takes one as soon as the client has room for a byte, and a
//! client that has room for no more would still have it whole in the connection's buffers. An answer of which nothing is
//! read any more is dropped, and its client's stream with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::AbortHandle;

use crate::batch::Held;

/// What HTTP is given at once.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// How long a client may read nothing of its answer.
pub(super) const UNREAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Of an answer, in its extensions: what it holds until it is sent.
#[derive(Clone)]
pub(super) struct UntilSent {
    _held: Arc<Held>,
}

impl UntilSent {
    pub(super) fn new(held: Held) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// A layer: sends answers in pieces, and keeps what they hold until they are sent.
pub(super) async fn in_pieces(mut response: Response) -> Response {
    let held = response.extensions_mut().remove::<UntilSent>();
    response.map(|body| Body::new(Pieces::of(body, held, UNREAD_TIME_MAX)))
}

#[derive(Debug, thiserror::Error)]
#[error("the client read nothing of its answer for {0:?}")]
struct Unread(Duration);

struct Pieces {
    sending: Arc<Mutex<Sending>>,
    unread_time_max: Duration,
    watch: Option<AbortHandle>,
}

struct Sending {
    /// Nothing: it was not read.
    body: Option<Body>,
    /// Of the body, what comes next.
    rest: Bytes,
    held: Option<UntilSent>,
    pieces: u64,
}

impl Pieces {
    fn of(body: Body, held: Option<UntilSent>, unread_time_max: Duration) -> Self {
        let holds = held.is_some();
        let sending = Sending { body: Some(body), rest: Bytes::new(), held, pieces: 0 };
        let mut pieces = Self { sending: Arc::new(Mutex::new(sending)), unread_time_max, watch: None };
        if holds {
            pieces.watch();
        }
        pieces
    }

    /// HTTP does not ask for a piece that the client has no room for, so somebody else has to look at the time.
    fn watch(&mut self) {
        let (sending, time_max) = (self.sending.clone(), self.unread_time_max);
        let watch = async move {
            let mut seen = 0;
            loop {
                tokio::time::sleep(time_max).await;
                let mut sending = lock(&sending);
                let waits = sending.held.is_some() || !sending.rest.is_empty();
                if waits && sending.pieces == seen {
                    *sending = Sending { body: None, rest: Bytes::new(), held: None, pieces: seen };
                    return;
                }
                seen = sending.pieces;
            }
        };
        self.watch = Some(tokio::spawn(watch).abort_handle());
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        // The watch has it too, until it has really ended.
        lock(&self.sending).held = None;
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let shared = self.sending.clone();
        let sending = &mut *lock(&shared);
        let Some(body) = &mut sending.body else {
            return Poll::Ready(Some(Err(Unread(self.unread_time_max).into())));
        };
        if sending.rest.is_empty() {
            let frame = match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) => sending.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = sending.rest.len().min(PIECE_BYTES_MAX);
        let piece = sending.rest.split_to(length);
        sending.pieces += 1;
        if !sending.rest.is_empty() && self.watch.is_none() {
            self.watch();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let sending = lock(&self.sending);
        sending.rest.is_empty() && sending.body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let sending = lock(&self.sending);
        let mut hint = sending.body.as_ref().map(HttpBody::size_hint).unwrap_or_default();
        let rest = sending.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
fn lock(sending: &Mutex<Sending>) -> MutexGuard<'_, Sending> {
    sending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Budget, WhenFull};

    async fn next(body: &mut Pieces) -> Option<Result<usize, axum::BoxError>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().map_or(0, |data| data.len())))
    }

    async fn held(budget: &Budget, bytes: usize) -> Option<UntilSent> {
        Some(UntilSent::new(budget.take(bytes, WhenFull::Refuse).await.unwrap()))
    }

    #[tokio::test]
    async fn large_body_comes_in_pieces_and_holds_its_part_to_the_end() {
        let budget = Budget::new(1 << 20);
        let bytes = 2 * PIECE_BYTES_MAX + 1;
        let mut body = Pieces::of(Body::from(vec![7; bytes]), held(&budget, bytes).await, UNREAD_TIME_MAX);
        assert_eq!(body.size_hint().exact(), Some(bytes as u64));
        for length in [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 1] {
            assert_eq!((body.is_end_stream(), budget.held()), (false, bytes));
            assert_eq!(next(&mut body).await.unwrap().unwrap(), length);
        }
        assert!(body.is_end_stream() && next(&mut body).await.is_none());
        drop(body);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn answer_of_which_nothing_is_read_gives_back_its_part() {
        const TIME_MAX: Duration = Duration::from_secs(1);
        let budget = Budget::new(1 << 20);
        let bytes = 15 * PIECE_BYTES_MAX;
        let mut body = Pieces::of(Body::from(vec![7; bytes]), held(&budget, bytes).await, TIME_MAX);
        for _ in 0..14 {
            tokio::time::sleep(TIME_MAX / 7).await;
            next(&mut body).await.unwrap().unwrap();
        }
        assert_eq!(budget.held(), bytes, "it is read, though slowly");
        while budget.held() > 0 {
            tokio::time::sleep(TIME_MAX / 7).await;
        }
        assert!(next(&mut body).await.unwrap().unwrap_err().to_string().contains("read nothing"));
    }
}
