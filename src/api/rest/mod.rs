//! The REST door: the documented endpoints, on the collection named by `?collection=` (default `default`, which is
//! made at the first write). Every route turns JSON into the contract's request, calls the handler, and turns the
//! answer into JSON.

mod bodies;
mod docs;
mod pages;
mod probes;
mod routes;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use vectron_embedding::port;

use crate::api::handlers::Handlers;
use crate::types::limits::BODY_BYTES_MAX;

/// For those who asked for something else.
const ENDPOINTS: [&str; 15] = [
    "GET /",
    "POST /vector",
    "GET /vector/{id}",
    "DELETE /vector/{id}",
    "GET /vectors",
    "POST /upsert-text",
    "POST /embed",
    "POST /search/vector",
    "POST /search/text",
    "POST /benchmark",
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
];

/// All routes.
pub fn routes(handlers: Handlers) -> Router {
    let router = Router::new()
        .route("/", get(routes::root))
        .route("/vector", post(routes::insert_vector))
        // A wildcard, since an id may hold slashes.
        .route("/vector/{*id}", get(routes::get_vector).delete(routes::delete_vector))
        .route("/vectors", get(pages::list_ids))
        .route("/upsert-text", post(routes::upsert_text))
        .route("/embed", post(routes::embed))
        .route("/search/vector", post(routes::search_vector))
        .route("/search/text", post(routes::search_text))
        .route("/benchmark", post(routes::benchmark))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::metrics))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .method_not_allowed_fallback(|request| port::method_not_allowed(request, &ENDPOINTS))
        .with_state(handlers);
    port::limit_bodies(router, BODY_BYTES_MAX)
}

/// What no route takes: UNIMPLEMENTED for gRPC, 404 for everybody else.
pub async fn fallback(request: Request) -> Response {
    port::not_found(request, &ENDPOINTS).await
}
