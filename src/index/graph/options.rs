use std::sync::atomic::{AtomicBool, Ordering};

use super::walk::Walk;

/// How a graph is built. The same options and vectors give the same graph, with any number of threads.
#[derive(Clone, Debug)]
pub struct GraphOptions {
    /// Neighbours of a node: a multiple of 32.
    pub degree: usize,
    /// Walks that look for neighbours. Longer ones find better ones.
    pub walk: Walk,
    /// How often all nodes look for neighbours.
    pub rounds: usize,
    /// Where random choices begin.
    pub seed: u64,
    /// Threads that build.
    pub threads: usize,
}

impl Default for GraphOptions {
    fn default() -> Self {
        let walk = Walk { k: 10, reach: 0.1, hops_max: 256 };
        Self { degree: 32, walk, rounds: 2, seed: 0, threads: 1 }
    }
}

/// What a build is watched by.
#[derive(Default)]
pub struct Task {
    /// Set from outside: the build is to stop.
    stop: AtomicBool,
}

impl Task {
    /// Has the build stop soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
