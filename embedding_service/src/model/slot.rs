//! The place of one model in memory: not loaded, loading, ready, or failed.
//!
//! Loading runs on a thread of its own, at most one per slot. A model that failed is tried again by the first
//! request more than `RETRY_PERIOD` later, and the default model without one (see `catalogue`): weights that were put into place meanwhile heal it without a restart. A model
//! that makes room for another is not loaded again, until it is asked for.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::memory::{Memory, NoRoom, Part, Stays};
use super::registry::{LocalSpec, ModelSpec};
use super::size;
use super::weights::{WeightsError, WeightsSource};
use crate::encoder::{Checkpoint, Encoder};
use crate::told::microseconds;

const RETRY_PERIOD: Duration = Duration::from_secs(5);

/// Since when uses are counted.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A local model of the registry, and whether it is in memory.
pub(crate) struct Slot {
    spec: ModelSpec,
    /// That of `spec`, shared with it.
    local: Arc<LocalSpec>,
    source: WeightsSource,
    memory: Arc<Memory>,
    stays: Stays,
    /// When it was last asked for: microseconds since `BEGINNING`.
    used_us: AtomicU64,
    /// A watch, so that requests and health checks can wait for a change.
    state: watch::Sender<SlotState>,
}

/// Whether a model can be used.
#[derive(Clone)]
pub(crate) enum SlotState {
    /// Nobody has asked for it.
    NotLoaded,
    /// Being fetched or loaded.
    Loading {
        /// Whether it has failed before.
        again: bool,
    },
    /// In memory.
    Ready(Arc<LoadedModel>),
    /// Could not be loaded.
    Failed {
        /// Why.
        reason: String,
        /// When.
        at: Instant,
        /// Whether only models that were in use had its room.
        passes: bool,
    },
}

/// A model in memory.
pub(crate) struct LoadedModel {
    /// The model.
    pub encoder: Encoder,
    /// See `ModelSpec::fingerprint`.
    pub fingerprint: String,
    /// Its id in the registry.
    pub id: String,
    memory: Part,
}

impl LoadedModel {
    /// What it takes, as its files say.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// Why a model cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// It is still being loaded.
    Loading,
    /// It could not be loaded.
    Failed(String),
    /// Models that are in use have its room.
    NoRoom(String),
}

/// Why loading has failed.
struct Failure {
    /// For callers, who learn nothing of this machine's folders.
    reason: String,
    /// For the log, where that says more.
    logged: Option<String>,
    passes: bool,
}

impl Slot {
    pub(super) fn new(
        spec: ModelSpec,
        local: Arc<LocalSpec>,
        source: WeightsSource,
        memory: Arc<Memory>,
        stays: Stays,
    ) -> Arc<Self> {
        let state = watch::Sender::new(SlotState::NotLoaded);
        Arc::new(Self { spec, local, source, memory, stays, used_us: AtomicU64::new(0), state })
    }

