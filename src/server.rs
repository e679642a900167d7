//! Everything put together and running, until a signal comes.
//!
//! Both ports are bound first, so that a port that is taken is told at once. Health and readiness say NOT_SERVING
//! until the logs are read. At the end requests drain, then every log is synced and closed.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{self, JoinHandle};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use vectron_embedding::port::{self, PortOptions};
use vectron_embedding::{EmbeddingService, Listener, shutdown};

use crate::api::{self, Handlers, SearchPool};
use crate::config::Config;
use crate::database::{CatalogueError, Database, DatabaseError, DatabaseOptions, OpenReport};
use crate::distance::kernels;
use crate::embedding::{EmbeddingClient, InputType};
use crate::storage::log::LogError;

/// How soon readiness follows the state of the logs.
const READINESS_PERIOD: Duration = Duration::from_millis(250);

/// About a damaged log.
const WHAT_TO_DO: &str = "restore a backup, or stop the server and see `vectron repair`";

type AnyError = Box<dyn Error + Send + Sync>;

/// A port that is being served.
struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), AnyError>>,
}

/// The embedding service in this process, with its port.
struct Embedded {
    service: EmbeddingService,
    listener: Listener,
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(config: Config) -> Result<(), AnyError> {
    raise_file_limit();
    // Listened for from here on: whoever reads the first line of the log may send one.
    let mut signal = pin!(shutdown::signal());
    let listener = port::bind(config.listen, "--listen").await?;
    let address = listener.local_addr()?;
    let embedded = match config.embedding_url {
        Some(_) => None,
        None => {
            let auth = &config.embedding.auth;
            let listener = Listener::bind(config.embedding_listen, "--embedding-listen", auth).await?;
            Some(Embedded { listener, service: EmbeddingService::start(&config.embedding)? })
        }
    };
    let client = embedding_client(&config, embedded.as_ref())?;
    let pool = SearchPool::new(threads(config.search_threads));
    let handlers = Handlers::new(client.clone(), pool, api::metrics::install()?);
    let (router, health) = api::router(handlers.clone()).await;

    tell_address(address);
    let mut store = serve_store(router, listener);
    let embedding = match embedded {
        Some(Embedded { service, listener }) => {
            // Whether anybody is asked for a key there, the service says itself.
            tracing::info!("embeddings on http://{} (gRPC and REST)", listener.address());
            Some((serve_embedding(service.clone(), listener), service))
        }
        None => None,
    };

    let options = config.database_options();
    let recovery = recover(config.data, options, config.disk_free_bytes_min, handlers.clone(), health.clone());
    let database = tokio::select! {
        recovered = recovery => Some(recovered?),
        () = &mut signal => None,
    };
    let mut given_up = None;
    if database.is_some() {
        task::spawn(announce(address, client));
        tokio::select! {
            () = &mut signal => {}
            () = watch_readiness(&handlers, &health) => {}
            ended = &mut store.task => given_up = Some(format!("the port was given up: {ended:?}")),
        }
    }

    set_health(&health, ServingStatus::NotServing).await;
    handlers.stop();
    let ports = match given_up {
        Some(reason) => Err(reason.into()),
        None => end_ports(store, embedding).await,
    };
    // However the ports have ended: what was written is synced.
    if let Some(database) = database {
        if !task::spawn_blocking(move || database.close()).await? {
            return Err("stopped, but not every log could be synced".into());
        }
        tracing::info!("stopped; every log is synced");
    }
    ports
}

async fn end_ports(store: Serving, embedding: Option<(Serving, EmbeddingService)>) -> Result<(), AnyError> {
    let store_ended = store.end().await;
    // After the store: texts that are still being written need it.
    if let Some((serving, service)) = embedding {
        let ended = serving.end().await;
        task::spawn_blocking(move || service.shutdown()).await?;
        ended?;
    }
    store_ended
}

impl Serving {
    /// Takes no more connections, and waits for the requests that are under way.
    async fn end(self) -> Result<(), AnyError> {
        // Nobody listens where the port has ended by itself, and then there is nothing to stop.
        let _ = self.stop.send(());
        self.task.await?
    }
}

fn serve_store(router: axum::Router, listener: TcpListener) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let task = task::spawn(async move {
        let stopped = async { drop(stopped.await) };
        Ok(port::serve(router, port::accept(listener), &PortOptions::default(), stopped).await?)
    });
    Serving { stop, task }
}

fn serve_embedding(service: EmbeddingService, listener: Listener) -> Serving {
    let (stop, stopped) = oneshot::channel();
    let task = task::spawn(async move { Ok(service.serve_tcp(listener, async { drop(stopped.await) }).await?) });
    Serving { stop, task }
}

