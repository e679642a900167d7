//! Searches that go on all the time, and what is remembered of them.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::ChurnOptions;
use super::phase::Window;
use crate::cli::bench::engine::Engine;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::truth::Truth;
use crate::collection::{Effort, Search};
use crate::types::Vector;

/// One search of so many is repeated exactly.
const SAMPLED_EVERY: u64 = 50;
/// Hits of a run of samples that has a recall of its own.
const RUN_HITS: usize = 500;
/// How long an empty collection is left alone.
const EMPTY: Duration = Duration::from_millis(1);

/// What the threads that search have in common.
pub struct Searching<'a> {
    engine: &'a Engine,
    searches: Vec<Search>,
    next: AtomicUsize,
    clock: Instant,
    /// Held for a push, or a pass over it between two phases.
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    /// In the order in which they ended.
    timed: Vec<Timed>,
    sampled: Vec<Sampled>,
}

/// Eight bytes for each search: the log must not outgrow the collection.
#[derive(Clone, Copy)]
struct Timed {
    ended_ms: u32,
    latency_us: u32,
}

/// A search that was repeated exactly on the same view.
#[derive(Clone, Copy)]
struct Sampled {
    ended_ms: u32,
    found: usize,
    expected: usize,
}

/// How much of the truth was found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recall {
    /// Of all samples; none without samples.
    pub mean: Option<f64>,
    /// Of the run that has the least.
    pub least: Option<f64>,
    /// Searches that were repeated.
    pub samples: usize,
}

impl<'a> Searching<'a> {
    /// For one after the other of these queries, for ever.
    pub fn new(engine: &'a Engine, queries: &[Vector], options: &ChurnOptions, clock: Instant) -> Self {
        let search = |vector: &Vector| Search {
            space: engine.number,
            vector: vector.clone(),
            top_k: options.top_k as usize,
            filter: None,
            effort: Effort::Recall(options.target_recall),
        };
        let searches = queries.iter().map(search).collect();
        Self { engine, searches, next: AtomicUsize::new(0), clock, log: Mutex::default() }
    }

    /// Searches until it is over.
    pub fn run(&self, is_over: &AtomicBool) {
        let mut done = 0;
        while !is_over.load(Ordering::Relaxed) {
            if self.engine.collection.view().record_count() == 0 {
                thread::sleep(EMPTY);
                continue;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.search(&self.searches[number % self.searches.len()], done % SAMPLED_EVERY == 0);
            done += 1;
        }
    }

    fn search(&self, search: &Search, is_sampled: bool) {
        let started = Instant::now();
        let view = self.engine.collection.view();
        let found = search.run(view.clone());
        for (score, row) in found.hits() {
            black_box((score, row.id.as_str()));
        }
        let latency_us = u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX);
        let ended_ms = u32::try_from(self.clock.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.log().timed.push(Timed { ended_ms, latency_us });
        if is_sampled {
            let exact = Search { effort: Effort::Exact, ..search.clone() }.run(view);
            let truth = Truth::of(self.engine.space.metric, &exact);
            let found = truth.found_in(found.hits().map(|(score, row)| (score, row.id.as_str())));
            self.log().sampled.push(Sampled { ended_ms, found, expected: truth.len() });
        }
    }

    /// Latencies of the searches that ended in one of the windows.
    pub fn latencies(&self, windows: &[Window]) -> Latencies {
        let mut latencies = Latencies::default();
        let log = self.log();
        for timed in &log.timed {
            let ended = Duration::from_millis(timed.ended_ms.into());
            if windows.iter().any(|window| window.contains(ended)) {
                latencies.record(Duration::from_micros(timed.latency_us.into()));
            }
        }
        latencies
    }

    /// Recall of the searches that ended in the window.
    pub fn recall(&self, window: &Window) -> Recall {
        let log = self.log();
        let is_inside = |sampled: &&Sampled| window.contains(Duration::from_millis(sampled.ended_ms.into()));
        let samples: Vec<(usize, usize)> =
            log.sampled.iter().filter(is_inside).map(|sampled| (sampled.found, sampled.expected)).collect();
        recall(&samples)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of samples in their order: how many were found, of how many.
fn recall(samples: &[(usize, usize)]) -> Recall {
    let share = |found: usize, expected: usize| (expected > 0).then(|| found as f64 / expected as f64);
    let (mut found_all, mut expected_all) = (0, 0);
    let (mut first, mut found_run, mut expected_run) = (0, 0, 0);
    let mut least: Option<f64> = None;
    for &(found, expected) in samples {
        (found_all, expected_all) = (found_all + found, expected_all + expected);
        (found_run, expected_run) = (found_run + found, expected_run + expected);
        // As short as it may be: a longer one is no worse than the worst half of it.
        while expected_run - samples[first].1 >= RUN_HITS {
            found_run -= samples[first].0;
            expected_run -= samples[first].1;
            first += 1;
        }
        if expected_run >= RUN_HITS {
            let now = share(found_run, expected_run);
            least = least.map_or(now, |least| now.map(|now| now.min(least)));
        }
    }
    Recall { mean: share(found_all, expected_all), least, samples: samples.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_run_of_enough_hits_counts() {
        let mut samples = vec![(10, 10); 200];
        samples[100..110].fill((0, 10));
        let of_all = recall(&samples);
        assert_eq!((of_all.mean, of_all.least, of_all.samples), (Some(0.95), Some(0.8), 200));
        assert_eq!(recall(&samples[..49]), Recall { mean: Some(1.0), least: None, samples: 49 });
        assert_eq!(recall(&[]), Recall::default());
        assert_eq!(recall(&[(0, 0)]).mean, None);
    }
}
