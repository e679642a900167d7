//! Reading requests: bodies that must be JSON, and query strings, with errors that say what was expected.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::api::error::{ApiError, Reason};
use crate::types::limits::MESSAGE_BYTES_MAX;

/// A JSON body.
pub struct Json<T>(pub T);

/// A JSON body that may be missing, which is the default.
pub struct OptionalJson<T>(pub T);

/// The query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        parse(&read(request, state).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let body = read(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        check_content_type(&headers)?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let refuse = |error: QueryRejection| {
            ApiError::new(Reason::InvalidArgument, format_args!("the query string: {}", error.body_text()))
        };
        Query::from_request_parts(parts, state).await.map(|Query(params)| Self(params)).map_err(refuse)
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("nothing");
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let message = format_args!("expected `content-type: application/json`, but got {content_type}");
    Err(ApiError::new(Reason::UnsupportedMediaType, message))
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|error: BytesRejection| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format_args!("expected a body of at most {MESSAGE_BYTES_MAX} bytes; send smaller batches");
            ApiError::new(Reason::MessageTooLarge, message)
        }
        _ => ApiError::new(Reason::InvalidArgument, error.body_text()),
    })
}

/// serde's message names the field, or the line and column.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(Reason::MalformedJson, format_args!("the JSON body: {error}")))
}