fn embedding_client(config: &Config, embedded: Option<&Embedded>) -> Result<EmbeddingClient, AnyError> {
    let timeout = Duration::from_secs(config.embedding_timeout_s);
    match (embedded, &config.embedding_url) {
        (Some(embedded), _) => Ok(EmbeddingClient::in_process(embedded.service.in_memory_channel(), timeout)),
        (None, Some(url)) => {
            if config.embedding.auth.auth_file.is_some() {
                tracing::warn!(
                    "--auth-file has no effect: who may use the embedding service at --embedding-url, it says itself"
                );
            }
            Ok(EmbeddingClient::connect(url, config.embedding_api_key.clone(), timeout)?)
        }
        (None, None) => unreachable!("the service is in this process unless a URL names another"),
    }
}

/// Opens the database on a thread that may wait, and says what was found.
async fn recover(
    data: PathBuf,
    options: DatabaseOptions,
    disk_free_bytes_min: u64,
    handlers: Handlers,
    health: HealthReporter,
) -> Result<Arc<Database>, AnyError> {
    let started = Instant::now();
    let (database, report) = match task::spawn_blocking(move || Database::open(&data, options)).await? {
        Err(error @ DatabaseError::Catalogue(CatalogueError::Log(LogError::Damaged { .. }))) => {
            return Err(format!("{error}; {WHAT_TO_DO}").into());
        }
        opened => opened?,
    };
    database.keep_free(disk_free_bytes_min);
    let database = Arc::new(database);
    tell(&report);
    handlers.set_ready(database.clone());
    tracing::info!(
        collections = report.collections,
        records = report.records,
        kernel = kernels().name,
        "ready after {:.3} s",
        started.elapsed().as_secs_f64()
    );
    set_health(&health, ServingStatus::Serving).await;
    Ok(database)
}

fn tell(report: &OpenReport) {
    for (log, torn) in &report.torn {
        let (file, offset, after) = (torn.file.display(), torn.offset, torn.after_sequence);
        tracing::warn!(
            "{log}: a crash had torn the end of its log; cut {} bytes off {file} at offset {offset}, after sequence {after}: \
             none of it was known to be durable",
            torn.bytes_dropped
        );
    }
    for (name, reason) in &report.damaged {
        tracing::error!("collection {name} is not served: {reason}; {WHAT_TO_DO}");
    }
    for (name, reason) in &report.not_loaded {
        tracing::error!("collection {name} is not served: {reason}");
    }
    for folder in &report.unknown {
        tracing::warn!(
            "{} is not named by the catalogue, which does not say that it was dropped either: a collection that was never \
             finished, or one whose name a crash has lost. It is left as it is: with the server stopped, `vectron repair` tells \
             what is in it, and --accept-loss gives it a name",
            folder.display()
        );
    }
    if let Some(count) = report.imported {
        tracing::info!("took in {count} vectors from index.json of earlier Vectron, as collection default");
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in api::SERVICES.into_iter().chain([api::READY, ""]) {
        health.set_service_status(service, status).await;
    }
}

/// Readiness follows the logs: one that cannot be written to turns it off, until it is opened anew or dropped. The services
/// go on, because reads do; so does liveness, because the restart is for an operator to decide. Never returns.
async fn watch_readiness(handlers: &Handlers, health: &HealthReporter) {
    let mut looks = tokio::time::interval(READINESS_PERIOD);
    let mut was_ready = true;
    loop {
        looks.tick().await;
        let readiness = handlers.readiness();
        if readiness.is_ok() == was_ready {
            continue;
        }
        was_ready = readiness.is_ok();
        let status = match readiness {
            Ok(()) => ServingStatus::Serving,
            Err(error) => {
                tracing::error!("not ready: {}; reads go on; look at the disk, then restart", error.message);
                ServingStatus::NotServing
            }
        };
        health.set_service_status(api::READY, status).await;
    }
}

fn tell_address(address: SocketAddr) {
    tracing::info!("vectron listens on http://{address} (gRPC and REST)");
    if !address.ip().is_loopback() {
        tracing::warn!("{address} can be reached from other machines, and nobody is asked for a key");
    }
}

/// When the first text can be embedded, prints what to try.
async fn announce(address: SocketAddr, client: EmbeddingClient) {
    let json = "-H 'content-type: application/json' -d";
    let ready = client.embed(vec!["ready".to_owned()], "", InputType::Query).await;
    if let Err(error) = &ready {
        tracing::warn!("texts cannot be embedded yet, but vectors are served: {error}");
        return;
    }
    tracing::info!("texts can be embedded");
    print_lines(&[
        String::new(),
        "Vectron is ready. Paste this into another terminal:".to_owned(),
        String::new(),
        format!("  curl http://{address}/upsert-text {json} '{{\"id\": \"1\", \"text\": \"The cat sat on the mat\"}}'"),
        format!("  curl 'http://{address}/search/text?top_k=3' {json} '{{\"text\": \"a sleeping pet\"}}'"),
        String::new(),
    ]);
}

#[expect(clippy::print_stdout, reason = "the one thing that is said to the person who started it, not to the log")]
fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

/// Each collection keeps a log open, and each client a connection; the usual soft limit of 1,024 is for other times.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the number of open files stays limited: {error}");
    }
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
