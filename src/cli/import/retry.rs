//! What is worth another try, and for how long.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cli::exit::reason;

/// Whether the same may succeed in a moment: the connection broke, or the server has too much to do.
pub fn is_temporary(status: &Status) -> bool {
    match (reason(status).as_deref(), status.code()) {
        (Some("STREAM_TAKEN_OVER" | "COLLECTION_READ_ONLY"), _) => false,
        (Some("CREDIT_EXCEEDED" | "OVERLOADED"), _) => true,
        (Some(_), Code::ResourceExhausted) => status.get_details_retry_info().is_some(),
        (Some(_), code) => matches!(code, Code::Unavailable | Code::DeadlineExceeded),
        // Not the server's own words: HTTP/2 or the network.
        (None, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded) => true,
        (None, _) => false,
    }
}

/// How long it has been going wrong. Progress ends it.
pub struct Trouble {
    time_max: Duration,
    since: Option<Instant>,
    pauses: ExponentialBackoff,
}

impl Trouble {
    /// None yet.
    pub fn new(time_max: Duration) -> Self {
        Self { time_max, since: None, pauses: pauses() }
    }

    /// Something went right.
    pub fn end(&mut self) {
        if self.since.take().is_some() {
            self.pauses = pauses();
        }
    }

    /// Whether it is the first failure since something went right.
    pub fn is_new(&self) -> bool {
        self.since.is_none()
    }

    /// The pause before the next try; `None` where there have been enough.
    pub fn next_pause(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.time_max.checked_sub(since.elapsed()).filter(|left| !left.is_zero())?;
        Some(self.pauses.next()?.min(left))
    }
}

fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(Duration::from_millis(200));
    builder.with_max_delay(Duration::from_secs(5)).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, reason: &str) -> Status {
        Status::with_error_details(code, "x", ErrorDetails::with_error_info(reason, "vectron", HashMap::new()))
    }

    #[test]
    fn what_the_network_did_is_tried_again_and_what_the_server_means_is_not() {
        assert!(is_temporary(&Status::unavailable("connection refused")));
        assert!(is_temporary(&status(Code::Unavailable, "NOT_READY")));
        assert!(is_temporary(&status(Code::ResourceExhausted, "OVERLOADED")));
        assert!(is_temporary(&status(Code::ResourceExhausted, "CREDIT_EXCEEDED")));
        let pause = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
        let low = Status::with_error_details(Code::ResourceExhausted, "x", {
            let mut details = pause;
            details.set_error_info("DISK_LOW", "vectron", HashMap::<String, String>::new());
            details
        });
        assert!(is_temporary(&low), "an import goes on when there is room again");
        assert!(!is_temporary(&status(Code::ResourceExhausted, "NO_SPACE_LEFT")));
        assert!(!is_temporary(&status(Code::Aborted, "STREAM_TAKEN_OVER")));
        assert!(!is_temporary(&status(Code::NotFound, "COLLECTION_NOT_FOUND")));
        assert!(!is_temporary(&Status::unimplemented("x")));
    }

    #[test]
    fn trouble_ends_after_its_time_or_with_progress() {
        let mut trouble = Trouble::new(Duration::from_secs(3600));
        assert!(trouble.is_new());
        let pauses: Vec<Duration> = (0..20).map(|_| trouble.next_pause().unwrap()).collect();
        assert!(pauses[0] < Duration::from_secs(1) && pauses[19] >= Duration::from_secs(5));
        assert!(!trouble.is_new());
        trouble.end();
        assert!(trouble.is_new());
        let mut none = Trouble::new(Duration::ZERO);
        assert_eq!(none.next_pause(), None);
    }
}
