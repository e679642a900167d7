//! Embedding batches as they come: many in flight on one stream, answered in order.
//!
//! A task owns the stream. It opens it with the first batch, and again after it broke: then it sends what was not answered
//! once more, which is safe, since an embedding depends on its text alone. It gives up after as many tries without progress
//! as a single call makes, or when the client's timeout passes without progress, and fails the batches it had; later
//! ones find it trying anew. An error that the service tells of a batch fails that batch, but where it is only busy
//! and says when to come back, the batch is sent again.

use std::pin::Pin;
use std::task::{Context, Poll};

use backon::{BackoffBuilder, ExponentialBackoff};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use vectron_embedding::pb::v1::{EmbedRequest, StreamEmbedRequest};

use super::answer::{error_of, timed_out};
use super::parts::{Answer, Next, ON_THEIR_WAY_MAX, Parts};
use super::{EmbedError, Embedded, EmbeddingClient, InputType, backoff};

/// Embeds batches of texts as they come, many in flight, answered in order. Dropping it says that no more will come.
pub struct EmbedStream {
    /// Unbounded: the caller bounds what is in flight.
    batches: mpsc::UnboundedSender<(Vec<String>, Answer)>,
    interest: Interest,
}

/// The embeddings of one batch, when they are there. Dropping it drops what was not sent yet; dropping the stream and all
/// of its answers drops everything.
#[must_use = "a batch whose answer is dropped is not embedded"]
pub struct EmbedAnswer {
    answer: oneshot::Receiver<Result<Embedded, EmbedError>>,
    _interest: Interest,
}

/// Held by all who may still want something of the task.
type Interest = watch::Receiver<()>;

/// What the task knows.
struct Conversation {
    client: EmbeddingClient,
    model_id: String,
    input_type: InputType,
    batches: mpsc::UnboundedReceiver<(Vec<String>, Answer)>,
    /// No more batches will come.
    has_all: bool,
    parts: Parts,
    /// The pauses that are left before it gives up; all of them after each answer.
    pauses: ExponentialBackoff,
    /// Since when the service owes an answer.
    owed_since: Option<Instant>,
}

/// Why a stream came to its end.
enum End {
    /// Nobody waited for an answer.
    Idle,
    /// The connection broke, or the service is stopping or away.
    Broken(EmbedError),
    /// The service refused what it had to answer next, or answered it wrongly.
    Refused(EmbedError),
    /// No answer came in time.
    TimedOut,
}

impl EmbeddingClient {
    /// Opens a stream at the first batch. An empty `model_id` is the service's default model. Needs a runtime.
    pub fn stream(&self, model_id: &str, input_type: InputType) -> EmbedStream {
        let (batches, received) = mpsc::unbounded_channel();
        let conversation = Conversation {
            client: self.clone(),
            model_id: model_id.to_owned(),
            input_type,
            batches: received,
            has_all: false,
            parts: Parts::new(&self.place),
            pauses: backoff().build(),
            owed_since: None,
        };
        let (anybody, interest) = watch::channel(());
        tokio::spawn(async move {
            tokio::select! {
                () = conversation.run() => {}
                () = anybody.closed() => {}
            }
        });
        EmbedStream { batches, interest }
    }
}

impl EmbedStream {
    /// Queues a batch of at least one text. Does not wait.
    pub fn embed(&self, texts: Vec<String>) -> EmbedAnswer {
        assert!(!texts.is_empty(), "there is something to embed");
        let (sender, answer) = oneshot::channel();
        // Where the task is gone, the sender is dropped, and the answer says so.
        let _ = self.batches.send((texts, sender));
        EmbedAnswer { answer, _interest: self.interest.clone() }
    }
}

impl Future for EmbedAnswer {
    type Output = Result<Embedded, EmbedError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| {
            let message = "the stream of embeddings was lost".to_owned();
            Err(EmbedError { code: Code::Internal, message, retry_after: None })
        };
        Pin::new(&mut self.answer).poll(context).map(|answer| answer.unwrap_or_else(gone))
    }
}

