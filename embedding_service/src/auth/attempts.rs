//! How often credentials may be tried: a bucket of attempts for each name, and one for all. What succeeds is given back, so
//! that only wrong attempts count.
//!
//! The buckets are a fixed table, and names share them by a hash that nobody outside can know: memory does not grow with what
//! is tried, and a name that exists is limited like one that does not.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets for names.
const BUCKETS: usize = 1024;

/// How many attempts.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once.
    pub burst: f64,
    /// Seconds until another one.
    pub period_s: f64,
}

/// Wrong attempts at one name: ten, and one more every 6 seconds: 14,400 guesses a day at the most.
pub const OF_ONE: Rate = Rate { burst: 10.0, period_s: 6.0 };
/// Wrong attempts at all names together.
pub const OF_ALL: Rate = Rate { burst: 100.0, period_s: 0.2 };

/// Counts attempts.
pub struct Attempts {
    hasher: RandomState,
    rates: (Rate, Rate),
    /// A lock for all: it is held for some arithmetic, never across a wait.
    buckets: Mutex<Buckets>,
}

struct Buckets {
    by_name: Box<[Bucket]>,
    all: Bucket,
}

#[derive(Clone)]
struct Bucket {
    /// Attempts that are left, at `at`.
    left: f64,
    at: Instant,
}

impl Attempts {
    pub fn new(of_one: Rate, of_all: Rate, now: Instant) -> Self {
        let full = |rate: Rate| Bucket { left: rate.burst, at: now };
        let buckets = Buckets { by_name: vec![full(of_one); BUCKETS].into(), all: full(of_all) };
        Self { hasher: RandomState::new(), rates: (of_one, of_all), buckets: Mutex::new(buckets) }
    }

    /// Takes an attempt at `name`, or says after which time there is one.
    pub fn take(&self, name: &str, now: Instant) -> Result<(), Duration> {
        let (of_one, of_all) = self.rates;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index(name);
        buckets.by_name[index].refill(of_one, now);
        buckets.all.refill(of_all, now);
        // Both before either is taken from: who is refused takes nothing from others.
        let wait = buckets.by_name[index].wait(of_one).max(buckets.all.wait(of_all));
        if !wait.is_zero() {
            return Err(wait);
        }
        buckets.by_name[index].left -= 1.0;
        buckets.all.left -= 1.0;
        Ok(())
    }

    /// Gives an attempt back that was a right one.
    pub fn give_back(&self, name: &str) {
        let (of_one, of_all) = self.rates;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index(name);
        buckets.by_name[index].give_back(of_one);
        buckets.all.give_back(of_all);
    }

    fn index(&self, name: &str) -> usize {
        // The remainder is below the table's length.
        (self.hasher.hash_one(name) % BUCKETS as u64) as usize
    }
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed_s / rate.period_s).min(rate.burst);
        self.at = self.at.max(now);
    }

    /// Until there is a whole attempt.
    fn wait(&self, rate: Rate) -> Duration {
        Duration::from_secs_f64((1.0 - self.left).max(0.0) * rate.period_s)
    }

    fn give_back(&mut self, rate: Rate) {
        self.left = (self.left + 1.0).min(rate.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Rate = Rate { burst: 2.0, period_s: 10.0 };
    const ALL: Rate = Rate { burst: 5.0, period_s: 1.0 };

    #[test]
    fn wrong_attempts_at_one_name_are_limited_and_come_back() {
        let start = Instant::now();
        let attempts = Attempts::new(ONE, ALL, start);
        assert_eq!(attempts.take("a", start), Ok(()));
        assert_eq!(attempts.take("a", start), Ok(()));
        assert_eq!(attempts.take("a", start), Err(Duration::from_secs(10)));
        assert_eq!(attempts.take("a", start + Duration::from_secs(4)), Err(Duration::from_secs(6)));
        assert_eq!(attempts.take("a", start + Duration::from_secs(11)), Ok(()));
        assert!(attempts.take("a", start + Duration::from_secs(11)).is_err());
    }

    #[test]
    fn right_attempts_do_not_count() {
        let start = Instant::now();
        let attempts = Attempts::new(ONE, ALL, start);
        for _ in 0..100 {
            assert_eq!(attempts.take("a", start), Ok(()));
            attempts.give_back("a");
        }
    }

    #[test]
    fn all_names_together_are_limited_and_who_is_refused_takes_nothing() {
        let start = Instant::now();
        let attempts = Attempts::new(ONE, ALL, start);
        let taken = (0..1000).filter(|name| attempts.take(&name.to_string(), start).is_ok()).count();
        assert_eq!(taken, 5);
        // A second later there is one for all, which refusals in the meantime have not used up.
        assert_eq!(attempts.take("somebody else", start + Duration::from_secs(1)), Ok(()));
    }
}
