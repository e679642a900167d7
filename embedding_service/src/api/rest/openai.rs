//! `/v1`: the routes of OpenAI's embeddings, so that its clients, and what was written for them, can be pointed here.
//!
//! As OpenAI documents them (platform.openai.com/docs/api-reference/embeddings and /models), errors too:
//! `{error: {message, type, param, code}}`, for all that fails below `/v1`. Ours beside theirs: `input_type`, for models that tell queries from documents.
//! Not theirs: tokens in the place of text are refused, for they are those of another model's tokenizer; `dimensions` can
//! only be what the model has.

mod input;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Reply};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderName, HeaderValue, StatusCode};
use input::OpenAiInput;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tonic::Code;
use utoipa::ToSchema;

use super::Rest;
use crate::api::error::ApiError;
use crate::api::handlers::Embed;
use crate::api::sending::UntilSent;
use crate::api::texts::Names;
use crate::catalogue::Model;
use crate::engine::TextEmbedding;
use crate::model::Input;
use crate::port::{self, Failure, NoParams};

/// What OpenAI's clients read before `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// By which they are told not to repeat what they would repeat by its status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// `POST /v1/embeddings`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EmbeddingsBody {
    /// A text, or 1 to 2,048 of them; each 1 byte to 1 MiB. Tokens are refused.
    #[schema(schema_with = OpenAiInput::schema)]
    input: OpenAiInput,
    /// The id of a model in the registry. Absent: the service's default.
    #[schema(example = "minilm")]
    model: Option<String>,
    /// `float` (default) or `base64`: packed little-endian binary32.
    encoding_format: Option<EncodingFormat>,
    /// Only the model's own number is taken.
    dimensions: Option<usize>,
    /// Taken, and not looked at.
    #[serde(rename = "user")]
    #[schema(value_type = Option<String>)]
    _user: Option<IgnoredAny>,
    /// What the texts are for: `document` (default) or `query`. Not one of OpenAI's.
    #[schema(value_type = Option<String>)]
    input_type: Option<Input>,
}

#[derive(Deserialize, Default, Clone, Copy, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    #[default]
    Float,
    Base64,
}

/// Answer to `POST /v1/embeddings`.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddingList {
    /// Always `list`.
    object: &'static str,
    data: Vec<EmbeddingObject>,
    /// The model that served: the one of the request, or a fallback of the same space.
    model: String,
    usage: Usage,
}

/// The embedding of one text.
#[derive(Serialize, ToSchema)]
struct EmbeddingObject {
    /// Always `embedding`.
    object: &'static str,
    index: usize,
    embedding: Components,
    /// True where the text was longer than the model's limit, so that its beginning alone was embedded; else it is left out. Not
    /// one of OpenAI's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// As `encoding_format` says.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Components {
    /// `float`.
    Floats(Vec<f32>),
    /// `base64`: packed little-endian binary32.
    Base64(String),
}

/// Tokens of all texts, special tokens and prompts included.
#[derive(Serialize, ToSchema)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Answer to `GET /v1/models`.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<ModelObject>,
}

/// A model of the registry.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelObject {
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Always 0: it is not known.
    created: u64,
    /// Who runs it.
    owned_by: &'static str,
}

/// Answer to everything below `/v1` that fails.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorObject,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field that is at fault.
    param: Option<String>,
    /// The reason, in lower case.
    code: String,
}

/// A failure, told as OpenAI tells it.
pub(super) struct OpenAiError(Failure);

/// Embeds texts, as OpenAI's clients ask for it.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingsBody,
    responses((status = 200, body = EmbeddingList), (status = "default", body = ErrorBody))
)]
pub(super) async fn embeddings(
    State(rest): State<Rest>,
    _: NoParams,
    body: Result<port::Json<EmbeddingsBody>, Failure>,
) -> Result<(Extension<UntilSent>, Reply<EmbeddingList>), OpenAiError> {
    let port::Json(body) = body?;
    let names = body.input.names();
    let told = |error: ApiError| OpenAiError(error.told(names));
    let Some(texts) = body.input.checked() else { return Err(tokens_refused()) };
    let texts = texts.map_err(|error| told(error.into()))?;
    let model = rest.handlers.model(body.model.as_deref().unwrap_or_default()).map_err(told)?;
    check_dimensions(body.dimensions, model)?;
    let model_id = model.spec().id.clone();
    let input = body.input_type.unwrap_or_default();
    let request = Embed { texts, model_id, normalize: None, input, any_space: false, deadline: None };
    let embedded = rest.handlers.embed(request).await.map_err(told)?;
    let encoding_format = body.encoding_format.unwrap_or_default();
    let tokens = embedded.embeddings.iter().map(|embedding| embedding.tokens).sum();
    let data = embedded.embeddings.into_iter().enumerate().map(|(index, embedding)| EmbeddingObject {
        object: "embedding",
        index,
        truncated: embedding.truncated,
        embedding: encoding_format.encode(embedding),
    });
    let answer = Reply(EmbeddingList {
        object: "list",
        data: data.collect(),
        model: embedded.model_id,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    });
    Ok((Extension(UntilSent::new(embedded.held)), answer))
}

