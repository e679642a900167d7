//! Reading REST requests: bodies that must be JSON, and query strings. Every refusal is a `Failure` that says what was
//! expected and what came.

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request};
use axum::{Extension, RequestExt};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tonic::Code;

use super::Failure;

/// A JSON body.
pub struct Json<T>(pub T);

/// A JSON body that may be missing, which is the default.
pub struct OptionalJson<T>(pub T);

/// The query string.
pub struct Params<T>(pub T);

/// The most bytes that a body may have, for the message where it has more.
#[derive(Clone, Copy)]
struct BodyBytesMax(usize);

/// Refuses bodies of more than `bytes_max` bytes.
pub fn limit_bodies<S: Clone + Send + Sync + 'static>(router: Router<S>, bytes_max: usize) -> Router<S> {
    router.layer(DefaultBodyLimit::max(bytes_max)).layer(Extension(BodyBytesMax(bytes_max)))
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        check_content_type(request.headers())?;
        parse(&read(request).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let content_type = check_content_type(request.headers());
        let body = read(request).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        content_type?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Query(params) = Query::try_from_uri(&parts.uri)
            .map_err(|error| invalid("INVALID_ARGUMENT", format!("the query string: {}", error.body_text())))?;
        Ok(Self(params))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.as_deref().unwrap_or("none");
    if is_json(content_type) {
        return Ok(());
    }
    let codes = ("UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Err(Failure::new(codes, format!("expected `content-type: application/json`, but got {content_type}")))
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    let bytes_max = request.extensions().get::<BodyBytesMax>().map(|max| max.0);
    request.extract::<Bytes, _>().await.map_err(|error| match (error.status(), bytes_max) {
        (StatusCode::PAYLOAD_TOO_LARGE, Some(bytes_max)) => {
            Failure::too_large(&format!("expected a body of at most {bytes_max} bytes, but it has more"))
        }
        _ => invalid("INVALID_ARGUMENT", format!("the body could not be read: {}", error.body_text())),
    })
}

/// serde's message names the field, and line and column.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| invalid("MALFORMED_JSON", format!("the JSON body: {error}")))
}

fn invalid(reason: &'static str, message: String) -> Failure {
    Failure::new((reason, Code::InvalidArgument, StatusCode::BAD_REQUEST), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_forms() {
        assert!(is_json("application/json; charset=utf-8"));
        assert!(is_json("application/problem+json"));
        assert!(!is_json("application/x-www-form-urlencoded"));
        assert!(!is_json("text/json"));
    }
}
