//! What the tests share: the real weights, and a service on a real socket.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod auth;
pub mod process;
pub mod provider;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use vectron_embedding::auth::AuthOptions;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::pb::v1::embedding_service_client::EmbeddingServiceClient;
use vectron_embedding::{EmbeddingService, Listener, Options, client};

pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// The folder of the real weights. A test without them fails: it would test nothing.
pub fn weights() -> PathBuf {
    let cache = env::var_os("VECTRON_MODEL_CACHE").map_or_else(|| PathBuf::from("../model_cache"), PathBuf::from);
    let folder = cache.join("minilm");
    let folder = folder.canonicalize().unwrap_or(folder);
    for name in FILES {
        assert!(folder.join(name).is_file(), "{} is missing: run `make weights`", folder.join(name).display());
    }
    folder
}

/// Options that look for weights in `model_cache` alone, and fetch nothing.
pub fn options(model_cache: &Path) -> Options {
    Options {
        model_cache: model_cache.to_owned(),
        models_file: None,
        precision: None,
        offline: true,
        hub_endpoint: "http://127.0.0.1:9".to_owned(),
        hub_home: Some(model_cache.join("no_hub_home")),
        hub_cache: None,
        hub_offline: false,
        embedding_threads: 2,
        embedding_batch_tokens: 256,
        embedding_queue_tokens: 1_000_000,
        embedding_queue_bytes: 256 << 20,
        models_memory_bytes_max: 2 << 30,
        auth: AuthOptions::default(),
        // What is measured or compared has to be embedded.
        cache_bytes_max: 0,
    }
}

/// A model cache that has minilm as the real one has it.
pub fn cache_with_weights() -> TempDir {
    let cache = tempfile::tempdir().unwrap();
    put_weights(cache.path());
    cache
}

pub fn put_weights(cache: &Path) {
    let weights = weights();
    std::fs::create_dir_all(cache.join("minilm")).unwrap();
    for name in FILES {
        std::os::unix::fs::symlink(weights.join(name), cache.join("minilm").join(name)).unwrap();
    }
}

/// A service on a free port of this machine.
pub struct Served {
    pub service: EmbeddingService,
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub server: JoinHandle<()>,
    http: reqwest::Client,
    _cache: Option<TempDir>,
}

impl Served {
    /// With the real weights.
    pub async fn start() -> Self {
        let cache = cache_with_weights();
        let mut served = Self::start_with(&options(cache.path())).await;
        served._cache = Some(cache);
        served
    }

    pub async fn start_with(options: &Options) -> Self {
        // Where tests set no provider, reqwest cannot be used at all, not even without TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let free_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(free_port, "--listen", &options.auth).await.unwrap();
        let address = listener.address();
        let service = EmbeddingService::start(options).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = service.clone();
        let server = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            serving.serve_tcp(listener, shutdown).await.unwrap();
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { service, address, stop, server, http, _cache: None }
    }

    pub fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    pub fn grpc(&self) -> EmbeddingServiceClient<Channel> {
        client(self.channel())
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, serde_json::Value) {
        answer(self.http.post(self.url(path)).header("content-type", "application/json").body(body)).await
    }

    pub async fn post_as(&self, kind: &str, path: &str, body: &'static str) -> (u16, serde_json::Value) {
        answer(self.http.post(self.url(path)).header("content-type", kind).body(body)).await
    }

    /// A call with a deadline that only the service keeps.
    pub async fn post_grpc(&self, path: &str, timeout: &str, message: &'static [u8]) -> tonic::Status {
        let call = self.http.post(self.url(path)).header("content-type", "application/grpc");
        let response = call.header("grpc-timeout", timeout).body(message).send().await.unwrap();
        tonic::Status::from_header_map(response.headers()).unwrap()
    }

    pub async fn embed(&self, texts: &[&str]) -> pb::EmbedResponse {
        self.grpc().embed(request(texts)).await.unwrap().into_inner()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

pub fn request(texts: &[&str]) -> pb::EmbedRequest {
    pb::EmbedRequest { texts: texts.iter().map(|text| (*text).to_owned()).collect(), ..Default::default() }
}

pub fn components(embedding: &pb::Embedding) -> Vec<f32> {
    let (components, rest) = embedding.f32_le.as_chunks::<4>();
    assert!(rest.is_empty());
    components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `f32::max` passes over NaN.
    assert!(a.iter().chain(b).all(|x| x.is_finite()), "{a:?}, {b:?}");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
