//! Fetches a model's files from the model hub.
//!
//! A file is written beside its place, verified, and only then put there (see `part`): what has its name is whole, and two
//! processes that fetch into one folder do not write into one file.
//! A hub that does not answer fails within `ANSWER_TIME_MAX`; one that sends more than such a file may have, or sends
//! slower than `RATE_MIN`, is left.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::AUTHORIZATION;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::address;
use super::hash::Sha256Hex;
use super::hub_token::{HubToken, VARIABLE};
use super::pipeline::{self, PipelineError};
use super::registry::{LocalSpec, ModelFiles};
use crate::part::{Part, folder_of, remove_parts_of_nobody};
use crate::told::with_causes;

/// From the request to the first byte of the answer, redirects included.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(4500);
/// Between two pieces of an answer.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes a second of a file as a whole, once `SLOW_TIME_MAX` is over: pieces that trickle in would never stall.
const RATE_MIN: u64 = 16 << 10;
/// For so long a hub may be slower.
const SLOW_TIME_MAX: Duration = Duration::from_secs(60);
/// What a file may have: of config.json some KB are usual, of tokenizer.json some MB, of the largest weights that run here a few
/// GB.
const BYTES_MAX: [u64; 3] = [1 << 20, 128 << 20, 16 << 30];
/// Between two lines of the log, where no progress bar is shown.
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// A model hub.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its address, without a slash at the end, and with nothing in it that is secret.
    endpoint: String,
    token: HubToken,
}

/// How much is taken, and how slowly.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    bytes_max: u64,
    slow_time_max: Duration,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Its address cannot be used. It is not repeated: a password may stand in it.
    #[error(
        "HF_ENDPOINT (--hub-endpoint): expected http:// or https:// and a host, with no user, password, query or fragment, such \
         as https://huggingface.co"
    )]
    Endpoint,
    /// The hub sends more than the file may have.
    #[error("{url}: expected at most {bytes_max} bytes, got {}", got(*bytes))]
    TooLong {
        /// What was asked for.
        url: String,
        /// What it may have.
        bytes_max: u64,
        /// What the hub says that it has, if it does.
        bytes: Option<u64>,
    },
    /// The hub sends slower than anybody would wait for.
    #[error("{url}: {bytes} bytes came in {} s, expected {RATE_MIN} in each", time.as_secs())]
    TooSlow {
        /// What was asked for.
        url: String,
        /// What came.
        bytes: u64,
        /// In which time.
        time: Duration,
    },
    /// The hub did not answer in time.
    #[error("{url}: no answer within {} s", ANSWER_TIME_MAX.as_secs_f32())]
    Silent {
        /// What was asked for.
        url: String,
    },
    /// The request failed.
    #[error("{url}: {}", with_causes(source))]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The hub refused.
    #[error("{url}: the hub answered {status}{}", about_token(*status, *has_token))]
    Refused {
        /// What was asked for.
        url: String,
        /// Its answer.
        status: StatusCode,
        /// Whether it was shown a token.
        has_token: bool,
    },
    /// It is another model than the registry says.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The token cannot be sent. It is not repeated.
    #[error("HF_TOKEN holds characters that no token has: expected visible ASCII without spaces")]
    Token,
    /// The hub sent something else than the registry says.
    #[error("{url}: what came has the SHA-256 {found}, expected {expected}")]
    Mismatch {
        /// What was asked for.
        url: String,
        /// What the registry says.
        expected: Sha256Hex,
        /// What came.
        found: Sha256Hex,
    },
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// This machine refuses something that fetching needs.
    #[error("cannot start to fetch: {0}")]
    Start(io::Error),
}

/// Without a token the hub says the same of a repository that asks for one, and of one that is not there.
fn about_token(status: StatusCode, has_token: bool) -> String {
    match (status, has_token) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, false) => {
            format!(": the repository asks for a token, or is not there; set {VARIABLE} to a token that may read it")
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, true) => {
            format!(": expected {VARIABLE} to be a token that may read the repository, and the repository to be there")
        }
        _ => String::new(),
    }
}

fn got(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string())
}

impl HubError {
    /// Whether the hub could not be asked at all.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Request { .. })
    }

    /// The same without paths of this machine, for those who call the service.
    pub(super) fn for_callers(&self) -> String {
        match self {
            Self::Write { source, .. } => format!("a file cannot be written: {source}"),
            Self::Pipeline(PipelineError { file, reason, .. }) => format!("{file}: {reason}"),
            other => other.to_string(),
        }
    }
}

