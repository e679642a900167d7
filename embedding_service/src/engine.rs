//! One call from texts to embeddings: tokens, queue, results.
//!
//! Two bounds hold: the bytes of the texts of all calls in flight, and the tokens that wait in the queue. Beyond
//! either a call is refused at once. A caller that drops its call frees both.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc};

use crate::batch::{Call, Limits, Queue, Refused};
use crate::encoder::Tokens;
use crate::model::LoadedModel;

/// Texts of up to this many bytes are tokenized at once, in some ten microseconds; more on a thread that may block.
const INLINE_BYTES_MAX: usize = 4 << 10;

/// Takes calls, hands them to the queue, and collects the results.
pub(crate) struct Engine {
    queue: Arc<Queue<LoadedModel>>,
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
        Self { queue: Arc::new(Queue::new(limits)), bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue<LoadedModel>> {
        &self.queue
    }

    pub(crate) async fn embed(
        &self,
        model: &Arc<LoadedModel>,
        texts: Vec<String>,
        normalize: bool,
    ) -> Result<Answer, EngineError> {
        // A single call is at most a message; with less room than that it gets all there is.
        let bytes: usize = texts.iter().map(String::len).sum();
        let wanted = bytes.min(self.bytes_max);
        let Ok(_held) = self.bytes.try_acquire_many(u32::try_from(wanted).unwrap_or(u32::MAX)) else {
            let queued = self.bytes_max - self.bytes.available_permits();
            return Err(EngineError::Full { wanted, queued, queued_max: self.bytes_max, unit: "bytes" });
        };

        let started = Instant::now();
        let texts = tokenize(model, texts, bytes).await?;
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
}

async fn tokenize(model: &Arc<LoadedModel>, texts: Vec<String>, bytes: usize) -> Result<Vec<Tokens>, EngineError> {
    if bytes <= INLINE_BYTES_MAX {
        return tokenize_here(model, &texts);
    }
    let model = model.clone();
    tokio::task::spawn_blocking(move || tokenize_here(&model, &texts)).await.unwrap_or(Err(EngineError::Lost))
}

fn tokenize_here(model: &LoadedModel, texts: &[String]) -> Result<Vec<Tokens>, EngineError> {
    let mut tokenized = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let tokens = model.encoder.tokenize(text);
        tokenized.push(tokens.map_err(|error| EngineError::TextRefused { index, reason: error.to_string() })?);
    }
    Ok(tokenized)
}
