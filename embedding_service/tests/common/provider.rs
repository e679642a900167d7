//! A provider on this machine that answers as the test says, and a service that asks it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron_embedding::Options;

use super::{Served, options};

/// Components of the embeddings of `good`.
pub const DIMENSION: usize = 4;

/// A request as the provider saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which one it was, from 0.
    pub number: usize,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

pub struct Provider {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Provider {
    /// Answers every request with what `answer` makes of it.
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response> + Send + 'static,
    {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noting = seen.clone();
        let router = Router::new().fallback(move |request: Request| {
            let (noting, answer) = (noting.clone(), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 64 << 20).await.unwrap();
                let seen = {
                    let mut all = noting.lock().unwrap();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    let seen = Seen { number: all.len(), path: head.uri.to_string(), headers: head.headers, body };
                    all.push(seen.clone());
                    seen
                };
                answer(seen).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen }
    }

    /// Answers as OpenAI does.
    pub async fn good() -> Self {
        Self::start(|seen| async move { good(&seen) }).await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// The answer of OpenAI: the embedding of a text is its length and its number in the request.
pub fn good(seen: &Seen) -> Response {
    let data = seen.body["input"].as_array().unwrap().iter().enumerate().map(|(index, text)| {
        let embedding = [text.as_str().unwrap().len() as f32, index as f32, 0.0, 1.0];
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let (data, model) = (data.collect::<Vec<_>>(), &seen.body["model"]);
    answer_json(
        200,
        json!({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": 10, "total_tokens": 10}}),
    )
}

pub fn answer_json(status: u16, body: Value) -> Response {
    answer_with(status, "application/json", body.to_string())
}

pub fn answer_with(status: u16, kind: &str, body: impl Into<Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, kind.to_owned())];
    (StatusCode::from_u16(status).unwrap(), headers, body.into()).into_response()
}

/// An entry of models.toml: a model of the protocol of OpenAI, of four components, tried again soon.
pub fn entry(id: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\nprovider = \"openai\"\nbase_url = \"http://{address}/v1\"\nmodel_name = \"{id}-1\"\n\
         dimension = {DIMENSION}\ntokens_max = 100\nnormalize = false\n{more}\n"
    )
}

/// models.toml with these entries; the first is the default.
pub fn write_models(folder: &TempDir, entries: &[String]) -> std::path::PathBuf {
    let first = entries[0].split("id = \"").nth(1).unwrap().split('"').next().unwrap();
    let path = folder.path().join("models.toml");
    std::fs::write(&path, format!("default = \"{first}\"\n{}", entries.concat())).unwrap();
    path
}

/// A service that has these models.
pub async fn serve(entries: &[String]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let models = write_models(&folder, entries);
    Served::start_with(&Options { models_file: Some(models), ..options(folder.path()) }).await
}

/// What a caller sees of an error: gRPC code and reason.
pub fn told(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map_or_else(String::new, |info| info.reason))
}

pub fn retry_delay_ms(status: &Status) -> Option<u128> {
    status.get_details_retry_info()?.retry_delay.map(|delay| delay.as_millis())
}
