//! `vectron bench rpc`: searches of vectors, beside an empty service that answers with messages of the same size.

mod load;
mod queries;
mod stream;
mod unary;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::connection::{Endpoint, refusal};
use super::cost::{Cost, micros_each};
use super::echo::{Credit, EchoProcess};
use super::encoding::{Encoding, Encodings};
use super::latency::median;
use super::process::Process;
use super::report::{print_line, rounded, tell};
use super::scratch::{Scratch, vector_client};
use super::server::{Server, ServerOptions};
use super::vectors::Vectors;
use super::{BenchError, until_interrupted};
use crate::pb::v1 as pb;
use crate::pb::v1::collection_service_client::CollectionServiceClient;
use load::{Budget, Load, Measured};
use queries::{Place, Queries, Truths};

/// Queries in flight on a connection, at the most: the server takes so many calls.
const WINDOW_MAX: usize = 1024;
/// Calls in flight on a connection where nobody says: more only wait, fewer leave the server idle at times.
const UNARY_IN_FLIGHT: usize = 64;
/// The same on a stream, where a query costs less. A server takes in 512.
const STREAM_IN_FLIGHT: usize = 256;
/// Time of a run where nobody says.
const SECONDS: f64 = 5.0;

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  vectron bench rpc                                      starts a server, measures everything
  vectron bench rpc --mode unary --connections 1,2,4     how it scales with connections
  vectron bench rpc --records 100000 --seconds 10        searches that take longer
  vectron bench rpc --base base.npy --query-vectors queries.npy --target-recall 0.98   vectors of yours
  vectron bench rpc --server http://db:3000              another machine's server; a scratch collection is made there
  vectron bench rpc --server http://db:3000 --collection notes --space minilm --no-ceiling
  vectron bench rpc | jq -c 'select(.target == \"vectron\") | {mode, encoding, queries_per_s, ratio}'

One line of JSON for each combination and target: `vectron`, and `echo`, an empty service behind the same transport, which
is the ceiling. `queries_per_s`, `p50_ms` and `p99_ms` are medians of the runs; `ratio` is the share of the ceiling that
was reached; `recall` compares the first answers with an exact search in the client (null for a collection of yours).
The `cpu_us` are processor time, which tells what a query costs even where something else keeps the machine busy; the server's
is known where it was started here. Client and servers share this machine's cores, so rates depend on it; ratios less.";

/// What `bench rpc` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct RpcOptions {
    /// One call for each query, many queries on a stream, or both.
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// How query vectors are encoded: numbers, packed bytes, or both.
    #[arg(long, value_enum, default_value_t = Encodings::Both)]
    encoding: Encodings,
    /// Connections; several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "COUNT")]
    connections: Vec<NonZeroUsize>,
    /// Queries in flight on each connection, at most 1024. Default: 64 unary, 256 on a stream.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX as i64))]
    in_flight: Option<u32>,
    /// Queries of each run, instead of a time.
    #[arg(long, value_name = "COUNT", conflicts_with = "seconds")]
    queries: Option<NonZeroU64>,
    /// Seconds of each run. Default: 5.
    #[arg(long, value_parser = read_seconds)]
    seconds: Option<f64>,
    /// Runs of each combination, the server and its ceiling in turn.
    #[arg(long, default_value = "3", value_name = "COUNT")]
    repeat: NonZeroUsize,
    /// Do not measure the ceiling.
    #[arg(long)]
    no_ceiling: bool,
    /// Hits of each answer.
    #[arg(long, default_value = "10", value_name = "COUNT")]
    top_k: NonZeroU32,
    /// The mean recall that searches ask for, above 0 and at most 1. Default: the server's.
    #[arg(long, value_name = "RECALL", value_parser = read_recall)]
    target_recall: Option<f64>,

    /// Records from a NumPy file (.npy) instead of generated ones. The load begins when their graph is built.
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "query_vectors", conflicts_with_all = ["records", "dimension", "seed", "collection"])]
    base: Option<PathBuf>,
    /// Queries from a NumPy file: the first 1000 of them, in turn.
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "base")]
    query_vectors: Option<PathBuf>,
    /// Records of the scratch collection.
    #[arg(long, default_value = "1000", value_name = "COUNT", help_heading = "Data")]
    records: NonZeroU64,
    /// Components of its vectors.
    #[arg(long, default_value = "384", value_name = "COUNT", help_heading = "Data")]
    dimension: NonZeroUsize,
    /// Other vectors, for another number.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", help_heading = "Data")]
    seed: u64,
    /// Search in this collection instead; nothing is written to it.
    #[arg(long, value_name = "NAME", help_heading = "Data", requires = "server", conflicts_with_all = ["records", "dimension"])]
    collection: Option<String>,
    /// The space of that collection. Default: its only one.
    #[arg(long, value_name = "NAME", help_heading = "Data", requires = "collection")]
    space: Option<String>,

    #[command(flatten)]
    server: ServerOptions,
}

