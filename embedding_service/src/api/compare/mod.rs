//! BenchmarkModels and `POST /benchmark`: one comparison at a time, in a task of its own.
//!
//! Both doors read the task's events. When a caller leaves, its events have no reader any more, and the task ends at its next
//! wait; so does the call that it is in. A caller that reads slowly never holds the comparison up: there is always
//! room for the results, and progress that finds none is left out.

mod grpc;
mod rest;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::error::ApiError;
use super::handlers::{Embed, Handlers};
use super::texts::{CheckedTexts, Names};
use crate::catalogue::Model;
use crate::compare::{Embeds, ModelReport, Outcome, Pair, Plan, Progress, Sample, Setting, check_components, measure};
use crate::engine::TextEmbedding;
use crate::model::Input;
use crate::provider::ErrorKind;

pub(super) use grpc::{Answers, answers};
pub(super) use rest::{BenchmarkBody, benchmark};

/// Models of one comparison.
const MODELS_MAX: usize = 64;
/// Events that wait for the caller, beside a result of each model and the end.
const PROGRESS_EVENTS: usize = 64;
/// A model that is being loaded is waited for so long: its weights may have to be fetched first.
const LOAD_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// What a caller asks for.
pub(super) struct Compare {
    /// Empty: all of the registry.
    model_ids: Vec<String>,
    /// What the caller's door calls them.
    model_ids_field: &'static str,
    /// Empty: the built-in set.
    samples: Vec<Sample>,
    /// Empty: retrieval is not measured.
    pairs: Vec<Pair>,
    /// 0: the default.
    repeats: usize,
}

/// A comparison that runs.
struct Running {
    model_ids: Vec<String>,
    setting: Setting,
    /// Ends after the last result, or with an error.
    events: mpsc::Receiver<Result<Event, ApiError>>,
}

/// What a comparison tells.
enum Event {
    Progress { model_id: String, progress: Progress },
    Result(Box<ModelReport>),
}

/// The task that compares.
struct Comparing {
    handlers: Handlers,
    models: Vec<Arc<Model>>,
    plan: Plan,
    events: mpsc::Sender<Result<Event, ApiError>>,
}

/// A model as callers of this service have it, alone.
struct ByHandlers<'a> {
    handlers: &'a Handlers,
    model: &'a Model,
}

/// Starts a comparison, unless one runs.
fn start(handlers: &Handlers, request: Compare, mut stopping: watch::Receiver<bool>) -> Result<Running, ApiError> {
    let Compare { model_ids, model_ids_field, samples, pairs, repeats } = request;
    let models = models(handlers, &model_ids, model_ids_field)?;
    let plan = Plan::new(samples, pairs, repeats)
        .map_err(|error| ApiError::Comparison { field: error.field.clone(), what: error.to_string() })?;
    // Two would measure each other.
    let turn = handlers.comparing.clone().try_lock_owned().map_err(|_| ApiError::ComparisonRuns)?;

    let model_ids = models.iter().map(|model| model.spec().id.clone()).collect();
    let setting = Setting {
        texts: plan.texts.len(),
        topics: plan.topics,
        pairs: plan.pairs,
        documents: plan.documents.len(),
        repeats: plan.repeats,
    };
    let (events, reader) = mpsc::channel(models.len() + 1 + PROGRESS_EVENTS);
    let comparing = Comparing { handlers: handlers.clone(), models, plan, events };
    tokio::spawn(async move {
        let events = comparing.events.clone();
        let untold = Untold(Some(events.clone()));
        tokio::select! {
            biased;
            () = events.closed() => tracing::info!("a comparison of models ends: its caller has left"),
            // An error means that the service is gone altogether.
            _ = stopping.wait_for(|stopping| *stopping) => {
                let _ = events.try_send(Err(ApiError::Stopping));
            }
            () = comparing.run() => {}
        }
        untold.told();
        drop(turn);
    });
    Ok(Running { model_ids, setting, events: reader })
}

