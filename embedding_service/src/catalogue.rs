//! The models of the registry, each with who runs it: a place in this process's memory, or a provider.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, iter, thread};

use tokio::sync::watch;

use crate::model::{Input, ModelSpec, Place, Registry, Slot, SlotState, WeightsSource, places};
use crate::provider::{Http, RemoteModel};

/// Pauses between the tries to load a default model, or a fallback of it, that cannot be loaded; each is twice as long as the one
/// before.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(6);
/// A try may fetch all of a model's weights, to find that they are not what they should be.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(600);

/// The models of the registry.
pub(crate) struct Models {
    all: Vec<Arc<Model>>,
    default: Arc<Model>,
    /// For the log. Held for moments.
    stand_ins: Mutex<StandIns>,
}

/// Who served last in the place of whom, by ids.
#[derive(Default)]
struct StandIns(HashMap<String, String>);

/// What is new about who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The model itself does again.
    IsBack,
    /// Another one does, or another one than before.
    HasStandIn,
}

/// A model of the registry.
pub(crate) enum Model {
    /// Run in this process.
    Here(Arc<Slot>),
    /// Run by a provider.
    There(Box<RemoteModel>),
}

/// Whether a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelState {
    /// Loaded when it is asked for.
    NotLoaded,
    /// Being fetched or loaded.
    Loading,
    /// In memory, or its provider can be asked. A remark where its provider is left alone for a while.
    Ready { remark: Option<String> },
    /// Could not be loaded.
    Failed { reason: String },
    /// There is no key for its provider.
    NoKey { reason: String },
}

/// Follows whether a model can be used.
#[derive(Clone)]
pub(crate) enum Readiness {
    Here(watch::Receiver<SlotState>),
    /// That there is a key does not change.
    There {
        is_ready: bool,
    },
    /// Of a model, and of those that serve in its place.
    WithFallbacks {
        model: Box<Readiness>,
        fallbacks: Vec<Readiness>,
    },
}

/// Whether models that have failed were tried again: what says the most of any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Retried {
    /// None has failed.
    NotNeeded,
    /// Somebody else does, or it has just failed.
    UnderWay,
    /// One is.
    Begun,
}

impl Models {
    /// None is loaded, and no provider is asked, yet. Models in memory take at most `memory_bytes_max` bytes.
    pub(crate) fn new(registry: &Registry, source: &WeightsSource, memory_bytes_max: usize) -> Self {
        let http = Arc::new(Http::default());
        let model = |place| {
            Arc::new(match place {
                Place::Here(slot) => Model::Here(slot),
                Place::There(spec, remote) => {
                    Model::There(Box::new(RemoteModel::new(spec.clone(), remote.clone(), http.clone())))
                }
            })
        };
        let all: Vec<_> = places(registry, source, memory_bytes_max).into_iter().map(model).collect();
        let default = all.iter().find(|model| model.spec().id == registry.default_id());
        let default = default.expect("the registry has checked that its default exists").clone();
        Self { all, default, stand_ins: Mutex::default() }
    }

    /// The model `id`; the default where it is empty.
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Model>> {
        if id.is_empty() { Some(&self.default) } else { self.all.iter().find(|model| model.spec().id == id) }
    }

    /// The model of requests that name none.
    pub(crate) fn default(&self) -> &Arc<Model> {
        &self.default
    }

    /// Follows whether requests that name no model can be answered: by the default model, or by a fallback of its space.
    pub(crate) fn readiness(&self) -> Readiness {
        let fallbacks = self.default.spec().fallback.iter().filter_map(|id| self.get(id));
        let fallbacks = fallbacks.map(|model| model.readiness()).collect();
        Readiness::WithFallbacks { model: Box::new(self.default.readiness()), fallbacks }
    }

    /// Starts a thread that tries the default model and its fallbacks again, those of them that run here and have failed, as
    /// long as the default cannot be used: else they would be tried by the next request alone, and who looks at readiness sends
    /// none. It ends with these models.
    pub(crate) fn retry_in_background(self: &Arc<Self>) -> io::Result<()> {
        let models = Arc::downgrade(self);
        let retry = move || {
            let mut pause = RETRY_PAUSE_MIN;
            loop {
                thread::sleep(pause);
                let Some(models) = models.upgrade() else { return };
                pause = match models.retry_failed() {
                    Retried::NotNeeded => RETRY_PAUSE_MIN,
                    Retried::Begun => (2 * pause).min(RETRY_PAUSE_MAX),
                    Retried::UnderWay => pause,
                };
            }
        };
        thread::Builder::new().name("retry models".to_owned()).spawn(retry).map(drop)
    }

