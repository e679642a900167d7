//! A real server process on a free port, with a data folder of its own.

#![allow(dead_code, reason = "each test uses its part")]

pub mod proxy;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;
use vectron::pb::v1::admin_service_client::AdminServiceClient;
use vectron::pb::v1::collection_service_client::CollectionServiceClient;
use vectron::pb::v1::vector_service_client::VectorServiceClient;

/// Nothing listens here: the embedding service is away.
pub const AWAY: &str = "http://127.0.0.1:9";
/// How long a server may take to start; a slow machine is no failure.
const START_MAX: Duration = Duration::from_secs(60);

/// Where texts come from in a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    /// The embedding service in the same process, with the real model.
    Embedded,
    /// No embedding service: for tests of vectors alone, which start faster.
    Away,
}

/// A running server. Killed when it is dropped.
pub struct Server {
    child: Child,
    pub address: String,
    pub embedding_address: Option<String>,
    /// What it logged so far.
    pub log: Arc<Mutex<Vec<String>>>,
}

/// The weights, as `make weights` puts them.
pub fn model_cache() -> PathBuf {
    let folder = std::env::var_os("VECTRON_MODEL_CACHE").unwrap_or_else(|| "model_cache".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    assert!(folder.is_dir(), "there is no {}: run `make weights`", folder.display());
    folder
}

/// Of an embedding service with the real model, which fetches nothing and asks nobody for a key.
pub fn embedding_options() -> vectron_embedding::Options {
    vectron_embedding::Options {
        model_cache: model_cache(),
        models_file: None,
        precision: None,
        offline: true,
        hub_endpoint: AWAY.to_owned(),
        hub_home: None,
        hub_cache: None,
        hub_offline: false,
        embedding_threads: 2,
        embedding_batch_tokens: 256,
        embedding_queue_tokens: 1_000_000,
        embedding_queue_bytes: 256 << 20,
        models_memory_bytes_max: 2 << 30,
        auth: vectron_embedding::auth::AuthOptions::default(),
        cache_bytes_max: 64 << 20,
    }
}

pub fn data_folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The binary, with nothing of this environment's settings, in a folder where no `.env` is found.
pub fn vectron(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vectron"));
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let is_setting =
            ["VECTRON_", "HF_", "RUST_LOG"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_setting {
            command.env_remove(name);
        }
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A server on free ports, before it runs.
pub fn command(data: &Path, texts: Texts) -> Command {
    let mut command = vectron(&std::env::temp_dir());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    match texts {
        Texts::Embedded => {
            command.args(["--embedding-listen", "127.0.0.1:0", "--offline", "--model-cache"]).arg(model_cache())
        }
        Texts::Away => command.args(["--embedding-url", AWAY]),
    };
    command
}

impl Server {
    pub fn start(data: &Path, texts: Texts) -> Self {
        Self::run(command(data, texts), texts)
    }

    /// Runs the command and waits until the server is ready.
    pub fn run(command: Command, texts: Texts) -> Self {
        let mut server = Self::listening(command);
        server.wait_for_log("vectron::server: ready after");
        if texts == Texts::Embedded {
            server.wait_for_log("texts can be embedded");
            server.embedding_address = server.find_log("embeddings on http://");
        }
        server
    }

    /// Runs the command and waits until the store's port is open.
    pub fn listening(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let log = log.clone();
            move || stderr.lines().map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line))
        });
        let mut server = Self { child, address: String::new(), embedding_address: None, log };
        server.address = server.wait_for_log("vectron listens on http://");
        server
    }

    /// Waits for a line with this text, and returns the word that follows it.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Some(word) = self.find_log(text) {
                return word;
            }
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no {text:?} in the log ({ended:?}):\n{}",
                self.logged()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn find_log(&self, text: &str) -> Option<String> {
        let log = self.log.lock().unwrap();
        let rest = log.iter().find_map(|line| line.split_once(text).map(|(_, rest)| rest))?;
        Some(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// The most memory that the process had.
    pub fn peak_memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux tells");
        let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("the peak is told");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KB")
    }

    pub fn logged(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(http().post(self.url(path)).json(&body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(http().get(self.url(path))).await
    }

    pub async fn delete(&self, path: &str) -> (u16, Value) {
        answer(http().delete(self.url(path))).await
    }

    pub async fn channel(&self) -> Channel {
        let url = self.url("");
        Channel::from_shared(url).expect("a URL").connect().await.expect("the server answers")
    }

    pub async fn vectors(&self) -> VectorServiceClient<Channel> {
        let limit = 64 << 20;
        VectorServiceClient::new(self.channel().await)
            .max_decoding_message_size(limit)
            .max_encoding_message_size(2 * limit)
    }

    pub async fn collections(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::new(self.channel().await)
    }

    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process has ended");
    }

    /// SIGTERM, and how it ended. Connections of this runtime go on meanwhile, so that they can be closed.
    pub async fn terminate(self) -> ExitStatus {
        tokio::task::spawn_blocking(move || {
            let mut server = self;
            let id = server.child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill runs").success());
            server.child.wait().expect("the process has ended")
        })
        .await
        .expect("the wait is not cut short")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command that must end by itself; returns how, and what it said.
pub fn run_to_end(mut command: Command) -> (ExitStatus, String) {
    let output = command.stderr(Stdio::piped()).output().expect("the binary runs");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// An HTTP client. reqwest wants its TLS to be chosen first, though nothing here is encrypted.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let body = response.text().await.expect("the answer is whole");
    let json = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (status, json)
}