/// The models of these ids, which the caller gave in `field`; all where there are none.
fn models(handlers: &Handlers, ids: &[String], field: &str) -> Result<Vec<Arc<Model>>, ApiError> {
    let wrong = |what: String| Err(ApiError::Comparison { field: field.to_owned(), what: format!("{field}: {what}") });
    if ids.is_empty() {
        let all = handlers.models.all();
        if all.len() > MODELS_MAX {
            return wrong(format!("expected at most {MODELS_MAX}, and the registry has {}: name some", all.len()));
        }
        return Ok(all.to_vec());
    }
    if ids.len() > MODELS_MAX {
        return Err(too_many_models(field, ids.len()));
    }
    let (mut models, mut seen) = (Vec::with_capacity(ids.len()), HashSet::new());
    for id in ids {
        if id.is_empty() {
            return wrong("expected ids, got an empty one".to_owned());
        }
        if !seen.insert(id) {
            return wrong(format!("expected each once, got `{id}` twice"));
        }
        models.push(handlers.model(id)?.clone());
    }
    Ok(models)
}

/// What `field` has more of than one comparison takes.
fn too_many_models(field: &str, count: usize) -> ApiError {
    let what = format!("{field}: expected at most {MODELS_MAX}, got {count}");
    ApiError::Comparison { field: field.to_owned(), what }
}

impl Comparing {
    async fn run(self) {
        for model in &self.models {
            let spec = model.spec();
            let tell = |progress| self.tell_progress(&spec.id, progress);
            let by_handlers = ByHandlers { handlers: &self.handlers, model };
            let measured = match check_components(&self.plan, spec.dimension) {
                Ok(()) => measure(&by_handlers, &self.plan, &tell).await,
                Err(what) => Err(ApiError::Comparison { field: "pairs".to_owned(), what }),
            };
            let outcome = match measured {
                Ok(measured) => Outcome::Measured(measured),
                Err(ApiError::Stopping) => return self.tell(Err(ApiError::Stopping)),
                Err(error) => {
                    tracing::info!("comparison: {} is skipped: {error}", spec.id);
                    // Not as a failure: those are counted as answers.
                    Outcome::Skipped {
                        skipped: error.message(Names::CONTRACT),
                        skipped_code: error.reason().to_owned(),
                    }
                }
            };
            let report = ModelReport {
                model_id: spec.id.clone(),
                provider: spec.provider_name().to_owned(),
                model_name: spec.model_name.clone(),
                dimensions: spec.dimension,
                precision: spec.precision_name().map(str::to_owned),
                outcome,
            };
            self.tell(Ok(Event::Result(Box::new(report))));
        }
    }

    fn tell_progress(&self, model_id: &str, progress: Progress) {
        // The rest of the room is for results and the end.
        if self.events.capacity() > self.models.len() + 1 {
            self.tell(Ok(Event::Progress { model_id: model_id.to_owned(), progress }));
        }
    }

    /// There is room; it fails only where nobody listens, and then this task ends.
    fn tell(&self, event: Result<Event, ApiError>) {
        let _ = self.events.try_send(event);
    }
}

/// A task that has not told its end. A panic within it is told here: its callers would take the results that they have for
/// all.
struct Untold(Option<mpsc::Sender<Result<Event, ApiError>>>);

impl Untold {
    fn told(mut self) {
        self.0 = None;
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        if let Some(events) = &self.0 {
            let _ = events.try_send(Err(ApiError::Internal { what: "a comparison of models was lost" }));
        }
    }
}

impl Embeds for ByHandlers<'_> {
    type Error = ApiError;

    fn holds_off(&self) -> Option<Duration> {
        match self.model {
            Model::Here(_) => None,
            Model::There(remote) => remote.holds_off(),
        }
    }

    fn come_back_after(error: &ApiError) -> Option<Duration> {
        match error {
            ApiError::Provider { error, .. } if error.kind == ErrorKind::RateLimited => error.come_back_after(),
            _ => None,
        }
    }

    async fn embed(&self, texts: Vec<String>, input: Input) -> Result<Vec<TextEmbedding>, ApiError> {
        let (started, texts) = (Instant::now(), CheckedTexts::new(texts)?);
        loop {
            let model_id = self.model.spec().id.clone();
            let request =
                Embed { texts: texts.clone(), model_id, normalize: None, input, any_space: false, deadline: None };
            match self.handlers.embed_by_model_alone(request).await {
                Err(ApiError::ModelLoading { .. }) if started.elapsed() < LOAD_TIME_MAX => {}
                answer => return Ok(answer?.embeddings),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_comparison_that_panics_ends_with_an_error() {
        let (events, mut reader) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let _untold = Untold(Some(events));
            panic!("as a bug would");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(matches!(reader.recv().await, Some(Err(ApiError::Internal { .. }))));
        assert!(reader.recv().await.is_none());
        let (events, mut reader) = mpsc::channel(1);
        Untold(Some(events)).told();
        assert!(reader.recv().await.is_none());
    }
}
