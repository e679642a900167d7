//! `vectron bench ingest`: writes over streams, beside an empty service that settles frames by forgetting them.

mod frames;
mod load;
mod stream;
mod watch;
mod window;

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::bar::Bar;
use super::connection::{Endpoint, refusal};
use super::cost::{Cost, micros_each};
use super::echo::EchoProcess;
use super::encoding::{Encoding, Encodings};
use super::latency::median;
use super::process::Process;
use super::report::{print_line, rounded, tell};
use super::scratch::{Scratch, vector_client};
use super::server::{Server, ServerOptions};
use super::vectors::Vectors;
use super::{BenchError, until_interrupted};
use crate::pb::v1 as pb;
use crate::types::limits::BATCH_RECORDS_MAX;
use load::{Load, Measured};
use watch::{MemoryUse, watch};

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  vectron bench ingest                                   starts a server, writes 1,000,000 x 384, four streams, durable
  vectron bench ingest --rows 100000 --durability both   the price of syncing
  vectron bench ingest --data /mnt/disk                  measures the disk of that folder (the default may be in memory)
  vectron bench ingest --server http://db:3000           another machine's server; a scratch collection is made there
  vectron bench ingest --streams 1 --frame-records 100 --no-ceiling
  vectron bench ingest | jq -c 'select(.target == \"vectron\") | {rows_per_s, p99_ms, server_memory_beyond_data_bytes}'

One line of JSON for each combination and target: `vectron`, and `echo`, an empty service behind the same transport, which
is the ceiling. A row counts when its frame is settled; `count` is what the server counts afterwards, and has to be `rows`.
`mb_per_s` are millions of bytes of encoded frames; `p50_ms` and `p99_ms` go from the sending of a frame to its settling, with
as much unsettled as the server's credit allows. Memory is that of a server which was started for the run:
`server_memory_beyond_data_bytes` is its peak less 4 bytes for each component. The `cpu_us` are processor
time, which tells what a row costs even where something else keeps the machine busy. Figures are medians of the runs.";

/// What `bench ingest` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct IngestOptions {
    /// When a frame is settled: after it is synced to disk, after the operating system has it, or one after the other.
    #[arg(long, value_enum, default_value_t = Durabilities::Durable)]
    durability: Durabilities,
    /// How vectors are encoded: numbers, packed bytes, or both.
    #[arg(long, value_enum, default_value_t = Encodings::Bytes)]
    encoding: Encodings,
    /// Streams that write at once.
    #[arg(long, default_value = "4", value_name = "COUNT")]
    streams: NonZeroUsize,
    /// Connections for them, at most one for each stream.
    #[arg(long, default_value = "2", value_name = "COUNT")]
    connections: NonZeroUsize,
    /// Rows of a frame, which is one atomic batch.
    #[arg(long, default_value_t = 500, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=BATCH_RECORDS_MAX as u64))]
    frame_records: u64,
    /// Runs of each combination, the server and its ceiling in turn; each in a new collection.
    #[arg(long, default_value = "1", value_name = "COUNT")]
    repeat: NonZeroUsize,
    /// Do not measure the ceiling.
    #[arg(long)]
    no_ceiling: bool,

    /// Rows of each run.
    #[arg(long, default_value = "1000000", value_name = "COUNT", help_heading = "Data")]
    rows: NonZeroU64,
    /// Components of each vector.
    #[arg(long, default_value = "384", value_name = "COUNT", help_heading = "Data")]
    dimension: NonZeroUsize,
    /// Other vectors, for another number.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", help_heading = "Data")]
    seed: u64,

    #[command(flatten)]
    server: ServerOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durabilities {
    Durable,
    Buffered,
    Both,
}

impl Durabilities {
    fn each(self) -> &'static [Durability] {
        match self {
            Self::Durable => &[Durability::Durable],
            Self::Buffered => &[Durability::Buffered],
            Self::Both => &[Durability::Durable, Durability::Buffered],
        }
    }
}

/// When a frame is settled.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Durability {
    Durable,
    Buffered,
}

impl From<Durability> for pb::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Durable => Self::Durable,
            Durability::Buffered => Self::Buffered,
        }
    }
}

/// One line of the result.
#[derive(Clone, Serialize)]
struct Line {
    bench: &'static str,
    target: &'static str,
    durability: Option<Durability>,
    encoding: Encoding,
    streams: usize,
    connections: usize,
    frame_records: u64,
    rows: u64,
    dimension: usize,
    runs: usize,
    frames: usize,
    /// What the server counts at the end.
    count: Option<u64>,
    seconds: f64,
    rows_per_s: f64,
    mb_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_us_per_row: Option<f64>,
    client_cpu_us_per_row: Option<f64>,
    server_memory_idle_bytes: Option<u64>,
    server_memory_peak_bytes: Option<u64>,
    server_memory_anonymous_peak_bytes: Option<u64>,
    server_memory_end_bytes: Option<u64>,
    server_memory_beyond_data_bytes: Option<i64>,
    ceiling_rows_per_s: Option<f64>,
    ratio: Option<f64>,
}

