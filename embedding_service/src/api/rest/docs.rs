//! The REST door described: for machines at `/openapi.json`, for people at `/docs`.

use std::sync::LazyLock;

use axum::Json as Reply;
use axum::response::Html;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

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
        token,
        openai::embeddings,
        openai::list_models,
        openai::get_model,
        openapi,
        page
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

/// What `POST /auth/token` takes; or the form of OAuth 2.0's password grant.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: what is read keeps its secrets to itself")]
struct TokenBody {
    /// An API key; or `username` and `password`.
    api_key: Option<String>,
    username: Option<String>,
    password: Option<String>,
    /// Fewer than the credential has. Absent: all of them.
    scopes: Option<Vec<String>>,
}

/// Answer to `POST /auth/token`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description: what is sent is `api::token`'s")]
struct TokenAnswer {
    access_token: String,
    /// Always `bearer`.
    token_type: String,
    /// Seconds.
    expires_in: u32,
}

/// Gives a token for an API key, or for a user name and password.
#[utoipa::path(
    post,
    path = "/auth/token",
    security(()),
    request_body = TokenBody,
    responses((status = 200, body = TokenAnswer), (status = "default", body = FailureBody))
)]
#[expect(dead_code, reason = "a description: the route is `api::token`'s")]
fn token() {}

/// This description, as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Reply<&'static utoipa::openapi::OpenApi> {
    static DESCRIPTION: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(Description::openapi);
    Reply(&DESCRIPTION)
}

/// A page that reads `/openapi.json` and lets each endpoint be tried.
#[utoipa::path(get, path = "/docs", responses((status = 200, body = String, content_type = "text/html")))]
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
        for (path, operations) in described["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
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
