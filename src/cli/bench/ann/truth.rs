//! The true answers: from a file, or by comparing all records.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::data::DataSet;
use super::store::Store;
use crate::cli::bench::BenchError;
use crate::cli::bench::bar::Bar;
use crate::cli::bench::truth::Truth;
use crate::collection::{Effort, Search};
use crate::filter::Filter;
use crate::types::{Metric, Vector, norm};

/// Queries that are answered together by comparing all records, each of which is then read once for all of them.
const EXACT_QUERIES: usize = 32;

/// Of rows, best first, as a file has them; of a record that is as near as the last, the file may have any.
pub fn read_truths(store: &Store, data: &DataSet, rows: &[Vec<u64>]) -> Result<Vec<Truth>, BenchError> {
    let (view, metric) = (store.engine.collection.view(), store.engine.space.metric);
    let of_query = |(query, rows): (&Vector, &Vec<u64>)| {
        let last = *rows.last().ok_or("the truth has at least one column")?;
        let (record, _) = view.get(data.id(last)?.as_str()).ok_or_else(|| format!("row {last} was not written"))?;
        let last_score = score(metric, query.components(), record.components);
        let ids = rows.iter().map(|&row| data.id(row)).collect::<Result<_, _>>()?;
        Ok(Truth::new(metric, ids, last_score))
    };
    data.queries.iter().zip(rows).map(of_query).collect()
}

/// By comparing all records that fulfil the filter, on all cores.
pub fn find_truths(store: &Store, queries: &[Vector], top_k: usize, filter: Option<&Arc<Filter>>) -> Vec<Truth> {
    let bar = Bar::new("exact answers", queries.len() as u64, "queries");
    let (view, space, metric) = (store.engine.collection.view(), store.engine.number, store.engine.space.metric);
    let next = AtomicUsize::new(0);
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
                filter: filter.cloned(),
                effort: Effort::Exact,
            };
            let searches: Vec<Search> = batch.iter().map(search).collect();
            let found = Search::run_all(&view, &searches.iter().collect::<Vec<_>>());
            truths.push((number, found.iter().map(|found| Truth::of(metric, found)).collect::<Vec<_>>()));
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
    fn scores_are_those_of_the_metrics() {
        let (a, b) = ([3.0, 4.0], [0.0, 2.0]);
        let scores = [Metric::Cosine, Metric::DotProduct, Metric::Euclidean].map(|metric| score(metric, &a, &b));
        assert_eq!(scores, [0.8, 8.0, 13.0_f32.sqrt()]);
    }
}