impl Hub {
    /// The hub at `endpoint`, which is shown no token.
    pub fn at(endpoint: &str) -> Result<Self, HubError> {
        let endpoint = address::plain(endpoint).map_err(|_| HubError::Endpoint)?;
        Ok(Self { endpoint, token: HubToken::default() })
    }

    /// The same hub, which is shown `token`. It goes to the endpoint's own host, and to no other that the hub sends on to.
    pub fn with_token(self, token: HubToken) -> Self {
        Self { token, ..self }
    }

    /// Fetches `names` of the model into `folder`; they must be as `pins` says, where it does. With them comes what the hub
    /// has of `pipeline`'s files; before the weights, so that a folder that has those has these too. Blocks; not to be called
    /// from within a runtime.
    pub(super) fn fetch(
        &self,
        model: &LocalSpec,
        pins: Option<&ModelFiles>,
        folder: &Path,
        names: &[&str],
    ) -> Result<(), HubError> {
        // Asked of rustls by reqwest. A second call is refused, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(HubError::Start)?;

        if self.token.is_malformed() {
            return Err(HubError::Token);
        }
        if self.token.header().is_some() && address::is_exposed(&self.endpoint) {
            tracing::warn!(
                "{VARIABLE} goes to {} as it is, for whoever can listen: https would hide it",
                self.endpoint
            );
        }
        let writing = |source| HubError::Write { path: folder.display().to_string(), source };
        let new = !folder.exists();
        fs::create_dir_all(folder).map_err(writing)?;
        for name in LocalSpec::FILES {
            remove_parts_of_nobody(folder, name);
        }
        let [_, _, weights] = LocalSpec::FILES;
        let result = runtime.block_on(async {
            for name in names.iter().filter(|name| **name != weights) {
                self.fetch_file(model, folder, name, pins.and_then(|pins| pins.of(name))).await?;
            }
            self.fetch_if_there(model, folder, pipeline::MODULES).await?;
            self.fetch_if_there(model, folder, &pipeline::pooling_file_of(folder)).await?;
            // The weights take the longest.
            pipeline::check(folder, model)?;
            if names.contains(&weights) {
                self.fetch_file(model, folder, weights, pins.and_then(|pins| pins.of(weights))).await?;
            }
            Ok(())
        });
        if result.is_err() && new {
            // Only where it is empty: what was fetched whole is kept for the next try.
            let _ = fs::remove_dir(folder);
        }
        result
    }

    /// A file that many models do not have.
    async fn fetch_if_there(&self, model: &LocalSpec, folder: &Path, name: &str) -> Result<(), HubError> {
        match self.fetch_file(model, folder, name, None).await {
            Err(HubError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            fetched => fetched,
        }
    }

    async fn fetch_file(
        &self,
        model: &LocalSpec,
        folder: &Path,
        name: &str,
        expected: Option<&Sha256Hex>,
    ) -> Result<(), HubError> {
        let url = format!("{}/{}/resolve/{}/{name}", self.endpoint, model.repository, model.revision);
        let response = ask(&url, &self.token).await?;

        let bytes_max = LocalSpec::FILES.iter().zip(BYTES_MAX).find_map(|(of, bytes)| (*of == name).then_some(bytes));
        // Only these are asked for; another would have to be small.
        let bounds = Bounds { bytes_max: bytes_max.unwrap_or(BYTES_MAX[0]), slow_time_max: SLOW_TIME_MAX };
        let place = folder.join(name);
        let writing = |source| HubError::Write { path: place.display().to_string(), source };
        fs::create_dir_all(folder_of(&place)).map_err(writing)?;
        // As any other file: others may read it.
        let part = Part::of(&place, 0o666).map_err(writing)?;
        let found = receive(response, &url, &part, bounds).await?;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(HubError::Mismatch { url, expected: expected.clone(), found });
        }
        part.put_into_place().map_err(writing)
    }
}

async fn ask(url: &str, token: &HubToken) -> Result<reqwest::Response, HubError> {
    // Without the address that it was sent on to, whose query may be secret.
    let failed = |source: reqwest::Error| HubError::Request { url: url.to_owned(), source: source.without_url() };
    let client = reqwest::Client::builder()
        .user_agent(concat!("vectron-embedding/", env!("CARGO_PKG_VERSION")))
        .read_timeout(STALL_TIME_MAX)
        .build()
        .map_err(failed)?;
    let mut request = client.get(url);
    if let Some(header) = token.header() {
        // Where it is sent on to another host, port or scheme, reqwest takes this header away.
        request = request.header(AUTHORIZATION, header);
    }
    let response = match tokio::time::timeout(ANSWER_TIME_MAX, request.send()).await {
        Ok(response) => response.map_err(failed)?,
        Err(_) => return Err(HubError::Silent { url: url.to_owned() }),
    };
    if !response.status().is_success() {
        let has_token = token.header().is_some();
        return Err(HubError::Refused { url: url.to_owned(), status: response.status(), has_token });
    }
    Ok(response)
}

