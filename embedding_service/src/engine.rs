//! One call from texts to embeddings: tokens, queue, results.
//!
//! Two bounds hold: the bytes of the texts and answers of all calls in flight, and the tokens that wait in the queue. Beyond
//! either a call is refused at once, or waits in line, as its `WhenFull` says. A caller that drops its call frees both,
//! as soon as nothing works on its texts.
//!
//! A call that would be refused is also refused where it would wait longer than its caller does: else, under a load that
//! lasts, all that is embedded is what nobody waits for any more. All of that is decided before anything is spent on the texts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::batch::{Budget, Call, Closed, Held, NoRoom, Queue, RefusedText, Texts, TokenizeQueue, Tokenized, WhenFull};
use crate::model::LoadedModel;
use crate::told::microseconds;

/// A single text of up to this many bytes is tokenized at once, in less than 100 microseconds; more on a thread for it.
const INLINE_BYTES_MAX: usize = 256;

/// A caller that does not say how long it waits is taken to wait so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The part of its time that a call may expect to wait. The rest is for the model, and for a rate that falls meanwhile: with 0.8, on a
/// machine that others used too, a quarter of the calls that were let in ran out of time (one run, examples/load.rs).
const WAIT_PART: f64 = 0.5;

/// Takes calls, hands them to the queue, and collects the results.
pub(crate) struct Engine {
    queue: Arc<Queue<LoadedModel>>,
    tokenizing: Arc<TokenizeQueue>,
    bytes: Budget,
    tokens: Budget,
}

/// How much is taken in, and how much is run at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the texts and the answers of all calls in flight.
    pub(crate) queue_bytes_max: usize,
    /// Tokens of all texts that wait.
    pub(crate) queue_tokens_max: usize,
    /// Tokens of a batch; a single text may have more.
    pub(crate) batch_tokens_max: usize,
}

/// How a call is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) normalize: bool,
    pub(crate) when_full: WhenFull,
    /// Until when its caller waits.
    pub(crate) deadline: Option<Instant>,
}

/// The embeddings of one call.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) embeddings: Vec<TextEmbedding>,
    pub(crate) tokenize_us: u64,
    /// The longest wait of any text.
    pub(crate) queue_us: u64,
    /// The longest run that any text was part of.
    pub(crate) inference_us: u64,
}

/// The embedding of one text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextEmbedding {
    pub(crate) components: Vec<f32>,
    pub(crate) tokens: usize,
    pub(crate) truncated: bool,
    /// Whether it was known, or that of an equal text of the same call.
    pub(crate) cached: bool,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// A text that the model's tokenizer refuses.
    #[error("texts[{index}] {reason}")]
    TextRefused {
        /// Which one of those that the engine was given.
        index: usize,
        /// Why.
        reason: String,
    },
    /// No room in the queue.
    #[error("too much is waiting: {queued} {unit} of at most {queued_max}, and this call has {wanted}; try again")]
    Full {
        /// Of this call.
        wanted: usize,
        /// Waiting.
        queued: usize,
        /// What may wait.
        queued_max: usize,
        /// Of what.
        unit: &'static str,
        /// When there is room, at the present rate.
        retry_after: Duration,
    },
    /// The queue takes longer than the caller waits.
    #[error(
        "too much is waiting: it takes {:.1} s, and this call has {:.1} s; try again",
        wait.as_secs_f32(), left.as_secs_f32()
    )]
    TooLate {
        /// For what waits.
        wait: Duration,
        /// Until the deadline.
        left: Duration,
        /// When the call would be in time, at the present rate.
        retry_after: Duration,
    },
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// A worker thread panicked over the call's batch.
    #[error("the service made a mistake: a batch of texts was lost; its log has more")]
    Lost,
}

