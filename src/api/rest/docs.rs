//! The REST door described: for machines at `/openapi.json`, for people at `/docs`.

use std::sync::LazyLock;

use axum::Json as Reply;
use axum::response::Html;
use utoipa::OpenApi;
use vectron_embedding::port;

use crate::api::rest::{pages, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vectron",
        description = "Text goes in, ranked text comes out. The same store answers gRPC on the same port."
    ),
    paths(
        routes::root,
        routes::insert_vector,
        routes::get_vector,
        routes::delete_vector,
        pages::list_ids,
        routes::upsert_text,
        routes::embed,
        routes::search_vector,
        routes::search_text,
        routes::benchmark
    )
)]
struct Description;

/// OpenAPI 3.1.
pub async fn openapi() -> Reply<&'static utoipa::openapi::OpenApi> {
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Description::openapi);
    Reply(&DESCRIPTION)
}

/// A page that reads `/openapi.json` and lets each endpoint be tried.
pub async fn page() -> Html<&'static str> {
    Html(port::DOCS_PAGE)
}
