//! Phases, and when they were.

use std::time::Duration;

use serde::Serialize;

/// What happens besides searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Rows are written.
    Insert,
    /// Some of them are written again.
    Update,
    /// Some of them are deleted.
    Delete,
    /// What is left to be built is built.
    Settle,
    /// Nothing.
    Idle,
}

/// A time, counted from the start of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

impl Window {
    /// How long it is.
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }

    /// Whether it holds this time.
    pub fn contains(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// A phase that has ended.
pub struct PhaseEnd {
    /// Which.
    pub phase: Phase,
    /// When.
    pub window: Window,
    /// Rows written or deleted in it.
    pub rows: u64,
    /// Rows written until its end, those that were written again counted again.
    pub rows_written: u64,
}