    /// What the registry says of the model.
    pub(crate) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Whether the model can be used.
    pub(crate) fn state(&self) -> SlotState {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub(crate) fn watch(&self) -> watch::Receiver<SlotState> {
        self.state.subscribe()
    }

    /// The model; waits for at most `patience` where it is being loaded, and starts that where it is time to.
    pub(crate) async fn ready(self: &Arc<Self>, patience: Duration) -> Result<Arc<LoadedModel>, NotReady> {
        let used_us = microseconds(BEGINNING.elapsed());
        // Of calls at the same time any may be the last: no order with other memory is needed.
        self.used_us.store(used_us, Ordering::Relaxed);
        let mut state = self.state.subscribe();
        let settled = async {
            loop {
                self.load();
                // It may have made room for another before this task saw it.
                let Ok(state) = state.wait_for(|state| !matches!(state, SlotState::Loading { .. })).await else {
                    return Err(NotReady::Loading);
                };
                match &*state {
                    SlotState::Ready(model) => return Ok(model.clone()),
                    SlotState::Failed { reason, passes: true, .. } => return Err(NotReady::NoRoom(reason.clone())),
                    SlotState::Failed { reason, .. } => return Err(NotReady::Failed(reason.clone())),
                    SlotState::NotLoaded | SlotState::Loading { .. } => {}
                }
            }
        };
        tokio::time::timeout(patience, settled).await.unwrap_or(Err(NotReady::Loading))
    }

    /// Starts to load the model, unless it is loaded, being loaded, or has just failed. Whether it has started.
    pub(crate) fn load(self: &Arc<Self>) -> bool {
        let mine = self.state.send_if_modified(|state| {
            let due = match state {
                SlotState::NotLoaded => true,
                SlotState::Failed { at, passes, .. } => *passes || at.elapsed() > RETRY_PERIOD,
                SlotState::Loading { .. } | SlotState::Ready(_) => false,
            };
            if due {
                *state = SlotState::Loading { again: matches!(state, SlotState::Failed { .. }) };
            }
            due
        });
        if !mine {
            return false;
        }
        let slot = self.clone();
        let thread = thread::Builder::new().name(format!("load {}", self.spec.id));
        if let Err(error) = thread.spawn(move || slot.load_here()) {
            self.fail(format!("cannot start a thread to load it: {error}").into());
        }
        true
    }

    /// Whether it can be asked to make room.
    pub(super) fn may_leave(&self) -> bool {
        self.stays == Stays::UntilRoomIsNeeded && matches!(*self.state.borrow(), SlotState::Ready(_))
    }

    /// When it was last asked for: larger is later.
    pub(super) fn used(&self) -> u64 {
        self.used_us.load(Ordering::Relaxed)
    }

    /// Makes room, as soon as the calls end that use it. Whether there was something to leave.
    pub(super) fn leave(&self) -> bool {
        let left = self.state.send_if_modified(|state| {
            let SlotState::Ready(model) = state else { return false };
            model.memory.leave();
            *state = SlotState::NotLoaded;
            true
        });
        if left {
            tracing::info!("model {} makes room for another", self.spec.id);
        }
        left
    }

    fn load_here(&self) {
        let started = Instant::now();
        // A panic must not leave the slot loading for ever.
        let loaded = panic::catch_unwind(AssertUnwindSafe(|| self.load_model()));
        match loaded {
            Ok(Ok(model)) => {
                tracing::info!(
                    "model {} ready in {} after {} ms, fingerprint {}",
                    self.spec.id,
                    model.encoder.kernel(),
                    started.elapsed().as_millis(),
                    model.fingerprint
                );
                self.state.send_replace(SlotState::Ready(Arc::new(model)));
            }
            Ok(Err(failure)) => self.fail(failure),
            Err(_) => self.fail("loading it panicked; the log has more".to_owned().into()),
        }
    }

    fn load_model(&self) -> Result<LoadedModel, Failure> {
        let room = |folder: &Path| -> Result<_, NoRoom> {
            let bytes = size::bytes_in_memory(folder, self.local.precision);
            Ok((self.memory.take(&self.spec.id, bytes, self.stays)?, self.memory.load_alone()))
        };
        let (files, (memory, _alone)) = self.source.obtain_with(&self.local, room)?;
        let checkpoint = Checkpoint {
            config: &files.config,
            tokenizer: &files.tokenizer,
            weights: &files.weights,
            pooling: self.local.pooling,
            tokens_max: self.spec.tokens_max,
            precision: self.local.precision,
        };
        let encoder = Encoder::load(&checkpoint).map_err(|error| {
            let hint = |folder: &str| match files.is_pinned {
                true => error.to_string(),
                false => format!("{error}; nobody has said what these files must be: remove {folder} to get others"),
            };
            let logged = Some(hint(&files.folder.display().to_string()));
            Failure { reason: hint("their folder, which the log names,"), logged, passes: false }
        })?;
        if encoder.dimension() != self.spec.dimension {
            let (expected, got) = (self.spec.dimension, encoder.dimension());
            return Err(format!("the registry says dimension {expected}, the model has {got}").into());
        }
        self.source.pin(&self.local, &files);
        let fingerprint = self.spec.fingerprint_of(&self.local, &files.hashes);
        Ok(LoadedModel { encoder, fingerprint, id: self.spec.id.clone(), memory })
    }

    fn fail(&self, Failure { reason, logged, passes }: Failure) {
        tracing::error!("model {} cannot be loaded: {}", self.spec.id, logged.as_ref().unwrap_or(&reason));
        self.state.send_replace(SlotState::Failed { reason, at: Instant::now(), passes });
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, logged: None, passes: false }
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        let passes = matches!(&error, WeightsError::NoRoom(no_room) if no_room.passes);
        Self { reason: error.for_callers(), logged: Some(error.to_string()), passes }
    }
}
