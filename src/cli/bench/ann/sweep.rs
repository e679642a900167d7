//! All queries, one after the other on each thread, as fast as they are answered.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::AnnOptions;
use super::store::Store;
use super::truth::Truth;
use crate::cli::bench::latency::median;
use crate::cli::bench::report::rounded;
use crate::collection::{Effort, Found, Search};
use crate::types::Vector;

/// What sweeps have in common.
pub struct Sweeps<'a> {
    /// Where is searched.
    pub store: &'a Store,
    /// What is searched for.
    pub queries: &'a [Vector],
    /// The true answers, one for each query.
    pub truths: &'a [Truth],
    /// How.
    pub options: &'a AnnOptions,
}

/// What sweeps with one effort gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// The share of the truth that was found.
    pub recall: f64,
    /// The median of the sweeps.
    pub queries_per_s: f64,
    /// Nodes visited, for each query.
    pub hops: f64,
    /// Distances computed, for each query.
    pub distances: f64,
}

/// What one thread has found in the sweep that is not timed.
#[derive(Default)]
struct Totals {
    recall: f64,
    hops: usize,
    distances: usize,
}

impl Sweeps<'_> {
    /// Once to see what is found, which also warms the caches, then `--repeat` times for the clock.
    pub fn run(&self, effort: Effort) -> Measured {
        let search = |vector: &Vector| {
            let (space, top_k) = (self.store.space, self.options.top_k as usize);
            Search { space, vector: vector.clone(), top_k, filter: None, effort }
        };
        let searches: Vec<Search> = self.queries.iter().map(search).collect();
        let (_, totals) = self.sweep(&searches, |totals: &mut Totals, query, found| {
            totals.recall += self.truths[query].recall(found.hits().map(|(score, row)| (score, row.id.as_str())));
            totals.hops += found.stats.hops;
            totals.distances += found.stats.distances;
        });
        let rate = || {
            let (time, _) = self.sweep(&searches, |(), _, found| {
                for (score, row) in found.hits() {
                    black_box((score, row.id.as_str()));
                }
            });
            searches.len() as f64 / time.as_secs_f64()
        };
        let mean = |of: fn(&Totals) -> f64| totals.iter().map(of).sum::<f64>() / searches.len() as f64;
        Measured {
            recall: (mean(|totals| totals.recall) * 1e5).round() / 1e5,
            queries_per_s: rounded(median((0..self.options.repeat.get()).map(|_| rate()))),
            hops: rounded(mean(|totals| totals.hops as f64)),
            distances: rounded(mean(|totals| totals.distances as f64)),
        }
    }

    /// Runs every search once. `see` is given what its thread keeps, the number of the query, and what was found.
    fn sweep<Kept: Default + Send>(
        &self,
        searches: &[Search],
        see: impl Fn(&mut Kept, usize, &Found) + Sync,
    ) -> (Duration, Vec<Kept>) {
        let thread_count = self.options.threads.get();
        let (next, ready) = (AtomicUsize::new(0), Barrier::new(thread_count + 1));
        let work = || {
            let mut kept = Kept::default();
            ready.wait();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(search) = searches.get(number) else { break };
                // The view is taken for each, as it is for each call.
                let found = search.run(self.store.collection.view());
                see(&mut kept, number, &found);
            }
            kept
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(work)).collect();
            ready.wait();
            let started = Instant::now();
            let kept = threads.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect();
            (started.elapsed(), kept)
        })
    }
}
