//! What `bench churn` takes.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use crate::cli::bench::metric_name::MetricName;
use crate::cli::bench::ranges::{read_percent, read_recall, read_seconds};
use crate::types::limits::TOP_K_MAX;

/// What `bench churn` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ChurnOptions {
    /// Hits of each answer.
    #[arg(short = 'k', long = "top-k", default_value_t = 10, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=TOP_K_MAX as i64))]
    pub top_k: u32,
    /// The recall that searches ask for.
    #[arg(long, default_value = "0.95", value_name = "SHARE", value_parser = read_recall)]
    pub target_recall: f64,
    /// Rows in percent, at random, that are written again, each near to where another row lies.
    #[arg(long, default_value = "20", value_name = "PERCENT", value_parser = read_percent)]
    pub updates: f64,
    /// Rows in percent, at random, that are deleted after that.
    #[arg(long, default_value = "20", value_name = "PERCENT", value_parser = read_percent)]
    pub deletes: f64,
    /// Rows that are written, or deleted, in a second. Default: as many as the store takes.
    #[arg(long, value_name = "COUNT")]
    pub rows_per_s: Option<NonZeroU64>,
    /// Threads that search all the time.
    #[arg(long, default_value = "1", value_name = "COUNT")]
    pub search_threads: NonZeroUsize,
    /// Time that is measured once everything is built.
    #[arg(long, default_value = "5", value_name = "SECONDS", value_parser = read_seconds)]
    pub idle: f64,
    /// Other rows are updated and deleted, for another number.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub seed: u64,
    /// Lines of JSON also where standard output is a terminal.
    #[arg(long)]
    pub json: bool,

    /// The vectors to write (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub base: PathBuf,
    /// The vectors to search for (.npy).
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    pub queries: PathBuf,
    /// How vectors are compared.
    #[arg(long, value_enum, default_value_t = MetricName::Cosine, help_heading = "Data")]
    pub metric: MetricName,
    /// Take the first rows of the base only.
    #[arg(long, value_name = "COUNT", help_heading = "Data")]
    pub limit_base: Option<NonZeroU64>,
    /// Where the scratch collection lies: a new folder is made in this one, and removed at the end. Default: the system's
    /// folder for temporary files.
    #[arg(long, value_name = "FOLDER", help_heading = "Data")]
    pub data: Option<PathBuf>,
}
