//! The routes of the documented endpoints.

use axum::Json as Reply;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Map, Value};
use vectron_embedding::port::{FailureBody, Json, OptionalJson, Params};

use crate::api::convert::{filter_from_json, from_json, to_json};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::Handlers;
use crate::api::rest::bodies::{
    BenchmarkReport, CollectionParams, EmbedText, EmbeddedText, FoundVector, InsertVector, NoParams, Root,
    RunBenchmark, SearchHit, SearchParams, SearchText, SearchVector, TextHits, UpsertText, Written,
};
use crate::pb::v1 as pb;
use crate::pb::v1::delete_request::Selector;
use crate::pb::v1::search_request::Query;
use crate::pb::v1::vector::Components;
use crate::types::Vector;

type Answer<T> = Result<Reply<T>, ApiError>;

/// What the server is and holds.
#[utoipa::path(
    get,
    path = "/",
    responses((status = 200, body = Root), (status = "default", body = FailureBody))
)]
pub async fn root(State(handlers): State<Handlers>) -> Answer<Root> {
    let version = env!("CARGO_PKG_VERSION");
    if !handlers.is_ready() {
        return Ok(Reply(Root { name: "vectron", version, status: "starting", collections: 0, vectors: 0 }));
    }
    let statistics = handlers.statistics().await?;
    let (collections, vectors) = (statistics.collections.len(), statistics.record_count);
    let status = if statistics.damaged_collections.is_empty() { "ok" } else { "degraded" };
    Ok(Reply(Root { name: "vectron", version, status, collections, vectors }))
}

/// Stores a vector. The collection, and at most one space of raw vectors, are made at the first write.
#[utoipa::path(
    post,
    path = "/vector",
    params(CollectionParams),
    request_body = InsertVector,
    responses((status = 200, body = Written), (status = "default", body = FailureBody))
)]
pub async fn insert_vector(
    State(handlers): State<Handlers>,
    Params(params): Params<CollectionParams>,
    Json(body): Json<InsertVector>,
) -> Answer<Written> {
    let record = pb::RecordInput {
        id: body.id,
        vector: Some(to_vector(body.vector, body.space)),
        metadata: read_metadata(body.metadata)?,
        ..pb::RecordInput::default()
    };
    upsert(&handlers, params.collection, String::new(), record).await
}

/// Embeds a text and stores it. The collection and the model's space are made at the first write.
#[utoipa::path(
    post,
    path = "/upsert-text",
    params(CollectionParams),
    request_body = UpsertText,
    responses((status = 200, body = Written), (status = "default", body = FailureBody))
)]
pub async fn upsert_text(
    State(handlers): State<Handlers>,
    Params(params): Params<CollectionParams>,
    Json(body): Json<UpsertText>,
) -> Answer<Written> {
    let record = pb::RecordInput {
        id: body.id,
        text: Some(body.text),
        metadata: read_metadata(body.metadata)?,
        ..pb::RecordInput::default()
    };
    upsert(&handlers, params.collection, body.model_id.unwrap_or_default(), record).await
}

async fn upsert(handlers: &Handlers, collection: String, model_id: String, record: pb::RecordInput) -> Answer<Written> {
    let id = record.id.clone();
    let request = pb::UpsertRequest {
        collection,
        records: vec![record],
        model_id,
        create_missing: true,
        ..pb::UpsertRequest::default()
    };
    let response = handlers.upsert(request).await.map_err(strip_batch_position)?;
    let truncated = !response.truncated_ids.is_empty();
    let note =
        if truncated { "; its text is longer than the model's limit: only the beginning was embedded" } else { "" };
    let message = format!("stored {id:?}{note}");
    Ok(Reply(Written { success: true, message, count: response.record_count.into(), truncated }))
}

/// Reads a record.
#[utoipa::path(
    get,
    path = "/vector/{id}",
    params(CollectionParams, ("id" = String, Path, description = "The record's id", example = "1")),
    responses((status = 200, body = FoundVector), (status = "default", body = FailureBody))
)]
pub async fn get_vector(
    State(handlers): State<Handlers>,
    Params(params): Params<CollectionParams>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<FoundVector> {
    let id = read_path(id)?;
    let request = pb::GetRequest { collection: params.collection, ids: vec![id.clone()], ..pb::GetRequest::default() };
    let response = handlers.get(request).await.map_err(strip_batch_position)?;
    let record = response.records.into_iter().next().ok_or_else(|| not_found(&id))?;
    let vector = record.vector.unwrap_or_default();
    Ok(Reply(FoundVector {
        id: record.id,
        vector: read_components(vector.components)?,
        text: record.text,
        metadata: to_json(record.metadata),
        space: vector.space,
        version: record.version,
        success: true,
        message: "found",
    }))
}

/// Deletes a record.
#[utoipa::path(
    delete,
    path = "/vector/{id}",
    params(CollectionParams, ("id" = String, Path, description = "The record's id", example = "1")),
    responses((status = 200, body = Written), (status = "default", body = FailureBody))
)]
pub async fn delete_vector(
    State(handlers): State<Handlers>,
    Params(params): Params<CollectionParams>,
    id: Result<Path<String>, PathRejection>,
) -> Answer<Written> {
    let id = read_path(id)?;
    let keys = vec![pb::RecordKey { id: id.clone(), if_version: None }];
    let selector = Some(Selector::Ids(pb::RecordKeys { keys }));
    let request = pb::DeleteRequest { collection: params.collection, selector, ..pb::DeleteRequest::default() };
    let count = handlers.delete(request).await.map_err(strip_batch_position)?.deleted_count;
    if count == 0 {
        return Err(not_found(&id));
    }
    Ok(Reply(Written { success: true, message: format!("deleted {id:?}"), count, truncated: false }))
}

