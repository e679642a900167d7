//! The REST door: JSON to and from the handlers.

mod docs;
mod openai;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use utoipa::{IntoParams, ToSchema};

use super::compare;
use super::error::ApiError;
use super::guard;
use super::handlers::{Embed, Handlers};
use super::limits::{BODY_BYTES_MAX, TEXTS_MAX};
use super::sending::UntilSent;
use super::texts::{CheckedTexts, Names};
use super::token::{self, TokenApi};
use crate::auth::{Auth, Scope};
use crate::catalogue::ModelState;
use crate::compare::Comparison;
use crate::engine::TextEmbedding;
use crate::figures;
use crate::model::{Input, Sha256Hex};
use crate::port::{self, AtMost, Failure, FailureBody, Figures, NoParams, Params};

pub(super) use openai::told_as_openai;

/// For those who asked for something else.
pub(super) const ENDPOINTS: [&str; 14] = [
    "GET /health",
    "GET /livez",
    "GET /readyz",
    "GET /models",
    "POST /embed",
    "POST /batch-embed",
    "POST /benchmark",
    "POST /auth/token",
    "POST /v1/embeddings",
    "GET /v1/models",
    "GET /v1/models/{id}",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
];

#[derive(Clone)]
struct Rest {
    handlers: Handlers,
    /// Who may hear what keeps models from being used; `None`: everybody.
    auth: Option<Arc<Auth>>,
    stopping: watch::Receiver<bool>,
    figures: Figures,
}

pub(super) fn router(
    handlers: Handlers,
    tokens: TokenApi,
    stopping: watch::Receiver<bool>,
    figures: Figures,
) -> Router {
    let auth = tokens.auth.clone();
    let router = Router::new()
        .route("/health", get(health))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/models", get(models))
        .route("/embed", post(embed))
        .route("/batch-embed", post(batch_embed))
        .route("/benchmark", post(benchmark))
        .merge(token::routes(tokens))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/models", get(openai::list_models))
        .route("/v1/models/{id}", get(openai::get_model))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .fallback(|request| port::not_found(request, &ENDPOINTS))
        .method_not_allowed_fallback(|request| port::method_not_allowed(request, &ENDPOINTS))
        .with_state(Rest { handlers, auth, stopping, figures });
    port::limit_bodies(router, BODY_BYTES_MAX)
}

/// Answer to `GET /health`.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `healthy` where requests that name no model can be answered, else what keeps them from it.
    status: &'static str,
    version: &'static str,
    /// The default model. This and what follows is said where nobody is asked for a key, or to whom may read models (`models:read`).
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    /// States by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<BTreeMap<String, &'static str>>,
    /// Why the default model cannot be used, also where a fallback serves in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Whether requests that name no model can be answered, by the default model or a fallback of it.
#[utoipa::path(
    get,
    path = "/health",
    tag = "Operation",
    security((), ("bearer" = []), ("api_key" = [])),
    responses((status = 200, body = Health), (status = 503, description = "Not now.", body = Health))
)]
async fn health(State(rest): State<Rest>, headers: HeaderMap) -> Response {
    let models = &rest.handlers.models;
    let (http, state) = (rest.ready_status(), models.default().state());
    let status = match state {
        _ if *rest.stopping.borrow() => "stopping",
        _ if http == StatusCode::OK => "healthy",
        // It has just become ready.
        ModelState::Ready { .. } | ModelState::Loading | ModelState::NotLoaded => "loading",
        ModelState::Failed { .. } => "failed",
        ModelState::NoKey { .. } => "no_key",
    };
    let may_know = rest.auth.as_ref().is_none_or(|auth| guard::allows(auth, &headers, Scope::ModelsRead));
    let states = || models.all().iter().map(|model| (model.spec().id.clone(), model.state().name())).collect();
    let body = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        default: may_know.then(|| models.default().spec().id.clone()),
        models: may_know.then(states),
        message: Some(state.reason()).filter(|reason| may_know && !reason.is_empty()).map(str::to_owned),
    };
    (http, Json(body)).into_response()
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/livez", tag = "Operation", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
async fn live() -> &'static str {
    "ok\n"
}

/// Whether requests that name no model can be answered; for balancers.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "Operation",
    security(()),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 503, description = "Not now.", body = String, content_type = "text/plain")
    )
)]
async fn ready(State(rest): State<Rest>) -> Response {
    let status = rest.ready_status();
    let body = match status {
        StatusCode::OK => "ok\n",
        _ if *rest.stopping.borrow() => "stopping\n",
        _ => "neither the default model nor a fallback of it can be used\n",
    };
    (status, body).into_response()
}

