//! The only copy of what each call does. gRPC and REST translate to and from the types of this module.

mod embed;
mod list;

use std::sync::Arc;

pub(crate) use embed::{Admitted, Embed, Embedded};

use super::error::ApiError;
use crate::cache::Cache;
use crate::catalogue::{Model, ModelState, Models};
use crate::engine::Engine;
use crate::figures;

/// The service's calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handlers {
    pub(crate) models: Arc<Models>,
    pub(crate) engine: Arc<Engine>,
    /// One comparison of models at a time; held while it runs.
    pub(crate) comparing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) cache: Arc<Cache>,
}

impl Handlers {
    /// The model of this id; the default where it is empty.
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
}
