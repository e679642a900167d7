//! The only copy of what each call does. gRPC and REST translate to and from the types of this module.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ApiError;
use super::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
use crate::batch::{Held, Texts, WhenFull};
use crate::cache::{Cache, Lookup, Space};
use crate::catalogue::{Model, ModelState, Models};
use crate::encoder;
use crate::engine::{Answer, Engine, EngineError, Run, TextEmbedding};
use crate::figures::{self, AnsweredCall, Caller};
use crate::model::{Input, ModelSpec, NotReady};
use crate::provider::{Asking, RemoteEmbedding};
use crate::told::microseconds;

/// A call waits this long for a model that is being loaded, unless its own deadline comes first.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// The service's calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) models: Arc<Models>,
    pub(crate) engine: Arc<Engine>,
    /// One comparison of models at a time; held while it runs.
    pub(crate) comparing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) cache: Arc<Cache>,
}

/// Texts to embed.
pub(crate) struct Embed {
    pub(crate) texts: Vec<String>,
    /// Empty: the default model.
    pub(crate) model_id: String,
    /// Absent: as the registry says of the model.
    pub(crate) normalize: Option<bool>,
    /// What the texts are for.
    pub(crate) input: Input,
    /// Whether the answer may be of another space than the model's, where that cannot be used.
    pub(crate) any_space: bool,
    /// Until when the caller waits, where it says so.
    pub(crate) deadline: Option<Instant>,
}

/// Texts that are taken in: checked, and with their part of the budget of bytes.
pub(crate) struct Admitted {
    texts: Texts,
    model: Arc<Model>,
    how: How,
    any_space: bool,
    since: Instant,
}

/// How texts are to be embedded.
#[derive(Clone, Copy)]
struct How {
    normalize: Option<bool>,
    input: Input,
    when_full: WhenFull,
    deadline: Option<Instant>,
}

/// A model has not embedded the texts.
struct Missed {
    error: ApiError,
    /// The texts, where another model may.
    texts: Option<Texts>,
}

/// A model has embedded the texts.
struct Served {
    answer: Answer,
    fingerprint: String,
    held: Held,
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
    /// Of the budget of bytes, until the answer is sent.
    pub(crate) held: Held,
}

/// Models of the registry.
pub(crate) struct Page {
    pub(crate) models: Vec<Arc<Model>>,
    /// Empty where this is the last page.
    pub(crate) next_token: String,
}

impl Handlers {
    pub(crate) async fn embed(&self, request: Embed) -> Result<Embedded, ApiError> {
        let admitted = self.admit(request, WhenFull::Refuse).await?;
        self.embed_admitted(admitted).await
    }

    /// Embeds with the model itself or not at all, for those who measure it: no fallback serves in its place, and nothing
    /// is taken from the cache or put there. Waits in line where the queue is full.
    pub(crate) async fn embed_by_model_alone(&self, request: Embed) -> Result<Embedded, ApiError> {
        let Admitted { texts, model, how, since, .. } = self.admit(request, WhenFull::Wait).await?;
        let without_cache = Self { cache: Arc::new(Cache::new(0)), ..self.clone() };
        let served = without_cache.embed_with(&model, texts, how, None).await.map_err(|missed| missed.error)?;
        Ok(Embedded::new(served, model.spec(), since))
    }

    /// Comes before the wait for the model: the texts are in memory all that time.
    pub(crate) async fn admit(&self, request: Embed, when_full: WhenFull) -> Result<Admitted, ApiError> {
        let since = Instant::now();
        check_texts(&request.texts)?;
        let model = self.model(&request.model_id)?.clone();
        let Embed { texts, normalize, input, any_space, deadline, .. } = request;
        // Whichever model will serve.
        let chain = std::iter::once(&model).chain(self.fallbacks(model.spec(), any_space));
        let bytes = chain.map(|model| bytes_for(model, &texts, input)).max().unwrap_or_default();
        let texts = self.engine.admit(texts, bytes, when_full).await?;
        Ok(Admitted { texts, model, how: How { normalize, input, when_full, deadline }, any_space, since })
    }

    /// Embeds with the model, or with the first of its fallbacks that can. Where none can, the error is the model's own.
    pub(crate) async fn embed_admitted(&self, admitted: Admitted) -> Result<Embedded, ApiError> {
        let caller = Caller::waits();
        let embedded = self.embed_or_fall_back(admitted).await;
        caller.answered();
        if let Ok(embedded) = &embedded {
            let new = || embedded.embeddings.iter().filter(|embedding| !embedding.cached);
            figures::call_answered(&AnsweredCall {
                model: &embedded.model_id,
                texts: embedded.embeddings.len(),
                cached: embedded.embeddings.len() - new().count(),
                tokens: new().map(|embedding| embedding.tokens).sum(),
            });
        }
        embedded
    }

