//! How errors, times and places in files are told.

use std::error::Error;
use std::time::Duration;

/// An error with its causes, for those whose own message is only the outermost.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The last cause of an error: what the operating system said, where it did.
pub fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Whole microseconds.
pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The line, from 1, in which the byte `offset` is; beyond the end: the last one.
pub(crate) fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_1() {
        let lines = [0, 1, 2, 3, 4, 99].map(|offset| line_of(b"a\nb\nc", offset));
        assert_eq!(lines, [1, 1, 2, 2, 3, 3]);
    }
}
