//! How long calls took, and how to put several runs into one number.

use std::time::Duration;

/// Latencies in microseconds, one for each call: some megabytes for a run, and quantiles without an error of their own.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// One more call.
    pub fn record(&mut self, time: Duration) {
        self.0.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    /// Takes in those of another client.
    pub fn merge(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    /// Calls recorded.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What a share of the calls (0 to 1) stays within, in milliseconds; 0 without calls.
    pub fn quantile_ms(&mut self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let index = rank.saturating_sub(1);
        if index >= self.0.len() {
            return 0.0;
        }
        let (_, latency_us, _) = self.0.select_nth_unstable(index);
        f64::from(*latency_us) / 1000.0
    }
}

/// The middle one of several runs' figures; the mean of the middle two where their number is even. 0 without figures.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[count / 2],
        count => (figures[count / 2 - 1] + figures[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(micros: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        micros.into_iter().for_each(|micros| latencies.record(Duration::from_micros(micros)));
        latencies
    }

    #[test]
    fn a_quantile_is_the_least_latency_that_covers_the_share() {
        let mut hundred = latencies((1..=100).rev().map(|n| n * 1000));
        assert_eq!([0.5, 0.99, 1.0, 0.0].map(|share| hundred.quantile_ms(share)), [50.0, 99.0, 100.0, 1.0]);
        assert_eq!(latencies([7]).quantile_ms(0.99), 0.007);
        assert_eq!(latencies([]).quantile_ms(0.5), 0.0);
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_at_its_end() {
        assert_eq!(latencies([u64::MAX / 2]).quantile_ms(0.5), f64::from(u32::MAX) / 1000.0);
    }

    #[test]
    fn the_median_ignores_the_odd_run_out() {
        assert_eq!(median([5.0, 900.0, 4.0].into_iter()), 5.0);
        assert_eq!(median([1.0, 3.0].into_iter()), 2.0);
        assert_eq!(median([].into_iter()), 0.0);
    }
}