    async fn embed_or_fall_back(&self, admitted: Admitted) -> Result<Embedded, ApiError> {
        let Admitted { mut texts, model, how, any_space, since } = admitted;
        let (mut fallbacks, mut next) = (self.fallbacks(model.spec(), any_space), model.clone());
        let mut first_error = None;
        loop {
            // Half of what is left, as long as there is somebody to leave the other half to.
            let until = how.deadline.filter(|_| fallbacks.len() > 0).map(|deadline| {
                let now = Instant::now();
                now + deadline.saturating_duration_since(now) / 2
            });
            let missed = match self.embed_with(&next, texts, how, until).await {
                Ok(served) => {
                    self.models.note_server(&model.spec().id, &next.spec().id, first_error.as_ref());
                    return Ok(Embedded::new(served, next.spec(), since));
                }
                Err(missed) => missed,
            };
            let (Some(back), Some(fallback)) = (missed.texts, fallbacks.next()) else {
                return Err(first_error.unwrap_or(missed.error));
            };
            let (id, fallback_id) = (&next.spec().id, &fallback.spec().id);
            // Each call again: what is said aloud is who serves, when that changes.
            tracing::debug!("{fallback_id} is asked in the place of {id}: {}", missed.error);
            first_error.get_or_insert(missed.error);
            (texts, next) = (back, fallback.clone());
        }
    }

    fn fallbacks(&self, spec: &ModelSpec, any_space: bool) -> impl ExactSizeIterator<Item = &Arc<Model>> {
        let of_any_space = if any_space { &spec.fallback_any_space[..] } else { &[] };
        // The registry has checked that they exist. Some may stand in both lists.
        let ids = spec.fallback.iter().chain(of_any_space.iter().filter(|id| !spec.fallback.contains(id)));
        let found: Vec<_> = ids.filter_map(|id| self.models.get(id)).collect();
        found.into_iter()
    }

    async fn embed_with(
        &self,
        model: &Model,
        texts: Texts,
        how: How,
        until: Option<Instant>,
    ) -> Result<Served, Missed> {
        let spec = model.spec();
        let normalize = how.normalize.unwrap_or(spec.normalize);
        match model {
            Model::Here(slot) => {
                let patience = until
                    .map_or(LOAD_PATIENCE, |until| until.saturating_duration_since(Instant::now()).min(LOAD_PATIENCE));
                let loaded = match slot.ready(patience).await {
                    Ok(loaded) => loaded,
                    Err(reason) => return Err(Missed { error: not_ready(&spec.id, reason), texts: Some(texts) }),
                };
                let identity = spec.cache_identity(&loaded.fingerprint);
                let space = Space { model: &identity, input: how.input, normalize };
                let Texts { texts, mut held } = texts;
                let (lookup, mut missing) = self.cache.look_up(space, texts).await;
                let mut answer = Answer::default();
                if !missing.is_empty() {
                    spec.prompts.put_before(how.input, &mut missing);
                    let run = Run { normalize, when_full: how.when_full, deadline: how.deadline };
                    let embedded = self.engine.embed(&loaded, Texts { texts: missing, held }, run).await;
                    (answer, held) =
                        embedded.map_err(|error| Missed { error: told_of(error, &lookup), texts: None })?;
                }
                answer.embeddings = self.cache.complete(lookup, answer.embeddings);
                held.shrink_to(bytes_of_answer(model, answer.embeddings.len()));
                Ok(Served { answer, fingerprint: loaded.fingerprint.clone(), held })
            }
            Model::There(remote) => {
                let fingerprint = remote.fingerprint().to_owned();
                let identity = spec.cache_identity(&fingerprint);
                let space = Space { model: &identity, input: how.input, normalize };
                let Texts { texts, mut held } = texts;
                let (lookup, missing) = self.cache.look_up(space, texts).await;
                let mut answer = Answer::default();
                if !missing.is_empty() {
                    let started = Instant::now();
                    let asking = Asking { input: how.input, when_full: how.when_full, until };
                    match remote.embed(&missing, asking).await {
                        Ok(embeddings) => {
                            answer.inference_us = microseconds(started.elapsed());
                            answer.embeddings = embeddings.into_iter().map(|one| scaled(one, normalize)).collect();
                        }
                        Err(error) => {
                            let texts =
                                error.may_be_another_models().then(|| Texts { texts: lookup.give_back(missing), held });
                            return Err(Missed { error: ApiError::Provider { id: spec.id.clone(), error }, texts });
                        }
                    }
                }
                answer.embeddings = self.cache.complete(lookup, answer.embeddings);
                held.shrink_to(bytes_of_answer(model, answer.embeddings.len()));
                Ok(Served { answer, fingerprint, held })
            }
        }
    }

    pub(crate) fn model(&self, id: &str) -> Result<&Arc<Model>, ApiError> {
        self.models.get(id).ok_or_else(|| ApiError::UnknownModel {
            id: id.to_owned(),
            known: self.models.all().iter().map(|model| model.spec().id.clone()).collect(),
        })
    }