/// Embeds a text and stores nothing.
#[utoipa::path(
    post,
    path = "/embed",
    request_body = EmbedText,
    responses((status = 200, body = EmbeddedText), (status = "default", body = FailureBody))
)]
pub async fn embed(
    State(handlers): State<Handlers>,
    Params(NoParams {}): Params<NoParams>,
    Json(body): Json<EmbedText>,
) -> Answer<EmbeddedText> {
    let embedded = handlers.embed(body.text.clone(), body.model_id.as_deref().unwrap_or_default()).await?;
    let embedding = embedded.embeddings.into_iter().next().expect("one text has one embedding");
    Ok(Reply(EmbeddedText {
        text: body.text,
        dimensions: embedding.vector.dimension().get(),
        embedding: embedding.vector.components().to_vec(),
        model_id: embedded.model.model_id,
        truncated: embedding.is_truncated,
        success: true,
        message: "embedded",
    }))
}

/// Finds the records nearest to a vector, best first.
#[utoipa::path(
    post,
    path = "/search/vector",
    params(SearchParams),
    request_body = SearchVector,
    responses((status = 200, body = Vec<SearchHit>), (status = "default", body = FailureBody))
)]
pub async fn search_vector(
    State(handlers): State<Handlers>,
    Params(params): Params<SearchParams>,
    Json(body): Json<SearchVector>,
) -> Answer<Vec<SearchHit>> {
    let request = pb::SearchRequest {
        collection: params.collection,
        query: Some(Query::Vector(to_vector(body.vector, body.space))),
        top_k: params.top_k.or(body.top_k),
        filter: body.filter.map(filter_from_json).transpose()?,
        ..pb::SearchRequest::default()
    };
    Ok(Reply(to_hits(handlers.search(request).await?)))
}

/// Finds the records nearest to a text, best first.
#[utoipa::path(
    post,
    path = "/search/text",
    params(SearchParams),
    request_body = SearchText,
    responses((status = 200, body = TextHits), (status = "default", body = FailureBody))
)]
pub async fn search_text(
    State(handlers): State<Handlers>,
    Params(params): Params<SearchParams>,
    Json(body): Json<SearchText>,
) -> Answer<TextHits> {
    let text = pb::TextQuery { text: body.text.clone(), model_id: body.model_id.unwrap_or_default() };
    let request = pb::SearchRequest {
        collection: params.collection,
        query: Some(Query::Text(text)),
        top_k: params.top_k.or(body.top_k),
        filter: body.filter.map(filter_from_json).transpose()?,
        ..pb::SearchRequest::default()
    };
    let response = handlers.search(request).await?;
    let note = match response.query_truncated {
        true => "; the query is longer than the model's limit: only its beginning was embedded",
        false => "",
    };
    let message = format!("{} found{note}", response.hits.len());
    Ok(Reply(TextHits { results: to_hits(response), query: body.text, success: true, message }))
}

/// Measures this machine on a scratch store with generated vectors; user data are not touched.
#[utoipa::path(
    post,
    path = "/benchmark",
    request_body = Option<RunBenchmark>,
    responses((status = 200, body = BenchmarkReport), (status = "default", body = FailureBody))
)]
pub async fn benchmark(
    State(handlers): State<Handlers>,
    Params(NoParams {}): Params<NoParams>,
    OptionalJson(body): OptionalJson<RunBenchmark>,
) -> Answer<BenchmarkReport> {
    let request = pb::RunBenchmarkRequest {
        vector_count: body.vector_count,
        dimension: body.dimension,
        search_count: body.search_count,
        test_persistence: body.test_persistence,
    };
    Ok(Reply(handlers.run_benchmark(request).await?.into()))
}

fn read_path(id: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::new(Reason::InvalidId, error.body_text()))?;
    Ok(id)
}

fn read_metadata(
    metadata: Option<Map<String, Value>>,
) -> Result<std::collections::BTreeMap<String, pb::Value>, ApiError> {
    metadata.map(from_json).transpose().map(Option::unwrap_or_default)
}

fn to_vector(components: Vec<f32>, space: Option<String>) -> pb::Vector {
    let components = Some(Components::Floats(pb::FloatArray { values: components }));
    pb::Vector { components, space: space.unwrap_or_default() }
}

fn read_components(components: Option<Components>) -> Result<Vec<f32>, ApiError> {
    match components {
        Some(Components::Floats(floats)) => Ok(floats.values),
        Some(Components::F32Le(bytes)) => {
            let vector = Vector::from_f32_le(&bytes).map_err(|error| ApiError::new(Reason::Internal, error))?;
            Ok(vector.components().to_vec())
        }
        None => Ok(Vec::new()),
    }
}

fn to_hits(response: pb::SearchResponse) -> Vec<SearchHit> {
    let to_hit = |hit: pb::Hit| {
        let record = hit.record.unwrap_or_default();
        SearchHit { id: record.id, score: hit.score, text: record.text, metadata: to_json(record.metadata) }
    };
    response.hits.into_iter().map(to_hit).collect()
}

fn not_found(id: &str) -> ApiError {
    ApiError::new(Reason::RecordNotFound, format_args!("there is no record {id:?}"))
}

/// A REST body holds one record, so a position within a batch would only puzzle.
fn strip_batch_position(error: ApiError) -> ApiError {
    const PREFIXES: [&str; 4] = ["records[0].", "ids.keys[0].", "ids.keys[0]", "ids[0]"];
    let Some(field) = &error.field else { return error };
    let Some(rest) = PREFIXES.iter().find_map(|prefix| field.strip_prefix(prefix)) else {
        return error;
    };
    let short = if rest.is_empty() { "id" } else { rest };
    let message = error.message.replacen(field.as_str(), short, 1);
    ApiError { field: Some(short.to_owned()), message, ..error }
}
