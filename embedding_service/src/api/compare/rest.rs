//! `POST /benchmark`.

use serde::Deserialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::super::error::ApiError;
use super::super::handlers::Handlers;
use super::{Compare, Event, MODELS_MAX, start, too_many_models};
use crate::compare::{Comparison, Pair, Sample};
use crate::port::AtMost;

/// What `POST /benchmark` takes; all of it may be missing.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BenchmarkBody {
    /// The models to compare, in this order, each once; at most 64. Default: all of the registry.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    models: AtMost<String, MODELS_MAX>,
    /// Texts with their topics, 2 to 2,048. Default: the built-in set.
    #[serde(default)]
    samples: Vec<Sample>,
    /// Queries with the document that each should find, at most 5,000. Default: retrieval is not measured.
    #[serde(default)]
    pairs: Vec<Pair>,
    /// How often each time is measured, 1 to 20. Default: 3.
    #[serde(default)]
    repeats: usize,
}

/// Compares, and answers when all is done. A caller that leaves ends it.
pub(in crate::api) async fn benchmark(
    handlers: &Handlers,
    body: BenchmarkBody,
    stopping: watch::Receiver<bool>,
) -> Result<Comparison, ApiError> {
    let BenchmarkBody { models, samples, pairs, repeats } = body;
    let models = models.all().map_err(|count| too_many_models("models", count))?;
    let request = Compare { model_ids: models, model_ids_field: "models", samples, pairs, repeats };
    let mut running = start(handlers, request, stopping)?;
    let mut models = Vec::with_capacity(running.model_ids.len());
    while let Some(event) = running.events.recv().await {
        if let Event::Result(report) = event? {
            models.push(*report);
        }
    }
    if models.len() < running.model_ids.len() {
        return Err(ApiError::Internal { what: "a comparison of models was lost" });
    }
    Ok(Comparison { setting: running.setting, models })
}
