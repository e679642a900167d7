//! Numbers on the command line that have to lie in a range.

/// A share in percent, of which some is left.
pub fn read_percent(text: &str) -> Result<f64, String> {
    let expected = || "expected a number from 0 up to, but not, 100".to_owned();
    text.parse().ok().filter(|percent| (0.0..100.0).contains(percent)).ok_or_else(expected)
}

/// A recall that can be asked for.
pub fn read_recall(text: &str) -> Result<f64, String> {
    let expected = || "expected a number above 0, and at most 1, such as 0.95".to_owned();
    text.parse().ok().filter(|recall| *recall > 0.0 && *recall <= 1.0).ok_or_else(expected)
}

/// A length of time.
pub fn read_seconds(text: &str) -> Result<f64, String> {
    let expected = || "expected a number of seconds from 0, at most a day".to_owned();
    text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds)).ok_or_else(expected)
}
