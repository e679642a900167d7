//! One call from texts to embeddings: tokens, queue, results.
//!
//! Two bounds hold: the bytes of the texts of all calls in flight, and the tokens that wait in the queue. Beyond
//! either a call is refused at once. A caller that drops its call frees both, as soon as nothing works on its texts.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use crate::batch::{Call, Limits, Queue, Refused, RefusedText, Texts, TokenizeQueue, Tokenized};
use crate::model::LoadedModel;

/// A single text of up to this many bytes is tokenized at once, in less than 100 microseconds; more on a thread for it.
const INLINE_BYTES_MAX: usize = 256;

/// Takes calls, hands them to the queue, and collects the results.
pub(crate) struct Engine {
    queue: Arc<Queue<LoadedModel>>,
    tokenizing: Arc<TokenizeQueue>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
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
    pub(crate) fn new(limits: Limits, bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self {
            queue: Arc::new(Queue::new(limits)),
            tokenizing: Arc::new(TokenizeQueue::new()),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue<LoadedModel>> {
        &self.queue
    }

    pub(crate) fn tokenizing(&self) -> &Arc<TokenizeQueue> {
        &self.tokenizing
    }

    /// Takes texts in where the budget of bytes has room for them; it is held from here to the answer.
    pub(crate) fn admit(&self, texts: Vec<String>) -> Result<Texts, EngineError> {
        // A single call is at most a message; with less room than that it gets all there is.
        let bytes: usize = texts.iter().map(String::len).sum();
        let wanted = bytes.min(self.bytes_max);
        match self.bytes.clone().try_acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX)) {
            Ok(held) => Ok(Texts { texts, held }),
            Err(_) => {
                let queued = self.bytes_max - self.bytes.available_permits();
                Err(EngineError::Full { wanted, queued, queued_max: self.bytes_max, unit: "bytes" })
            }
        }
    }

    pub(crate) async fn embed(
        &self,
        model: &Arc<LoadedModel>,
        texts: Texts,
        normalize: bool,
    ) -> Result<Answer, EngineError> {
        let started = Instant::now();
        let Tokenized { texts, held: _held } = self.tokenize(model, texts).await?;
        let tokenize_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);

        let mut embeddings: Vec<TextEmbedding> = texts
            .iter()
            .map(|text| TextEmbedding { components: Vec::new(), tokens: text.ids.len(), truncated: text.truncated })
            .collect();
        // Dropped with this call: that is how the queue learns that its caller has left.
        let (results, mut done) = mpsc::unbounded_channel();
        self.queue.push(Call { model: model.clone(), texts, normalize, results }).map_err(|refused| match refused {
            Refused::Full { tokens, queued, queued_max } => {
                EngineError::Full { wanted: tokens, queued, queued_max, unit: "tokens" }
            }
            Refused::Closed => EngineError::Stopping,
        })?;

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

impl From<RefusedText> for EngineError {
    fn from(RefusedText { index, error }: RefusedText) -> Self {
        Self::TextRefused { index, reason: error.to_string() }
    }
}
