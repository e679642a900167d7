//! Which models there are, where the weights of those that run here come from, and which are in memory.

mod address;
mod hash;
mod hub;
mod hub_token;
mod memory;
mod pins;
mod pipeline;
mod registry;
mod size;
mod slot;
mod weights;

use std::sync::Arc;

use memory::{Memory, Stays};

pub use hash::Sha256Hex;
pub use hub::{Hub, HubError};
pub use hub_token::HubToken;
pub use memory::NoRoom;
pub use pins::PinsError;
pub use pipeline::PipelineError;
pub use registry::{
    Input, LocalSpec, ModelFiles, ModelSpec, Prompts, Provider, Registry, RegistryError, RemoteLimits, RemoteSpec,
    RemoteTokenizer, Runs,
};
pub(crate) use slot::{LoadedModel, NotReady, Slot, SlotState};
pub use weights::{Damage, VerifiedFiles, WeightsError, WeightsSource};

/// Where a model of the registry is run.
pub(crate) enum Place<'a> {
    /// In this process, where its slot is.
    Here(Arc<Slot>),
    /// By a provider.
    There(&'a ModelSpec, &'a Arc<RemoteSpec>),
}

/// The places of all models, in the order of the registry; none is loaded yet. Those that run here take at most
/// `memory_bytes_max` bytes of memory, and the default model, once it is loaded, keeps its part.
pub(crate) fn places<'a>(registry: &'a Registry, source: &WeightsSource, memory_bytes_max: usize) -> Vec<Place<'a>> {
    let memory = Memory::new(memory_bytes_max);
    let mut slots = Vec::new();
    let mut places = Vec::with_capacity(registry.models().len());
    for spec in registry.models() {
        let stays = if spec.id == registry.default_id() { Stays::Always } else { Stays::UntilRoomIsNeeded };
        places.push(match &spec.runs {
            Runs::Here(local) => {
                let slot = Slot::new(spec.clone(), local.clone(), source.clone(), memory.clone(), stays);
                slots.push(slot.clone());
                Place::Here(slot)
            }
            Runs::There(remote) => Place::There(spec, remote),
        });
    }
    memory.watch_over(&slots);
    places
}
