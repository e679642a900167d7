//! Texts to embeddings: taken in, embedded by their model or one that serves in its place, kept, and answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Handlers;
use crate::api::error::ApiError;
use crate::api::texts::CheckedTexts;
use crate::batch::{Held, Texts, WhenFull};
use crate::cache::{Cache, Space};
use crate::catalogue::Model;
use crate::encoder;
use crate::engine::{Answer, Run, TextEmbedding};
use crate::figures::{self, AnsweredCall, Caller};
use crate::model::{Input, LoadedModel, ModelSpec, NotReady};
use crate::provider::{Asking, RemoteEmbedding, RemoteModel};
use crate::told::microseconds;

/// A call waits this long for a model that is being loaded, unless its own deadline comes first.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Texts to embed.
pub(crate) struct Embed {
    pub(crate) texts: CheckedTexts,
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

/// A model that can be asked.
enum Ready<'a> {
    Here(Arc<LoadedModel>),
    There(&'a RemoteModel),
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
        let model = self.model(&request.model_id)?.clone();
        let Embed { texts, normalize, input, any_space, deadline, .. } = request;
        let texts = texts.into_inner();
        // Whichever model will serve.
        let chain = std::iter::once(&model).chain(self.fallbacks(model.spec(), any_space));
        let bytes = chain.map(|model| model.bytes_for(&texts, input)).max().unwrap_or_default();
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

    /// Embeds what is not known yet.
    async fn embed_with(
        &self,
        model: &Model,
        texts: Texts,
        how: How,
        until: Option<Instant>,
    ) -> Result<Served, Missed> {
        let ready = match ready(model, until).await {
            Ok(ready) => ready,
            Err(error) => return Err(Missed { error, texts: Some(texts) }),
        };
        let (spec, fingerprint) = (model.spec(), ready.fingerprint().to_owned());
        let normalize = how.normalize.unwrap_or(spec.normalize);
        let identity = spec.cache_identity(&fingerprint);
        let Texts { texts, held } = texts;
        let (lookup, missing) =
            self.cache.look_up(Space { model: &identity, input: how.input, normalize }, texts).await;
        let missing = Texts { texts: missing, held };
        let embedded = match &ready {
            _ if missing.texts.is_empty() => Ok((Answer::default(), missing.held)),
            Ready::Here(loaded) => self.embed_here(spec, loaded, missing, how, normalize).await,
            Ready::There(remote) => {
                let asking = Asking { input: how.input, when_full: how.when_full, until };
                embed_there(remote, missing, asking, normalize).await
            }
        };
        match embedded {
            Ok((mut answer, mut held)) => {
                answer.embeddings = self.cache.complete(lookup, answer.embeddings);
                held.shrink_to(model.bytes_of_answer(answer.embeddings.len()));
                Ok(Served { answer, fingerprint, held })
            }
            // Who has embedded knows the missing texts alone, the caller all of them.
            Err(Missed { error, texts }) => Err(Missed {
                error: error.among_all(|number| lookup.index_of_missing(number)),
                texts: texts.map(|Texts { texts, held }| Texts { texts: lookup.give_back(texts), held }),
            }),
        }
    }

    async fn embed_here(
        &self,
        spec: &ModelSpec,
        loaded: &Arc<LoadedModel>,
        mut missing: Texts,
        how: How,
        normalize: bool,
    ) -> Result<(Answer, Held), Missed> {
        spec.prompts.put_before(how.input, &mut missing.texts);
        let run = Run { normalize, when_full: how.when_full, deadline: how.deadline };
        // What this machine has no room for, no other model here has room for either.
        self.engine.embed(loaded, missing, run).await.map_err(|error| Missed { error: error.into(), texts: None })
    }
}

async fn embed_there(
    remote: &RemoteModel,
    missing: Texts,
    asking: Asking,
    normalize: bool,
) -> Result<(Answer, Held), Missed> {
    let started = Instant::now();
    match remote.embed(&missing.texts, asking).await {
        Ok(embeddings) => {
            let inference_us = microseconds(started.elapsed());
            let embeddings = embeddings.into_iter().map(|one| scaled(one, normalize)).collect();
            Ok((Answer { embeddings, inference_us, ..Answer::default() }, missing.held))
        }
        Err(error) => {
            let texts = error.may_be_another_models().then_some(missing);
            Err(Missed { error: ApiError::Provider { id: remote.spec().id.clone(), error }, texts })
        }
    }
}

/// Waits for a model that is being loaded, until `until` where that is sooner than patience ends.
async fn ready(model: &Model, until: Option<Instant>) -> Result<Ready<'_>, ApiError> {
    match model {
        Model::Here(slot) => {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let patience = left.map_or(LOAD_PATIENCE, |left| left.min(LOAD_PATIENCE));
            slot.ready(patience).await.map(Ready::Here).map_err(|reason| not_ready(&model.spec().id, reason))
        }
        Model::There(remote) => Ok(Ready::There(remote)),
    }
}

impl Ready<'_> {
    fn fingerprint(&self) -> &str {
        match self {
            Self::Here(loaded) => &loaded.fingerprint,
            Self::There(remote) => remote.fingerprint(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineError;

    #[tokio::test]
    async fn refused_text_is_named_by_its_place_among_all_of_the_call() {
        let cache = Cache::new(1 << 20);
        let space = Space { model: "m", input: Input::Document, normalize: true };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (lookup, _) = cache.look_up(space, texts(&["known"])).await;
        cache.complete(lookup, vec![TextEmbedding::default()]);
        let (lookup, missing) = cache.look_up(space, texts(&["known", "new", "new", "refused"])).await;
        assert_eq!(missing, ["new", "refused"]);
        let among_all = |error: ApiError| error.among_all(|number| lookup.index_of_missing(number));
        let refused = EngineError::TextRefused { index: 1, reason: "is refused".to_owned() };
        assert_eq!(among_all(refused.into()).to_string(), "texts[3] is refused");
        assert_eq!(among_all(ApiError::Stopping), ApiError::Stopping);
    }
}
