//! What can be configured: each part's own options, put together. Nobody but `main` and `server` knows this module.

use std::net::SocketAddr;
use std::path::PathBuf;

use vectron_embedding::command_line::read_listen;

use crate::collection::Residence;
use crate::database::DatabaseOptions;
use crate::embedding::EmbeddingKey;
use crate::storage::memory::{self, MemoryBudget};

/// How the store and the embedding service beside it run.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address and port of the store (gRPC and REST); port 0 takes a free one.
    #[arg(long, env = "VECTRON_LISTEN", default_value = "127.0.0.1:3000", value_name = "ADDRESS", value_parser = read_listen)]
    pub listen: SocketAddr,

    /// Folder of the logs; made if it is missing. One process uses it at a time.
    #[arg(long, env = "VECTRON_DATA", default_value = "data", value_name = "FOLDER")]
    pub data: PathBuf,

    /// Bytes of the data's disk that are kept free: with less, upserts and new collections are refused (DISK_LOW), while
    /// reads, searches and deletes go on; 0: none.
    #[arg(long, env = "VECTRON_DISK_FREE_BYTES_MIN", default_value_t = 256 << 20, value_name = "BYTES")]
    pub disk_free_bytes_min: u64,

    /// Where the vectors of segments are. In memory they cost 4 bytes a component; from their file they are read when a search has
    /// chosen its few best records, through the system's cache, which gives way where memory is short.
    #[arg(long, env = "VECTRON_VECTORS", value_enum, default_value_t, value_name = "WHERE")]
    pub vectors: Vectors,

    /// Bytes that the files of all collections may take in memory at the start. A collection that does not fit leaves its vectors
    /// in their file, as with `--vectors mapped`; one that does not fit even so is not served, and says so, while the others are.
    /// Default: four fifths of what the system gives the process (the machine's memory, or the limit of its control group).
    #[arg(long, env = "VECTRON_MEMORY_BYTES_MAX", value_name = "BYTES")]
    pub memory_bytes_max: Option<u64>,

    /// Searches that run at once on threads of their own; 0: one for each core.
    #[arg(long, env = "VECTRON_SEARCH_THREADS", default_value_t = 0, value_name = "COUNT")]
    pub search_threads: usize,

    /// Use the embedding service at this URL (http://host:port or https://host:port); then none runs in this process. Where it
    /// asks for a key, set VECTRON_EMBEDDING_API_KEY.
    #[arg(long, env = "VECTRON_EMBEDDING_URL", value_name = "URL")]
    pub embedding_url: Option<String>,

    // From the environment alone: other users of the machine see arguments.
    /// What the embedding service at --embedding-url is shown, where it asks for a key; from VECTRON_EMBEDDING_API_KEY.
    #[arg(skip = EmbeddingKey::from_environment())]
    pub embedding_api_key: EmbeddingKey,

    /// Address and port of the embedding service in this process.
    #[arg(long, env = "VECTRON_EMBEDDING_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDRESS", value_parser = read_listen)]
    pub embedding_listen: SocketAddr,

    /// The longest that the store waits for the embeddings of 512 texts, in seconds.
    #[arg(long, env = "VECTRON_EMBEDDING_TIMEOUT_S", default_value_t = 120, value_name = "SECONDS")]
    pub embedding_timeout_s: u64,

    /// The embedding service in this process.
    #[command(flatten, next_help_heading = "Embedding service in this process")]
    pub embedding: vectron_embedding::Options,
}

/// Where vectors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Vectors {
    /// In memory.
    #[default]
    Resident,
    /// In their file.
    Mapped,
}

impl Config {
    /// How the data folder is opened.
    pub fn database_options(&self) -> DatabaseOptions {
        let system = || memory::system_bytes().map(|bytes| bytes / 5 * 4);
        let memory = self.memory_bytes_max.or_else(system).map(MemoryBudget::new).unwrap_or_default();
        DatabaseOptions { vectors: self.vectors.into(), memory, ..DatabaseOptions::default() }
    }
}

impl From<Vectors> for Residence {
    fn from(vectors: Vectors) -> Self {
        match vectors {
            Vectors::Resident => Self::Resident,
            Vectors::Mapped => Self::Mapped,
        }
    }
}
