//! The frames of a stream that are not settled yet, and what the server's credit leaves room for.

use std::collections::VecDeque;
use std::time::Instant;

use crate::cli::bench::BenchError;
use crate::cli::bench::echo::Credit;
use crate::cli::bench::latency::Latencies;

/// Frames that were sent and that no progress has covered.
pub struct Window {
    credit: Credit,
    unsettled: VecDeque<Unsettled>,
    unsettled_bytes: u64,
    last_sent: u64,
    latencies: Latencies,
}

struct Unsettled {
    frame: u64,
    bytes: u64,
    sent: Instant,
}

impl Window {
    /// Of a new stream.
    pub fn new(credit: Credit) -> Self {
        Self { credit, unsettled: VecDeque::new(), unsettled_bytes: 0, last_sent: 0, latencies: Latencies::default() }
    }

    /// Whether one more frame of this size may be sent.
    pub fn admits(&self, bytes: u64) -> bool {
        self.unsettled.len() < self.credit.frames as usize && self.unsettled_bytes + bytes <= self.credit.bytes
    }

    /// The next frame is on its way.
    pub fn sent(&mut self, bytes: u64, sent: Instant) {
        assert!(self.admits(bytes), "the caller has asked");
        self.last_sent += 1;
        self.unsettled.push_back(Unsettled { frame: self.last_sent, bytes, sent });
        self.unsettled_bytes += bytes;
    }

    /// Every frame up to this one is settled, and `credit_bytes` holds from now on. Returns how many frames that were.
    pub fn settle(&mut self, settled_frame: u64, credit_bytes: u64, now: Instant) -> Result<usize, BenchError> {
        if settled_frame > self.last_sent {
            let sent = self.last_sent;
            return Err(format!("the server settled frame {settled_frame}, but {sent} were sent").into());
        }
        let before = self.unsettled.len();
        while let Some(first) = self.unsettled.pop_front_if(|first| first.frame <= settled_frame) {
            self.unsettled_bytes -= first.bytes;
            self.latencies.record(now - first.sent);
        }
        self.credit.bytes = credit_bytes;
        Ok(before - self.unsettled.len())
    }

    /// Whether everything that was sent is settled.
    pub fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// From the sending of each frame to its settling.
    pub fn into_latencies(self) -> Latencies {
        self.latencies
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn credit_bounds_bytes_and_frames_until_they_are_settled() {
        let start = Instant::now();
        let mut window = Window::new(Credit { bytes: 100, frames: 3 });
        assert!(window.admits(100) && !window.admits(101));
        window.sent(40, start);
        window.sent(40, start);
        assert!(window.admits(20) && !window.admits(21));
        window.sent(1, start);
        assert!(!window.admits(1), "three frames");
        let later = start + Duration::from_millis(2);
        assert_eq!(window.settle(2, 100, later).unwrap(), 2);
        assert!(window.admits(99) && !window.is_empty());
        assert_eq!(window.settle(2, 10, later).unwrap(), 0);
        assert!(window.admits(9) && !window.admits(10), "credit has shrunk");
        assert_eq!(window.settle(3, 10, later).unwrap(), 1);
        assert!(window.is_empty());
        let mut latencies = window.into_latencies();
        assert_eq!((latencies.count(), latencies.quantile_ms(1.0)), (3, 2.0));
    }

    #[test]
    fn what_was_not_sent_cannot_be_settled() {
        let mut window = Window::new(Credit { bytes: 100, frames: 3 });
        window.sent(1, Instant::now());
        assert!(window.settle(2, 100, Instant::now()).is_err());
    }
}
