//! All queries, one after the other on each thread, as fast as they are answered.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::AnnOptions;
use super::store::Store;
use crate::cli::bench::latency::median;
use crate::cli::bench::report::rounded;
use crate::cli::bench::truth::Truth;
use crate::collection::{Effort, Found, Plan, Search};
use crate::filter::Filter;
use crate::types::Vector;

/// What sweeps have in common.
pub struct Sweeps<'a> {
    /// Where is searched.
    pub store: &'a Store,
    /// What is searched for.
    pub queries: &'a [Vector],
    /// How.
    pub options: &'a AnnOptions,
}

/// What is asked of each query.
pub struct Asked<'a> {
    /// How much is done to find the nearest.
    pub effort: Effort,
    /// Only records that fulfil it.
    pub filter: Option<&'a Arc<Filter>>,
    /// The true answers, one for each query.
    pub truths: &'a [Truth],
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

/// The same, and how the searches were planned.
pub struct Swept {
    /// The figures.
    pub measured: Measured,
    /// How many queries each plan was made for.
    pub plans: BTreeMap<&'static str, usize>,
    /// The share that was expected to fulfil the filter, in the mean.
    pub selectivity_estimated: f64,
    /// Queries with fewer hits than there are to be found.
    pub hits_missing: usize,
}

/// What one thread has found in the sweep that is not timed.
#[derive(Default)]
struct Totals {
    recall: f64,
    hops: usize,
    distances: usize,
    plans: [usize; PLANS.len()],
    selectivity_estimated: f64,
    hits_missing: usize,
}

/// Plans with their names.
const PLANS: [(Plan, &str); 3] = [(Plan::Graph, "graph"), (Plan::FilteredScan, "filtered_scan"), (Plan::Flat, "flat")];

impl Sweeps<'_> {
    /// Once to see what is found, which also warms the caches, then `--repeat` times for the clock.
    pub fn run(&self, asked: &Asked<'_>) -> Swept {
        let search = |vector: &Vector| {
            let (space, top_k) = (self.store.engine.number, self.options.top_k as usize);
            Search { space, vector: vector.clone(), top_k, filter: asked.filter.cloned(), effort: asked.effort }
        };
        let searches: Vec<Search> = self.queries.iter().map(search).collect();
        let (_, totals) = self.sweep(&searches, |totals: &mut Totals, query, found| {
            let truth = &asked.truths[query];
            totals.recall += truth.recall(found.hits().map(|(score, row)| (score, row.id.as_str())));
            totals.hops += found.stats.hops;
            totals.distances += found.stats.distances;
            for (count, (plan, _)) in totals.plans.iter_mut().zip(PLANS) {
                *count += usize::from(found.stats.plan == plan);
            }
            totals.selectivity_estimated += found.stats.selectivity_estimated;
            totals.hits_missing += usize::from(found.len() < truth.len());
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
        let plans = PLANS.iter().enumerate();
        let measured = Measured {
            recall: (mean(|totals| totals.recall) * 1e5).round() / 1e5,
            queries_per_s: rounded(median((0..self.options.repeat.get()).map(|_| rate()))),
            hops: rounded(mean(|totals| totals.hops as f64)),
            distances: rounded(mean(|totals| totals.distances as f64)),
        };
        Swept {
            measured,
            plans: plans.map(|(at, (_, name))| (*name, totals.iter().map(|totals| totals.plans[at]).sum())).collect(),
            selectivity_estimated: mean(|totals| totals.selectivity_estimated),
            hits_missing: totals.iter().map(|totals| totals.hits_missing).sum(),
        }
    }

    /// Runs every search once. `see` is given what its thread keeps, the number of the query, and what was found. Threads time
    /// themselves: this one may be woken late where the cores are busy.
    fn sweep<Kept: Default + Send>(
        &self,
        searches: &[Search],
        see: impl Fn(&mut Kept, usize, &Found) + Sync,
    ) -> (Duration, Vec<Kept>) {
        let thread_count = self.options.threads.get();
        let (next, ready) = (AtomicUsize::new(0), Barrier::new(thread_count));
        let work = || {
            let mut kept = Kept::default();
            ready.wait();
            let started = Instant::now();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(search) = searches.get(number) else { break };
                // The view is taken for each, as it is for each call.
                let found = search.run(self.store.engine.collection.view());
                see(&mut kept, number, &found);
            }
            (started, Instant::now(), kept)
        };
        let done: Vec<(Instant, Instant, Kept)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..thread_count).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
        });
        let started = done.iter().map(|(started, ..)| *started).min();
        let ended = done.iter().map(|(_, ended, _)| *ended).max();
        let time = started.zip(ended).map_or(Duration::ZERO, |(started, ended)| ended - started);
        (time, done.into_iter().map(|(.., kept)| kept).collect())
    }
}