    /// Tells what the service holds now.
    pub(crate) fn set_figures(&self) {
        let (queue_tokens, queue_bytes) = self.engine.held();
        figures::set_held(&figures::Held { queue_tokens, queue_bytes, cache_bytes: self.cache.bytes() });
        for model in self.models.all() {
            let (id, now) = (&model.spec().id, model.state().name());
            figures::set_model(id, ModelState::NAMES.map(|name| (name, name == now)), model.memory_bytes());
            if let Model::There(remote) = &**model {
                figures::set_provider(id, remote.rests_for().is_some());
            }
        }
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
            let last = all.iter().position(|model| model.spec().id == page_token);
            1 + last.ok_or_else(|| ApiError::PageToken { token: page_token.to_owned() })?
        };
        let end = all.len().min(start + size);
        let models = all[start..end].to_vec();
        let more = end < all.len();
        let next_token = models.last().filter(|_| more).map_or_else(String::new, |model| model.spec().id.clone());
        Ok(Page { models, next_token })
    }
}

impl Embedded {
    fn new(served: Served, spec: &ModelSpec, since: Instant) -> Self {
        let Served { answer, fingerprint, held } = served;
        Self {
            embeddings: answer.embeddings,
            model_id: spec.id.clone(),
            fingerprint,
            dimension: spec.dimension,
            tokenize_us: answer.tokenize_us,
            queue_us: answer.queue_us,
            inference_us: answer.inference_us,
            elapsed: since.elapsed(),
            held,
        }
    }
}

/// The queue knows the missing texts alone, the caller all of them.
fn told_of(error: EngineError, lookup: &Lookup) -> ApiError {
    ApiError::from(match error {
        EngineError::TextRefused { index, reason } => {
            EngineError::TextRefused { index: lookup.index_of_missing(index), reason }
        }
        other => other,
    })
}

/// What comes to be in memory of texts for a model. For one that runs here: themselves with their prompts. For a provider:
/// themselves, themselves with their prompts, and the request. And their embeddings, with the message that they are sent in.
fn bytes_for(model: &Model, texts: &[String], input: Input) -> usize {
    let prompt = model.spec().prompts.of(input);
    let of_text = |text: &String| match model {
        Model::Here(_) => prompt.len() + text.len(),
        Model::There(_) => 2 * text.len() + prompt.len() + json_bytes(prompt) + json_bytes(text),
    };
    texts.iter().map(of_text).sum::<usize>() + bytes_of_answer(model, texts.len())
}

/// Of so many embeddings: themselves, and the message that they are sent in, which in JSON has three times as many bytes.
fn bytes_of_answer(model: &Model, texts: usize) -> usize {
    4 * size_of::<f32>() * model.spec().dimension * texts
}

/// Bytes of a text within a string of JSON: some characters are escaped, by one more byte or five.
fn json_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

fn not_ready(id: &str, reason: NotReady) -> ApiError {
    match reason {
        NotReady::Loading => ApiError::ModelLoading { id: id.to_owned() },
        NotReady::Failed(reason) => ApiError::ModelFailed { id: id.to_owned(), reason },
        NotReady::NoRoom(reason) => ApiError::ModelNoRoom { id: id.to_owned(), reason },
    }
}

fn scaled(embedding: RemoteEmbedding, normalize: bool) -> TextEmbedding {
    let RemoteEmbedding { mut components, tokens, truncated } = embedding;
    if normalize {
        encoder::normalize(&mut components);
    }
    TextEmbedding { components, tokens, truncated, cached: false }
}

/// Whether there are so many texts as a call may have, each of a length that it may have.
pub(super) fn check_texts(texts: &[String]) -> Result<(), ApiError> {
    if texts.is_empty() {
        return Err(ApiError::NoTexts);
    }
    if texts.len() > TEXTS_MAX {
        return Err(ApiError::TooManyTexts);
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
            EngineError::Full { wanted, queued, queued_max, unit, retry_after } => {
                Self::QueueFull { wanted, queued, queued_max, unit, retry_after }
            }
            EngineError::TooLate { wait, left, retry_after } => Self::TooLate { wait, left, retry_after },
            EngineError::Stopping => Self::Stopping,
            EngineError::Lost => Self::Internal { what: "a batch of texts was lost" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refused_text_is_named_by_its_place_among_all_of_the_call() {
        let cache = Cache::new(1 << 20);
        let space = Space { model: "m", input: Input::Document, normalize: true };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (lookup, _) = cache.look_up(space, texts(&["known"])).await;
        cache.complete(lookup, vec![TextEmbedding::default()]);
        let (lookup, missing) = cache.look_up(space, texts(&["known", "new", "new", "refused"])).await;
        assert_eq!(missing, ["new", "refused"]);
        let refused = EngineError::TextRefused { index: 1, reason: "is refused".to_owned() };
        assert_eq!(told_of(refused, &lookup).to_string(), "texts[3] is refused");
        assert_eq!(told_of(EngineError::Stopping, &lookup), ApiError::Stopping);
    }

    #[test]
    fn json_has_so_many_bytes() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}", "\"\\\n\r\t\u{8}\u{c}", "äß漢🦀", &all] {
            assert_eq!(json_bytes(text) + 2, serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }
}
