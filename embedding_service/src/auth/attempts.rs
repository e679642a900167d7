//! How often passwords may be tried: a bucket of attempts for each name, and one for each peer. Only wrong attempts count: what
//! turns out right, and what was never looked at, is given back.
//!
//! No bucket is for all: whoever empties that would lock everybody out. How many passwords are verified at once bounds what
//! attempts from many peers cost, see `password`.
//!
//! The buckets are fixed tables, and names share them by a hash that nobody outside can know: memory does not grow with what
//! is tried, and a name that exists is limited like one that does not.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::locality::is_this_machine;

/// Buckets of a table. With as many as this, nobody can keep all of them empty: that takes more wrong attempts a second than
/// are verified in one.
const BUCKETS: usize = 4096;

/// How many attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// At once.
    pub burst: f64,
    /// Seconds until another one.
    pub period_s: f64,
}

/// Wrong attempts at one name: ten, and one more every 6 seconds: 14,400 guesses a day at the most.
pub(super) const OF_NAME: Rate = Rate { burst: 10.0, period_s: 6.0 };
/// Wrong attempts from one peer.
pub(super) const OF_PEER: Rate = Rate { burst: 100.0, period_s: 0.2 };

/// A table of buckets, all of one rate.
pub(super) struct Attempts {
    hasher: RandomState,
    rate: Rate,
    /// A lock for all: it is held for some arithmetic, never across a wait.
    buckets: Mutex<Box<[Bucket]>>,
}

/// An attempt that was taken. Given back when it is dropped, unless it was `wrong`.
#[must_use]
pub(super) struct Attempt {
    attempts: Arc<Attempts>,
    index: usize,
    was_wrong: bool,
}

/// Attempts that are left, and when that was so.
#[derive(Clone)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
}

impl Attempts {
    pub(super) fn new(rate: Rate, now: Instant) -> Arc<Self> {
        let buckets = Mutex::new(vec![Bucket::full(rate, now); BUCKETS].into());
        Arc::new(Self { hasher: RandomState::new(), rate, buckets })
    }

    /// Takes an attempt at, or of, `whom`, or says after which time there is one.
    pub(super) fn take(self: &Arc<Self>, whom: impl Hash, now: Instant) -> Result<Attempt, Duration> {
        // The remainder is below the table's length.
        let index = (self.hasher.hash_one(whom) % BUCKETS as u64) as usize;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets[index].take(self.rate, now)?;
        Ok(Attempt { attempts: self.clone(), index, was_wrong: false })
    }
}

impl Attempt {
    /// It counts.
    pub(super) fn wrong(mut self) {
        self.was_wrong = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.was_wrong {
            let mut buckets = self.attempts.buckets.lock().unwrap_or_else(PoisonError::into_inner);
            buckets[self.index].give_back(self.attempts.rate);
        }
    }
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// Takes one, or says after which time there is a whole one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed_s / rate.period_s).min(rate.burst);
        self.at = self.at.max(now);
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) * rate.period_s));
        }
        self.left -= 1.0;
        Ok(())
    }

    fn give_back(&mut self, rate: Rate) {
        self.left = (self.left + 1.0).min(rate.burst);
    }
}

/// Whom attempts from an address count for. `None` for this machine: a proxy on it has one address for all its callers. Of an
/// IPv6 address its /64, for that is what one customer of a network has.
pub(super) fn peer_of(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if is_this_machine(address) => None,
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 2.0, period_s: 10.0 };

    #[test]
    fn wrong_attempts_at_one_name_are_limited_and_come_back() {
        let start = Instant::now();
        let attempts = Attempts::new(RATE, start);
        let wrong = |after_s| attempts.take("a", start + Duration::from_secs(after_s)).map(Attempt::wrong);
        assert_eq!(wrong(0), Ok(()));
        assert_eq!(wrong(0), Ok(()));
        assert_eq!(wrong(0), Err(Duration::from_secs(10)));
        assert_eq!(wrong(4), Err(Duration::from_secs(6)));
        assert_eq!(wrong(11), Ok(()));
        assert!(wrong(11).is_err());
    }

    #[test]
    fn only_wrong_attempts_count() {
        let start = Instant::now();
        let attempts = Attempts::new(RATE, start);
        for _ in 0..100 {
            // Right, or its caller has left while it waited.
            drop(attempts.take("a", start).unwrap());
        }
        let held = (attempts.take("a", start).unwrap(), attempts.take("a", start).unwrap());
        assert!(attempts.take("a", start).is_err(), "not more at once than may be wrong");
        drop(held);
        assert!(attempts.take("a", start).is_ok());
    }

    #[test]
    fn wrong_attempts_at_many_names_leave_the_others_theirs() {
        let start = Instant::now();
        let attempts = Attempts::new(RATE, start);
        let names = (0..200).map(|name| name.to_string());
        let taken = names.filter(|name| attempts.take(name, start).map(Attempt::wrong).is_ok()).count();
        // Three of them may share a bucket of two attempts.
        assert!(taken >= 190, "{taken}");
    }

    #[test]
    fn peers_are_addresses_of_others_and_networks_of_ipv6() {
        let of = |address: &str| peer_of(address.parse().unwrap()).map(|peer| peer.to_string());
        assert_eq!((of("127.0.0.1"), of("::1"), of("::ffff:127.0.0.1")), (None, None, None));
        assert_eq!(of("::ffff:10.0.0.7"), Some("10.0.0.7".to_owned()));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), Some("2001:db8:1:2::".to_owned()));
    }
}
