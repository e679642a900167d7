//! Short searches that meet are run as one batch, so that the rows are read from memory once for all of them.
//!
//! Nobody waits for company: a search that comes alone runs at once. While it runs, others queue up, and are the next batch.
//! So batches grow by themselves with the load, and with one client there are none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::search::{Ready, Unfilled};
use crate::api::error::{ApiError, Reason};

/// Searches of one batch: together they take no longer than a few searches of the longest that count as short.
const BATCH_SEARCHES_MAX: usize = 32;

/// The searches that wait for the next batch; clones share them.
#[derive(Clone, Default)]
pub struct SearchBatches(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// As many as there are short searches in flight: bounded by the connections and their streams.
    waiting: Vec<Waiting>,
    is_running: bool,
}

struct Waiting {
    ready: Ready,
    answer: oneshot::Sender<Unfilled>,
}

impl SearchBatches {
    /// Runs the search, alone or with others.
    pub async fn run(&self, ready: Ready) -> Result<Unfilled, ApiError> {
        let waiting = {
            let mut state = self.lock();
            if state.is_running {
                let (answer, waiting) = oneshot::channel();
                state.waiting.push(Waiting { ready, answer });
                waiting
            } else {
                state.is_running = true;
                drop(state);
                let turn = Turn(self);
                let found = ready.run_here();
                drop(turn);
                return Ok(found);
            }
        };
        waiting.await.map_err(|_| ApiError::new(Reason::Internal, "a batch of searches has failed"))
    }

    /// Runs what waits, as one batch; what comes meanwhile is the next, in a task of its own.
    fn run_waiting(&self) {
        let _turn = Turn(self);
        let batch: Vec<Waiting> = {
            let mut state = self.lock();
            let count = state.waiting.len().min(BATCH_SEARCHES_MAX);
            state.waiting.drain(..count).collect()
        };
        let (ready, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.ready, waiting.answer)).unzip();
        for (found, answer) in Ready::run_all_here(ready).into_iter().zip(answers) {
            // Whoever has left does not want it any more.
            let _ = answer.send(found);
        }
    }

    /// Held for a push or a pop, never while a search runs. Nothing that runs under it leaves the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever runs a search lets those that came meanwhile go on, also where it panics.
struct Turn<'a>(&'a SearchBatches);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.waiting.is_empty() {
            state.is_running = false;
            return;
        }
        drop(state);
        // In a task of its own: this search has its answer, and does not wait for the others'.
        let batches = self.0.clone();
        tokio::spawn(async move { batches.run_waiting() });
    }
}
