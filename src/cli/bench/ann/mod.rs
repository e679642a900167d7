//! `vectron bench ann`: the engine alone, in this process, on vectors of yours: queries per second at a recall.
//!
//! What is measured is a search as the server runs it, between the transport and the answer's encoding: it takes the
//! view, finds the nearest, and gives string ids and scores. Recall is against the exact answer.

mod cores;
mod data;
mod output;
mod store;
mod sweep;
mod truth;

use std::io::{self, BufRead};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::data_folder::DataFolder;
use super::{BenchError, until_interrupted};
use crate::collection::Effort;
use crate::types::Metric;
use crate::types::limits::TOP_K_MAX;
use data::DataSet;
use output::{Output, Point};
use store::Store;
use sweep::Sweeps;
use truth::Truth;

/// Recall that the planner is asked for.
const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  vectron bench ann --base base.npy --queries queries.npy                    the exact answers are computed first
  vectron bench ann --base base.npy --queries queries.npy --truth truth.npy  or read: rows of the nearest, best first
  vectron bench ann --base base.npy --queries queries.npy --threads 2 --reach 0.05,0.1
  vectron bench ann --base base.npy --queries queries.npy --memtable 10 --deleted 20   a collection that lives
  vectron bench ann --base base.npy --queries queries.npy --limit-base 20000 --build-threads 1
  vectron bench ann --base base.npy --queries queries.npy | jq -c 'select(.at) | .at'

Files are NumPy arrays (.npy) of 16, 32 or 64 bit numbers, one vector a row; `--truth` is one of whole numbers, of which
the first -k columns count. `vectron bench generate` makes larger ones of a small one.

A line for each reach: how much farther than the k-th nearest a walk through the graph goes, as a share of its squared
distance. More reach finds more and takes longer. Then a line for each recall that the planner is asked for, and a
summary: `at` has queries per second at recall .90 to .99, interpolated between the reaches around it, null where it was
not reached. `recall` is the share of the true k nearest that was found, where a record that is exactly as near as the
k-th counts as well; `hops` (nodes visited) and `distances` are means for each query; `queries_per_s` is the median of
--repeat sweeps over all queries, after one that is not timed.

In the summary `load_s` is the writing of all rows, `build_s` the wait for the graph after it, and `engine_build_s` what
the engine itself counts as building; `resident_mb` is the memory of this whole process at the end, queries included.
On a terminal there is a table instead; --json gives lines of JSON there too.";

/// What `bench ann` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct AnnOptions {
    /// Hits of each answer.
    #[arg(short = 'k', long = "top-k", default_value_t = 10, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=TOP_K_MAX as i64))]
    top_k: u32,
    /// How far walks go, one measurement for each.
    #[arg(long, value_delimiter = ',', value_name = "SHARE", value_parser = read_reach,
          default_value = "0,0.01,0.025,0.05,0.075,0.1,0.125,0.15,0.2,0.25,0.3")]
    reach: Vec<f32>,
    /// Threads that search at once.
    #[arg(long, default_value = "1", value_name = "COUNT")]
    threads: NonZeroUsize,
    /// Cores that the store may write and build on. Default: all.
    #[arg(long, value_name = "COUNT")]
    build_threads: Option<NonZeroUsize>,
    /// Timed sweeps over all queries for each line, of which the median counts.
    #[arg(long, default_value = "3", value_name = "COUNT")]
    repeat: NonZeroUsize,
    /// Score the hits of the walks by their codes alone, as if the vectors themselves were not in memory.
    #[arg(long)]
    by_codes: bool,
    /// Lines of JSON also where standard output is a terminal.
    #[arg(long)]
    json: bool,
    /// Builds, prints a line with `ready`, then measures once for each line of standard input.
    #[arg(long, hide = true)]
    interactive: bool,

    /// The vectors to search in (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    base: PathBuf,
    /// The vectors to search for (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    queries: PathBuf,
    /// For each query the rows of its nearest, best first (.npy). Default, and with --deleted: computed by comparing all.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    truth: Option<PathBuf>,
    /// How vectors are compared.
    #[arg(long, value_enum, default_value_t = MetricName::Cosine, help_heading = "Data")]
    metric: MetricName,
    /// Take the first rows of the base only.
    #[arg(long, value_name = "COUNT", help_heading = "Data")]
    limit_base: Option<NonZeroU64>,
    /// Rows in percent, evenly spread, that are written after the graph was built, and so are in no graph.
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = read_percent, help_heading = "Data")]
    memtable: f64,
    /// Rows in percent, at random, that are deleted after the graph was built.
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = read_percent, help_heading = "Data")]
    deleted: f64,
    /// Other rows are deleted, for another number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER", help_heading = "Data")]
    seed: u64,
    /// Where the scratch collection lies: a new folder is made in this one, and removed at the end. Default: the system's
    /// folder for temporary files.
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    data: Option<PathBuf>,
}

impl AnnOptions {
    fn effort(&self, reach: f32) -> Effort {
        if self.by_codes { Effort::ByCodes(reach) } else { Effort::Reach(reach) }
    }
}

/// A metric, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum MetricName {
    Cosine,
    Dot,
    Euclidean,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Cosine => Self::Cosine,
            MetricName::Dot => Self::DotProduct,
            MetricName::Euclidean => Self::Euclidean,
        }
    }
}

fn read_reach(text: &str) -> Result<f32, String> {
    let expected = || "expected a number from 0, such as 0.1".to_owned();
    text.parse().ok().filter(|reach: &f32| reach.is_finite() && *reach >= 0.0).ok_or_else(expected)
}

fn read_percent(text: &str) -> Result<f64, String> {
    let expected = || "expected a number from 0 up to, but not, 100".to_owned();
    text.parse().ok().filter(|percent| (0.0..100.0).contains(percent)).ok_or_else(expected)
}

/// Measures.
pub async fn run(options: AnnOptions) -> Result<(), BenchError> {
    // Dropped here, so that an interruption removes it while the work is still on its thread.
    let folder = DataFolder::new(options.data.as_deref())?;
    let path = folder.path().to_owned();
    let work = tokio::task::spawn_blocking(move || measure(&options, &path));
    until_interrupted(async { work.await? }).await
}

fn measure(options: &AnnOptions, folder: &Path) -> Result<(), BenchError> {
    let data = DataSet::open(options)?;
    let store = Store::fill(folder, options, &data)?;
    let truths = match &data.truth {
        Some(rows) => Truth::read(&store, &data.queries, rows)?,
        None => Truth::find(&store, &data.queries, options.top_k as usize),
    };
    let sweeps = Sweeps { store: &store, queries: &data.queries, truths: &truths, options };
    let output = Output::new(options.json);
    if !options.interactive {
        return sweep_all(&sweeps, &output);
    }
    output.ready(&sweeps)?;
    for line in io::stdin().lock().lines() {
        line?;
        sweep_all(&sweeps, &output)?;
    }
    Ok(())
}

fn sweep_all(sweeps: &Sweeps<'_>, output: &Output) -> Result<(), BenchError> {
    output.begin()?;
    let mut points = Vec::new();
    for &reach in &sweeps.options.reach {
        let point =
            Point { reach: Some(reach), target_recall: None, measured: sweeps.run(sweeps.options.effort(reach)) };
        output.point(&point)?;
        points.push(point.measured);
    }
    for target in TARGETS {
        let measured = sweeps.run(Effort::Recall(target));
        output.point(&Point { reach: None, target_recall: Some(target), measured })?;
    }
    output.end(sweeps, &points)
}
