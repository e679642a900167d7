//! When a provider is asked: so many requests at once, a line before them, and nobody before the provider wants it.
//!
//! A request has its turn for a try, not for the pause after it. Those who may be refused wait until their deadline, and in
//! a line of at most `WAITING_MAX`. Those who wait for as long as it takes are bounded by their part of the budget of bytes; all
//! of them together have at most half of the turns, so that however many there are, single calls find the other half.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::batch::WhenFull;

/// Requests that wait for their turn and may be refused; the next is.
const WAITING_MAX: usize = 256;
/// A provider that wants to be left alone for longer is asked again after this time: it may be better sooner.
const HOLD_OFF_MAX: Duration = Duration::from_secs(60);

/// Of one provider's model.
pub(super) struct Pace {
    /// One permit for each request at once, so that one caller's many texts do not run into the provider's own limits.
    turns: Arc<Semaphore>,
    /// What is left of the part that those who wait in line may have.
    turns_in_line: Arc<Semaphore>,
    /// Those who may be refused.
    waiting: AtomicUsize,
    /// When the provider wants to be asked again. Held for moments.
    not_before: Mutex<Option<Instant>>,
}

/// A request's turn, which is over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _turn_in_line: Option<OwnedSemaphorePermit>,
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
    /// Of at least one request at once.
    pub(super) fn new(requests_max: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(requests_max)),
            turns_in_line: Arc::new(Semaphore::new(requests_max.div_ceil(2))),
            waiting: AtomicUsize::new(0),
            not_before: Mutex::new(None),
        }
    }

    /// A turn before `deadline`; without one, whenever it comes.
    pub(super) async fn turn(&self, when_full: WhenFull, deadline: Option<Instant>) -> Result<Turn, NoTurn> {
        let turn = async {
            match when_full {
                WhenFull::Refuse => self.turn_unless_many_wait().await,
                WhenFull::Wait => Ok(self.turn_in_line().await),
            }
        };
        let Some(deadline) = deadline else { return turn.await };
        let late = |_| Err(NoTurn::Late { waiting: self.waiting.load(Ordering::Relaxed) });
        tokio::time::timeout_at(deadline.into(), turn).await.unwrap_or_else(late)
    }

    async fn turn_unless_many_wait(&self) -> Result<Turn, NoTurn> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(Turn { _turn: turn, _turn_in_line: None });
        }
        // A count alone: no order with other memory is needed.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= WAITING_MAX {
            return Err(NoTurn::Full { waiting });
        }
        Ok(Turn { _turn: next(&self.turns).await, _turn_in_line: None })
    }

    async fn turn_in_line(&self) -> Turn {
        let in_line = next(&self.turns_in_line).await;
        Turn { _turn: next(&self.turns).await, _turn_in_line: Some(in_line) }
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

async fn next(turns: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    turns.clone().acquire_owned().await.expect("it is never closed")
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{FutureExt, join_all};
    use futures_util::stream::{FuturesUnordered, StreamExt};

    use super::*;

    #[tokio::test]
    async fn waiting_has_a_deadline_and_a_bound() {
        let pace = Pace::new(1);
        let turn = pace.turn(WhenFull::Refuse, None).await.unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(500));
        let waiting = join_all((0..=WAITING_MAX).map(|_| pace.turn(WhenFull::Refuse, soon))).await;
        let count =
            |wanted: fn(&NoTurn) -> bool| waiting.iter().filter(|turn| turn.as_ref().is_err_and(wanted)).count();
        assert_eq!(count(|no| matches!(no, NoTurn::Late { .. })), WAITING_MAX);
        assert_eq!(count(|no| matches!(no, NoTurn::Full { .. })), 1);
        drop(turn);
        assert!(pace.turn(WhenFull::Refuse, Some(Instant::now())).await.is_ok(), "nobody waits any more");
        assert_eq!(pace.waiting.load(Ordering::Relaxed), 0);
    }

    /// Without a runtime: what is polled by hand here would run out of the budget that a task has.
    #[test]
    fn those_who_wait_in_line_shut_nobody_out() {
        for (requests_max, in_line_max) in [(1, 1), (2, 1), (5, 3)] {
            let pace = Pace::new(requests_max);
            let mut line = FuturesUnordered::new();
            line.extend((0..2 * WAITING_MAX).map(|_| pace.turn(WhenFull::Wait, None)));
            let mut turns = Vec::new();
            while let Some(turn) = line.next().now_or_never().flatten() {
                turns.push(turn.unwrap());
            }
            assert_eq!(turns.len(), in_line_max, "of {requests_max}");
            let single = || pace.turn(WhenFull::Refuse, None);
            for _ in in_line_max..requests_max {
                turns.push(single().now_or_never().expect("the other half is theirs").unwrap());
            }
            // Not refused, though so many wait; and the next turn that ends is its, or that of the one in line before it.
            let mut waiting = pin!(single());
            assert!(waiting.as_mut().now_or_never().is_none());
            turns.clear();
            assert!(waiting.now_or_never().expect("it had to wait for two turns at most").is_ok());
        }
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
