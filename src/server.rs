//! Everything put together and running, until a signal comes.
//!
//! Both ports are bound first, so that a port that is taken is told at once. Health and readiness say NOT_SERVING
//! until the logs are read. At the end requests drain, then every log is synced and closed.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use vectron_embedding::port::{self, PortOptions};
use vectron_embedding::{EmbeddingService, shutdown};

use crate::api::{self, Handlers, SearchPool};
use crate::config::Config;
use crate::database::{Database, OpenReport};
use crate::distance::kernels;
use crate::embedding::{EmbeddingClient, InputType};

type AnyError = Box<dyn Error + Send + Sync>;

/// The embedding service in this process, with its port.
struct Embedded {
    service: EmbeddingService,
    listener: TcpListener,
}

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(config: Config) -> Result<(), AnyError> {
    let listener = port::bind(config.listen, "--listen").await?;
    let embedded = match config.embedding_url {
        Some(_) => None,
        None => Some(Embedded {
            listener: port::bind(config.embedding_listen, "--embedding-listen").await?,
            service: EmbeddingService::start(&config.embedding)?,
        }),
    };
    let client = embedding_client(&config, embedded.as_ref())?;
    let handlers = Handlers::new(client.clone(), SearchPool::new(threads(config.search_threads)));
    let (router, health) = api::router(handlers.clone()).await;
    tracing::info!("vectron listens on http://{} (gRPC and REST)", listener.local_addr()?);
    if let Some(embedded) = &embedded {
        tracing::info!(
            "embeddings on http://{} (gRPC and REST)",
            embedded.listener.local_addr()?
        );
    }
    warn_if_open(&listener)?;

    // One signal, or one failure, stops both ports.
    let (stop, stopping) = watch::channel(false);
    let stopped = move || {
        let mut stopping = stopping.clone();
        async move {
            let _ = stopping.wait_for(|&stop| stop).await;
        }
    };
    let store = task::spawn({
        let stopped = stopped();
        let address = listener.local_addr()?;
        let recovery = recover(config.clone(), handlers, health.clone());
        let serving =
            async move { port::serve(router, port::accept(listener), &PortOptions::default(), stopped).await };
        async move {
            let hint = announce(address, client);
            let ready = async {
                let database = recovery.await?;
                task::spawn(hint);
                Ok::<_, AnyError>(database)
            };
            let mut serving = std::pin::pin!(serving);
            let database = tokio::select! {
                served = &mut serving => return served.map(|()| None).map_err(AnyError::from),
                ready = ready => ready?,
            };
            serving.await?;
            Ok(Some(database))
        }
    });
    let embedding = embedded.map(|Embedded { service, listener }| {
        task::spawn(async move {
            service.serve_tcp(listener, stopped()).await?;
            task::spawn_blocking(move || service.shutdown()).await?;
            Ok::<_, AnyError>(())
        })
    });

    let mut store = store;
    let early = tokio::select! {
        () = shutdown::signal() => None,
        // It ends by itself only where something is wrong: the data folder is in use, or cannot be read.
        ended = &mut store => Some(ended),
    };
    set_health(&health, ServingStatus::NotServing).await;
    stop.send_replace(true);
    let ended = match early {
        Some(ended) => ended,
        None => store.await,
    };
    if let Some(embedding) = embedding {
        embedding.await??;
    }
    if let Some(database) = ended?? {
        task::spawn_blocking(move || database.close()).await?;
    }
    tracing::info!("stopped; every log is synced");
    Ok(())
}

fn embedding_client(config: &Config, embedded: Option<&Embedded>) -> Result<EmbeddingClient, AnyError> {
    let timeout = Duration::from_secs(config.embedding_timeout_s);
    match (embedded, &config.embedding_url) {
        (Some(embedded), _) => Ok(EmbeddingClient::new(embedded.service.in_memory_channel(), timeout)),
        (None, Some(url)) => Ok(EmbeddingClient::connect(url, timeout)?),
        (None, None) => unreachable!("the service is in this process unless a URL names another"),
    }
}

/// Opens the database on a thread that may wait, and says what was found.
async fn recover(config: Config, handlers: Handlers, health: HealthReporter) -> Result<Arc<Database>, AnyError> {
    let started = Instant::now();
    let (database, report) = task::spawn_blocking(move || Database::open(&config.data)).await??;
    let database = Arc::new(database);
    tell(&report);
    tracing::info!(
        collections = report.collections,
        records = report.records,
        kernel = kernels().name,
        "ready after {:.3} s",
        started.elapsed().as_secs_f64()
    );
    handlers.set_ready(database.clone());
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
        tracing::error!("collection {name} is not served: {reason}");
    }
    if let Some(count) = report.imported {
        tracing::info!("took in {count} vectors from index.json of earlier Vectron, as collection default");
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in api::SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

fn warn_if_open(listener: &TcpListener) -> Result<(), AnyError> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        tracing::warn!("{address} can be reached from other machines, and nobody is asked for a key");
    }
    Ok(())
}

/// When the first text can be embedded, prints what to try.
async fn announce(address: std::net::SocketAddr, client: EmbeddingClient) {
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

#[expect(
    clippy::print_stdout,
    reason = "the one thing that is said to the person who started it, not to the log"
)]
fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

fn threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}
