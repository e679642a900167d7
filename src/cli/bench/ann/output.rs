//! What is printed: lines of JSON, or a table for a person.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

use super::filtered::FilterPoint;
use super::sweep::{Measured, Sweeps};
use crate::cli::bench::BenchError;
use crate::cli::bench::metric_name::MetricName;
use crate::cli::bench::process::own_memory;
use crate::cli::bench::report::{print_line, rounded};
use crate::distance::kernels;

/// Where lines go.
pub enum Output {
    /// Lines of JSON.
    Json,
    /// A table on a terminal.
    Table,
}

/// One line of measurements.
#[derive(Serialize)]
pub struct Point {
    /// How far walks went, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<f32>,
    /// The recall that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_recall: Option<f64>,
    /// What came of it.
    #[serde(flatten)]
    pub measured: Measured,
}

/// The index, before it is asked.
#[derive(Serialize)]
struct Ready {
    ready: Summary,
}

/// The last line.
#[derive(Serialize)]
struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(flatten)]
    summary: Summary,
}

/// Queries per second at a recall; null where it was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct At {
    #[serde(rename = ".90")]
    at_90: Option<f64>,
    #[serde(rename = ".95")]
    at_95: Option<f64>,
    #[serde(rename = ".98")]
    at_98: Option<f64>,
    #[serde(rename = ".99")]
    at_99: Option<f64>,
}

#[derive(Serialize)]
struct Summary {
    load_s: f64,
    build_s: f64,
    engine_build_s: f64,
    rows: usize,
    dimension: usize,
    metric: MetricName,
    k: u32,
    threads: usize,
    queries: usize,
    segments: usize,
    segment_rows: usize,
    memtable_rows: usize,
    bytes_per_row: BytesPerRow,
    resident_mb: Option<f64>,
    cpu: &'static str,
}

#[derive(Serialize)]
struct BytesPerRow {
    graph: f64,
    codes: f64,
    vectors: f64,
    other: f64,
}

impl Output {
    /// A table where standard output is a terminal, unless JSON is asked for.
    pub fn new(json: bool) -> Self {
        if json || !io::stdout().is_terminal() { Self::Json } else { Self::Table }
    }

    /// The index is built, and waits.
    pub fn ready(&self, sweeps: &Sweeps<'_>) -> Result<(), BenchError> {
        print_line(&Ready { ready: Summary::of(sweeps) })
    }

    /// Before the first point.
    pub fn begin(&self) -> Result<(), BenchError> {
        self.row(format_args!("{:<13}{:>9}{:>13}{:>9}{:>12}", "", "recall", "queries/s", "hops", "distances"))
    }

    /// Before the first point with a filter.
    pub fn begin_filters(&self) -> Result<(), BenchError> {
        self.row(format_args!(
            "{:>9}{:>13}{:>9}{:>12}{:>10}{:>10}{:>9}  {:<14}filter",
            "recall", "queries/s", "hops", "distances", "share", "expected", "missing", "plan"
        ))
    }

    /// One measurement with a filter.
    pub fn filter_point(&self, point: &FilterPoint<'_>) -> Result<(), BenchError> {
        if matches!(self, Self::Json) {
            return print_line(point);
        }
        let Measured { recall, queries_per_s, hops, distances } = point.measured;
        let FilterPoint { filter, selectivity, selectivity_estimated, hits_missing, .. } = point;
        let plan = point.plan.iter().max_by_key(|(_, count)| **count).map_or("", |(name, _)| name);
        self.row(format_args!(
            "{recall:>9.5}{queries_per_s:>13.0}{hops:>9.1}{distances:>12.1}{selectivity:>10.5}\
             {selectivity_estimated:>10.5}{hits_missing:>9}  {plan:<14}{filter}"
        ))
    }

    /// One measurement.
    pub fn point(&self, point: &Point) -> Result<(), BenchError> {
        if matches!(self, Self::Json) {
            return print_line(point);
        }
        let effort = match (point.reach, point.target_recall) {
            (Some(reach), _) => format!("reach {reach}"),
            (_, target) => format!("recall {}", target.unwrap_or_default()),
        };
        let Measured { recall, queries_per_s, hops, distances } = point.measured;
        self.row(format_args!("{effort:<13}{recall:>9.5}{queries_per_s:>13.0}{hops:>9.1}{distances:>12.1}"))
    }