/// Writes the answer to `part`, and returns the hash of what came.
async fn receive(
    mut response: reqwest::Response,
    url: &str,
    part: &Part,
    bounds: Bounds,
) -> Result<Sha256Hex, HubError> {
    let Bounds { bytes_max, slow_time_max } = bounds;
    let too_long = |bytes| HubError::TooLong { url: url.to_owned(), bytes_max, bytes };
    if let Some(bytes) = response.content_length().filter(|bytes| *bytes > bytes_max) {
        return Err(too_long(Some(bytes)));
    }
    let writing = |source| HubError::Write { path: part.path().display().to_string(), source };
    let mut file = part.file();
    let since = Instant::now();
    let mut hasher = Sha256::new();
    let mut progress = Progress::new(url, response.content_length());
    let failed = |source: reqwest::Error| HubError::Request { url: url.to_owned(), source: source.without_url() };
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        file.write_all(&piece).map_err(writing)?;
        hasher.update(&piece);
        progress.advance(piece.len() as u64);
        let (bytes, time) = (progress.bytes, since.elapsed());
        if bytes > bytes_max {
            return Err(too_long(None));
        }
        if time > slow_time_max && bytes / RATE_MIN < (time - slow_time_max).as_secs() {
            return Err(HubError::TooSlow { url: url.to_owned(), bytes, time });
        }
    }
    progress.finish();
    Ok(Sha256Hex::from_hasher(hasher))
}

/// A bar on a terminal, lines in the log otherwise.
struct Progress<'a> {
    url: &'a str,
    bytes: u64,
    bytes_total: Option<u64>,
    bar: Option<ProgressBar>,
    logged: Instant,
}

impl<'a> Progress<'a> {
    fn new(url: &'a str, bytes_total: Option<u64>) -> Self {
        tracing::info!("fetching {url}");
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            ProgressBar::new(bytes_total.unwrap_or(0))
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { url, bytes: 0, bytes_total, bar, logged: Instant::now() }
    }

    fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes);
        } else if self.logged.elapsed() >= LOG_PERIOD {
            self.logged = Instant::now();
            let total = self.bytes_total.map_or_else(|| "?".to_owned(), |total| total.to_string());
            tracing::info!("fetching {}: {} of {total} bytes", self.url, self.bytes);
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        tracing::info!("fetched {}: {} bytes", self.url, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use super::*;

    #[test]
    fn address_with_secrets_is_refused_and_not_repeated() {
        for address in
            ["https://me:secret@hub", "https://hub?token=secret", "https://hub#secret", "file:///secret", "secret"]
        {
            let error = Hub::at(address).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("secret"), "{error}");
        }
        assert_eq!(Hub::at("http://127.0.0.1:9/mirror/").unwrap().endpoint, "http://127.0.0.1:9/mirror");
    }

    /// Sends `head` once, then a byte each 10 ms for as long as anybody listens.
    fn trickle(head: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines();
            request.map(Result::unwrap).take_while(|line| !line.is_empty()).for_each(drop);
            stream.write_all(head.as_bytes()).unwrap();
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        address
    }

    async fn receive_from(head: &'static str, bounds: Bounds) -> HubError {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("http://{}/f", trickle(head));
        let part = Part::of(&folder.path().join("f"), 0o666).unwrap();
        let answer = ask(&url, &HubToken::default()).await.unwrap();
        receive(answer, &url, &part, bounds).await.map(drop).unwrap_err()
    }

    #[tokio::test]
    async fn what_does_not_end_is_left() {
        let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
        let bounds = Bounds { bytes_max: 20, slow_time_max: Duration::from_secs(60) };
        let error = receive_from(endless, bounds).await;
        assert!(matches!(error, HubError::TooLong { bytes_max: 20, bytes: None, .. }), "{error}");
        let bounds = Bounds { bytes_max: 1 << 30, slow_time_max: Duration::from_millis(100) };
        let error = receive_from(endless, bounds).await;
        assert!(matches!(error, HubError::TooSlow { .. }), "{error}");
        let told = "HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n";
        let error = receive_from(told, Bounds { bytes_max: 20, ..bounds }).await;
        assert!(matches!(error, HubError::TooLong { bytes: Some(21), .. }), "{error}");
    }
}