/// A run, with what it cost.
struct Run {
    measured: Measured,
    cost: Cost,
}

/// One run against the real server.
struct Real {
    run: Run,
    count: u64,
    memory: Option<MemoryUse>,
}

/// What the runs have in common.
struct Bench {
    options: IngestOptions,
    vectors: Arc<Vectors>,
    /// The server where it was there before; else each run has a new one, so that its memory is its own.
    server: Option<Server>,
}

/// Measures.
pub async fn run(options: IngestOptions) -> Result<(), BenchError> {
    if options.connections > options.streams {
        return Err(format!("{} streams cannot use {} connections", options.streams, options.connections).into());
    }
    if options.rows.get() < options.streams.get() as u64 {
        return Err(format!("{} rows cannot be divided among {} streams", options.rows, options.streams).into());
    }
    let vectors = Arc::new(Vectors::new(options.dimension.get(), options.seed));
    let server = match options.server.starts_one() {
        true => None,
        false => Some(until_interrupted(Server::ready(&options.server)).await?),
    };
    let bench = Bench { options, vectors, server };
    for &durability in bench.options.durability.each() {
        for &encoding in bench.options.encoding.each() {
            bench.compare(durability, encoding).await?;
        }
    }
    Ok(())
}

impl Bench {
    /// Runs the load against the server and the echo in turn, and prints what came of it.
    async fn compare(&self, durability: Durability, encoding: Encoding) -> Result<(), BenchError> {
        let (mut real, mut ceiling) = (Vec::new(), Vec::new());
        let mut echo: Option<EchoProcess> = None;
        for _ in 0..self.options.repeat.get() {
            let run = self.run_real(durability, encoding).await?;
            if !self.options.no_ceiling {
                // The same credit as the server gives, which the first run has told.
                let echo = match &echo {
                    Some(echo) => echo,
                    None => echo.insert(EchoProcess::start(&pb::SearchResponse::default(), run.run.measured.credit)?),
                };
                let load = self.load(String::new(), durability, encoding);
                ceiling.push(until_interrupted(self.write(&load, echo.endpoint(), Some(echo.process()), None)).await?);
            }
            real.push(run);
        }
        let line = self.line(durability, encoding).with_real(real);
        if ceiling.is_empty() {
            line.tell();
            return print_line(&line);
        }
        let echo = Line { target: "echo", durability: None, ..self.line(durability, encoding) };
        let echo = echo.with(ceiling);
        print_line(&echo)?;
        let ratio = Some(rounded(line.rows_per_s / echo.rows_per_s));
        let line = Line { ceiling_rows_per_s: Some(echo.rows_per_s), ratio, ..line };
        line.tell();
        print_line(&line)
    }

    /// One run in a scratch collection.
    async fn run_real(&self, durability: Durability, encoding: Encoding) -> Result<Real, BenchError> {
        let fresh = match self.server {
            Some(_) => None,
            None => Some(until_interrupted(Server::ready(&self.options.server)).await?),
        };
        let server = self.server.as_ref().or(fresh.as_ref()).ok_or("there is no server")?;
        let scratch = Scratch::create(server, self.options.dimension.get()).await?;
        let load = self.load(scratch.name().to_owned(), durability, encoding);
        let ran = until_interrupted(async {
            let mut memory = MemoryUse::before(server);
            let watched = memory.as_mut().map(|memory| (server, memory));
            let run = self.write(&load, server.endpoint(), server.process(), watched).await?;
            if let Some(memory) = &mut memory {
                memory.update(server);
            }
            let count = self.count(server, &load.collection, run.measured.sequence).await?;
            Ok(Real { run, count, memory })
        })
        .await;
        // Also after a failure, but the failure is what is told. A server of our own goes with its data.
        let removed = if fresh.is_some() { Ok(()) } else { scratch.remove().await };
        let real = ran?;
        removed?;
        Ok(real)
    }

    fn load(&self, collection: String, durability: Durability, encoding: Encoding) -> Arc<Load> {
        Arc::new(Load {
            collection,
            durability: durability.into(),
            encoding,
            vectors: self.vectors.clone(),
            rows: self.options.rows.get(),
            frame_records: self.options.frame_records,
            streams: self.options.streams.get(),
            connections: self.options.connections.get(),
            rows_settled: AtomicU64::new(0),
        })
    }

    async fn write(
        &self,
        load: &Arc<Load>,
        endpoint: &Endpoint,
        process: Option<&Process>,
        memory: Option<(&Server, &mut MemoryUse)>,
    ) -> Result<Run, BenchError> {
        let bar = Bar::new(if load.collection.is_empty() { "echo" } else { "vectron" }, load.rows, "rows");
        let before = Cost::until_now(process);
        let measured = tokio::select! {
            measured = load.clone().run(endpoint) => measured?,
            () = watch(load, &bar, memory) => return Err("the watch never ends".into()),
        };
        Ok(Run { measured, cost: Cost::until_now(process).since(before) })
    }

