//! The answer to an append: given once, by the commit threads, waited for by the caller.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::LogError;
use crate::types::Sequence;

/// Where an append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The sequence of its first record.
    pub first: Sequence,
    /// The sequence of its last record.
    pub last: Sequence,
    /// The time its records carry: microseconds since the Unix epoch.
    pub time_us: i64,
}

/// The caller's end. Dropping it cancels nothing.
#[derive(Debug)]
#[must_use = "an append is acknowledged only when its completion is ready"]
pub struct Completion(Arc<Slot>);

/// The writer's end. Dropping it without an answer is an answer too: nobody waits for ever.
#[derive(Debug)]
pub struct Promise(Option<Arc<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    /// Set once. A lock of its own, so that thousands who wait do not meet at the lock of the queue.
    answer: Mutex<Option<Result<Committed, LogError>>>,
    answered: Condvar,
}

impl Completion {
    /// A completion and the promise that answers it.
    pub fn pair() -> (Promise, Self) {
        let slot = Arc::new(Slot::default());
        (Promise(Some(slot.clone())), Self(slot))
    }

    /// Blocks until the promise of the append's durability holds, or cannot hold any more.
    pub fn wait(self) -> Result<Committed, LogError> {
        let mut answer = self.0.lock();
        loop {
            if let Some(answer) = answer.take() {
                return answer;
            }
            answer = self.0.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether [`Completion::wait`] would return at once.
    pub fn is_ready(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl Promise {
    /// Gives the answer.
    pub fn answer(mut self, answer: Result<Committed, LogError>) {
        if let Some(slot) = self.0.take() {
            slot.set(answer);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.set(Err(LogError::Poisoned { reason: "a commit thread ended without an answer".into() }));
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Committed, LogError>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, answer: Result<Committed, LogError>) {
        *self.lock() = Some(answer);
        self.answered.notify_all();
    }
}
