//! What is printed: lines of JSON, or a table for a person.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::ChurnOptions;
use super::builds::Builds;
use super::phase::{Phase, PhaseEnd, Window};
use super::searching::Searching;
use crate::cli::bench::BenchError;
use crate::cli::bench::engine::Engine;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::metric_name::MetricName;
use crate::cli::bench::process::own_memory;
use crate::cli::bench::report::{print_line, rounded};
use crate::distance::kernels;

/// Where lines go, and what they are made of.
pub struct Output<'a> {
    is_json: bool,
    options: &'a ChurnOptions,
    engine: &'a Engine,
    searching: &'a Searching<'a>,
    builds: &'a Builds,
}

#[derive(Serialize)]
struct PhaseLine {
    phase: Phase,
    seconds: f64,
    rows_written: u64,
    rows_per_s: f64,
    searches: usize,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    max_us: Option<f64>,
    recall: Option<f64>,
    recall_least: Option<f64>,
    recall_samples: usize,
    #[serde(flatten)]
    store: StoreNow,
}

/// The store at the end of a phase.
#[derive(Serialize)]
struct StoreNow {
    rows: usize,
    rows_built: u64,
    built_per_written: f64,
    segments: usize,
    table_rows: usize,
    dead_rows: usize,
    resident_mb: Option<f64>,
}

#[derive(Serialize)]
struct End {
    p99_building_us: Option<f64>,
    p99_idle_us: Option<f64>,
    p99_ratio: Option<f64>,
    recall: Option<f64>,
    recall_least: Option<f64>,
    builds: usize,
    engine_build_s: f64,
    seconds: f64,
    #[serde(flatten)]
    store: StoreNow,
    dimension: usize,
    metric: MetricName,
    k: u32,
    target_recall: f64,
    search_threads: usize,
    rows_per_s_asked: Option<u64>,
    cpu: &'static str,
}

impl<'a> Output<'a> {
    /// A table where standard output is a terminal, unless JSON is asked for.
    pub fn new(
        options: &'a ChurnOptions,
        engine: &'a Engine,
        searching: &'a Searching<'a>,
        builds: &'a Builds,
    ) -> Self {
        Self { is_json: options.json || !io::stdout().is_terminal(), options, engine, searching, builds }
    }

    /// Before the first phase.
    pub fn begin(&self) -> Result<(), BenchError> {
        self.row(format_args!(
            "{:<8}{:>8}{:>10}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}{:>7}{:>10}{:>8}{:>9}",
            "",
            "s",
            "rows/s",
            "searches",
            "p50 us",
            "p99 us",
            "max us",
            "recall",
            "least",
            "built",
            "segments",
            "tables",
            "MB"
        ))
    }

    /// A phase has ended.
    pub fn phase(&self, end: &PhaseEnd) -> Result<(), BenchError> {
        let mut latencies = self.searching.latencies(&[end.window]);
        let recall = self.searching.recall(&end.window);
        let seconds = end.window.length().as_secs_f64();
        let line = PhaseLine {
            phase: end.phase,
            seconds: rounded(seconds),
            rows_written: end.rows,
            rows_per_s: rounded(if end.rows > 0 { end.rows as f64 / seconds } else { 0.0 }),
            searches: latencies.count(),
            p50_us: quantile_us(&mut latencies, 0.5),
            p99_us: quantile_us(&mut latencies, 0.99),
            max_us: quantile_us(&mut latencies, 1.0),
            recall: recall.mean.map(rounded),
            recall_least: recall.least.map(rounded),
            recall_samples: recall.samples,
            store: self.store(end.rows_written),
        };
        if self.is_json {
            return print_line(&line);
        }
        let StoreNow { built_per_written, segments, table_rows, resident_mb, .. } = line.store;
        let name = format!("{:?}", line.phase).to_lowercase();
        let figure = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| figure.to_string());
        self.row(format_args!(
            "{name:<8}{:>8}{:>10}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}{built_per_written:>7.2}{segments:>10}{table_rows:>8}{:>9}",
            line.seconds,
            line.rows_per_s,
            line.searches,
            figure(line.p50_us),
            figure(line.p99_us),
            figure(line.max_us),
            figure(line.recall),
            figure(line.recall_least),
            figure(resident_mb),
        ))
    }

    /// The summary; `idle` was the last phase.
    pub fn end(&self, idle: &PhaseEnd) -> Result<(), BenchError> {
        let builds = self.builds.ended();
        let all = Window { from: std::time::Duration::ZERO, to: idle.window.to };
        let p99 = |windows: &[Window]| quantile_us(&mut self.searching.latencies(windows), 0.99);
        let (p99_building_us, p99_idle_us) = (p99(&builds), p99(&[idle.window]));
        let recall = self.searching.recall(&all);
        let (_, build_time) = self.engine.collection.built();
        let line = End {
            p99_building_us,
            p99_idle_us,
            p99_ratio: p99_building_us.zip(p99_idle_us).map(|(building, idle)| rounded(building / idle)),
            recall: recall.mean.map(rounded),
            recall_least: recall.least.map(rounded),
            builds: builds.len(),
            engine_build_s: rounded(build_time.as_secs_f64()),
            seconds: rounded(all.length().as_secs_f64()),
            store: self.store(idle.rows_written),
            dimension: self.engine.space.dimension.get(),
            metric: self.options.metric,
            k: self.options.top_k,
            target_recall: self.options.target_recall,
            search_threads: self.options.search_threads.get(),
            rows_per_s_asked: self.options.rows_per_s.map(std::num::NonZeroU64::get),
            cpu: kernels().name,
        };
        if self.is_json {
            return print_line(&line);
        }
        match (line.p99_ratio, line.p99_building_us, line.p99_idle_us) {
            (Some(ratio), Some(building), Some(idle)) => {
                self.row(format_args!("p99 while building: {building} us, {ratio} times that of idle ({idle} us)"))?;
            }
            _ => self.row(format_args!("no search ended while something was being built"))?,
        }
        if let Some(least) = line.recall_least {
            self.row(format_args!("least recall of a run of 500 hits or more: {least}"))?;
        }
        let StoreNow { rows, rows_built, built_per_written, dead_rows, .. } = line.store;
        self.row(format_args!(
            "{rows} rows, {rows_built} built in {} builds, {built_per_written} for each row written; {dead_rows} dead",
            line.builds
        ))
    }

    fn store(&self, rows_written: u64) -> StoreNow {
        let statistics = self.engine.collection.statistics();
        StoreNow {
            rows: self.engine.collection.view().record_count(),
            rows_built: statistics.rows_built,
            built_per_written: rounded(statistics.rows_built as f64 / rows_written as f64),
            segments: statistics.segment_count,
            table_rows: statistics.table_rows,
            dead_rows: statistics.dead_rows,
            resident_mb: own_memory().map(|memory| rounded(memory.resident_bytes as f64 / 1e6)),
        }
    }

    fn row(&self, text: std::fmt::Arguments<'_>) -> Result<(), BenchError> {
        match self.is_json {
            true => Ok(()),
            false => Ok(writeln!(io::stdout(), "{text}")?),
        }
    }
}

fn quantile_us(latencies: &mut Latencies, share: f64) -> Option<f64> {
    (latencies.count() > 0).then(|| (latencies.quantile_ms(share) * 1000.0).round())
}