fn read_recall(text: &str) -> Result<f64, String> {
    let recall: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if recall > 0.0 && recall <= 1.0 { Ok(recall) } else { Err("expected above 0 and at most 1".to_owned()) }
}

fn read_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if seconds > 0.0 && seconds <= 86_400.0 {
        Ok(seconds)
    } else {
        Err("expected above 0 and at most 86400".to_owned())
    }
}

/// How queries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// `Search`.
    Unary,
    /// `StreamSearch`.
    Stream,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Modes {
    Unary,
    Stream,
    Both,
}

impl Modes {
    fn each(self) -> &'static [Mode] {
        match self {
            Self::Unary => &[Mode::Unary],
            Self::Stream => &[Mode::Stream],
            Self::Both => &[Mode::Unary, Mode::Stream],
        }
    }
}

/// One line of the result.
#[derive(Clone, Serialize)]
struct Line {
    bench: &'static str,
    target: &'static str,
    mode: Mode,
    encoding: Encoding,
    connections: usize,
    in_flight: usize,
    top_k: u32,
    records: Option<u64>,
    dimension: usize,
    runs: usize,
    queries: usize,
    seconds: f64,
    queries_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    recall: Option<f64>,
    server_cpu_us_per_query: Option<f64>,
    client_cpu_us_per_query: Option<f64>,
    ceiling_queries_per_s: Option<f64>,
    ratio: Option<f64>,
}

/// Where is searched, and for what.
struct Target {
    place: Place,
    vectors: Arc<Vectors>,
    /// Records that were generated here, so that the truth is known.
    records: Option<u64>,
}

/// Measures.
pub async fn run(options: RpcOptions) -> Result<(), BenchError> {
    let server = until_interrupted(Server::ready(&options.server)).await?;
    let Some(name) = options.collection.clone() else {
        let vectors = Arc::new(options.vectors()?);
        let scratch = Scratch::create(&server, vectors.dimension()).await?;
        let measured = until_interrupted(fill_and_measure(&options, &server, &scratch, vectors)).await;
        // Also after a failure, but the failure is what is told.
        let removed = scratch.remove().await;
        return measured.and(removed);
    };
    until_interrupted(async {
        let (space, dimension) = find_space(&server, &name, options.space.as_deref()).await?;
        let place = Place { collection: name, space, top_k: options.top_k.get(), target_recall: options.target_recall };
        let vectors = Arc::new(Vectors::new(dimension, options.seed));
        measure(&options, &server, Target { place, vectors, records: None }).await
    })
    .await
}

