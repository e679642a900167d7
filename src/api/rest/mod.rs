//! The REST door: the documented endpoints, on the collection named by `?collection=` (default `default`, which is
//! made at the first write). Every route turns JSON into the contract's request, calls the handler, and turns the
//! answer into JSON.

mod bodies;
mod docs;
mod json;
mod pages;
mod probes;
mod routes;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tonic::Status;

use crate::api::error::{ApiError, Reason};
use crate::api::handlers::Handlers;
use crate::types::limits::MESSAGE_BYTES_MAX;

pub use bodies::Failure;

/// All routes.
pub fn routes(handlers: Handlers) -> Router {
    Router::new()
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
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
        .with_state(handlers)
}

/// What no route takes: UNIMPLEMENTED for gRPC, 404 for everybody else.
pub async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let path = uri.path();
    if content_type.starts_with(b"application/grpc") {
        let error = ApiError::new(Reason::RouteNotFound, format_args!("there is no method {path}"));
        return Status::from(error).into_http();
    }
    let message = format_args!(
        "there is no {method} {path}; there are: GET /, POST /vector, GET and DELETE /vector/{{id}}, GET /vectors, \
         POST /upsert-text, POST /embed, POST /search/vector, POST /search/text, POST /benchmark, GET /livez, /readyz, /metrics, /openapi.json and /docs"
    );
    ApiError::new(Reason::RouteNotFound, message).into_response()
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(Reason::MethodNotAllowed, format_args!("{} does not take {method}", uri.path()))
}
