//! StreamEmbed: many batches in flight on one stream, answered in the order of the requests, or as they are ready.
//!
//! One task reads. It takes a batch in when there is room for it, and does not read before: HTTP/2 flow control then
//! holds the client back. Each batch runs in a task of its own, and its answer waits for its turn, unless the batch asks for
//! another order. A batch that fails is told in its answer, and the stream goes on.
//!
//! Bounds of one stream: `BATCHES_MAX` batches that are taken in and not yet answered, so that a client that never
//! reads its answers holds at most those, each its part of the budget of bytes; `TEXTS_RUNNING_MAX` texts in the queue. All
//! streams together hold at most half of the budgets of bytes and tokens, and wait for it in line.
//!
//! What is taken in is taken in with the credential that the stream was opened with: where that has ended, the stream ends.
//!
//! When the client goes away, its stream is dropped, and with it everything that was taken in. When the service
//! stops, nothing more is taken in; what was is answered, and the stream ends with UNAVAILABLE.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

use super::error::ApiError;
use super::guard::check_still;
use super::handlers::{Admitted, Embed, Embedded, Handlers};
use super::sending::Reading;
use crate::auth::{Pass, Scope};
use crate::batch::{Held, WhenFull};
use crate::pb::v1 as pb;
use crate::port::{self, Failure};

/// Batches of a stream that are taken in and not yet answered.
const BATCHES_MAX: usize = 16;
/// Texts of a stream that are in the queue at once; a larger batch is there alone. Texts of all that is in the queue take
/// turns, so that with more of them batches would end all together, late, instead of one after the other.
const TEXTS_RUNNING_MAX: usize = 1024;
/// When the service stops, what was taken in has this long. It is half of the time that the port has to drain.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
const PATH: &str = "/vectron.embedding.v1.EmbeddingService/StreamEmbed";

/// The answers of a stream.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<pb::StreamEmbedResponse, Status>> + Send>>;

/// What becomes of one batch: its answer, and what that holds until it is sent.
type Outcome = Result<(pb::EmbedResponse, Held), ApiError>;

/// That of a batch in the making.
type Answer = oneshot::Receiver<Outcome>;

/// A batch that was taken in.
struct Taken {
    batch_index: u64,
    answer: Answer,
    /// Held until the answer is on its way.
    _slot: OwnedSemaphorePermit,
}

/// The task that reads a stream.
struct Reader {
    handlers: Handlers,
    requests: Streaming<pb::StreamEmbedRequest>,
    /// Where somebody was asked for a credential.
    pass: Option<Pass>,
    stopping: watch::Receiver<bool>,
    /// One for each batch.
    slots: Arc<Semaphore>,
    /// One for each text in the queue.
    turns: Arc<Semaphore>,
    /// Where answers go that do not wait for their turn.
    ready: mpsc::UnboundedSender<Result<Taken, Status>>,
}

/// Starts to read, and gives what the client gets.
pub(super) fn answers(
    handlers: Handlers,
    requests: Streaming<pb::StreamEmbedRequest>,
    pass: Option<Pass>,
    mut stopping: watch::Receiver<bool>,
) -> Answers {
    // Unbounded, but nothing is in either without a slot.
    let (taken, answers) = mpsc::unbounded_channel();
    let (ready, ready_answers) = mpsc::unbounded_channel();
    let slots = Arc::new(Semaphore::new(BATCHES_MAX));
    let reader = Reader {
        handlers,
        requests,
        pass,
        stopping: stopping.clone(),
        slots: slots.clone(),
        turns: Arc::new(Semaphore::new(TEXTS_RUNNING_MAX)),
        ready,
    };
    tokio::spawn(async move {
        let ended = tokio::select! {
            biased;
            () = taken.closed() => return,
            () = stopped(&mut stopping) => Err(ApiError::Stopping.into()),
            ended = reader.read(&taken) => ended,
        };
        if let Err(status) = ended {
            // After the answers to all that was taken in, for it is the last thing that the client hears.
            tokio::select! {
                () = taken.closed() => return,
                _ = permits(&slots, BATCHES_MAX) => {}
            }
            // A client that has just left does not want it any more.
            let _ = taken.send(Err(status));
        }
    });
    let in_turn = UnboundedReceiverStream::new(answers).then(answer);
    let answers = Box::pin(in_turn.merge(UnboundedReceiverStream::new(ready_answers).then(answer)));
    Box::pin(Reading::new(answers))
}

