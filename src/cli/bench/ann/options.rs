//! What `bench ann` takes.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use crate::cli::bench::filter_text::FilterText;
use crate::cli::bench::metric_name::MetricName;
use crate::cli::bench::ranges::{read_percent, read_recall};
use crate::collection::Effort;
use crate::types::limits::TOP_K_MAX;

/// What `bench ann` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct AnnOptions {
    /// Hits of each answer.
    #[arg(short = 'k', long = "top-k", default_value_t = 10, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=TOP_K_MAX as i64))]
    pub top_k: u32,
    /// How far walks go, one measurement for each.
    #[arg(long, value_delimiter = ',', value_name = "SHARE", value_parser = read_reach,
          default_value = "0,0.01,0.025,0.05,0.075,0.1,0.125,0.15,0.2,0.25,0.3")]
    pub reach: Vec<f32>,
    /// The recall that the planner is asked for, one measurement for each. Default: .90, .95 and .99; with --filter .95.
    #[arg(long, value_delimiter = ',', value_name = "SHARE", value_parser = read_recall)]
    pub target_recall: Vec<f64>,
    /// Measure searches with this filter on metadata, as JSON, instead of the reaches; may be given several times.
    #[arg(long, value_name = "JSON", value_parser = FilterText::read, requires = "records", conflicts_with_all = ["reach", "truth"])]
    pub filter: Vec<FilterText>,
    /// Threads that search at once.
    #[arg(long, default_value = "1", value_name = "COUNT")]
    pub threads: NonZeroUsize,
    /// Cores that the store may write and build on. Default: all.
    #[arg(long, value_name = "COUNT")]
    pub build_threads: Option<NonZeroUsize>,
    /// Timed sweeps over all queries for each line, of which the median counts.
    #[arg(long, default_value = "3", value_name = "COUNT")]
    pub repeat: NonZeroUsize,
    /// Score the hits of the walks by their codes alone, as if the vectors themselves were not in memory.
    #[arg(long)]
    pub by_codes: bool,
    /// Lines of JSON also where standard output is a terminal.
    #[arg(long)]
    pub json: bool,
    /// Builds, prints a line with `ready`, then measures once for each line of standard input.
    #[arg(long, hide = true)]
    pub interactive: bool,

    /// The vectors to search in (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub base: PathBuf,
    /// The vectors to search for (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub queries: PathBuf,
    /// For each query the rows of its nearest, best first (.npy). Default, and with --deleted: computed by comparing all.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub truth: Option<PathBuf>,
    /// Ids and metadata of the base, one JSON object a line (.jsonl, also .gz): line i belongs to row i. Texts are left out.
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub records: Option<PathBuf>,
    /// Metadata of the queries, in the same form, for --queries-where.
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "queries_where")]
    pub query_records: Option<PathBuf>,
    /// Search only for the queries whose own metadata fulfil this filter.
    #[arg(long, value_name = "JSON", value_parser = FilterText::read, help_heading = "Data", requires = "query_records")]
    pub queries_where: Option<FilterText>,
    /// How vectors are compared.
    #[arg(long, value_enum, default_value_t = MetricName::Cosine, help_heading = "Data")]
    pub metric: MetricName,
    /// Take the first rows of the base only.
    #[arg(long, value_name = "COUNT", help_heading = "Data")]
    pub limit_base: Option<NonZeroU64>,
    /// Rows in percent, evenly spread, that are written after the graph was built, and so are in no graph.
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = read_percent, help_heading = "Data")]
    pub memtable: f64,
    /// Rows in percent, at random, that are deleted after the graph was built.
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = read_percent, help_heading = "Data")]
    pub deleted: f64,
    /// Other rows are deleted, for another number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER", help_heading = "Data")]
    pub seed: u64,
    /// Where the scratch collection lies: a new folder is made in this one, and removed at the end. Default: the system's
    /// folder for temporary files.
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub data: Option<PathBuf>,
}

impl AnnOptions {
    /// A walk of that reach.
    pub fn effort(&self, reach: f32) -> Effort {
        if self.by_codes { Effort::ByCodes(reach) } else { Effort::Reach(reach) }
    }
}

/// Recall that the planner is asked for, unless it is said.
const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];
/// The same with filters: for each of them a line.
const FILTERED_TARGETS: [f64; 1] = [0.95];

impl AnnOptions {
    /// Recall that the planner is asked for.
    pub fn targets(&self) -> &[f64] {
        match (&self.target_recall[..], &self.filter[..]) {
            ([], []) => &TARGETS,
            ([], _) => &FILTERED_TARGETS,
            (given, _) => given,
        }
    }
}

fn read_reach(text: &str) -> Result<f32, String> {
    let expected = || "expected a number from 0, such as 0.1".to_owned();
    text.parse().ok().filter(|reach: &f32| reach.is_finite() && *reach >= 0.0).ok_or_else(expected)
}
