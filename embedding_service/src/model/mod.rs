//! Which models there are, where their weights come from, and which are in memory.

mod hash;
mod hub;
mod registry;
mod slot;
mod weights;

use std::sync::Arc;

pub use hash::Sha256Hex;
pub use hub::{Hub, HubError};
pub use registry::{ModelFiles, ModelSpec, Provider, Registry, RegistryError};
pub use slot::{LoadedModel, NotReady, Slot, SlotState};
pub use weights::{Damage, VerifiedFiles, WeightsError, WeightsSource};

/// The models of the registry, each with its place in memory.
pub struct Models {
    slots: Vec<Arc<Slot>>,
    default: Arc<Slot>,
}

impl Models {
    /// None is loaded yet.
    pub fn new(registry: &Registry, source: &WeightsSource) -> Self {
        let slots: Vec<_> = registry.models().iter().map(|spec| Slot::new(spec.clone(), source.clone())).collect();
        let default = slots.iter().find(|slot| slot.spec().id == registry.default_id());
        let default = default.expect("the registry has checked that its default exists").clone();
        Self { slots, default }
    }

    /// The model `id`; the default where it is empty.
    pub fn get(&self, id: &str) -> Option<&Arc<Slot>> {
        if id.is_empty() { Some(&self.default) } else { self.slots.iter().find(|slot| slot.spec().id == id) }
    }

    /// The model of requests that name none.
    pub fn default(&self) -> &Arc<Slot> {
        &self.default
    }

    /// All models, in the order of the registry.
    pub fn all(&self) -> &[Arc<Slot>] {
        &self.slots
    }
}
