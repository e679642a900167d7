//! The REST door: JSON to and from the handlers.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::ApiError;
use super::handlers::{Embed, Handlers, check_texts};
use super::limits::BODY_BYTES_MAX;
use crate::catalogue::ModelState;
use crate::model::{Input, Sha256Hex};
use crate::port::{self, Params};

/// For those who asked for something else.
const ENDPOINTS: [&str; 6] =
    ["GET /health", "GET /livez", "GET /readyz", "GET /models", "POST /embed", "POST /batch-embed"];

#[derive(Clone)]
struct Rest {
    handlers: Handlers,
    stopping: watch::Receiver<bool>,
}

pub(super) fn router(handlers: Handlers, stopping: watch::Receiver<bool>) -> Router {
    let router = Router::new()
        .route("/health", get(health))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/models", get(models))
        .route("/embed", post(embed))
        .route("/batch-embed", post(batch_embed))
        .fallback(|request| port::not_found(request, &ENDPOINTS))
        .method_not_allowed_fallback(|request| port::method_not_allowed(request, &ENDPOINTS))
        .with_state(Rest { handlers, stopping });
    port::limit_bodies(router, BODY_BYTES_MAX)
}

#[derive(Serialize)]
struct Health {
    /// `healthy` where requests that name no model can be answered, else what keeps them from it.
    status: &'static str,
    version: &'static str,
    default: String,
    /// States by id.
    models: BTreeMap<String, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

async fn health(State(rest): State<Rest>) -> Response {
    let models = &rest.handlers.models;
    let (status, message) = match models.default().state() {
        _ if *rest.stopping.borrow() => ("stopping", None),
        ModelState::Ready { remark } => ("healthy", remark),
        ModelState::Loading | ModelState::NotLoaded => ("loading", None),
        ModelState::Failed { reason } => ("failed", Some(reason)),
        ModelState::NoKey { reason } => ("no_key", Some(reason)),
    };
    let body = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        default: models.default().spec().id.clone(),
        models: models.all().iter().map(|model| (model.spec().id.clone(), model.state().name())).collect(),
        message,
    };
    (rest.ready_status(), Json(body)).into_response()
}

async fn ready(State(rest): State<Rest>) -> Response {
    let status = rest.ready_status();
    let body = match status {
        StatusCode::OK => "ok\n",
        _ if *rest.stopping.borrow() => "stopping\n",
        _ => "neither the default model nor a fallback of it can be used\n",
    };
    (status, body).into_response()
}

impl Rest {
    fn ready_status(&self) -> StatusCode {
        let ready = self.handlers.models.readiness().is_ready();
        if ready && !*self.stopping.borrow() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

#[derive(Serialize)]
struct Models {
    default: String,
    models: BTreeMap<String, Model>,
}

#[derive(Serialize)]
struct Model {
    provider: &'static str,
    model_name: String,
    dimensions: usize,
    tokens_max: usize,
    /// Whether it can be used at once: in memory, or run by a provider whose key is here.
    loaded: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
}

async fn models(State(rest): State<Rest>) -> Json<Models> {
    let models = &rest.handlers.models;
    let mut by_id = BTreeMap::new();
    for model in models.all() {
        let (spec, state) = (model.spec(), model.state());
        let reason = state.reason();
        by_id.insert(
            spec.id.clone(),
            Model {
                provider: spec.provider.as_str(),
                model_name: spec.model_name.clone(),
                dimensions: spec.dimension,
                tokens_max: spec.tokens_max,
                loaded: matches!(state, ModelState::Ready { .. }),
                state: state.name(),
                state_reason: (!reason.is_empty()).then(|| reason.to_owned()),
                fingerprint: model.fingerprint(),
            },
        );
    }
    Json(Models { default: models.default().spec().id.clone(), models: by_id })
}

/// `?model_id=`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelQuery {
    model_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbedBody {
    text: String,
    normalize: Option<bool>,
    model_id: Option<String>,
    /// What it is for: `document` (default) or `query`.
    input_type: Option<Input>,
}

#[derive(Serialize)]
struct EmbedAnswer {
    embedding: Vec<f32>,
    dimension: usize,
    model_id: String,
    /// SHA-256 of the text.
    text_hash: String,
    tokens: usize,
    truncated: bool,
    /// Seconds.
    processing_time: f64,
}

async fn embed(
    State(rest): State<Rest>,
    Params(ModelQuery { model_id: query }): Params<ModelQuery>,
    port::Json(body): port::Json<EmbedBody>,
) -> Result<Json<EmbedAnswer>, ApiError> {
    let model_id = one_model(query, body.model_id)?;
    check_texts(std::slice::from_ref(&body.text)).map_err(ApiError::of_single_text)?;
    let text_hash = Sha256Hex::of(body.text.as_bytes()).as_str().to_owned();
    let input = body.input_type.unwrap_or_default();
    // Nothing is kept of the answer, and it says who served: its caller may have allowed any space in models.toml.
    let request = Embed { texts: vec![body.text], model_id, normalize: body.normalize, input, any_space: true };
    let embedded = rest.handlers.embed(request).await.map_err(ApiError::of_single_text)?;
    let embedding = embedded.embeddings.into_iter().next().unwrap_or_default();
    Ok(Json(EmbedAnswer {
        embedding: embedding.components,
        dimension: embedded.dimension,
        model_id: embedded.model_id,
        text_hash,
        tokens: embedding.tokens,
        truncated: embedding.truncated,
        processing_time: embedded.elapsed.as_secs_f64(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchEmbedBody {
    texts: Vec<String>,
    normalize: Option<bool>,
    model_id: Option<String>,
    /// What it is for: `document` (default) or `query`.
    input_type: Option<Input>,
}

#[derive(Serialize)]
struct BatchEmbedAnswer {
    embeddings: Vec<Vec<f32>>,
    dimension: usize,
    model_id: String,
    count: usize,
    /// How many texts were longer than the model's limit.
    truncated: usize,
    /// Seconds.
    processing_time: f64,
}

async fn batch_embed(
    State(rest): State<Rest>,
    Params(ModelQuery { model_id: query }): Params<ModelQuery>,
    port::Json(body): port::Json<BatchEmbedBody>,
) -> Result<Json<BatchEmbedAnswer>, ApiError> {
    let model_id = one_model(query, body.model_id)?;
    let input = body.input_type.unwrap_or_default();
    let request = Embed { texts: body.texts, model_id, normalize: body.normalize, input, any_space: false };
    let embedded = rest.handlers.embed(request).await?;
    Ok(Json(BatchEmbedAnswer {
        count: embedded.embeddings.len(),
        truncated: embedded.embeddings.iter().filter(|embedding| embedding.truncated).count(),
        embeddings: embedded.embeddings.into_iter().map(|embedding| embedding.components).collect(),
        dimension: embedded.dimension,
        model_id: embedded.model_id,
        processing_time: embedded.elapsed.as_secs_f64(),
    }))
}

fn one_model(query: Option<String>, body: Option<String>) -> Result<String, ApiError> {
    match (query, body) {
        (Some(query), Some(body)) if query != body => Err(ApiError::TwoModels { query, body }),
        (query, body) => Ok(query.or(body).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_taken_from_query_or_body() {
        let named = |id: &str| Some(id.to_owned());
        assert_eq!(one_model(None, None), Ok(String::new()));
        assert_eq!(one_model(named("a"), None), one_model(None, named("a")));
        assert_eq!(one_model(named("a"), named("a")), Ok("a".to_owned()));
        assert!(one_model(named("a"), named("b")).is_err());
    }
}