    /// The summary; of points where there are any without a filter.
    pub fn end(&self, sweeps: &Sweeps<'_>, points: &[Measured]) -> Result<(), BenchError> {
        let (at, summary) = ((!points.is_empty()).then(|| At::of(points)), Summary::of(sweeps));
        if matches!(self, Self::Json) {
            return print_line(&End { at, summary });
        }
        let rate = |at: Option<f64>| at.map_or("not reached".to_owned(), |rate| format!("{rate:.0}"));
        let at = at.map(|at| [(".90", at.at_90), (".95", at.at_95), (".98", at.at_98), (".99", at.at_99)]);
        for (recall, at) in at.into_iter().flatten() {
            self.row(format_args!("queries/s at recall {recall}: {}", rate(at)))?;
        }
        let Summary { load_s, build_s, rows, dimension, segments, memtable_rows, cpu, .. } = summary;
        let BytesPerRow { graph, codes, vectors, other } = summary.bytes_per_row;
        self.row(format_args!(
            "{rows} rows of {dimension}: written in {load_s} s, built in {build_s} s; kernels: {cpu}"
        ))?;
        self.row(format_args!("segments: {segments}, with {memtable_rows} rows outside of them"))?;
        self.row(format_args!("bytes for each row: graph {graph}, codes {codes}, vectors {vectors}, other {other}"))
    }

    fn row(&self, text: std::fmt::Arguments<'_>) -> Result<(), BenchError> {
        match self {
            Self::Json => Ok(()),
            Self::Table => Ok(writeln!(io::stdout(), "{text}")?),
        }
    }
}

impl Summary {
    fn of(sweeps: &Sweeps<'_>) -> Self {
        let Sweeps { store, options, queries, .. } = sweeps;
        let (statistics, rows) = (store.engine.collection.statistics(), store.engine.collection.view().record_count());
        let per_row = |bytes: u64| rounded(bytes as f64 / rows as f64);
        let seconds = |time: Duration| rounded(time.as_secs_f64());
        Self {
            load_s: seconds(store.load),
            build_s: seconds(store.build),
            engine_build_s: rounded(statistics.build_time.as_secs_f64()),
            rows,
            dimension: queries.first().map_or(0, |query| query.dimension().get()),
            metric: options.metric,
            k: options.top_k,
            threads: options.threads.get(),
            queries: queries.len(),
            segments: statistics.segment_count,
            segment_rows: statistics.segment_rows,
            memtable_rows: statistics.table_rows,
            bytes_per_row: BytesPerRow {
                graph: per_row(statistics.graph_bytes),
                codes: per_row(statistics.code_bytes),
                vectors: per_row(statistics.vector_bytes),
                other: per_row(statistics.other_bytes),
            },
            resident_mb: own_memory().map(|memory| rounded(memory.resident_bytes as f64 / 1e6)),
            cpu: kernels().name,
        }
    }
}

impl At {
    fn of(points: &[Measured]) -> Self {
        let at = |target| rate_at(target, points).map(rounded);
        Self { at_90: at(0.90), at_95: at(0.95), at_98: at(0.98), at_99: at(0.99) }
    }
}

/// The rate at a recall, interpolated between the points around it (of its logarithm, since it falls ever faster). Where
/// all have more recall it is that of the point with the least.
fn rate_at(target: f64, points: &[Measured]) -> Option<f64> {
    let mut curve: Vec<(f64, f64)> = points.iter().map(|point| (point.recall, point.queries_per_s)).collect();
    curve.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let around = curve.windows(2).rev().find(|pair| (pair[0].0..=pair[1].0).contains(&target) && pair[0].0 < pair[1].0);
    if let Some(&[(recall_below, rate_below), (recall_above, rate_above)]) = around {
        let share = (target - recall_below) / (recall_above - recall_below);
        return Some((rate_below.ln() * (1.0 - share) + rate_above.ln() * share).exp());
    }
    curve.first().filter(|(recall, _)| *recall >= target).map(|(_, rate)| *rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(curve: &[(f64, f64)]) -> Vec<Measured> {
        let point = |&(recall, queries_per_s)| Measured { recall, queries_per_s, hops: 0.0, distances: 0.0 };
        curve.iter().map(point).collect()
    }

    #[test]
    fn rates_are_interpolated_between_the_points_around() {
        let points = points(&[(0.94, 4000.0), (0.96, 1000.0), (0.80, 9000.0)]);
        let rate = |target| rate_at(target, &points).map(f64::round);
        assert_eq!(rate(0.95), Some(2000.0));
        assert_eq!(rate(0.98), None);
        assert_eq!(rate(0.80), Some(9000.0));
    }

    #[test]
    fn with_more_recall_throughout_the_least_counts() {
        let at = At::of(&points(&[(1.0, 70.0), (1.0, 60.0)]));
        assert_eq!((at.at_90, at.at_99), (Some(60.0), Some(60.0)));
    }
}
