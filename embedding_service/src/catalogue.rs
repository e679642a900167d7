//! The models of the registry, each with who runs it: a place in this process's memory, or a provider.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::watch;

use crate::model::{ModelSpec, Registry, Runs, Slot, SlotState, WeightsSource, slots};
use crate::provider::{Http, RemoteModel};

/// Pauses between the tries to load a default model that cannot be loaded; each is twice as long as the one before.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(6);
/// A try may fetch all of a model's weights, to find that they are not what they should be.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(600);

/// The models of the registry.
pub(crate) struct Models {
    all: Vec<Arc<Model>>,
    default: Arc<Model>,
    /// Who served last in the place of whom, by ids; for the log. Held for moments.
    stand_ins: Mutex<HashMap<String, String>>,
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

/// Whether the default model was tried again.
enum Retried {
    /// It has not failed.
    NotNeeded,
    /// It is.
    Begun,
    /// Somebody else does, or it has just failed.
    UnderWay,
}

impl Models {
    /// None is loaded, and no provider is asked, yet. Models in memory take at most `memory_bytes_max` bytes.
    pub(crate) fn new(registry: &Registry, source: &WeightsSource, memory_bytes_max: usize) -> Self {
        let mut slots = slots(registry, source, memory_bytes_max).into_iter();
        let http = Arc::new(Http::default());
        let model = |spec: &ModelSpec| {
            Arc::new(match &spec.runs {
                Runs::Here(_) => Model::Here(slots.next().expect("each model that runs here has a slot")),
                Runs::There(remote) => {
                    Model::There(Box::new(RemoteModel::new(spec.clone(), remote.clone(), http.clone())))
                }
            })
        };
        let all: Vec<_> = registry.models().iter().map(model).collect();
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

    /// Starts a thread that tries the default model again while it has failed, and those of its fallbacks that have: else
    /// they would be tried by the next request alone, and who looks at readiness sends none. It ends with these models.
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

    fn retry_failed(&self) -> Retried {
        let Model::Here(default) = &*self.default else { return Retried::NotNeeded };
        match default.state() {
            SlotState::Ready { .. } => return Retried::NotNeeded,
            SlotState::Failed { .. } => {}
            _ => return Retried::UnderWay,
        }
        default.load();
        for fallback in self.default.spec().fallback.iter().filter_map(|id| self.get(id)) {
            if let Model::Here(slot) = &**fallback
                && matches!(slot.state(), SlotState::Failed { .. })
            {
                slot.load();
            }
        }
        Retried::Begun
    }

    /// Takes note of who has served a call of the model `asked`, and why not that itself. Whether that has changed, which
    /// the log is told.
    pub(crate) fn note_server(&self, asked: &str, server: &str, why: Option<&impl Display>) -> bool {
        let mut stand_ins = self.stand_ins.lock().unwrap_or_else(PoisonError::into_inner);
        if asked == server {
            let is_back = stand_ins.remove(asked).is_some();
            if is_back {
                tracing::info!("{asked} serves itself again");
            }
            return is_back;
        }
        let is_new = stand_ins.insert(asked.to_owned(), server.to_owned()).as_deref() != Some(server);
        if is_new {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            tracing::warn!("{server} serves in the place of {asked}{why}");
        }
        is_new
    }

    /// All models, in the order of the registry.
    pub(crate) fn all(&self) -> &[Arc<Model>] {
        &self.all
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
            Self::WithFallbacks { model, fallbacks } => std::iter::once(&mut **model).chain(fallbacks).collect(),
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

    fn models() -> Models {
        let nowhere = std::path::PathBuf::from("/nowhere");
        let source = WeightsSource { model_cache: nowhere.clone(), hub_home: Some(nowhere), hub: None };
        Models::new(&Registry::load(None).unwrap(), &source, 1)
    }

    #[test]
    fn who_serves_is_told_when_it_changes() {
        let models = models();
        let note = |server| models.note_server("a", server, Some(&"away"));
        assert_eq!(["a", "b", "b", "c", "a", "a", "b"].map(note), [false, true, false, true, true, false, true]);
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