    /// What the server counts; it has to be what was written.
    async fn count(&self, server: &Server, collection: &str, min_sequence: u64) -> Result<u64, BenchError> {
        let request = pb::CountRequest { collection: collection.to_owned(), min_sequence, ..Default::default() };
        let answer = vector_client(server).await?.count(request).await.map_err(|status| refusal(&status))?;
        let (count, rows) = (answer.into_inner().record_count, self.options.rows.get());
        if count != rows {
            return Err(format!("{rows} rows were written and settled, but the server counts {count}").into());
        }
        Ok(count)
    }

    fn line(&self, durability: Durability, encoding: Encoding) -> Line {
        let options = &self.options;
        Line {
            bench: "ingest",
            target: "vectron",
            durability: Some(durability),
            encoding,
            streams: options.streams.get(),
            connections: options.connections.get(),
            frame_records: options.frame_records,
            rows: options.rows.get(),
            dimension: options.dimension.get(),
            runs: options.repeat.get(),
            frames: 0,
            count: None,
            seconds: 0.0,
            rows_per_s: 0.0,
            mb_per_s: 0.0,
            p50_ms: 0.0,
            p99_ms: 0.0,
            server_cpu_us_per_row: None,
            client_cpu_us_per_row: None,
            server_memory_idle_bytes: None,
            server_memory_peak_bytes: None,
            server_memory_anonymous_peak_bytes: None,
            server_memory_end_bytes: None,
            server_memory_beyond_data_bytes: None,
            ceiling_rows_per_s: None,
            ratio: None,
        }
    }
}

impl Line {
    /// The line with the figures of these runs.
    fn with(self, mut runs: Vec<Run>) -> Self {
        let seconds = |run: &Run| run.measured.time.as_secs_f64();
        let each_row = |time: fn(&Cost) -> Option<Duration>| {
            let costs: Option<Vec<f64>> = runs.iter().map(|run| micros_each(time(&run.cost), self.rows)).collect();
            costs.map(|costs| rounded(median(costs.into_iter())))
        };
        Self {
            server_cpu_us_per_row: each_row(|cost| cost.server),
            client_cpu_us_per_row: each_row(|cost| cost.client),
            frames: runs.iter().map(|run| run.measured.latencies.count()).sum(),
            seconds: rounded(median(runs.iter().map(seconds))),
            rows_per_s: rounded(median(runs.iter().map(|run| self.rows as f64 / seconds(run)))),
            mb_per_s: rounded(median(runs.iter().map(|run| run.measured.bytes as f64 / 1e6 / seconds(run)))),
            p50_ms: rounded(median(runs.iter_mut().map(|run| run.measured.latencies.quantile_ms(0.5)))),
            p99_ms: rounded(median(runs.iter_mut().map(|run| run.measured.latencies.quantile_ms(0.99)))),
            ..self
        }
    }

    /// The same, with what the server said of itself. Of several runs the greatest use of memory counts.
    fn with_real(self, runs: Vec<Real>) -> Self {
        let greatest = |of: fn(&MemoryUse) -> u64| runs.iter().filter_map(|run| run.memory.as_ref().map(of)).max();
        let data_bytes = self.rows as i64 * self.dimension as i64 * size_of::<f32>() as i64;
        let peak_bytes = greatest(|memory| memory.peak_bytes);
        let line = Self {
            count: runs.iter().map(|run| run.count).min(),
            server_memory_idle_bytes: greatest(|memory| memory.idle_bytes),
            server_memory_peak_bytes: peak_bytes,
            server_memory_anonymous_peak_bytes: greatest(|memory| memory.anonymous_peak_bytes),
            server_memory_end_bytes: greatest(|memory| memory.end_bytes),
            server_memory_beyond_data_bytes: peak_bytes.map(|peak| peak as i64 - data_bytes),
            ..self
        };
        line.with(runs.into_iter().map(|run| run.run).collect())
    }

    fn tell(&self) {
        let Self { encoding, rows, seconds, rows_per_s, mb_per_s, p50_ms, p99_ms, .. } = self;
        let durability = self.durability.map_or(String::new(), |durability| format!("{durability:?} "));
        let ceiling = self.ceiling_rows_per_s.zip(self.ratio);
        let ceiling = ceiling.map_or(String::new(), |(ceiling, ratio)| format!(", {ratio} of the ceiling {ceiling}"));
        let memory =
            self.server_memory_peak_bytes.map_or(String::new(), |peak| format!(", peak {} MB", peak / 1_000_000));
        tell(&format!(
            "{durability}{encoding:?}: {rows} rows in {seconds} s, {rows_per_s} rows/s, {mb_per_s} MB/s, settled p50 {p50_ms} ms, \
             p99 {p99_ms} ms{memory}{ceiling}"
        ));
    }
}
