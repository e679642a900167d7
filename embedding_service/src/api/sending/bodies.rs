//! Bodies of answers, sent in pieces: HTTP takes a piece as soon as the client has room for a byte, and a client that has room for
//! no more would still have an answer of one piece whole in the connection's buffers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::UNREAD_TIME_MAX;
use super::unread::UntilUnread;
use crate::batch::Held;

/// What HTTP is given at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// Of an answer, in its extensions: what it holds until it is sent.
#[derive(Clone)]
pub(in crate::api) struct UntilSent {
    _held: Arc<Held>,
}

impl UntilSent {
    pub(in crate::api) fn new(held: Held) -> Self {
        Self { _held: Arc::new(held) }
    }
}

/// A layer: sends answers in pieces, and keeps what they hold until they are sent.
pub(in crate::api) async fn in_pieces(mut response: Response) -> Response {
    let held = response.extensions_mut().remove::<UntilSent>();
    response.map(|body| Body::new(Pieces::of(body, held, UNREAD_TIME_MAX)))
}

struct Pieces {
    sending: UntilUnread<Sending>,
}

struct Sending {
    body: Body,
    /// Of the body, what comes next.
    rest: Bytes,
    _held: Option<UntilSent>,
}

impl Pieces {
    fn of(body: Body, held: Option<UntilSent>, unread_time_max: Duration) -> Self {
        let holds = held.is_some();
        let sending = Sending { body, rest: Bytes::new(), _held: held };
        let mut pieces = Self { sending: UntilUnread::new(sending, unread_time_max) };
        if holds {
            pieces.sending.watch();
        }
        pieces
    }
}

impl Sending {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = match ready!(self.sending.poll_next(|sending| sending.poll_next(context))) {
            Some(Ok(next)) => Some(next.map_err(Into::into)),
            Some(Err(unread)) => Some(Err(unread.into())),
            None => None,
        };
        if self.sending.look(|sending| !sending.rest.is_empty()) == Some(true) {
            self.sending.watch();
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.sending.look(|sending| sending.rest.is_empty() && sending.body.is_end_stream()).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.sending.look(|sending| {
            let (mut hint, rest) = (sending.body.size_hint(), sending.rest.len() as u64);
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
            hint
        });
        hint.unwrap_or_default()
    }
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
        const TIME_MAX: Duration = Duration::from_secs(3);
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