/// All figures of this service, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Operation",
    responses((status = 200, body = String, content_type = "text/plain"), (status = "default", body = FailureBody))
)]
async fn metrics(State(rest): State<Rest>) -> Response {
    rest.handlers.set_figures();
    if let Some(auth) = &rest.auth {
        figures::set_principals_stale(auth.is_stale());
    }
    rest.figures.answer(|name| name.starts_with(figures::PREFIX))
}

impl Rest {
    fn ready_status(&self) -> StatusCode {
        let ready = self.handlers.models.readiness().is_ready();
        if ready && !*self.stopping.borrow() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

/// Answer to `GET /models`.
#[derive(Serialize, ToSchema)]
struct Models {
    /// The model of requests that name none.
    default: String,
    /// By id.
    models: BTreeMap<String, Model>,
}

/// A model of the registry.
#[derive(Serialize, ToSchema)]
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
    /// In which numbers its layers are computed: `int8` or `f32`. Absent: a provider runs it, and does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<&'static str>,
}

/// Lists the models of the registry.
#[utoipa::path(
    get,
    path = "/models",
    tag = "Models",
    responses((status = 200, body = Models), (status = "default", body = FailureBody))
)]
async fn models(State(rest): State<Rest>, _: NoParams) -> Json<Models> {
    let models = &rest.handlers.models;
    let mut by_id = BTreeMap::new();
    for model in models.all() {
        let (spec, state) = (model.spec(), model.state());
        let reason = state.reason();
        by_id.insert(
            spec.id.clone(),
            Model {
                provider: spec.provider_name(),
                model_name: spec.model_name.clone(),
                dimensions: spec.dimension,
                tokens_max: spec.tokens_max,
                loaded: matches!(state, ModelState::Ready { .. }),
                state: state.name(),
                state_reason: (!reason.is_empty()).then(|| reason.to_owned()),
                fingerprint: model.fingerprint(),
                precision: spec.precision_name(),
            },
        );
    }
    Json(Models { default: models.default().spec().id.clone(), models: by_id })
}

/// `?model_id=`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ModelQuery {
    /// The model, here or in the body. Absent: the service's default.
    model_id: Option<String>,
}

/// `POST /embed`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EmbedBody {
    /// 1 byte to 1 MiB. What lies beyond the model's limit is not embedded.
    #[schema(example = "hello")]
    text: String,
    /// Scale the embedding to unit length. Absent: as the registry says of the model.
    normalize: Option<bool>,
    /// The model. Absent: the service's default.
    model_id: Option<String>,
    /// What it is for: `document` (default) or `query`.
    #[schema(value_type = Option<String>)]
    input_type: Option<Input>,
}

/// Answer to `POST /embed`.
#[derive(Serialize, ToSchema)]
struct EmbedAnswer {
    embedding: Vec<f32>,
    dimension: usize,
    model_id: String,
    /// SHA-256 of the text.
    text_hash: String,
    /// Tokens embedded, special tokens and prompt included.
    tokens: usize,
    /// Whether the text was longer than the model's limit.
    truncated: bool,
    /// Whether it was embedded before, and not for this call.
    cached: bool,
    /// Seconds in all.
    processing_time: f64,
    /// Of these, waiting for a thread.
    queue_time: f64,
    /// Of these, running the model, or waiting for the provider.
    inference_time: f64,
}

/// Embeds a text.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "Embedding",
    params(ModelQuery),
    request_body = EmbedBody,
    responses((status = 200, body = EmbedAnswer), (status = "default", body = FailureBody))
)]
async fn embed(
    State(rest): State<Rest>,
    Params(ModelQuery { model_id: query }): Params<ModelQuery>,
    port::Json(body): port::Json<EmbedBody>,
) -> Result<(Extension<UntilSent>, Json<EmbedAnswer>), Failure> {
    let model_id = one_model(query, body.model_id)?;
    let told = |error: ApiError| error.told(Names::OF_ONE);
    let texts = CheckedTexts::new(vec![body.text]).map_err(|error| told(error.into()))?;
    let text_hash = Sha256Hex::of(texts[0].as_bytes()).as_str().to_owned();
    let input = body.input_type.unwrap_or_default();
    // Nothing is kept of the answer, and it says who served: its caller may have allowed any space in models.toml.
    let request = Embed { texts, model_id, normalize: body.normalize, input, any_space: true, deadline: None };
    let embedded = rest.handlers.embed(request).await.map_err(told)?;
    let embedding = embedded.embeddings.into_iter().next().unwrap_or_default();
    let answer = Json(EmbedAnswer {
        embedding: embedding.components,
        dimension: embedded.dimension,
        model_id: embedded.model_id,
        text_hash,
        tokens: embedding.tokens,
        truncated: embedding.truncated,
        cached: embedding.cached,
        processing_time: embedded.elapsed.as_secs_f64(),
        queue_time: seconds(embedded.queue_us),
        inference_time: seconds(embedded.inference_us),
    });
    Ok((Extension(UntilSent::new(embedded.held)), answer))
}

