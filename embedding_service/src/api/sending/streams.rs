//! The answers of a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio_stream::Stream;
use tonic::Status;

use super::UNREAD_TIME_MAX;
use super::unread::{Unread, UntilUnread};
use crate::api::error::ApiError;
use crate::batch::Held;
use crate::pb::v1 as pb;

/// Answers as the client reads them. What one holds is kept until the next is asked for: then it is sent, but for the piece that
/// is on its way.
pub(in crate::api) struct Reading<S> {
    answers: UntilUnread<Answers<S>>,
}

struct Answers<S> {
    rest: S,
    last: Option<Held>,
}

impl<S: Send + 'static> Reading<S> {
    /// To be called within a runtime.
    pub(in crate::api) fn new(answers: S) -> Self {
        Self::within(answers, UNREAD_TIME_MAX)
    }

    fn within(answers: S, unread_time_max: Duration) -> Self {
        let mut answers = UntilUnread::new(Answers { rest: answers, last: None }, unread_time_max);
        answers.watch();
        Self { answers }
    }
}

impl<S> Stream for Reading<S>
where
    S: Stream<Item = Result<(pb::StreamEmbedResponse, Option<Held>), Status>> + Unpin + Send + 'static,
{
    type Item = Result<pb::StreamEmbedResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.answers.poll_next(|answers| {
            answers.last = None;
            Pin::new(&mut answers.rest).poll_next(context).map_ok(|(answer, held)| {
                answers.last = held;
                answer
            })
        });
        Poll::Ready(ready!(next).map(|next| match next {
            Ok(answer) => answer,
            Err(Unread { time_max }) => Err(ApiError::StreamUnread { time_max }.into()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio_stream::StreamExt;

    use super::*;
    use crate::batch::{Budget, WhenFull};

    #[tokio::test]
    async fn answers_that_are_not_read_give_back_what_they_hold() {
        const TIME_MAX: Duration = Duration::from_secs(2);
        let budget = Budget::new(100);
        let mut parts = Vec::new();
        for _ in 0..3 {
            parts
                .push(Ok((pb::StreamEmbedResponse::default(), Some(budget.take(10, WhenFull::Refuse).await.unwrap()))));
        }
        // After them, the client waits for the service.
        let answers = tokio_stream::iter(parts).chain(tokio_stream::pending());
        let mut reading = Reading::within(answers, TIME_MAX);
        reading.next().await.unwrap().unwrap();
        assert_eq!(budget.held(), 30, "the first is on its way");
        reading.next().await.unwrap().unwrap();
        assert_eq!(budget.held(), 20);
        let since = Instant::now();
        while budget.held() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(since.elapsed() >= TIME_MAX, "{:?}", since.elapsed());
        let status = reading.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status:?}");
    }

    #[tokio::test]
    async fn client_that_waits_for_answers_is_waited_with() {
        const TIME_MAX: Duration = Duration::from_millis(600);
        let later = || async {
            tokio::time::sleep(3 * TIME_MAX).await;
            Ok((pb::StreamEmbedResponse { batch_index: 7, ..Default::default() }, None))
        };
        let mut reading = Reading::within(Box::pin(tokio_stream::once(()).then(move |()| later())), TIME_MAX);
        assert_eq!(reading.next().await.unwrap().unwrap().batch_index, 7);
        assert!(reading.next().await.is_none());
    }
}