impl Engine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            queue: Arc::new(Queue::new(limits.batch_tokens_max)),
            tokenizing: Arc::new(TokenizeQueue::new()),
            bytes: Budget::new(limits.queue_bytes_max),
            tokens: Budget::new(limits.queue_tokens_max),
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue<LoadedModel>> {
        &self.queue
    }

    pub(crate) fn tokenizing(&self) -> &Arc<TokenizeQueue> {
        &self.tokenizing
    }

    /// Takes no more calls. What is queued is still run; calls that wait in line are told that the service stops.
    pub(crate) fn close(&self) {
        self.bytes.close();
        self.tokens.close();
        self.tokenizing.close();
        self.queue.close();
    }

    /// Takes no more calls, and drops those that are queued: they are told that the service stops. What a thread has begun
    /// is still run.
    pub(crate) fn clear(&self) {
        self.bytes.close();
        self.tokens.close();
        // First: by this one, callers that are dropped tell a stop from an accident.
        self.queue.clear();
        self.tokenizing.clear();
    }

    /// Why a call has no answer and no error of its own.
    fn lost(&self) -> EngineError {
        if self.queue.is_closed() { EngineError::Stopping } else { EngineError::Lost }
    }

    /// Takes texts in where the budget of bytes has room for them; it is held from here to the answer.
    /// `bytes` is what comes to be in memory for them.
    pub(crate) async fn admit(
        &self,
        texts: Vec<String>,
        bytes: usize,
        when_full: WhenFull,
    ) -> Result<Texts, EngineError> {
        let held = match self.bytes.take(bytes, when_full).await {
            Ok(held) => held,
            Err(no_room) => {
                // Most of the bytes may be those of the answer.
                let of_texts: usize = texts.iter().map(String::len).sum();
                let tokens_per_byte = self.queue.pace().tokens_per_byte() * of_texts as f64 / bytes.max(1) as f64;
                return Err(self.refused(no_room, &Unit { name: "bytes", tokens: tokens_per_byte }));
            }
        };
        Ok(Texts { texts, held })
    }

    /// Gives back what the texts hold as well, for their embeddings.
    pub(crate) async fn embed(
        &self,
        model: &Arc<LoadedModel>,
        texts: Texts,
        run: Run,
    ) -> Result<(Answer, Held), EngineError> {
        let started = Instant::now();
        if run.when_full == WhenFull::Refuse {
            let tokens = self.tokens_estimated(&texts.texts, model.encoder.tokens_max());
            self.check_that_there_is_room(tokens, run.deadline.unwrap_or(started + PATIENCE))?;
        }
        let lengths: Vec<usize> = texts.texts.iter().map(String::len).collect();
        let Tokenized { texts, held } = self.tokenize(model, texts).await?;
        let tokenize_us = microseconds(started.elapsed());

        let mut embeddings: Vec<TextEmbedding> = texts
            .iter()
            .map(|text| TextEmbedding { tokens: text.ids.len(), truncated: text.truncated, ..TextEmbedding::default() })
            .collect();
        let tokens = texts.iter().map(|text| text.ids.len()).sum();
        let whole = || lengths.iter().zip(&texts).filter(|(_, text)| !text.truncated);
        let tokens_of_whole = whole().map(|(_, text)| text.ids.len()).sum();
        self.queue.pace().tokenized(whole().map(|(length, _)| length).sum(), tokens_of_whole);
        let tokens_held = self.tokens.take(tokens, run.when_full).await;
        let tokens_held = tokens_held.map_err(|no_room| self.refused(no_room, &Unit::TOKENS))?;
        let (results, mut done) = mpsc::unbounded_channel();
        let call = Call { model: model.clone(), texts, normalize: run.normalize, results, held: tokens_held };
        let _ticket = self.queue.push(call).map_err(|Closed| EngineError::Stopping)?;

        let (mut queue_us, mut inference_us) = (0, 0);
        for _ in 0..embeddings.len() {
            let done = done.recv().await.ok_or_else(|| self.lost())?;
            queue_us = queue_us.max(done.queue_us);
            inference_us = inference_us.max(done.inference_us);
            embeddings[done.index].components = done.embedding;
        }
        Ok((Answer { embeddings, tokenize_us, queue_us, inference_us }, held))
    }

    /// Tokens that wait, and bytes of all calls in flight.
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.tokens.held(), self.bytes.held())
    }

    /// How many tokens the texts probably have, each cut after `tokens_max`.
    fn tokens_estimated(&self, texts: &[String], tokens_max: usize) -> usize {
        let tokens_per_byte = self.queue.pace().tokens_per_byte();
        texts.iter().map(|text| ((text.len() as f64 * tokens_per_byte) as usize).min(tokens_max)).sum()
    }

    /// Splitting texts into tokens takes as long as it may take to refuse a hundred calls, so what is likely to be refused is refused
    /// before.
    fn check_that_there_is_room(&self, wanted: usize, deadline: Instant) -> Result<(), EngineError> {
        let pace = self.queue.pace();
        if wanted.min(self.tokens.max()) > self.tokens.left() {
            let (held, held_max) = (self.tokens.held(), self.tokens.max());
            return Err(self.refused(NoRoom::Full { wanted, held, held_max }, &Unit::TOKENS));
        }
        let ahead = self.queue.tokens_ahead(wanted);
        let Some(wait) = pace.time_of(ahead) else { return Ok(()) };
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let wait_max = left.mul_f64(WAIT_PART);
        if wait <= wait_max {
            return Ok(());
        }
        // When so much has been run that the same call would be in time.
        let excess = (ahead as f64 * (1.0 - wait_max.as_secs_f64() / wait.as_secs_f64())) as usize;
        let retry_after = pace.come_back_after(now, wanted, excess, ahead);
        Err(EngineError::TooLate { wait, left, retry_after })
    }

    fn refused(&self, no_room: NoRoom, unit: &Unit) -> EngineError {
        let NoRoom::Full { wanted, held, held_max } = no_room else { return EngineError::Stopping };
        let pace = self.queue.pace();
        let excess = wanted.min(held_max).saturating_sub(held_max - held);
        let tokens_of = |amount| (amount as f64 * unit.tokens) as usize;
        let retry_after =
            pace.come_back_after(Instant::now(), tokens_of(wanted), tokens_of(excess), tokens_of(held_max));
        EngineError::Full { wanted, queued: held, queued_max: held_max, unit: unit.name, retry_after }
    }

    async fn tokenize(&self, model: &Arc<LoadedModel>, texts: Texts) -> Result<Tokenized, EngineError> {
        if let [text] = &texts.texts[..]
            && text.len() <= INLINE_BYTES_MAX
        {
            let tokens = model.encoder.tokenize(text).map_err(|error| RefusedText { index: 0, error })?;
            return Ok(Tokenized { texts: vec![tokens], held: texts.held });
        }
        let answer = self.tokenizing.push(model.clone(), texts).ok_or(EngineError::Stopping)?;
        Ok(answer.await.map_err(|_| self.lost())??)
    }
}

/// What a budget is of.
struct Unit {
    name: &'static str,
    /// That have to be run for one of it.
    tokens: f64,
}

impl Unit {
    const TOKENS: Self = Self { name: "tokens", tokens: 1.0 };
}

impl From<RefusedText> for EngineError {
    fn from(RefusedText { index, error }: RefusedText) -> Self {
        Self::TextRefused { index, reason: error.to_string() }
    }
}
