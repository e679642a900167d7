//! The real process with a file of principals, a model that a provider runs, and its whole log.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;
use tonic::transport::Channel;
use vectron_embedding::client;
use vectron_embedding::pb::v1 as pb;

use super::process::{Process, binary};
use super::provider::{Provider, entry, write_models};
use super::request;

/// What tokens are signed with.
pub const SECRET: &str = "0123456789abcdef-the-secret-of-the-tests";
const PATIENCE: Duration = Duration::from_secs(20);

/// A service that asks for keys. Killed when it is dropped.
pub struct Guarded {
    process: Process,
    pub address: String,
    pub folder: TempDir,
    http: reqwest::Client,
    _provider: Provider,
}

/// A refusal as REST tells it.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub reason: String,
    pub message: String,
    pub asks_for_bearer: bool,
}

/// `vectron-embedding auth …` on the folder's principals.toml: exit code, standard output, standard error.
pub fn auth(folder: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = binary(folder);
    command.arg("auth").args(arguments).env("VECTRON_AUTH_FILE", "principals.toml");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

impl Guarded {
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("principals.toml"), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path().join("principals.toml"), mode).unwrap();
        let with_file = [&["--auth-file", "principals.toml"], arguments].concat();
        Self::start_in(folder, "127.0.0.1:0", &with_file).await
    }

    /// Without a file.
    pub async fn start_at(listen: &str, arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), listen, arguments).await
    }

    async fn start_in(folder: TempDir, listen: &str, arguments: &[&str]) -> Self {
        let provider = Provider::good().await;
        let models = write_models(&folder, &[entry("m", provider.address, "")]);
        let mut command = binary(folder.path());
        command.args(["--listen", listen, "--log", "trace", "--models"]).arg(models).args(arguments);
        command.env("VECTRON_JWT_SECRET", SECRET);
        let process = Process::start(command);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address: process.address.clone(), process, folder, http, _provider: provider }
    }

    /// Runs `auth …`, which must succeed, and returns what it printed.
    pub fn auth(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = auth(self.folder.path(), arguments, "");
        assert_eq!(code, 0, "{stderr}");
        stdout
    }

    pub fn add_key(&self, arguments: &[&str]) -> String {
        self.auth(&[&["add-key"], arguments].concat()).trim().to_owned()
    }

    pub fn set_password(&self, name: &str, password: &str) {
        let (code, _, stderr) = auth(self.folder.path(), &["set-password", name], &format!("{password}\n"));
        assert_eq!(code, 0, "{stderr}");
    }

    pub fn hang_up(&self) {
        self.process.send(rustix::process::Signal::HUP);
    }

    pub async fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.process.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in the log:\n{}", self.process.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn wait_until_let_in(&self, credential: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(refused) = self.embed_rest(Some(credential)).await {
            assert!(Instant::now() < deadline, "{refused:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until the credential is refused for this reason.
    pub async fn wait_until_taken_up(&self, credential: &str, reason: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.embed_rest(Some(credential)).await;
            if answer.as_ref().is_err_and(|refused| refused.reason == reason) {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn embed_rest(&self, credential: Option<&str>) -> Result<(), Refused> {
        let request = self.http.post(self.url("/embed")).header("content-type", "application/json");
        let response = authorized(request, credential).body(r#"{"text": "x"}"#).send().await.unwrap();
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(());
        }
        let asks_for_bearer = response.headers().get("www-authenticate").is_some_and(|scheme| scheme == "Bearer");
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let text = |field: &str| body[field].as_str().unwrap().to_owned();
        Err(Refused { status, reason: text("code"), message: text("message"), asks_for_bearer })
    }

    pub async fn embed_grpc(&self, credential: Option<&str>) -> Result<pb::EmbedResponse, tonic::Status> {
        let mut call = tonic::Request::new(request(&["x"]));
        if let Some(credential) = credential {
            call.metadata_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        }
        client(self.channel()).embed(call).await.map(tonic::Response::into_inner)
    }

    /// The status of a gRPC call without a message.
    pub async fn call(&self, path: &str, credential: Option<&str>) -> tonic::Status {
        let call = self.http.post(self.url(path)).header("content-type", "application/grpc");
        let response = authorized(call, credential).send().await.unwrap();
        tonic::Status::from_header_map(response.headers()).unwrap_or_else(|| tonic::Status::ok(""))
    }

    pub async fn get(&self, path: &str, credential: Option<&str>) -> (u16, Value) {
        super::answer(authorized(self.http.get(self.url(path)), credential)).await
    }

    pub async fn get_with(&self, path: &str, header: &str, value: &str) -> (u16, Value) {
        super::answer(self.http.get(self.url(path)).header(header, value)).await
    }

    /// A POST without a body: its HTTP status, and the reason, or the gRPC status.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = self.http.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let grpc = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
        (status, grpc.unwrap_or_else(|| body["code"].as_str().unwrap_or_default().to_owned()))
    }

    pub async fn post(&self, path: &str, credential: Option<&str>, body: Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).header("content-type", "application/json").body(body.to_string());
        super::answer(authorized(request, credential)).await
    }

    pub async fn post_form(&self, path: &str, form: &'static str) -> (u16, Value) {
        let kind = "application/x-www-form-urlencoded";
        super::answer(self.http.post(self.url(path)).header("content-type", kind).body(form)).await
    }

    pub fn channel(&self) -> Channel {
        Channel::from_shared(self.url("")).unwrap().connect_lazy()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Stops it, and returns all that it has logged.
    pub fn stop(self) -> String {
        self.process.stop()
    }
}

fn authorized(request: reqwest::RequestBuilder, credential: Option<&str>) -> reqwest::RequestBuilder {
    match credential {
        Some(credential) => request.header("authorization", format!("Bearer {credential}")),
        None => request,
    }
}

/// A JWT as somebody else would make it, signed with HMAC-SHA-256 whatever its header says; unsigned without a secret.
pub fn forged(algorithm: &str, claims: &Value, secret: &[u8]) -> String {
    let header = serde_json::json!({"typ": "JWT", "alg": algorithm});
    let message =
        format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(claims.to_string().as_bytes()));
    if secret.is_empty() {
        return format!("{message}.");
    }
    let hmac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&message);
    format!("{message}.{}", base64_url(&hmac.finalize().into_bytes()))
}

/// RFC 4648 §5, without padding.
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for digit in 0..=chunk.len() {
            text.push(ALPHABET[(group >> (18 - 6 * digit) & 63) as usize] as char);
        }
    }
    text
}
