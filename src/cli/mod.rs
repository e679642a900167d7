//! The command line.

pub mod bench;

use clap::{Parser, Subcommand};
use vectron_embedding::telemetry::TelemetryOptions;

use crate::config::Config;

/// Vectron, a text-native vector database: text goes in, ranked text comes out.
///
/// Without a command it serves: the store on port 3000 and the embedding service on port 8000, each gRPC and REST.
/// Every option can be given as an environment variable, or in a file `.env`.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What `serve` takes.
    #[command(flatten)]
    pub serve: Serve,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Serve the store and the embedding service (the default).
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    /// Measure a server under load, beside the most that its transport can carry.
    Bench(bench::BenchCommand),
}

/// What `serve` takes.
#[derive(clap::Args)]
pub struct Serve {
    // First, since the headings of the configuration would hold for it too.
    /// What is logged.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,
    /// How it runs.
    #[command(flatten)]
    pub config: Config,
}

impl Cli {
    /// The command that was asked for.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

const EXAMPLES: &str = "\
Examples:
  vectron                                        serve the store on 127.0.0.1:3000, embeddings on 127.0.0.1:8000
  vectron serve --listen 0.0.0.0:3000            serve the store for other machines too
  vectron serve --data /var/lib/vectron          keep the data elsewhere
  vectron serve --embedding-url http://gpu:8000  take embeddings from another machine

  curl localhost:3000/upsert-text -H 'content-type: application/json' -d '{\"id\": \"1\", \"text\": \"a red apple\"}'
  curl 'localhost:3000/search/text?top_k=3' -H 'content-type: application/json' -d '{\"text\": \"fruit\"}'";
