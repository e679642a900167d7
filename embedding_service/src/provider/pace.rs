//! When a provider is asked: so many requests at once, a line before them, and nobody before the provider wants it.
//!
//! A request has its turn for a try, not for the pause after it. Those who may be refused wait until their deadline, and in
//! a line of at most `WAITING_MAX`; the others are bounded by their part of the budget of bytes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that wait for their turn; the next is refused.
const WAITING_MAX: usize = 256;
/// A provider that wants to be left alone for longer is asked again after this time: it may be better sooner.
const HOLD_OFF_MAX: Duration = Duration::from_secs(60);

/// Of one provider's model.
pub(super) struct Pace {
    /// One permit for each request at once, so that one caller's many texts do not run into the provider's own limits.
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// When the provider wants to be asked again. Held for moments.
    not_before: Mutex<Option<Instant>>,
}

/// Why a request has no turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// Too many wait.
    Full { waiting: usize },
    /// Its deadline came first.
    Late { waiting: usize },
}

/// One more that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Pace {
    pub(super) fn new(requests_max: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(requests_max)),
            waiting: AtomicUsize::new(0),
            not_before: Mutex::new(None),
        }
    }

    /// A turn before `deadline`; without one, whenever it comes.
    pub(super) async fn turn(&self, deadline: Option<Instant>) -> Result<OwnedSemaphorePermit, NoTurn> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        // A count alone: no order with other memory is needed.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let never_closed = "it is never closed";
        let Some(deadline) = deadline else { return Ok(self.turns.clone().acquire_owned().await.expect(never_closed)) };
        if waiting >= WAITING_MAX {
            return Err(NoTurn::Full { waiting });
        }
        match tokio::time::timeout_at(deadline.into(), self.turns.clone().acquire_owned()).await {
            Ok(turn) => Ok(turn.expect(never_closed)),
            Err(_) => Err(NoTurn::Late { waiting: self.waiting.load(Ordering::Relaxed) }),
        }
    }

    /// The provider wants to be left alone for that time from now on.
    pub(super) fn hold_off(&self, now: Instant, time: Duration) {
        let until = now + time.min(HOLD_OFF_MAX);
        let mut not_before = self.not_before();
        // The later of two words counts.
        *not_before = Some(not_before.map_or(until, |earlier| earlier.max(until)));
    }

    /// For how long it does, if it does.
    pub(super) fn holds_off(&self, now: Instant) -> Option<Duration> {
        self.not_before().filter(|until| *until > now).map(|until| until - now)
    }

    /// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
    fn not_before(&self) -> MutexGuard<'_, Option<Instant>> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn waiting_has_a_deadline_and_a_bound() {
        let pace = Pace::new(1);
        let turn = pace.turn(None).await.unwrap();
        let soon = Instant::now() + Duration::from_millis(500);
        let waiting = join_all((0..=WAITING_MAX).map(|_| pace.turn(Some(soon)))).await;
        let count =
            |wanted: fn(&NoTurn) -> bool| waiting.iter().filter(|turn| turn.as_ref().is_err_and(wanted)).count();
        assert_eq!(count(|no| matches!(no, NoTurn::Late { .. })), WAITING_MAX);
        assert_eq!(count(|no| matches!(no, NoTurn::Full { .. })), 1);
        drop(turn);
        assert!(pace.turn(Some(Instant::now())).await.is_ok(), "nobody waits any more");
        assert_eq!(pace.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_later_word_of_the_provider_counts_up_to_a_bound() {
        let (pace, now) = (Pace::new(1), Instant::now());
        assert_eq!(pace.holds_off(now), None);
        pace.hold_off(now, Duration::from_secs(7));
        pace.hold_off(now, Duration::from_secs(1));
        assert_eq!(pace.holds_off(now + Duration::from_secs(3)), Some(Duration::from_secs(4)));
        assert_eq!(pace.holds_off(now + Duration::from_secs(7)), None);
        pace.hold_off(now, Duration::from_secs(3600));
        assert_eq!(pace.holds_off(now), Some(HOLD_OFF_MAX));
    }
}