    /// While the default model can be used, requests that name no model come, and try its fallbacks by themselves.
    fn retry_failed(&self) -> Retried {
        if self.default.readiness().is_ready() {
            return Retried::NotNeeded;
        }
        let fallbacks = self.default.spec().fallback.iter().filter_map(|id| self.get(id));
        let mut retried = Retried::NotNeeded;
        for model in iter::once(&self.default).chain(fallbacks) {
            let Model::Here(slot) = &**model else { continue };
            let this = match slot.state() {
                SlotState::Failed { .. } if slot.load() => Retried::Begun,
                SlotState::Failed { .. } | SlotState::Loading { .. } => Retried::UnderWay,
                // Loaded by the first who asks, and somebody will: what has not failed counts as ready.
                SlotState::NotLoaded | SlotState::Ready(_) => Retried::NotNeeded,
            };
            retried = retried.max(this);
        }
        retried
    }

    /// Takes note of who has served a call of the model `asked`, and why not that itself; where that has changed, the log is
    /// told.
    pub(crate) fn note_server(&self, asked: &str, server: &str, why: Option<&impl Display>) {
        let change = self.stand_ins.lock().unwrap_or_else(PoisonError::into_inner).note(asked, server);
        match change {
            None => {}
            Some(Change::IsBack) => tracing::info!("{asked} serves itself again"),
            Some(Change::HasStandIn) => {
                let why = why.map_or_else(String::new, |why| format!(": {why}"));
                tracing::warn!("{server} serves in the place of {asked}{why}");
            }
        }
    }

    /// All models, in the order of the registry.
    pub(crate) fn all(&self) -> &[Arc<Model>] {
        &self.all
    }
}

impl StandIns {
    /// Takes note that `server` has served a call of `asked`.
    fn note(&mut self, asked: &str, server: &str) -> Option<Change> {
        if asked == server {
            return self.0.remove(asked).map(|_| Change::IsBack);
        }
        let before = self.0.insert(asked.to_owned(), server.to_owned());
        (before.as_deref() != Some(server)).then_some(Change::HasStandIn)
    }
}

impl Model {
    /// What the registry says of it.
    pub(crate) fn spec(&self) -> &ModelSpec {
        match self {
            Self::Here(slot) => slot.spec(),
            Self::There(remote) => remote.spec(),
        }
    }

    /// Whether it can be used.
    pub(crate) fn state(&self) -> ModelState {
        match self {
            Self::Here(slot) => match slot.state() {
                SlotState::NotLoaded => ModelState::NotLoaded,
                SlotState::Loading { .. } => ModelState::Loading,
                SlotState::Ready(_) => ModelState::Ready { remark: None },
                SlotState::Failed { reason, .. } => ModelState::Failed { reason },
            },
            Self::There(remote) => match remote.key_problem() {
                Some(problem) => ModelState::NoKey { reason: problem.to_string() },
                None => {
                    let remark = |time: Duration| {
                        format!(
                            "its provider failed again and again, and is left alone for {:.0} s",
                            time.as_secs_f32()
                        )
                    };
                    ModelState::Ready { remark: remote.rests_for().map(remark) }
                }
            },
        }
    }

    /// The fingerprint of its embeddings; of files that the registry does not pin, only while they are loaded.
    pub(crate) fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Here(slot) => match slot.state() {
                SlotState::Ready(model) => Some(model.fingerprint.clone()),
                _ => slot.spec().fingerprint(),
            },
            Self::There(remote) => Some(remote.fingerprint().to_owned()),
        }
    }

    /// What it takes in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        match self {
            Self::Here(slot) => match slot.state() {
                SlotState::Ready(model) => model.memory_bytes(),
                _ => 0,
            },
            Self::There(_) => 0,
        }
    }

    /// What comes to be in memory of texts for it: with their prompts, on their way to their provider where it has one; and their
    /// embeddings with the message that they are sent in.
    pub(crate) fn bytes_for(&self, texts: &[String], input: Input) -> usize {
        let of_texts = match self {
            Self::Here(slot) => {
                let prompt = slot.spec().prompts.of(input);
                texts.iter().map(|text| prompt.len() + text.len()).sum::<usize>()
            }
            Self::There(remote) => remote.bytes_for(texts, input),
        };
        of_texts + self.bytes_of_answer(texts.len())
    }

    /// Of so many embeddings: themselves, and the message that they are sent in, which in JSON has three times as many bytes.
    pub(crate) fn bytes_of_answer(&self, texts: usize) -> usize {
        4 * size_of::<f32>() * self.spec().dimension * texts
    }

    /// Starts to load it, where it runs here.
    pub(crate) fn load(&self) {
        if let Self::Here(slot) = self {
            slot.load();
        }
    }

    /// Follows whether it can be used.
    pub(crate) fn readiness(&self) -> Readiness {
        match self {
            Self::Here(slot) => Readiness::Here(slot.watch()),
            Self::There(remote) => Readiness::There { is_ready: remote.key_problem().is_none() },
        }
    }
}

impl ModelState {
    /// All that `name` answers.
    pub(crate) const NAMES: [&'static str; 5] = ["not_loaded", "loading", "ready", "failed", "no_key"];

    /// As REST answers it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Loading => "loading",
            Self::Ready { .. } => "ready",
            Self::Failed { .. } => "failed",
            Self::NoKey { .. } => "no_key",
        }
    }

    /// Why it cannot be used, or why it may fail now; empty where there is nothing to say.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::NotLoaded | Self::Loading => "",
            Self::Ready { remark } => remark.as_deref().unwrap_or_default(),
            Self::Failed { reason } | Self::NoKey { reason } => reason,
        }
    }
}

