//! When segments were built.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::phase::Window;
use crate::collection::Collection;

/// How often the collection is asked.
const PERIOD: Duration = Duration::from_millis(5);

/// Builds that have ended. A collection tells how long it has built in all: where that has grown, a build of that length has
/// just ended.
pub struct Builds {
    clock: Instant,
    /// Held for a push or a copy.
    ended: Mutex<Vec<Window>>,
}

impl Builds {
    /// None yet.
    pub fn new(clock: Instant) -> Self {
        Self { clock, ended: Mutex::default() }
    }

    /// Watches until it is over.
    pub fn watch(&self, collection: &Collection, is_over: &AtomicBool) {
        let mut before = Duration::ZERO;
        while !is_over.load(Ordering::Relaxed) {
            thread::sleep(PERIOD);
            let (_, time) = collection.built();
            if time > before {
                let to = self.clock.elapsed();
                let window = Window { from: to.saturating_sub(time - before), to };
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(window);
                before = time;
            }
        }
    }

    /// Those that have ended.
    pub fn ended(&self) -> Vec<Window> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