/// `POST /batch-embed`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BatchEmbedBody {
    /// 1 to 2,048 texts, each 1 byte to 1 MiB. What lies beyond the model's limit is not embedded.
    #[schema(example = json!(["hello", "world"]), value_type = Vec<String>)]
    texts: AtMost<String, TEXTS_MAX>,
    /// Scale embeddings to unit length. Absent: as the registry says of the model.
    normalize: Option<bool>,
    /// The model. Absent: the service's default.
    model_id: Option<String>,
    /// What they are for: `document` (default) or `query`.
    #[schema(value_type = Option<String>)]
    input_type: Option<Input>,
}

/// Answer to `POST /batch-embed`.
#[derive(Serialize, ToSchema)]
struct BatchEmbedAnswer {
    embeddings: Vec<Vec<f32>>,
    dimension: usize,
    model_id: String,
    count: usize,
    /// Tokens embedded, of all texts.
    tokens: usize,
    /// How many texts were longer than the model's limit.
    truncated: usize,
    /// Which texts these are, from 0.
    truncated_indexes: Vec<usize>,
    /// How many embeddings were there before, or are those of an equal text of the call.
    cached: usize,
    /// Seconds in all.
    processing_time: f64,
    /// Of these, waiting for a thread: the longest wait of any text.
    queue_time: f64,
    /// Of these, running the model, or waiting for the provider: the longest of any text.
    inference_time: f64,
}

/// Embeds a batch of texts.
#[utoipa::path(
    post,
    path = "/batch-embed",
    tag = "Embedding",
    params(ModelQuery),
    request_body = BatchEmbedBody,
    responses((status = 200, body = BatchEmbedAnswer), (status = "default", body = FailureBody))
)]
async fn batch_embed(
    State(rest): State<Rest>,
    Params(ModelQuery { model_id: query }): Params<ModelQuery>,
    port::Json(body): port::Json<BatchEmbedBody>,
) -> Result<(Extension<UntilSent>, Json<BatchEmbedAnswer>), ApiError> {
    let model_id = one_model(query, body.model_id)?;
    let input = body.input_type.unwrap_or_default();
    let texts = CheckedTexts::of(body.texts).map_err(ApiError::from)?;
    let request = Embed { texts, model_id, normalize: body.normalize, input, any_space: false, deadline: None };
    let embedded = rest.handlers.embed(request).await?;
    let count = |which: fn(&TextEmbedding) -> bool| embedded.embeddings.iter().filter(|one| which(one)).count();
    let answer = Json(BatchEmbedAnswer {
        count: embedded.embeddings.len(),
        tokens: embedded.embeddings.iter().map(|embedding| embedding.tokens).sum(),
        truncated: count(|embedding| embedding.truncated),
        truncated_indexes: indexes_of_truncated(&embedded.embeddings),
        cached: count(|embedding| embedding.cached),
        processing_time: embedded.elapsed.as_secs_f64(),
        queue_time: seconds(embedded.queue_us),
        inference_time: seconds(embedded.inference_us),
        embeddings: embedded.embeddings.into_iter().map(|embedding| embedding.components).collect(),
        dimension: embedded.dimension,
        model_id: embedded.model_id,
    });
    Ok((Extension(UntilSent::new(embedded.held)), answer))
}

fn indexes_of_truncated(embeddings: &[TextEmbedding]) -> Vec<usize> {
    embeddings.iter().enumerate().filter(|(_, embedding)| embedding.truncated).map(|(index, _)| index).collect()
}

/// Compares models on sample texts: speed, contrast of topics, retrieval. Takes seconds to minutes, one at a time.
#[utoipa::path(
    post,
    path = "/benchmark",
    tag = "Models",
    request_body = Option<compare::BenchmarkBody>,
    responses(
        (status = 200, body = Comparison),
        (status = "default", body = FailureBody)
    )
)]
async fn benchmark(
    State(rest): State<Rest>,
    _: NoParams,
    port::OptionalJson(body): port::OptionalJson<compare::BenchmarkBody>,
) -> Result<Json<Comparison>, ApiError> {
    Ok(Json(compare::benchmark(&rest.handlers, body, rest.stopping.clone()).await?))
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
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
