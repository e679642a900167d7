//! The server under load: one that runs already, or one started for the purpose.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::BenchError;
use super::connection::Endpoint;
use super::data_folder::DataFolder;
use super::process::{Memory, Process, this_binary};

/// How long a server may take to become ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// What the server logs before its address.
const ADDRESS_FOLLOWS: &str = "vectron listens on ";
/// Lines of its log that are kept, to be shown where it fails.
const LOG_LINES: usize = 20;
/// Nothing listens there, so that the server loads no model: vectors need none.
const NO_EMBEDDING_URL: &str = "http://127.0.0.1:9";

/// Which server.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// The server under load (http://host:port). Without it one is started, with an empty data folder that is removed at
    /// the end.
    #[arg(long, env = "VECTRON_SERVER", value_name = "URL")]
    server: Option<String>,

    /// Where the server that is started has its data: a folder on the disk to be measured. A new folder is made in it.
    /// Default: the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER", conflicts_with = "server")]
    data: Option<PathBuf>,
}

impl ServerOptions {
    /// Whether a server is started, so that each run can have a fresh one.
    pub fn starts_one(&self) -> bool {
        self.server.is_none()
    }
}

/// A server that is ready. One that was started is killed, and its data removed, when this is dropped.
pub struct Server {
    endpoint: Endpoint,
    started: Option<Started>,
}

/// In the order in which they are dropped.
struct Started {
    process: Process,
    _data: DataFolder,
}

impl Server {
    /// Finds or starts it, and waits until it serves.
    pub async fn ready(options: &ServerOptions) -> Result<Self, BenchError> {
        let server = match &options.server {
            Some(url) => Self { endpoint: Endpoint::parse(url)?, started: None },
            None => Self::start(options.data.as_deref()).await?,
        };
        server.wait_until_it_serves().await?;
        Ok(server)
    }

    async fn start(data: Option<&Path>) -> Result<Self, BenchError> {
        let data = DataFolder::new(data)?;
        let mut command = this_binary()?;
        command
            .args(["serve", "--log", "info", "--listen", "127.0.0.1:0"])
            .args(["--embedding-url", NO_EMBEDDING_URL, "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let stderr = process.child().stderr.take().ok_or("the server has no log")?;
        let log = Log::default();
        let address = log.follow(BufReader::new(stderr));
        let Ok(url) = address.await else {
            return Err(format!("the server did not start; it said:\n{}", log.tail()).into());
        };
        Ok(Self { endpoint: Endpoint::parse(&url)?, started: Some(Started { process, _data: data }) })
    }

    async fn wait_until_it_serves(&self) -> Result<(), BenchError> {
        let url = self.endpoint.url();
        let channel = self.channel().await.map_err(|error| format!("{url}: no server answers: {error}"))?;
        let mut health = HealthClient::new(channel);
        let deadline = Instant::now() + READY_MAX;
        loop {
            let request = HealthCheckRequest { service: "vectron.v1.VectorService".to_owned() };
            let answer = health.check(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{url}: not ready after {READY_MAX:?}: {answer:?}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// For the calls around the load.
    pub async fn channel(&self) -> Result<Channel, BenchError> {
        Ok(Channel::from_shared(self.endpoint.url())?.connect().await?)
    }

    /// Its process, where it was started here.
    pub fn process(&self) -> Option<&Process> {
        self.started.as_ref().map(|started| &started.process)
    }

    /// What it holds in memory, where it was started here.
    pub fn memory(&self) -> Option<Memory> {
        self.process()?.memory()
    }
}

/// The end of a server's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Reads the log to its end on a thread of its own, and tells the URL that it names. Without a URL the log has ended.
    fn follow(&self, lines: impl BufRead + Send + 'static) -> oneshot::Receiver<String> {
        let (found, address) = oneshot::channel();
        let log = self.clone();
        thread::spawn(move || {
            let mut found = Some(found);
            for line in lines.lines().map_while(Result::ok) {
                let url = line.split_once(ADDRESS_FOLLOWS).and_then(|(_, rest)| rest.split_whitespace().next());
                if let Some(url) = url
                    && let Some(found) = found.take()
                {
                    let _ = found.send(url.to_owned());
                }
                log.push(line);
            }
        });
        address
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn tail(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_tells_the_address_or_its_last_words() {
        let log = Log::default();
        let text = "INFO vectron::server: vectron listens on http://127.0.0.1:4711 (gRPC and REST)\nINFO ready\n";
        assert_eq!(log.follow(text.as_bytes()).await.unwrap(), "http://127.0.0.1:4711");
        let log = Log::default();
        assert!(log.follow("error: no space left\n".as_bytes()).await.is_err());
        assert_eq!(log.tail(), "error: no space left");
    }
}