/// Lists the models of the registry.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses((status = 200, body = ModelList), (status = "default", body = ErrorBody))
)]
pub(super) async fn list_models(State(rest): State<Rest>, _: NoParams) -> Reply<ModelList> {
    let data = rest.handlers.models.all().iter().map(|model| ModelObject::of(model)).collect();
    Reply(ModelList { object: "list", data })
}

/// Describes one model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "OpenAI",
    params(("id" = String, Path, description = "Its id in the registry.", example = "minilm")),
    responses((status = 200, body = ModelObject), (status = "default", body = ErrorBody))
)]
pub(super) async fn get_model(
    State(rest): State<Rest>,
    _: NoParams,
    id: Result<Path<String>, PathRejection>,
) -> Result<Reply<ModelObject>, OpenAiError> {
    let expected =
        "model: expected the id of a model in the path, as UTF-8 with % before two digits for what is not ASCII";
    let Path(id) = id.map_err(|_| invalid("model", expected.to_owned()))?;
    let names = Names { model: "model", ..Names::CONTRACT };
    let model = rest.handlers.model(&id).map_err(|error| error.told(names))?;
    Ok(Reply(ModelObject::of(model)))
}

fn check_dimensions(dimensions: Option<usize>, model: &Model) -> Result<(), OpenAiError> {
    let (id, dimension) = (&model.spec().id, model.spec().dimension);
    match dimensions {
        Some(other) if other != dimension => {
            let message = format!("dimensions: expected {dimension}, which model `{id}` has, or none, got {other}");
            Err(invalid("dimensions", message))
        }
        _ => Ok(()),
    }
}

fn tokens_refused() -> OpenAiError {
    let message = "input: expected a text or a list of texts, got tokens, which are those of another model's tokenizer; \
                   send text (LangChain: check_embedding_ctx_length=False)";
    invalid("input", message.to_owned())
}

fn invalid(field: &str, message: String) -> OpenAiError {
    let codes = ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST);
    OpenAiError(Failure { field: Some(field.into()), ..Failure::new(codes, message) })
}

impl EncodingFormat {
    fn encode(self, embedding: TextEmbedding) -> Components {
        match self {
            Self::Float => Components::Floats(embedding.components),
            Self::Base64 => {
                let bytes: Vec<u8> =
                    embedding.components.iter().flat_map(|component| component.to_le_bytes()).collect();
                Components::Base64(BASE64_STANDARD.encode(bytes))
            }
        }
    }
}

impl ModelObject {
    fn of(model: &Model) -> Self {
        let spec = model.spec();
        Self { id: spec.id.clone(), object: "model", created: 0, owned_by: spec.provider_name() }
    }
}

/// What fails around the handlers, told as OpenAI tells it: below `/v1` clients know no other form. A layer for
/// `axum::middleware::from_fn`, outside of all that may fail.
pub(in crate::api) async fn told_as_openai(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_openai = path == "/v1" || path.starts_with("/v1/");
    let mut response = next.run(request).await;
    if !is_openai {
        return response;
    }
    let Some(failure) = response.extensions_mut().remove::<Failure>() else { return response };
    let (told, body) = OpenAiError(failure).into_response().into_parts();
    // Other headers stay, such as `www-authenticate`.
    response.headers_mut().remove(http::header::CONTENT_LENGTH);
    response.headers_mut().extend(told.headers);
    *response.body_mut() = body;
    response
}

impl From<Failure> for OpenAiError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let Self(failure) = self;
        let kind = match failure.status {
            StatusCode::TOO_MANY_REQUESTS if failure.reason.contains("QUOTA") => "insufficient_quota",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = ErrorObject {
            message: failure.message,
            kind,
            param: failure.field.map(String::from),
            code: failure.reason.to_ascii_lowercase(),
        };
        let mut response = (failure.status, Reply(ErrorBody { error })).into_response();
        if let Some(time) = failure.retry_after {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(milliseconds));
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1000)));
        } else if is_repeated(failure.status) {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// Whether OpenAI's clients repeat what is answered so, unless they are told not to.
fn is_repeated(status: StatusCode) -> bool {
    const REPEATED: [StatusCode; 3] =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_MANY_REQUESTS];
    REPEATED.contains(&status) || status.is_server_error()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::routing::get;
    use axum::{Router, middleware};
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    async fn panics() {
        panic!("a test wants it");
    }

    #[tokio::test]
    async fn panic_is_told_in_the_form_of_its_path() {
        let router = Router::new().route("/v1/x", get(panics)).route("/x", get(panics));
        let router = port::with_common_layers(router, &[]).layer(middleware::from_fn(told_as_openai));
        let mut told = Vec::new();
        for path in ["/v1/x", "/x"] {
            let request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            told.push(serde_json::from_slice::<Value>(&body).unwrap());
        }
        assert_eq!(
            (&told[0]["error"]["type"], &told[0]["error"]["code"]),
            (&json!("server_error"), &json!("internal"))
        );
        assert_eq!(told[1]["code"], "INTERNAL");
    }
}
