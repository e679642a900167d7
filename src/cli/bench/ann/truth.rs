//! The true answers, and how much of them was found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::store::Store;
use crate::cli::bench::BenchError;
use crate::cli::bench::bar::Bar;
use crate::collection::{Effort, Found, Search};
use crate::types::{Metric, Vector, norm};

/// Room for the rounding of a score in 32 bits, which decides between records that are equally near: of a cosine, or as a
/// share of a dot product or a distance.
const ROUNDING: f32 = 1e-6;
/// Queries that are answered together by comparing all records, each of which is then read once for all of them.
const EXACT_QUERIES: usize = 32;

/// The true answer to one query.
pub struct Truth {
    rows: HashSet<u64>,
    /// Scores from here to there are those of the last of them.
    last_score: (f32, f32),
}

impl Truth {
    fn new(metric: Metric, rows: HashSet<u64>, last_score: f32) -> Self {
        let rounding = ROUNDING * if metric == Metric::Cosine { 1.0 } else { last_score.abs() };
        Self { rows, last_score: (last_score - rounding, last_score + rounding) }
    }

    /// Of rows, best first, as a file has them; of a record that is as near as the last, the file may have any.
    pub fn read(store: &Store, queries: &[Vector], rows: &[Vec<u64>]) -> Result<Vec<Self>, BenchError> {
        let view = store.collection.view();
        let of_query = |(query, rows): (&Vector, &Vec<u64>)| {
            let last = *rows.last().ok_or("the truth has at least one column")?;
            let (record, _) = view.get(&Store::id(last)).ok_or_else(|| format!("row {last} was not written"))?;
            let last_score = score(store.metric, query.components(), record.components);
            Ok(Self::new(store.metric, rows.iter().copied().collect(), last_score))
        };
        queries.iter().zip(rows).map(of_query).collect()
    }

    /// By comparing all records, on all cores.
    pub fn find(store: &Store, queries: &[Vector], top_k: usize) -> Vec<Self> {
        let bar = Bar::new("exact answers", queries.len() as u64, "queries");
        let (view, space, next) = (store.collection.view(), store.space, AtomicUsize::new(0));
        let batches: Vec<&[Vector]> = queries.chunks(EXACT_QUERIES).collect();
        let work = || {
            let mut truths = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(number) else { return truths };
                let search = |vector: &Vector| Search {
                    space,
                    vector: vector.clone(),
                    top_k,
                    filter: None,
                    effort: Effort::Exact,
                };
                let searches: Vec<Search> = batch.iter().map(search).collect();
                let found = Search::run_all(&view, &searches.iter().collect::<Vec<_>>());
                truths.push((number, found.iter().map(|found| Self::of(store.metric, found)).collect::<Vec<_>>()));
                bar.add(batch.len() as u64);
            }
        };
        let mut truths: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..core_count()).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("an exact search does not panic")).collect()
        });
        truths.sort_by_key(|(number, _)| *number);
        truths.into_iter().flat_map(|(_, truths)| truths).collect()
    }

    fn of(metric: Metric, found: &Found) -> Self {
        let rows = found.hits().filter_map(|(_, row)| row.id.as_str().parse().ok()).collect();
        Self::new(metric, rows, found.hits().last().map_or(0.0, |(score, _)| score))
    }

    /// The share that was found, 0 to 1. Each hit counts once, and no more than there are to be found.
    pub fn recall<'a>(&self, hits: impl Iterator<Item = (f32, &'a str)>) -> f64 {
        let (from, to) = self.last_score;
        let mut right = HashSet::with_capacity(self.rows.len());
        for (score, id) in hits {
            let is_true = id.parse().is_ok_and(|row: u64| self.rows.contains(&row));
            if is_true || (from..=to).contains(&score) {
                right.insert(id);
            }
        }
        right.len().min(self.rows.len()) as f64 / self.rows.len() as f64
    }
}

fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What a search would say of these two, in double precision until the end.
fn score(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let score = match metric {
        Metric::Cosine => pairs().map(|(a, b)| a * b).sum::<f64>() / norm(a) / norm(b),
        Metric::DotProduct => pairs().map(|(a, b)| a * b).sum(),
        Metric::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
    };
    score as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_that_is_as_near_as_the_last_counts_and_nothing_twice() {
        let truth = Truth::new(Metric::Cosine, HashSet::from([3, 5]), 0.5);
        let recall = |hits: &[(f32, &str)]| truth.recall(hits.iter().copied());
        assert_eq!(recall(&[(0.9, "3"), (0.5, "5")]), 1.0);
        assert_eq!(recall(&[(0.9, "3"), (0.500_000_4, "8")]), 1.0);
        assert_eq!(recall(&[(0.9, "3"), (0.9, "3")]), 0.5);
        assert_eq!(recall(&[(0.9, "3"), (0.499, "8")]), 0.5);
        assert_eq!(recall(&[(0.5, "7"), (0.5, "8"), (0.5, "9")]), 1.0);
        assert_eq!(recall(&[]), 0.0);
    }

    #[test]
    fn scores_are_those_of_the_metrics() {
        let (a, b) = ([3.0, 4.0], [0.0, 2.0]);
        let scores = [Metric::Cosine, Metric::DotProduct, Metric::Euclidean].map(|metric| score(metric, &a, &b));
        assert_eq!(scores, [0.8, 8.0, 13.0_f32.sqrt()]);
    }
}
