//! The REST door described: for machines at `/openapi.json`, for people at `/docs`.

use std::sync::LazyLock;

use axum::Json as Reply;
use axum::response::Html;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::openai;
use crate::port::{self, FailureBody};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vectron: embeddings",
        description = "Texts in, embeddings out. The same service answers gRPC on the same port."
    ),
    paths(
        super::health,
        super::live,
        super::ready,
        super::metrics,
        super::models,
        super::embed,
        super::batch_embed,
        super::benchmark,
        crate::api::token::token,
        openai::embeddings,
        openai::list_models,
        openai::get_model,
        openapi,
        page
    ),
    tags(
        (name = "Embedding", description = "Texts in, embeddings out."),
        (name = "OpenAI", description = "The same for OpenAI's clients."),
        (name = "Models", description = "Which there are, and how they compare."),
        (name = "Tokens", description = "For who has a key or a password."),
        (name = "Operation", description = "Probes, figures, and this description.")
    ),
    // The empty one: where nobody is asked for a key.
    security((), ("bearer" = []), ("api_key" = [])),
    modifiers(&Keys)
)]
struct Description;

/// How callers show who they are, where they are asked.
struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key, or a token."));
        let api_key = ApiKeyValue::with_description("x-api-key", "An API key.");
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key)));
    }
}

/// This description, as OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Operation",
    responses((status = 200, body = Object), (status = "default", body = FailureBody))
)]
pub(super) async fn openapi() -> Reply<&'static utoipa::openapi::OpenApi> {
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Description::openapi);
    Reply(&DESCRIPTION)
}

/// A page that reads `/openapi.json` and lets each endpoint be tried.
#[utoipa::path(get, path = "/docs", tag = "Operation", security(()), responses((status = 200, body = String, content_type = "text/html")))]
pub(super) async fn page() -> Html<&'static str> {
    Html(port::DOCS_PAGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::ENDPOINTS;
    use super::*;

    #[test]
    fn every_endpoint_is_described() {
        let described = serde_json::to_value(Description::openapi()).unwrap();
        let mut endpoints = BTreeSet::new();
        let tags: Vec<_> = described["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        for (path, operations) in described["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let of_it = operation["tags"].as_array().unwrap();
                assert!(matches!(&of_it[..], [tag] if tags.contains(&tag)), "{path}: {of_it:?} of {tags:?}");
                endpoints.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        assert_eq!(endpoints, ENDPOINTS.map(str::to_owned).into());
        let schemes = &described["components"]["securitySchemes"];
        assert_eq!(
            (&schemes["bearer"]["scheme"], &schemes["api_key"]["name"]),
            (&"bearer".into(), &"x-api-key".into())
        );
        let input = &described["components"]["schemas"]["EmbeddingsBody"]["properties"]["input"];
        let kinds: Vec<_> = input["oneOf"].as_array().unwrap().iter().map(|one| one["type"].clone()).collect();
        assert_eq!(kinds, ["string", "array"], "{input}");
        assert_eq!(input["examples"][0][0], "hello");
    }
}
