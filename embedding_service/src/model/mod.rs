//! Which models there are, where the weights of those that run here come from, and which are in memory.

mod address;
mod hash;
mod hub;
mod memory;
mod pins;
mod registry;
mod size;
mod slot;
mod weights;

use std::sync::Arc;

use memory::{Memory, Stays};

pub use hash::Sha256Hex;
pub use hub::{Hub, HubError};
pub use memory::NoRoom;
pub use pins::PinsError;
pub use registry::{
    Input, LocalSpec, ModelFiles, ModelSpec, Prompts, Provider, Registry, RegistryError, RemoteLimits, RemoteSpec,
    RemoteTokenizer, Runs,
};
pub use slot::{LoadedModel, NotReady, Slot, SlotState};
pub use weights::{Damage, VerifiedFiles, WeightsError, WeightsSource};

/// A place for each model of the registry that runs here, in its order; none is loaded yet. They take at most
/// `memory_bytes_max` bytes of memory, and the default model, once it is loaded, keeps its part.
pub(crate) fn slots(registry: &Registry, source: &WeightsSource, memory_bytes_max: usize) -> Vec<Arc<Slot>> {
    let memory = Memory::new(memory_bytes_max);
    let slot = |spec: &ModelSpec| {
        let stays = if spec.id == registry.default_id() { Stays::Always } else { Stays::UntilRoomIsNeeded };
        let local = spec.local()?.clone();
        Some(Slot::new(spec.clone(), local, source.clone(), memory.clone(), stays))
    };
    let slots: Vec<_> = registry.models().iter().filter_map(slot).collect();
    memory.watch_over(&slots);
    slots
}
