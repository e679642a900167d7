//! The embedding service as a whole: options in, a running service out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::{env, io};

use axum::Router;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::api::{self, BODY_BYTES_MAX, Handlers, MESSAGE_BYTES_MAX};
use crate::auth::{Auth, AuthError, AuthOptions, Unguarded};
use crate::batch::Workers;
use crate::cache::Cache;
use crate::catalogue::Models;
use crate::encoder::Precision;
use crate::engine::{Engine, Limits};
use crate::figures;
use crate::model::{Hub, HubError, HubToken, Registry, RegistryError, WeightsSource};
use crate::pb::v1::embedding_service_client::EmbeddingServiceClient;
use crate::port::{self, BindError, Figures, FiguresError, PortOptions};
use crate::shutdown;

/// Bytes that a connection in memory holds in each direction.
const DUPLEX_BYTES: usize = 1 << 20;

/// How the service runs.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Folder of the models' weights, in a folder for each model id. Other layouts are understood too: those of
    /// sentence-transformers and of the hub's own cache.
    #[arg(long, env = "VECTRON_MODEL_CACHE", default_value = "model_cache", value_name = "FOLDER")]
    pub model_cache: PathBuf,

    /// Registry of models to use in place of the built-in one.
    #[arg(long = "models", env = "VECTRON_MODELS", value_name = "FILE")]
    pub models_file: Option<PathBuf>,

    /// In which numbers local models are computed: int8, or f32, which is several times slower [default: what the
    /// registry says of each].
    #[arg(long, env = "VECTRON_EMBEDDING_PRECISION", value_name = "PRECISION", value_enum)]
    pub precision: Option<Precision>,

    /// Fetch nothing: weights that are not on disk are an error.
    #[arg(long, env = "VECTRON_OFFLINE", value_parser = BoolishValueParser::new())]
    pub offline: bool,

    /// The same, as the hub's own tools are told it: `1`, `on`, `yes` or `true`; anything else is no.
    #[arg(long, env = "HF_HUB_OFFLINE", value_parser = read_hub_truth)]
    pub hub_offline: bool,

    /// Model hub to fetch weights from. Where a repository asks for a token, set HF_TOKEN.
    // Not shown by --help: some write a password into it, which is refused only later.
    #[arg(
        long,
        env = "HF_ENDPOINT",
        hide_env_values = true,
        default_value = "https://huggingface.co",
        value_name = "URL",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub hub_endpoint: String,

    /// The hub's own folder, whose cache is looked in too [default: $XDG_CACHE_HOME/huggingface, or ~/.cache/huggingface].
    #[arg(long, env = "HF_HOME", value_name = "FOLDER")]
    pub hub_home: Option<PathBuf>,

    /// The hub's own cache, which is looked in too [default: `hub` in its folder].
    #[arg(long, env = "HF_HUB_CACHE", value_name = "FOLDER")]
    pub hub_cache: Option<PathBuf>,

    /// Threads that run models, at lower priority than the rest; 0: one for each core.
    #[arg(long, env = "VECTRON_EMBEDDING_THREADS", default_value_t = 0, value_name = "COUNT")]
    pub embedding_threads: usize,

    // Measured on 2,000 texts of 25 tokens in int8, medians of 9: 64 → 1,433 texts/s, 128 → 1,423, 256 → 1,413, 1,024 → 1,431.
    // A text that comes while a batch runs waits for its end: 12 ms where it has 256 tokens, 50 ms where it has 1,024.
    /// Tokens that a thread runs at once. More let a short call wait longer under load, and are not faster.
    #[arg(long, env = "VECTRON_EMBEDDING_BATCH_TOKENS", default_value_t = 256, value_name = "TOKENS", value_parser = at_least_one)]
    pub embedding_batch_tokens: usize,

    /// Tokens that may wait. Beyond, calls are refused with RESOURCE_EXHAUSTED (429).
    #[arg(long, env = "VECTRON_EMBEDDING_QUEUE_TOKENS", default_value_t = 1_000_000, value_name = "TOKENS", value_parser = at_least_one)]
    pub embedding_queue_tokens: usize,

    /// Bytes of the texts and answers of all calls in flight. Beyond, calls are refused with RESOURCE_EXHAUSTED (429).
    #[arg(long, env = "VECTRON_EMBEDDING_QUEUE_BYTES", default_value_t = 256 << 20, value_name = "BYTES", value_parser = at_least_one)]
    pub embedding_queue_bytes: usize,

    /// Bytes of the weights in memory. Beyond, the models that were used longest ago make room; the default model does not.
    #[arg(long, env = "VECTRON_MODELS_MEMORY_BYTES_MAX", default_value_t = 2 << 30, value_name = "BYTES", value_parser = at_least_one)]
    pub models_memory_bytes_max: usize,

    /// Who is asked for a key.
    #[command(flatten)]
    pub auth: AuthOptions,
    /// Bytes of embeddings that are kept, so that the same text is not embedded twice; 0: none are kept.
    #[arg(long, env = "VECTRON_EMBEDDING_CACHE_BYTES_MAX", default_value_t = 64 << 20, value_name = "BYTES")]
    pub cache_bytes_max: usize,
}

