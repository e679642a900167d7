//! `GET /vectors`: all ids, streamed; or, with `limit`, one page of them and a link to the next.

use axum::Json as Reply;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vectron_embedding::port::{FailureBody, Params};

use crate::api::convert::invalid;
use crate::api::error::ApiError;
use crate::api::handlers::Handlers;
use crate::api::rest::bodies::PageParams;
use crate::pb::v1 as pb;
use crate::types::limits::BATCH_RECORDS_MAX;

/// Ids of one step of the stream.
const STEP_IDS: u32 = 1_000;
/// Steps that may wait for a slow reader; the stream goes no further ahead.
const STEPS_WAITING_MAX: usize = 2;

/// All ids in their order, streamed; with `limit` one page of them, and a `Link` header to the next.
#[utoipa::path(
    get,
    path = "/vectors",
    params(PageParams),
    responses((status = 200, body = Vec<String>), (status = "default", body = FailureBody))
)]
pub async fn list_ids(
    State(handlers): State<Handlers>,
    Params(params): Params<PageParams>,
) -> Result<Response, ApiError> {
    match params.limit {
        Some(limit) if !(1..=BATCH_RECORDS_MAX).contains(&(limit as usize)) => {
            Err(invalid("limit", format_args!("expected 1 to {BATCH_RECORDS_MAX}, but got {limit}")))
        }
        Some(limit) => page(&handlers, params, limit).await,
        None => all(handlers, params).await,
    }
}

async fn page(handlers: &Handlers, params: PageParams, limit: u32) -> Result<Response, ApiError> {
    let collection = params.collection.clone();
    let page = handlers.list(request(params, limit)).await?;
    let link = match page.records.last() {
        Some(last) if !page.next_page_token.is_empty() => {
            let (after, collection) = (encode(&last.id), encode(&collection));
            Some(format!("</vectors?limit={limit}&after={after}&collection={collection}>; rel=\"next\""))
        }
        _ => None,
    };
    let mut response = Reply(ids(page)).into_response();
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The first step is read before the answer begins, so that an error is still an error.
async fn all(handlers: Handlers, params: PageParams) -> Result<Response, ApiError> {
    let collection = params.collection.clone();
    let first = handlers.list(request(params, STEP_IDS)).await?;
    let (sender, receiver) = mpsc::channel(STEPS_WAITING_MAX);
    tokio::spawn(async move {
        let mut next: Result<pb::ListResponse, ApiError> = Ok(first);
        let mut separator = "[";
        loop {
            let page = match next {
                Ok(page) => page,
                // The answer has begun: breaking it off is the only way left to say that it is not whole.
                Err(error) => {
                    let _ = sender.send(Err(std::io::Error::other(error.message))).await;
                    return;
                }
            };
            let page_token = page.next_page_token.clone();
            let mut chunk = String::new();
            for id in ids(page) {
                chunk.push_str(separator);
                chunk.push_str(&serde_json::Value::String(id).to_string());
                separator = ",";
            }
            if page_token.is_empty() {
                chunk.push_str(if separator == "[" { "[]" } else { "]" });
            }
            if sender.send(Ok(Bytes::from(chunk))).await.is_err() || page_token.is_empty() {
                return;
            }
            let collection = collection.clone();
            let request = pb::ListRequest {
                collection,
                page_token,
                page_size: STEP_IDS,
                read_mask: ids_only(),
                ..Default::default()
            };
            next = handlers.list(request).await;
        }
    });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

fn request(params: PageParams, page_size: u32) -> pb::ListRequest {
    pb::ListRequest {
        collection: params.collection,
        page_size,
        after_id: params.after.unwrap_or_default(),
        read_mask: ids_only(),
        ..pb::ListRequest::default()
    }
}

fn ids_only() -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec!["id".to_owned()] })
}

fn ids(page: pb::ListResponse) -> Vec<String> {
    page.records.into_iter().map(|record| record.id).collect()
}

/// Percent-encodes all but the characters that RFC 3986 calls unreserved.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