impl Readiness {
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Here(state) => matches!(*state.borrow(), SlotState::Ready(_)),
            Self::There { is_ready } => *is_ready,
            Self::WithFallbacks { model, fallbacks } => {
                // One that is loaded when it is asked for will do where the model itself has failed, but is no reason to
                // be asked while that is on its way.
                model.is_ready()
                    || fallbacks.iter().any(Self::is_ready)
                    || (model.has_failed() && fallbacks.iter().any(|fallback| !fallback.has_failed()))
            }
        }
    }

    /// Whether it cannot be used, and will not by waiting.
    fn has_failed(&self) -> bool {
        match self {
            // One that is tried again is as good as failed until it is ready, or readiness would come and go with each try.
            Self::Here(state) => {
                matches!(*state.borrow(), SlotState::Failed { .. } | SlotState::Loading { again: true })
            }
            Self::There { is_ready } => !is_ready,
            Self::WithFallbacks { model, fallbacks } => model.has_failed() && fallbacks.iter().all(Self::has_failed),
        }
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        let models: Vec<&mut Self> = match self {
            Self::WithFallbacks { model, fallbacks } => iter::once(&mut **model).chain(fallbacks).collect(),
            alone => vec![alone],
        };
        let changes = models.into_iter().map(|model| {
            Box::pin(async move {
                match model {
                    Self::Here(state) => state.changed().await,
                    // It has no fallbacks of its own: they are not followed from one model to the next.
                    Self::There { .. } | Self::WithFallbacks { .. } => std::future::pending().await,
                }
            })
        });
        futures_util::future::select_all(changes).await.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models_of(registry: &Registry) -> Models {
        let nowhere = std::path::PathBuf::from("/nowhere");
        let source = WeightsSource { model_cache: nowhere.clone(), hub_cache: Some(nowhere), hub: None };
        Models::new(registry, &source, 1)
    }

    /// The default is a provider's, and there is no key for it; its fallback would run here, and has no weights.
    #[test]
    fn a_fallback_that_has_failed_is_tried_again_where_the_default_is_a_providers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.toml");
        let entry = |id: &str, more: &str| {
            format!(
                "[[model]]\nid = \"{id}\"\nmodel_name = \"a/b\"\ndimension = 8\ntokens_max = 9\nnormalize = true\n\
                 space = \"s\"\n{more}\n"
            )
        };
        let there = |key| entry("there", &format!("provider = \"openai\"\nfallback = [\"here\"]\n{key}"));
        let here = entry("here", "provider = \"local\"\nrevision = \"main\"\npooling = \"mean\"");
        let models = |key| {
            std::fs::write(&file, format!("default = \"there\"\n{}{here}", there(key))).unwrap();
            let models = models_of(&Registry::load(Some(&file), None).unwrap());
            let Some(Model::Here(slot)) = models.get("here").map(|model| &**model) else { panic!("it runs here") };
            slot.load();
            while !matches!(slot.state(), SlotState::Failed { .. }) {
                thread::sleep(Duration::from_millis(1));
            }
            models
        };
        assert_eq!(models("").retry_failed(), Retried::NotNeeded, "requests come, and try it");
        let models = models("key_env = \"VECTRON_TEST_NO_SUCH_KEY\"");
        assert_eq!(models.retry_failed(), Retried::UnderWay, "it has just failed");
        // What has failed is left alone for 5 s.
        while models.retry_failed() != Retried::Begun {
            thread::sleep(Duration::from_millis(100));
        }
    }

    #[test]
    fn who_serves_is_told_when_it_changes() {
        let mut stand_ins = StandIns::default();
        let (back, other) = (Some(Change::IsBack), Some(Change::HasStandIn));
        let noted = ["a", "b", "b", "c", "a", "a", "b"].map(|server| stand_ins.note("a", server));
        assert_eq!(noted, [None, other, None, other, back, None, other]);
    }

    #[test]
    fn fallbacks_count_where_the_model_itself_cannot() {
        let (here, state) = (watch::Sender::new(SlotState::NotLoaded), || SlotState::Failed {
            reason: String::new(),
            at: std::time::Instant::now(),
            passes: false,
        });
        let with = |model: Readiness, fallback: Readiness| {
            Readiness::WithFallbacks { model: Box::new(model), fallbacks: vec![fallback] }.is_ready()
        };
        let there = |is_ready| Readiness::There { is_ready };
        assert!(
            with(there(true), there(false)) && with(there(false), there(true)) && !with(there(false), there(false))
        );
        assert!(with(there(false), Readiness::Here(here.subscribe())), "it is loaded by the first who asks");
        assert!(!with(Readiness::Here(here.subscribe()), Readiness::Here(here.subscribe())), "it is on its way");
        here.send_replace(state());
        assert!(!with(there(false), Readiness::Here(here.subscribe())), "it cannot be loaded");
        assert!(with(Readiness::Here(here.subscribe()), there(true)));
    }
}