impl Conversation {
    async fn run(mut self) {
        loop {
            if self.parts.none_wait() {
                let Some((texts, answer)) = self.batches.recv().await else { return };
                self.parts.add(texts, answer);
            }
            let end = self.converse().await;
            if let End::Broken(error) = end {
                self.try_again(error).await;
                continue;
            }
            match end {
                End::Idle | End::Broken(_) => {}
                End::Refused(error) => self.parts.fail_first(error),
                End::TimedOut => self.parts.fail_on_their_way(&timed_out(&self.client.place, self.client.timeout)),
            }
            self.parts.send_again();
            self.owed_since = None;
        }
    }

    /// Waits before the next try, or gives up.
    async fn try_again(&mut self, error: EmbedError) {
        let Some(pause) = self.pauses.next() else {
            self.parts.fail_all(&error);
            self.pauses = backoff().build();
            self.owed_since = None;
            return;
        };
        tracing::debug!("the stream of embeddings broke and is opened again: {error}");
        self.parts.send_again();
        sleep(pause.max(error.retry_after.unwrap_or_default())).await;
    }

    /// Opens a stream, and sends and receives until its end.
    async fn converse(&mut self) -> End {
        // As many as may be on their way, so that it is never full.
        let (sender, requests) = mpsc::channel(ON_THEIR_WAY_MAX);
        self.send(&sender);
        if self.parts.none_on_their_way() {
            return End::Idle;
        }
        let mut client = self.client.client.clone();
        let opening = client.stream_embed(ReceiverStream::new(requests));
        let mut answers = match timeout_at(self.deadline(), opening).await {
            Ok(Ok(answers)) => answers.into_inner(),
            Ok(Err(status)) => return self.ended(&status),
            Err(_) => return End::TimedOut,
        };

        // While the service has asked for a pause.
        let mut paused_until = None;
        loop {
            if paused_until.is_none() {
                self.send(&sender);
            }
            if self.has_all && self.parts.none_wait() && self.parts.none_on_their_way() {
                return End::Idle;
            }
            let (deadline, resume) = (self.deadline(), paused_until.unwrap_or_else(Instant::now));
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => match self.parts.take(answer) {
                        Ok(next) => {
                            self.progressed();
                            if let Next::Pause(pause) = next {
                                paused_until = Some(Instant::now() + pause);
                            }
                        }
                        Err(error) => return End::Refused(error),
                    },
                    Ok(None) => return self.ended(&Status::unavailable("the stream was ended")),
                    Err(status) => return self.ended(&status),
                },
                batch = self.batches.recv(), if !self.has_all => match batch {
                    Some((texts, answer)) => self.parts.add(texts, answer),
                    None => self.has_all = true,
                },
                () = sleep_until(deadline), if !self.parts.none_on_their_way() => return End::TimedOut,
                () = sleep_until(resume), if paused_until.is_some() => paused_until = None,
            }
        }
    }

    fn send(&mut self, sender: &mpsc::Sender<StreamEmbedRequest>) {
        while let Some((batch_index, texts)) = self.parts.send_next() {
            let embed = EmbedRequest {
                texts,
                model_id: self.model_id.clone(),
                input_type: self.input_type.into(),
                normalize: Some(true),
            };
            // Where the stream has just broken, its end comes with the answers, and the part is sent again.
            let _ = sender.try_send(StreamEmbedRequest { batch_index, embed: Some(embed), ..Default::default() });
            self.owed_since.get_or_insert_with(Instant::now);
        }
    }

    fn progressed(&mut self) {
        self.pauses = backoff().build();
        self.owed_since = (!self.parts.none_on_their_way()).then(Instant::now);
    }

    /// When the service has to have made progress.
    fn deadline(&self) -> Instant {
        self.owed_since.unwrap_or_else(Instant::now) + self.client.timeout
    }

    fn ended(&self, status: &Status) -> End {
        if self.parts.none_on_their_way() {
            return End::Idle;
        }
        let error = error_of(status, &self.client.place);
        match error.code {
            Code::Unavailable => End::Broken(error),
            Code::ResourceExhausted if error.retry_after.is_some() => End::Broken(error),
            _ => End::Refused(error),
        }
    }
}
