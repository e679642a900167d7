//! Fetches a model's files from the model hub.
//!
//! A file is written to `<name>.<something new>.part`, verified, synced, and only then given its name: what has its name is
//! whole, and two processes that fetch into one folder do not write into one file.
//! A hub that does not answer fails within `ANSWER_TIME_MAX`; one that sends more than such a file may have, or sends
//! slower than `RATE_MIN`, is left.
//!
//! Whoever writes a part holds a lock on it, which ends with its process: a part that can be locked belongs to nobody, and is
//! removed by the next one who fetches.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::address;
use super::hash::Sha256Hex;
use super::registry::{LocalSpec, ModelFiles};
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
/// Ends the names of files that are being written.
const PART: &str = ".part";
/// Between two lines of the log, where no progress bar is shown.
const LOG_PERIOD: Duration = Duration::from_secs(5);

/// A model hub.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its address, without a slash at the end, and with nothing in it that is secret.
    endpoint: String,
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
    #[error("{url}: no answer within 5 s")]
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

fn got(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string())
}

impl Hub {
    /// The hub at `endpoint`.
    pub fn at(endpoint: &str) -> Result<Self, HubError> {
        address::plain(endpoint).map(|endpoint| Self { endpoint }).map_err(|_| HubError::Endpoint)
    }

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
        remove_parts_of_nobody(folder);
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

        let bytes_max = LocalSpec::FILES.iter().zip(BYTES_MAX).find_map(|(of, bytes)| (*of == name).then_some(bytes));
        // Only these are asked for; another would have to be small.
        let bounds = Bounds { bytes_max: bytes_max.unwrap_or(BYTES_MAX[0]), slow_time_max: SLOW_TIME_MAX };
        let writing = |source| HubError::Write { path: folder.join(name).display().to_string(), source };
        let part = new_part(folder, name).map_err(writing)?;
        let found = receive(response, &url, &part, bounds).await?;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(HubError::Mismatch { url, expected: expected.clone(), found });
        }
        // Locked until it has its name.
        part.persist(folder.join(name)).map_err(|error| writing(error.error))?;
        Ok(())
    }
}

async fn ask(url: &str) -> Result<reqwest::Response, HubError> {
    // Without the address that it was sent on to, whose query may be secret.
    let failed = |source: reqwest::Error| HubError::Request { url: url.to_owned(), source: source.without_url() };
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

/// Removes what processes that have ended were writing into `folder`. What cannot be looked at stays.
fn remove_parts_of_nobody(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_part = LocalSpec::FILES.iter().any(|file| name.starts_with(file)) && name.ends_with(PART);
        if !is_part {
            continue;
        }
        // Locked until it is gone, so that nobody begins to write to it meanwhile.
        let Ok(part) = File::open(entry.path()) else { continue };
        if part.try_lock().is_ok() && fs::remove_file(entry.path()).is_ok() {
            tracing::info!("removed {}, which nobody writes any more", entry.path().display());
        }
    }
}

/// A new file, which is removed where it is not kept, and locked as long as it is written. The lock is a sign for others only:
/// where there are no locks, it does without.
fn new_part(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    // As any other file: others may read it.
    let permissions = fs::Permissions::from_mode(0o666);
    let prefix = format!("{name}.");
    let part = tempfile::Builder::new().prefix(&prefix).suffix(PART).permissions(permissions).tempfile_in(folder)?;
    let _ = part.as_file().try_lock();
    Ok(part)
}

/// Writes the answer to `part`, synced, and returns the hash of what came.
async fn receive(
    mut response: reqwest::Response,
    url: &str,
    part: &NamedTempFile,
    bounds: Bounds,
) -> Result<Sha256Hex, HubError> {
    let Bounds { bytes_max, slow_time_max } = bounds;
    let too_long = |bytes| HubError::TooLong { url: url.to_owned(), bytes_max, bytes };
    if let Some(bytes) = response.content_length().filter(|bytes| *bytes > bytes_max) {
        return Err(too_long(Some(bytes)));
    }
    let writing = |source| HubError::Write { path: part.path().display().to_string(), source };
    let mut file = part.as_file();
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
        let received = receive(ask(&url).await.unwrap(), &url, &new_part(folder.path(), "f").unwrap(), bounds).await;
        received.map(drop).unwrap_err()
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

    #[test]
    fn parts_are_removed_once_nobody_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (writing, dead) = (new_part(folder.path(), "model.safetensors").unwrap(), path("config.json.2.part"));
        let live = writing.path().to_owned();
        assert_eq!(writing.as_file().metadata().unwrap().permissions().mode() & 0o444, 0o444, "others can read it");
        for other in [&dead, &path("config.json"), &path("mine.part")] {
            fs::write(other, "x").unwrap();
        }
        remove_parts_of_nobody(folder.path());
        assert!(live.exists() && !dead.exists() && path("config.json").exists() && path("mine.part").exists());
        // As when its process ends: the file stays, and its lock does not.
        drop(writing.keep().unwrap());
        assert!(live.exists());
        remove_parts_of_nobody(folder.path());
        assert!(!live.exists());
    }
}
