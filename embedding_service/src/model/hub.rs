//! Fetches a model's files from the model hub.
//!
//! A file is written to `<name>.<process>.part`, verified, synced, and only then given its name: what has its name is
//! whole, and two processes that fetch into one folder do not write into one file.
//! A hub that does not answer fails within `ANSWER_TIME_MAX`.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::hash::Sha256Hex;
use super::registry::{LocalSpec, ModelFiles};

/// From the request to the first byte of the answer, redirects included.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(4500);
/// Between two pieces of an answer.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Between two lines of the log, where no progress bar is shown.
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// A model hub.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its address, without a slash at the end.
    pub endpoint: String,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The hub did not answer in time.
    #[error("{url}: no answer within 5 s")]
    Silent {
        /// What was asked for.
        url: String,
    },
    /// The request failed.
    #[error("{url}: {}", chain(source))]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The hub refused.
    #[error("{url}: the hub answered {status}")]
    Refused {
        /// What was asked for.
        url: String,
        /// Its answer.
        status: http::StatusCode,
    },
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

impl Hub {
    /// Fetches `names` of the model into `folder`; they must be as `pins` says, where it does. Blocks; not to be called
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

        let writing = |source| HubError::Write { path: folder.display().to_string(), source };
        let new = !folder.exists();
        fs::create_dir_all(folder).map_err(writing)?;
        let result = runtime.block_on(async {
            for name in names {
                self.fetch_file(model, folder, name, pins.and_then(|pins| pins.of(name))).await?;
            }
            // Without it a crash can forget the files' names.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(writing)
        });
        if result.is_err() && new {
            // Only where it is empty: what was fetched whole is kept for the next try.
            let _ = fs::remove_dir(folder);
        }
        result
    }

    async fn fetch_file(
        &self,
        model: &LocalSpec,
        folder: &Path,
        name: &str,
        expected: Option<&Sha256Hex>,
    ) -> Result<(), HubError> {
        let url = format!("{}/{}/resolve/{}/{name}", self.endpoint, model.repository, model.revision);
        let response = ask(&url).await?;

        let part = folder.join(format!("{name}.{}.part", process::id()));
        let result = match receive(response, &url, &part).await {
            Ok(found) => match expected.filter(|expected| **expected != found) {
                None => fs::rename(&part, folder.join(name))
                    .map_err(|source| HubError::Write { path: folder.join(name).display().to_string(), source }),
                Some(expected) => Err(HubError::Mismatch { url, expected: expected.clone(), found }),
            },
            Err(error) => Err(error),
        };
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        result
    }
}

async fn ask(url: &str) -> Result<reqwest::Response, HubError> {
    let failed = |source: reqwest::Error| HubError::Request { url: url.to_owned(), source };
    let client = reqwest::Client::builder()
        .user_agent(concat!("vectron-embedding/", env!("CARGO_PKG_VERSION")))
        .read_timeout(STALL_TIME_MAX)
        .build()
        .map_err(failed)?;
    let response = match tokio::time::timeout(ANSWER_TIME_MAX, client.get(url).send()).await {
        Ok(response) => response.map_err(failed)?,
        Err(_) => return Err(HubError::Silent { url: url.to_owned() }),
    };
    if !response.status().is_success() {
        return Err(HubError::Refused { url: url.to_owned(), status: response.status() });
    }
    Ok(response)
}

/// Writes the answer to `part`, synced, and returns the hash of what came.
async fn receive(mut response: reqwest::Response, url: &str, part: &Path) -> Result<Sha256Hex, HubError> {
    let writing = |source| HubError::Write { path: part.display().to_string(), source };
    let mut file = File::create(part).map_err(writing)?;
    let mut hasher = Sha256::new();
    let mut progress = Progress::new(url, response.content_length());
    let failed = |source| HubError::Request { url: url.to_owned(), source };
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        file.write_all(&piece).map_err(writing)?;
        hasher.update(&piece);
        progress.advance(piece.len() as u64);
    }
    file.sync_all().map_err(writing)?;
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

/// An error with its causes: reqwest's own message is only the outermost.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
