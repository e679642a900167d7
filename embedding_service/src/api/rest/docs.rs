//! The REST door described: for machines at `/openapi.json`, for people at `/docs`.

use std::sync::LazyLock;

use axum::Json as Reply;
use axum::response::Html;
use utoipa::OpenApi;

use super::openai;
use crate::port;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vectron: embeddings",
        description = "Texts in, embeddings out. The same service answers gRPC on the same port."
    ),
    paths(
        super::health,
        super::models,
        super::embed,
        super::batch_embed,
        openai::embeddings,
        openai::list_models,
        openai::get_model
    )
)]
struct Description;

/// OpenAPI 3.1.
pub(super) async fn openapi() -> Reply<&'static utoipa::openapi::OpenApi> {
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Description::openapi);
    Reply(&DESCRIPTION)
}

/// A page that reads `/openapi.json` and lets each endpoint be tried.
pub(super) async fn page() -> Html<&'static str> {
    Html(port::DOCS_PAGE)
}
