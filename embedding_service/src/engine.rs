//! One call from texts to embeddings: tokens, queue, results.
//!
//! Two bounds hold: the bytes of the texts of all calls in flight, and the tokens that wait in the queue. Beyond
//! either a call is refused at once, or waits in line, as its `WhenFull` says. A caller that drops its call frees both,
//! as soon as nothing works on its texts.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::batch::{Budget, Call, Closed, NoRoom, Queue, RefusedText, Texts, TokenizeQueue, Tokenized, WhenFull};
use crate::model::LoadedModel;

/// A single text of up to this many bytes is tokenized at once, in less than 100 microseconds; more on a thread for it.
const INLINE_BYTES_MAX: usize = 256;

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
    /// Bytes of the texts of all calls in flight.
    pub(crate) queue_bytes_max: usize,
    /// Tokens of all texts that wait.
    pub(crate) queue_tokens_max: usize,
    /// Tokens of a batch; a single text may have more.
    pub(crate) batch_tokens_max: usize,
}

/// The embeddings of one call.
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
}

/// Why a call has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EngineError {
    TextRefused {
        index: usize,
        reason: String,
    },
    Full {
        wanted: usize,
        queued: usize,
        queued_max: usize,
        unit: &'static str,
    },
    Stopping,
    /// A worker thread panicked over the call's batch.
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

    /// Takes texts in where the budget of bytes has room for them; it is held from here to the answer.
    /// `bytes` is what comes to be in memory for them.
    pub(crate) async fn admit(
        &self,
        texts: Vec<String>,
        bytes: usize,
        when_full: WhenFull,
    ) -> Result<Texts, EngineError> {
        let held = self.bytes.take(bytes, when_full).await.map_err(|no_room| EngineError::new(no_room, "bytes"))?;
        Ok(Texts { texts, held })
    }

    pub(crate) async fn embed(
        &self,
        model: &Arc<LoadedModel>,
        texts: Texts,
        normalize: bool,
        when_full: WhenFull,
    ) -> Result<Answer, EngineError> {
        let started = Instant::now();
        let Tokenized { texts, held: _held } = self.tokenize(model, texts).await?;
        let tokenize_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);

        let mut embeddings: Vec<TextEmbedding> = texts
            .iter()
            .map(|text| TextEmbedding { components: Vec::new(), tokens: text.ids.len(), truncated: text.truncated })
            .collect();
        let tokens = texts.iter().map(|text| text.ids.len()).sum();
        let held = self.tokens.take(tokens, when_full).await.map_err(|no_room| EngineError::new(no_room, "tokens"))?;
        // Dropped with this call: that is how the queue learns that its caller has left.
        let (results, mut done) = mpsc::unbounded_channel();
        let call = Call { model: model.clone(), texts, normalize, results, held };
        self.queue.push(call).map_err(|Closed| EngineError::Stopping)?;

        let (mut queue_us, mut inference_us) = (0, 0);
        for _ in 0..embeddings.len() {
            let done = done.recv().await.ok_or(EngineError::Lost)?;
            queue_us = queue_us.max(done.queue_us);
            inference_us = inference_us.max(done.inference_us);
            embeddings[done.index].components = done.embedding;
        }
        Ok(Answer { embeddings, tokenize_us, queue_us, inference_us })
    }

    async fn tokenize(&self, model: &Arc<LoadedModel>, texts: Texts) -> Result<Tokenized, EngineError> {
        if let [text] = &texts.texts[..]
            && text.len() <= INLINE_BYTES_MAX
        {
            let tokens = model.encoder.tokenize(text).map_err(|error| RefusedText { index: 0, error })?;
            return Ok(Tokenized { texts: vec![tokens], held: texts.held });
        }
        let answer = self.tokenizing.push(model.clone(), texts).ok_or(EngineError::Stopping)?;
        Ok(answer.await.map_err(|_| EngineError::Lost)??)
    }
}

impl EngineError {
    fn new(no_room: NoRoom, unit: &'static str) -> Self {
        match no_room {
            NoRoom::Full { wanted, held, held_max } => Self::Full { wanted, queued: held, queued_max: held_max, unit },
            NoRoom::Closed => Self::Stopping,
        }
    }
}

impl From<RefusedText> for EngineError {
    fn from(RefusedText { index, error }: RefusedText) -> Self {
        Self::TextRefused { index, reason: error.to_string() }
    }
}
