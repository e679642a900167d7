//! How fast the worker threads are at present, and so how long something takes, and when a caller may come back.
//!
//! Measured while they work, so that an idle hour says nothing. The latest batches weigh most: after twenty of them, what was
//! before is forgotten by two thirds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What earlier measurements weigh after one more.
const MEMORY: f64 = 0.95;
/// Before anything was measured.
const COME_BACK_UNKNOWN: Duration = Duration::from_secs(1);
/// Before anything was measured: of English text.
const TOKENS_PER_BYTE_UNKNOWN: f64 = 0.25;
/// Callers that come back at once would only be refused again.
const COME_BACK_MIN: Duration = Duration::from_millis(20);
/// Who comes back later than this may as well be told nothing.
const COME_BACK_MAX: Duration = Duration::from_secs(60);

/// The pace of all worker threads together.
#[derive(Default)]
pub(crate) struct Pace {
    threads: AtomicUsize,
    /// Held for some additions.
    measured: Mutex<Measured>,
}

/// Sums, in which earlier amounts weigh less.
#[derive(Default)]
struct Measured {
    seconds: f64,
    tokens_run: f64,
    bytes: f64,
    tokens_of_bytes: f64,
    /// Until when the room that comes is promised to those who were refused.
    promised_until: Option<Instant>,
}

impl Pace {
    /// How many threads there are that run batches at the same time.
    pub(super) fn set_threads(&self, count: usize) {
        // Said once, before there is anything to read it for.
        self.threads.store(count, Ordering::Relaxed);
    }

    /// A thread has run a batch.
    pub(super) fn ran(&self, tokens: usize, time: Duration) {
        let mut measured = self.lock();
        measured.seconds = measured.seconds * MEMORY + time.as_secs_f64();
        measured.tokens_run = measured.tokens_run * MEMORY + tokens as f64;
    }

    /// So many bytes of texts that were not cut were so many tokens.
    pub(crate) fn tokenized(&self, bytes: usize, tokens: usize) {
        let mut measured = self.lock();
        measured.bytes = measured.bytes * MEMORY + bytes as f64;
        measured.tokens_of_bytes = measured.tokens_of_bytes * MEMORY + tokens as f64;
    }

    /// How many tokens texts have for each of their bytes.
    pub(crate) fn tokens_per_byte(&self) -> f64 {
        let measured = self.lock();
        if measured.bytes > 0.0 { measured.tokens_of_bytes / measured.bytes } else { TOKENS_PER_BYTE_UNKNOWN }
    }

    /// How long all threads together take for so many tokens; nothing where nothing was measured.
    pub(crate) fn time_of(&self, tokens: usize) -> Option<Duration> {
        let measured = self.lock();
        let threads = self.threads.load(Ordering::Relaxed).max(1) as f64;
        let seconds = tokens as f64 * measured.seconds / measured.tokens_run / threads;
        // Not a number where nothing was measured.
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// When a caller may come back that was refused at `now`, for so many tokens, because `excess` tokens have to leave first.
    /// Each is told to come after those who were refused before it, for if all were told the same, all but one would be refused
    /// again. Nobody is told more than `max`, when all that waits now will be done.
    pub(crate) fn come_back_after(&self, now: Instant, tokens: usize, excess: usize, max: usize) -> Duration {
        let times = (self.time_of(tokens), self.time_of(excess), self.time_of(max));
        let (Some(of_this), Some(of_excess), Some(max)) = times else { return COME_BACK_UNKNOWN };
        let mut measured = self.lock();
        let promised = measured.promised_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        measured.promised_until = Some(now + (promised + of_this).min(max.min(COME_BACK_MAX)));
        (promised + of_excess).min(max).clamp(COME_BACK_MIN, COME_BACK_MAX)
    }

    /// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace_of(threads: usize, tokens_per_second: usize) -> Pace {
        let pace = Pace::default();
        pace.set_threads(threads);
        pace.ran(tokens_per_second, Duration::from_secs(1));
        pace
    }

    fn about(time: Duration, seconds: f64) -> bool {
        (time.as_secs_f64() - seconds).abs() < 1e-3
    }

    #[test]
    fn time_is_that_of_all_threads_and_follows_the_latest() {
        let pace = pace_of(2, 1000);
        assert!(about(pace.time_of(4000).unwrap(), 2.0));
        for _ in 0..200 {
            pace.ran(100, Duration::from_secs(1));
        }
        assert!(about(pace.time_of(400).unwrap(), 2.0));
        pace.tokenized(400, 100);
        assert!((pace.tokens_per_byte() - 0.25).abs() < 1e-9);
        pace.tokenized(400, 300);
        assert!(pace.tokens_per_byte() > 0.4);
    }

    #[test]
    fn nothing_is_known_before_it_is_measured() {
        let pace = Pace::default();
        assert_eq!(pace.time_of(1), None);
        assert_eq!(pace.come_back_after(Instant::now(), 1, 1, 1), COME_BACK_UNKNOWN);
    }

    #[test]
    fn those_who_are_refused_are_told_to_come_one_after_the_other() {
        let (pace, now) = (pace_of(1, 1000), Instant::now());
        let told: Vec<_> = (0..6).map(|_| pace.come_back_after(now, 500, 100, 2000)).collect();
        for (told, expected) in told.into_iter().zip([0.1, 0.6, 1.1, 1.6, 2.0, 2.0]) {
            assert!(about(told, expected), "{told:?}, expected {expected}");
        }
        // Two seconds later the room that was promised is there.
        let later = now + Duration::from_secs(2);
        assert!(about(pace.come_back_after(later, 500, 100, 2000), 0.1));
    }

    #[test]
    fn hints_have_bounds() {
        let (pace, now) = (pace_of(1, 1000), Instant::now());
        assert_eq!(pace.come_back_after(now, 1, 1, 1 << 30), COME_BACK_MIN);
        assert_eq!(pace.come_back_after(now, 1 << 30, 1 << 30, 1 << 30), COME_BACK_MAX);
    }
}
