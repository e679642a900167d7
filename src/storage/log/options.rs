//! How a log is kept.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::types::Sequence;

const MIB: u64 = 1024 * 1024;

/// Sizes, delays, and what the caller knows about the log from elsewhere.
#[derive(Clone)]
pub struct LogOptions {
    /// A new file is begun when the next group would take one beyond this; default 64 MiB.
    pub segment_bytes_max: u64,
    /// Appends are put together into one group up to this; a larger append is a group of its own. Default 16 MiB.
    pub group_bytes_max: u64,
    /// Bytes of records that may wait to be written; default 256 MiB. An append beyond it is refused.
    pub pending_bytes_max: u64,
    /// Buffered records are synced after this, if nothing durable comes before; default 1 s.
    pub sync_delay: Duration,
    /// A log that has been idle for this long after a sync writes a mark; default 500 ms.
    pub mark_delay: Duration,
    /// The epoch this writer appends with; default 0.
    pub epoch: u64,
    /// The first record the caller still needs: a log that begins after it is damaged. Zero (the default) needs none.
    pub first_needed: Sequence,
    /// A sequence the caller knows to have been durable, from its manifest for example: a log that ends before it is
    /// damaged. Zero (the default) if it knows none.
    pub known_durable: Sequence,
    /// The time in microseconds since the Unix epoch, for [`super::LogRecord::time_us`].
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 64 * MIB,
            group_bytes_max: 16 * MIB,
            pending_bytes_max: 256 * MIB,
            sync_delay: Duration::from_secs(1),
            mark_delay: Duration::from_millis(500),
            epoch: 0,
            first_needed: Sequence::ZERO,
            known_durable: Sequence::ZERO,
            clock: Arc::new(system_time_us),
        }
    }
}

fn system_time_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("segment_bytes_max", &self.segment_bytes_max)
            .field("group_bytes_max", &self.group_bytes_max)
            .field("pending_bytes_max", &self.pending_bytes_max)
            .field("sync_delay", &self.sync_delay)
            .field("mark_delay", &self.mark_delay)
            .field("epoch", &self.epoch)
            .field("first_needed", &self.first_needed)
            .field("known_durable", &self.known_durable)
            .finish_non_exhaustive()
    }
}
