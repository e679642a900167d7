//! Whether a provider is asked at all: one that failed again and again is left alone for a while.
//!
//! Closed: all pass. After `FAILURES_MAX` failures with no success between them: open, nobody passes for a time. Then half
//! open: one passes, as a probe. If it succeeds, the breaker closes; if it fails, it is open again, for twice the time.
//!
//! Who passed and was given up, since its caller has left, has failed too if it was under way for `UNDER_WAY_MAX`: else a
//! provider that hangs would never be found out by callers of less patience. A probe that is given up sooner says nothing,
//! and the rest begins anew.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures one after the other.
const FAILURES_MAX: u32 = 5;
/// The first rest; each further one is twice as long.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(60);
/// For those who come while a probe is under way.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// A provider that has not answered by then, and is not waited for any longer, counts as one that fails.
const UNDER_WAY_MAX: Duration = Duration::from_secs(2);

pub(super) struct Breaker {
    /// For the log: whose provider it is.
    id: String,
    /// Held for moments, never while somebody waits for the provider.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    HalfOpen { rest: Duration },
}

/// Leave to ask the provider. Whoever has it says what came of it, or drops it.
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    since: Instant,
    probe_after: Option<Duration>,
    told: bool,
}

impl Breaker {
    pub(super) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to ask, or for how long there is none.
    pub(super) fn enter(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.lock();
        let probe_after = match *state {
            State::Closed { .. } => None,
            State::Open { until, .. } if now < until => return Err(until - now),
            State::Open { rest, .. } => {
                *state = State::HalfOpen { rest };
                Some(rest)
            }
            State::HalfOpen { .. } => return Err(PROBE_TIME),
        };
        Ok(Pass { breaker: self, since: now, probe_after, told: false })
    }

    /// For how long the provider is left alone. Nothing where it may be asked.
    pub(super) fn rests_for(&self, now: Instant) -> Option<Duration> {
        match *self.lock() {
            State::Open { until, .. } if now < until => Some(until - now),
            State::HalfOpen { .. } => Some(PROBE_TIME),
            _ => None,
        }
    }

    fn open(&self, state: &mut State, now: Instant, rest: Duration) {
        *state = State::Open { until: now + rest, rest };
        tracing::warn!("the provider of model {} fails; it is left alone for {rest:?}", self.id);
    }