/// As the hub's own tools understand it
/// (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables).
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
fn read_hub_truth(value: &str) -> Result<bool, String> {
    Ok(["1", "on", "yes", "true"].iter().any(|truth| value.eq_ignore_ascii_case(truth)))
}

/// A limit of none would be no limit, or would let nothing in.
fn at_least_one(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("expected a number: {error}")),
    }
}

/// Why the service cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The model hub cannot be used as it is named.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Who may come in cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Nothing can be counted.
    #[error(transparent)]
    Figures(#[from] FiguresError),
    /// A thread cannot be started.
    #[error("cannot start the embedding threads: {0}")]
    Threads(#[from] io::Error),
}

/// A port that may be served: either nobody else can reach it, or callers are asked for a key, or somebody has said that they
/// are not.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Why there is no port to serve.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It would be open to others, and nobody has said so.
    #[error(transparent)]
    Unguarded(#[from] Unguarded),
    /// Its address cannot be told.
    #[error("the port's address cannot be told: {0}")]
    Address(#[from] io::Error),
}

impl Listener {
    /// Listens on `address`, which the user chose with `option`; `auth` is that of the service's options.
    pub async fn bind(address: SocketAddr, option: &'static str, auth: &AuthOptions) -> Result<Self, ListenError> {
        let socket = port::bind(address, option).await?;
        let address = socket.local_addr()?;
        auth.check(address)?;
        Ok(Self { socket, address })
    }

    /// Where it listens; never port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The running service. Cheap to clone: all clones are the same service.
#[derive(Clone)]
pub struct EmbeddingService {
    shared: Arc<Shared>,
}

struct Shared {
    handlers: Handlers,
    /// Checks who calls by a port; `None` where nobody is asked.
    auth: Option<Arc<Auth>>,
    auth_options: AuthOptions,
    stopping: watch::Sender<bool>,
    figures: Figures,
    /// Taken by the first who shuts down. Never held while waiting.
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    tokenizing: Vec<JoinHandle<()>>,
    workers: Workers,
}

impl Options {
    /// The registry that the options name.
    pub fn registry(&self) -> Result<Registry, RegistryError> {
        Registry::load(self.models_file.as_deref(), self.precision)
    }

    /// Where the options say that weights come from.
    pub fn weights_source(&self) -> Result<WeightsSource, HubError> {
        let offline = self.offline || self.hub_offline;
        let hub = || Hub::at(&self.hub_endpoint).map(|hub| hub.with_token(HubToken::from_environment()));
        let hub = if offline { None } else { Some(hub()?) };
        let in_home = || Some(self.hub_home.clone().or_else(default_hub_home)?.join("hub"));
        let hub_cache = self.hub_cache.clone().or_else(in_home);
        Ok(WeightsSource { model_cache: self.model_cache.clone(), hub_cache, hub })
    }
}

/// Where the hub's own tools have it.
fn default_hub_home() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()).map(PathBuf::from);
    Some(cache.or_else(|| Some(env::home_dir()?.join(".cache")))?.join("huggingface"))
}

impl EmbeddingService {
    /// Starts the threads, and begins to load the default model. Does not wait for it, and needs no runtime.
    pub fn start(options: &Options) -> Result<Self, StartError> {
        let service = Self::start_idle(options)?;
        let models = &service.shared.handlers.models;
        models.default().load();
        models.retry_in_background()?;
        Ok(service)
    }

    /// The same, but loads no model before it is asked for: nothing is fetched, and nothing runs beside what is measured.
    pub fn start_idle(options: &Options) -> Result<Self, StartError> {
        let registry = options.registry()?;
        let auth = Auth::start(&options.auth)?;
        // First of all: what is counted before is lost.
        let counted = Figures::of_this_process()?;
        figures::describe();
        figures::begin(registry.models().iter().map(|model| model.id.as_str()));
        let models = Arc::new(Models::new(&registry, &options.weights_source()?, options.models_memory_bytes_max));
        let limits = Limits {
            queue_bytes_max: options.embedding_queue_bytes,
            queue_tokens_max: options.embedding_queue_tokens,
            batch_tokens_max: options.embedding_batch_tokens,
        };
        let engine = Arc::new(Engine::new(limits));
        let threads = match options.embedding_threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let tokenizing = engine.tokenizing().start(threads)?;
        let workers = Workers::start(engine.queue(), threads)?;

        let shared = Shared {
            auth,
            auth_options: options.auth.clone(),
            handlers: Handlers {
                models,
                engine,
                cache: Arc::new(Cache::new(options.cache_bytes_max)),
                comparing: Arc::default(),
            },
            stopping: watch::Sender::new(false),
            figures: counted,
            threads: Mutex::new(Some(Threads { tokenizing, workers })),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// gRPC with health and reflection, and REST.
    fn router(&self, auth: Option<Arc<Auth>>, message_bytes_max: usize) -> Router {
        let Shared { handlers, stopping, figures, .. } = &*self.shared;
        api::router(handlers.clone(), auth, stopping.subscribe(), figures.clone(), message_bytes_max)
    }

    /// Serves on `listener` until `shutdown` comes, then drains. Health answers NOT_SERVING from then on. Callers need a key
    /// or a token where the options say so.
    pub async fn serve_tcp(
        &self,
        listener: Listener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let auth = self.shared.auth.clone();
        match &auth {
            Some(auth) => auth.announce(),
            None => self.shared.auth_options.announce_open(listener.address),
        }
        let shutdown = async {
            shutdown.await;
            self.shared.stopping.send_replace(true);
        };
        let router = self.router(auth.clone(), BODY_BYTES_MAX);
        let following = async {
            match auth {
                Some(auth) => auth.follow_file(shutdown::hangups()).await,
                None => std::future::pending().await,
            }
        };
        let port_options = PortOptions::default();
        tokio::select! {
            served = port::serve(router, port::accept(listener.socket), &port_options, shutdown) => served,
            () = following => unreachable!("the file is followed for ever"),
        }
    }

    /// A channel to this service that leaves the process's memory nowhere. Whoever has it is trusted. To be called within a
    /// runtime, which serves the channel's connections until the channel is dropped.
    pub fn in_memory_channel(&self) -> Channel {
        // Unbounded, but a channel has one connection at a time.
        let (connections, accepted) = mpsc::unbounded_channel::<DuplexStream>();
        let router = self.router(None, MESSAGE_BYTES_MAX);
        tokio::spawn(async move {
            let incoming = UnboundedReceiverStream::new(accepted).map(Ok::<_, io::Error>);
            if let Err(error) = port::serve(router, incoming, &in_memory_options(), std::future::pending()).await {
                tracing::error!("the connection in memory broke: {error}");
            }
        });

        let options = in_memory_options();
        Endpoint::from_static("http://embedding.in-memory")
            .initial_stream_window_size(options.stream_window_bytes)
            .initial_connection_window_size(options.connection_window_bytes)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let (client, server) = tokio::io::duplex(DUPLEX_BYTES);
                let accepted = connections.send(server);
                async move {
                    match accepted {
                        Ok(()) => Ok(TokioIo::new(client)),
                        Err(_) => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                    }
                }
            }))
    }

    /// Takes no more calls, and waits for the threads, which finish the batch that each runs. Calls that are queued are
    /// dropped: whoever serves has drained before, and what is left then may take minutes. Blocks. Further calls do nothing.
    pub fn shutdown(&self) {
        self.shared.stopping.send_replace(true);
        let engine = &self.shared.handlers.engine;
        engine.clear();
        let threads = self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Threads { tokenizing, workers }) = threads {
            for thread in tokenizing {
                // A thread that panicked has said so in the log.
                let _ = thread.join();
            }
            workers.join();
        }
    }
}

/// The last clone ends the threads; it does not wait for them.
impl Drop for Shared {
    fn drop(&mut self) {
        self.handlers.engine.close();
    }
}

/// The typed client over `channel`, with its limits raised to those of the service.
pub fn client(channel: Channel) -> EmbeddingServiceClient<Channel> {
    EmbeddingServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Windows that hold a large answer: in memory there is no round trip to bridge, only a copy to avoid.
fn in_memory_options() -> PortOptions {
    PortOptions { stream_window_bytes: 8 << 20, connection_window_bytes: 16 << 20, ..PortOptions::default() }
}