async fn fill_and_measure(
    options: &RpcOptions,
    server: &Server,
    scratch: &Scratch,
    vectors: Arc<Vectors>,
) -> Result<(), BenchError> {
    let records = vectors.record_count().unwrap_or(options.records.get());
    tell(&format!("writing {records} vectors of {} components", vectors.dimension()));
    scratch.fill(server, &vectors, records).await?;
    tell("waiting until the graph is built");
    scratch.settle(server).await?;
    let place = Place {
        collection: scratch.name().to_owned(),
        space: String::new(),
        top_k: options.top_k.get(),
        target_recall: options.target_recall,
    };
    measure(options, server, Target { place, vectors, records: Some(records) }).await
}

/// The name and the dimension of a space.
async fn find_space(server: &Server, name: &str, space: Option<&str>) -> Result<(String, usize), BenchError> {
    let mut client = CollectionServiceClient::new(server.channel().await?);
    let request = pb::GetCollectionRequest { name: name.to_owned() };
    let answer = client.get_collection(request).await.map_err(|status| refusal(&status))?;
    let spaces = answer.into_inner().collection.unwrap_or_default().spaces;
    let names = || spaces.iter().map(|space| space.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match space {
        Some(wanted) => spaces.iter().find(|space| space.name == wanted),
        None => spaces.first().filter(|_| spaces.len() == 1),
    };
    match found {
        Some(space) => Ok((space.name.clone(), space.dimension as usize)),
        None => Err(format!("collection {name} has the spaces {}; choose one with --space", names()).into()),
    }
}

async fn measure(options: &RpcOptions, server: &Server, target: Target) -> Result<(), BenchError> {
    let echo = match options.no_ceiling {
        true => None,
        false => Some(EchoProcess::start(&one_answer(server, &target).await?, Credit::default())?),
    };
    let truths = match target.records {
        Some(records) => {
            let (vectors, top_k) = (target.vectors.clone(), target.place.top_k);
            Some(tokio::task::spawn_blocking(move || Truths::new(vectors, records, top_k)).await?)
        }
        None => None,
    };
    for &encoding in options.encoding.each() {
        let queries = Arc::new(Queries::new(&target.place, &target.vectors, encoding));
        for &mode in options.mode.each() {
            for connections in &options.connections {
                let load = Load {
                    mode,
                    connections: connections.get(),
                    in_flight: options.in_flight(mode),
                    budget: options.budget(),
                    queries: queries.clone(),
                };
                let line = Line::new(options, &target, &load, encoding);
                compare(options, (server, echo.as_ref()), &load, truths.as_ref(), line).await?;
            }
        }
    }
    Ok(())
}

impl RpcOptions {
    fn vectors(&self) -> Result<Vectors, BenchError> {
        match (&self.base, &self.query_vectors) {
            (Some(base), Some(queries)) => Vectors::read(base, queries),
            _ => Ok(Vectors::new(self.dimension.get(), self.seed)),
        }
    }

    fn in_flight(&self, mode: Mode) -> usize {
        let default = match mode {
            Mode::Unary => UNARY_IN_FLIGHT,
            Mode::Stream => STREAM_IN_FLIGHT,
        };
        self.in_flight.map_or(default, |count| count as usize)
    }

    fn budget(&self) -> Budget {
        match self.queries {
            Some(queries) => Budget::Queries(queries.get()),
            None => Budget::Time(Duration::from_secs_f64(self.seconds.unwrap_or(SECONDS))),
        }
    }
}

/// An answer of the real service, for the echo to repeat.
async fn one_answer(server: &Server, target: &Target) -> Result<pb::SearchResponse, BenchError> {
    let request = queries::request(&target.place, &target.vectors, Encoding::Bytes, 0);
    let answer = vector_client(server).await?.search(request).await.map_err(|status| refusal(&status))?;
    Ok(answer.into_inner())
}

/// A run, with what it cost.
struct Run {
    measured: Measured,
    cost: Cost,
}

impl Run {
    async fn of(load: &Load, endpoint: &Endpoint, process: Option<&Process>) -> Result<Self, BenchError> {
        let before = Cost::until_now(process);
        let measured = load.run(endpoint).await?;
        Ok(Self { measured, cost: Cost::until_now(process).since(before) })
    }

    /// All that the cost was paid for.
    fn queries(&self) -> u64 {
        (self.measured.latencies.count() + self.measured.warm_up_queries) as u64
    }
}

/// Runs the load against the server and the echo in turn, and prints what came of it.
async fn compare(
    options: &RpcOptions,
    (server, echo): (&Server, Option<&EchoProcess>),
    load: &Load,
    truths: Option<&Truths>,
    line: Line,
) -> Result<(), BenchError> {
    let (mut real, mut ceiling) = (Vec::new(), Vec::new());
    for _ in 0..options.repeat.get() {
        real.push(Run::of(load, server.endpoint(), server.process()).await?);
        if let Some(echo) = echo {
            ceiling.push(Run::of(load, echo.endpoint(), Some(echo.process())).await?);
        }
    }
    let mut line = Line { target: "vectron", ..line }.with(&mut real);
    if let Some(truths) = truths {
        let samples: Vec<_> = real.into_iter().flat_map(|run| run.measured.samples).collect();
        line.recall = truths.mean_recall(&samples)?.map(rounded);
    }
    if echo.is_some() {
        let echo_line = Line { target: "echo", ..line.clone() }.with(&mut ceiling);
        print_line(&Line { recall: None, ..echo_line.clone() })?;
        line.ceiling_queries_per_s = Some(echo_line.queries_per_s);
        line.ratio = Some(rounded(line.queries_per_s / echo_line.queries_per_s));
    }
    line.tell();
    print_line(&line)
}

impl Line {
    fn new(options: &RpcOptions, target: &Target, load: &Load, encoding: Encoding) -> Self {
        Self {
            bench: "rpc",
            target: "vectron",
            mode: load.mode,
            encoding,
            connections: load.connections,
            in_flight: load.in_flight,
            top_k: target.place.top_k,
            records: target.records,
            dimension: target.vectors.dimension(),
            runs: options.repeat.get(),
            queries: 0,
            seconds: 0.0,
            queries_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            recall: None,
            server_cpu_us_per_query: None,
            client_cpu_us_per_query: None,
            ceiling_queries_per_s: None,
            ratio: None,
        }
    }

    /// The line with the figures of these runs.
    fn with(self, runs: &mut [Run]) -> Self {
        let each = |cost: fn(&Run) -> Option<f64>| {
            let costs: Option<Vec<f64>> = runs.iter().map(cost).collect();
            costs.map(|costs| rounded(median(costs.into_iter())))
        };
        Self {
            server_cpu_us_per_query: each(|run| micros_each(run.cost.server, run.queries())),
            client_cpu_us_per_query: each(|run| micros_each(run.cost.client, run.queries())),
            queries: runs.iter().map(|run| run.measured.latencies.count()).sum(),
            seconds: rounded(runs.iter().map(|run| run.measured.time.as_secs_f64()).sum()),
            queries_per_s: rounded(median(runs.iter().map(|run| run.measured.queries_per_s()))),
            p50_ms: rounded(median(runs.iter_mut().map(|run| run.measured.latencies.quantile_ms(0.5)))),
            p99_ms: rounded(median(runs.iter_mut().map(|run| run.measured.latencies.quantile_ms(0.99)))),
            ..self
        }
    }

    fn tell(&self) {
        let Self { mode, encoding, connections, queries_per_s, p50_ms, p99_ms, .. } = self;
        let recall = self.recall.map_or(String::new(), |recall| format!(", recall {recall}"));
        let ceiling = self.ceiling_queries_per_s.zip(self.ratio);
        let ceiling = ceiling.map_or(String::new(), |(ceiling, ratio)| format!(", {ratio} of the ceiling {ceiling}"));
        tell(&format!(
            "{mode:?} {encoding:?} x{connections}: {queries_per_s} queries/s, p50 {p50_ms} ms, p99 {p99_ms} ms{recall}{ceiling}"
        ));
    }
}