impl Reader {
    /// Reads until the client has no more.
    async fn read(mut self, taken: &mpsc::UnboundedSender<Result<Taken, Status>>) -> Result<(), Status> {
        loop {
            let slot = permits(&self.slots, 1).await;
            // What is no message of the contract ends the stream: nobody knows where the next one begins.
            let request = self.requests.message().await.map_err(|status| port::name_status(PATH, status))?;
            let Some(request) = request else { return Ok(()) };
            check_still(self.pass.as_ref(), Scope::Embed, PATH)?;
            let order = pb::StreamEmbedOrder::try_from(request.order);
            let answer = match order {
                Ok(_) => self.take_in(request.embed.unwrap_or_default()).await,
                Err(_) => refused(ApiError::UnknownStreamOrder { value: request.order }),
            };
            let batch = Taken { batch_index: request.batch_index, answer, _slot: slot };
            if order == Ok(pb::StreamEmbedOrder::AsReady) {
                tokio::spawn(send_when_ready(batch, self.ready.clone()));
            } else {
                // Nobody listens where the client has just left; then this task ends.
                let _ = taken.send(Ok(batch));
            }
        }
    }

    async fn take_in(&self, request: pb::EmbedRequest) -> Answer {
        let count = request.texts.len();
        match self.admit(request).await {
            Ok(admitted) => {
                let (answer, done) = oneshot::channel();
                let turn = permits(&self.turns, count.min(TEXTS_RUNNING_MAX)).await;
                tokio::spawn(run(self.handlers.clone(), admitted, turn, self.stopping.clone(), answer));
                done
            }
            Err(error) => refused(error),
        }
    }

    async fn admit(&self, request: pb::EmbedRequest) -> Result<Admitted, ApiError> {
        self.handlers.admit(Embed::try_from(request)?, WhenFull::Wait).await
    }
}

/// Embeds one batch, unless its client goes away.
async fn run(
    handlers: Handlers,
    admitted: Admitted,
    turn: OwnedSemaphorePermit,
    mut stopping: watch::Receiver<bool>,
    mut answer: oneshot::Sender<Outcome>,
) {
    let out_of_time = async {
        stopped(&mut stopping).await;
        tokio::time::sleep(STOP_TIME_MAX).await;
    };
    let embedded = tokio::select! {
        embedded = handlers.embed_admitted(admitted) => embedded,
        () = out_of_time => Err(ApiError::Stopping),
        () = answer.closed() => return,
    };
    drop(turn);
    let _ = answer.send(embedded.map(Embedded::into_answer));
}

/// The answer to a batch that was not taken in.
fn refused(error: ApiError) -> Answer {
    let (answer, done) = oneshot::channel();
    let _ = answer.send(Err(error));
    done
}

/// Sends the batch where its answer need not be waited for any more, unless its client goes away.
async fn send_when_ready(batch: Taken, ready: mpsc::UnboundedSender<Result<Taken, Status>>) {
    let Taken { batch_index, answer, _slot } = batch;
    let told = tokio::select! {
        told = answer => told,
        () = ready.closed() => return,
    };
    let (answer, done) = oneshot::channel();
    // Where it was lost, it is lost here too.
    if let Ok(told) = told {
        let _ = answer.send(told);
    }
    let _ = ready.send(Ok(Taken { batch_index, answer: done, _slot }));
}

async fn answer(taken: Result<Taken, Status>) -> Result<(pb::StreamEmbedResponse, Option<Held>), Status> {
    let Taken { batch_index, answer, _slot } = taken?;
    let lost = |_| Err(ApiError::Internal { what: "a batch of a stream was lost" });
    let (response, error, held) = match answer.await.unwrap_or_else(lost) {
        Ok((response, held)) => (Some(response), None, Some(held)),
        Err(error) => (None, Some(error.into()), None),
    };
    Ok((pb::StreamEmbedResponse { batch_index, response, error }, held))
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the service is gone altogether.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn permits(semaphore: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    semaphore.clone().acquire_many_owned(count).await.expect("it is never closed")
}

impl From<ApiError> for pb::StreamEmbedError {
    fn from(error: ApiError) -> Self {
        let failure = Failure::from(error);
        let retry_after_ms = failure.retry_after.map_or(0, |time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
        Self { code: failure.code.into(), reason: failure.reason.to_owned(), message: failure.message, retry_after_ms }
    }
}
