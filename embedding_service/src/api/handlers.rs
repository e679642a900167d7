//! The only copy of what each call does. gRPC and REST translate to and from the types of this module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
use crate::batch::{Texts, WhenFull};
use crate::engine::{Engine, EngineError, TextEmbedding};
use crate::model::{Models, NotReady, Slot};

/// A call waits this long for a model that is being loaded, unless its own deadline comes first.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// The service's calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) models: Arc<Models>,
    pub(crate) engine: Arc<Engine>,
}

/// Texts to embed.
pub(crate) struct Embed {
    pub(crate) texts: Vec<String>,
    /// Empty: the default model.
    pub(crate) model_id: String,
    /// Absent: as the registry says of the model.
    pub(crate) normalize: Option<bool>,
}

/// Texts that are taken in: checked, and with their part of the budget of bytes.
pub(crate) struct Admitted {
    texts: Texts,
    slot: Arc<Slot>,
    normalize: bool,
    when_full: WhenFull,
    since: Instant,
}

/// Embedded texts.
pub(crate) struct Embedded {
    pub(crate) embeddings: Vec<TextEmbedding>,
    pub(crate) model_id: String,
    pub(crate) fingerprint: String,
    pub(crate) dimension: usize,
    pub(crate) tokenize_us: u64,
    pub(crate) queue_us: u64,
    pub(crate) inference_us: u64,
    pub(crate) elapsed: Duration,
}

/// Models of the registry.
pub(crate) struct Page {
    pub(crate) slots: Vec<Arc<Slot>>,
    /// Empty where this is the last page.
    pub(crate) next_token: String,
}

impl Handlers {
    pub(crate) async fn embed(&self, request: Embed) -> Result<Embedded, ApiError> {
        let admitted = self.admit(request, WhenFull::Refuse).await?;
        self.embed_admitted(admitted).await
    }

    /// Comes before the wait for the model: the texts are in memory all that time.
    pub(crate) async fn admit(&self, request: Embed, when_full: WhenFull) -> Result<Admitted, ApiError> {
        let since = Instant::now();
        check_texts(&request.texts)?;
        let slot = self.model(&request.model_id)?.clone();
        let normalize = request.normalize.unwrap_or(slot.spec().normalize);
        let texts = self.engine.admit(request.texts, when_full).await?;
        Ok(Admitted { texts, slot, normalize, when_full, since })
    }

    pub(crate) async fn embed_admitted(&self, admitted: Admitted) -> Result<Embedded, ApiError> {
        let Admitted { texts, slot, normalize, when_full, since } = admitted;
        let id = &slot.spec().id;
        let model = slot.ready(LOAD_PATIENCE).await.map_err(|reason| match reason {
            NotReady::Loading => ApiError::ModelLoading { id: id.clone() },
            NotReady::Failed(reason) => ApiError::ModelFailed { id: id.clone(), reason },
        })?;
        let answer = self.engine.embed(&model, texts, normalize, when_full).await?;
        Ok(Embedded {
            embeddings: answer.embeddings,
            model_id: id.clone(),
            fingerprint: model.fingerprint.clone(),
            dimension: slot.spec().dimension,
            tokenize_us: answer.tokenize_us,
            queue_us: answer.queue_us,
            inference_us: answer.inference_us,
            elapsed: since.elapsed(),
        })
    }

    pub(crate) fn model(&self, id: &str) -> Result<&Arc<Slot>, ApiError> {
        self.models.get(id).ok_or_else(|| ApiError::UnknownModel {
            id: id.to_owned(),
            known: self.models.all().iter().map(|slot| slot.spec().id.clone()).collect(),
        })
    }

    /// A page token is the id of the last model of the page before.
    pub(crate) fn list(&self, page_size: u32, page_token: &str) -> Result<Page, ApiError> {
        let size = match page_size {
            0 => PAGE_SIZE_DEFAULT,
            1..=PAGE_SIZE_MAX => page_size,
            size => return Err(ApiError::PageSize { size }),
        } as usize;
        let all = self.models.all();
        let start = if page_token.is_empty() {
            0
        } else {
            let last = all.iter().position(|slot| slot.spec().id == page_token);
            1 + last.ok_or_else(|| ApiError::PageToken { token: page_token.to_owned() })?
        };
        let end = all.len().min(start + size);
        let slots = all[start..end].to_vec();
        let more = end < all.len();
        let next_token = slots.last().filter(|_| more).map_or_else(String::new, |slot| slot.spec().id.clone());
        Ok(Page { slots, next_token })
    }
}

/// Whether there are so many texts as a call may have, each of a length that it may have.
pub(super) fn check_texts(texts: &[String]) -> Result<(), ApiError> {
    if texts.is_empty() {
        return Err(ApiError::NoTexts);
    }
    if texts.len() > TEXTS_MAX {
        return Err(ApiError::TooManyTexts { count: texts.len() });
    }
    for (index, text) in texts.iter().enumerate() {
        let field = || format!("texts[{index}]");
        if text.is_empty() {
            return Err(ApiError::EmptyText { field: field() });
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(ApiError::TextTooLong { field: field(), bytes: text.len() });
        }
    }
    Ok(())
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::TextRefused { index, reason } => {
                Self::TextRefused { field: format!("texts[{index}]"), reason }
            }
            EngineError::Full { wanted, queued, queued_max, unit } => {
                Self::QueueFull { wanted, queued, queued_max, unit }
            }
            EngineError::Stopping => Self::Stopping,
            EngineError::Lost => Self::Internal { what: "a batch of texts was lost" },
        }
    }
}