    /// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    pub(super) fn succeeded(mut self) {
        self.told = true;
        let mut state = self.breaker.lock();
        // An old success says nothing about a provider that has failed since.
        if self.probe_after.is_some() {
            tracing::info!("the provider of model {} answers again", self.breaker.id);
            *state = State::Closed { failures: 0 };
        } else if let State::Closed { failures } = &mut *state {
            *failures = 0;
        }
    }

    pub(super) fn failed(mut self, now: Instant) {
        self.fail(now);
    }

    /// The provider wants to be asked later, which its caller does: no failure, but nothing that a probe could end a rest
    /// with either.
    pub(super) fn asked_for_too_much(mut self, now: Instant) {
        if self.probe_after.is_some() { self.fail(now) } else { self.told = true }
    }

    fn fail(&mut self, now: Instant) {
        self.told = true;
        let mut state = self.breaker.lock();
        match (self.probe_after, *state) {
            (Some(rest), _) => self.breaker.open(&mut state, now, REST_MAX.min(rest * 2)),
            (None, State::Closed { failures }) if failures + 1 < FAILURES_MAX => {
                *state = State::Closed { failures: failures + 1 };
            }
            (None, State::Closed { .. }) => self.breaker.open(&mut state, now, REST_MIN),
            (None, State::Open { .. } | State::HalfOpen { .. }) => {}
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let now = Instant::now();
        if now.saturating_duration_since(self.since) >= UNDER_WAY_MAX {
            self.fail(now);
        } else if let Some(rest) = self.probe_after {
            *self.breaker.lock() = State::Open { until: now + rest, rest };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new("m");
        for _ in 0..FAILURES_MAX {
            breaker.enter(now).map_err(drop).unwrap().failed(now);
        }
        breaker
    }

    #[test]
    fn failures_one_after_the_other_open_it() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.enter(now).map(drop), Err(REST_MIN));
        assert_eq!(breaker.rests_for(now + Duration::from_secs(1)), Some(REST_MIN - Duration::from_secs(1)));

        let breaker = Breaker::new("m");
        for _ in 0..3 * FAILURES_MAX {
            breaker.enter(now).map_err(drop).unwrap().failed(now);
            breaker.enter(now).map_err(drop).unwrap().succeeded();
        }
        assert_eq!(breaker.rests_for(now), None);
    }

    #[test]
    fn one_probe_passes_and_closes_it_or_doubles_the_rest() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + REST_MIN;
        let probe = breaker.enter(later).map_err(drop).unwrap();
        assert_eq!(breaker.enter(later).map(drop), Err(PROBE_TIME), "one at a time");
        probe.failed(later);
        assert_eq!(breaker.enter(later).map(drop), Err(REST_MIN * 2));
        breaker.enter(later + REST_MIN * 2).map_err(drop).unwrap().succeeded();
        assert_eq!(*breaker.lock(), State::Closed { failures: 0 });
    }

    #[test]
    fn rest_has_an_end() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for _ in 0..10 {
            now += REST_MAX;
            breaker.enter(now).map_err(drop).unwrap().failed(now);
        }
        assert_eq!(breaker.rests_for(now), Some(REST_MAX));
    }

    #[test]
    fn probe_that_is_given_up_rests_again() {
        let now = Instant::now();
        let breaker = opened(now - REST_MIN);
        drop(breaker.enter(now).map_err(drop).unwrap());
        let rest = breaker.enter(Instant::now()).map(drop).unwrap_err();
        assert!(REST_MIN - Duration::from_secs(1) < rest && rest <= REST_MIN, "{rest:?}");
        // One that was waited for has failed.
        let breaker = opened(now - REST_MIN * 2);
        drop(breaker.enter(now - UNDER_WAY_MAX).map_err(drop).unwrap());
        assert!(breaker.enter(Instant::now()).map(drop).unwrap_err() > REST_MIN);
    }

    #[test]
    fn those_who_were_waited_for_and_given_up_have_failed() {
        let now = Instant::now();
        let breaker = Breaker::new("m");
        for _ in 0..3 * FAILURES_MAX {
            drop(breaker.enter(now).map_err(drop).unwrap());
        }
        assert_eq!(breaker.rests_for(now), None, "their callers were in haste");
        for _ in 0..FAILURES_MAX {
            drop(breaker.enter(now - UNDER_WAY_MAX).map_err(drop).unwrap());
        }
        assert!(breaker.rests_for(now).is_some());
    }

    #[test]
    fn too_much_is_no_failure_of_those_who_wait() {
        let now = Instant::now();
        let breaker = Breaker::new("m");
        for _ in 0..3 * FAILURES_MAX {
            breaker.enter(now).map_err(drop).unwrap().asked_for_too_much(now);
        }
        assert_eq!(breaker.rests_for(now), None);
        let breaker = opened(now);
        let later = now + REST_MIN;
        breaker.enter(later).map_err(drop).unwrap().asked_for_too_much(later);
        assert_eq!(breaker.rests_for(later), Some(REST_MIN * 2), "a probe has not found it well");
    }

    #[test]
    fn late_answers_of_those_who_passed_before_change_nothing() {
        let now = Instant::now();
        let breaker = Breaker::new("m");
        let (late, later) = (breaker.enter(now).map_err(drop).unwrap(), breaker.enter(now).map_err(drop).unwrap());
        for _ in 0..FAILURES_MAX {
            breaker.enter(now).map_err(drop).unwrap().failed(now);
        }
        late.succeeded();
        later.failed(now + Duration::from_secs(1));
        assert_eq!(breaker.rests_for(now), Some(REST_MIN));
    }
}
