//! `vectron bench`: load from the same binary, against a running server or one that it starts for the purpose (`rpc`,
//! `ingest`), or against the engine in this process (`ann`, `churn`).
//!
//! What a server does is measured beside its ceiling: an empty service behind the same transport that answers with
//! messages of the same size (`echo`). The two take turns within one run, so that what else the machine does hits both.
//! The client shares the machine with the server, so the load itself bypasses the generated client: its messages are
//! encoded before the clock runs, and go out over HTTP/2 as they are (`connection`).

mod ann;
mod array;
mod bar;
mod churn;
mod connection;
mod cost;
mod data_folder;
mod echo;
mod encoding;
mod engine;
mod filter_text;
mod generate;
mod ingest;
mod latency;
mod messages;
mod metric_name;
mod process;
mod random;
mod ranges;
mod records;
mod report;
mod rpc;
mod scratch;
mod server;
mod threads;
mod truth;
mod vectors;
mod writer;

use clap::Subcommand;
use vectron_embedding::shutdown;

/// Why a benchmark gave up: for the person who reads it, never matched on.
type BenchError = Box<dyn std::error::Error + Send + Sync>;

/// What `bench` takes.
#[derive(clap::Args)]
pub struct BenchCommand {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Searches of vectors over gRPC: queries per second, latency and recall, one call each and many on a stream.
    #[command(after_help = rpc::EXAMPLES)]
    Rpc(rpc::RpcOptions),
    /// Writing vectors over gRPC streams: rows per second, time until a frame is settled, memory of the server.
    #[command(after_help = ingest::EXAMPLES)]
    Ingest(ingest::IngestOptions),
    /// The engine alone, on vectors of yours: queries per second at a recall, memory, time to build.
    #[command(after_help = ann::EXAMPLES)]
    Ann(Box<ann::AnnOptions>),
    /// The engine alone, written to and searched at once: latency and recall while it changes, rows built for each written.
    #[command(after_help = churn::EXAMPLES)]
    Churn(churn::ChurnOptions),
    /// A large data set of a small one, with its true answers.
    #[command(after_help = generate::EXAMPLES)]
    Generate(generate::GenerateOptions),
    /// The empty service that gives the ceilings; the benchmarks of the server start it.
    #[command(hide = true)]
    Echo(echo::EchoOptions),
}

impl BenchCommand {
    /// Measures, and prints one line of JSON for each result.
    pub async fn run(self) -> Result<(), BenchError> {
        match self.bench {
            Bench::Rpc(options) => rpc::run(options).await,
            Bench::Ingest(options) => ingest::run(options).await,
            Bench::Ann(options) => ann::run(*options).await,
            Bench::Churn(options) => churn::run(options).await,
            Bench::Generate(options) => generate::run(options).await,
            Bench::Echo(options) => echo::run(options).await,
        }
    }
}

/// The work, unless Ctrl-C or SIGTERM comes first: what was started is then cleaned up as after any failure.
async fn until_interrupted<T>(work: impl Future<Output = Result<T, BenchError>>) -> Result<T, BenchError> {
    tokio::select! {
        result = work => result,
        () = shutdown::signal() => Err("interrupted".into()),
    }
}
