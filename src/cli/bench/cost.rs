//! Time on processors: what a call costs, however busy the machine is with something else.

use std::time::Duration;

use super::process::{Process, own_cpu_time};

/// Processor time of a run, in all; `None` where it cannot be known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// The server's, where it runs on this machine for the benchmark.
    pub server: Option<Duration>,
    /// The client's.
    pub client: Option<Duration>,
}

impl Cost {
    /// So far.
    pub fn until_now(server: Option<&Process>) -> Self {
        Self { server: server.and_then(Process::cpu_time), client: own_cpu_time() }
    }

    /// What has come since `before`.
    pub fn since(self, before: Self) -> Self {
        let difference = |now: Option<Duration>, before: Option<Duration>| Some(now?.saturating_sub(before?));
        Self { server: difference(self.server, before.server), client: difference(self.client, before.client) }
    }
}

/// Microseconds for each of `count`; `None` where the time is not known.
pub fn micros_each(time: Option<Duration>, count: u64) -> Option<f64> {
    (count > 0).then_some(time?.as_secs_f64() * 1e6 / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_what_has_come_since() {
        let cost = |server, client| Cost { server, client: Some(Duration::from_millis(client)) };
        let cost = cost(None, 70).since(cost(Some(Duration::ZERO), 20));
        assert_eq!((micros_each(cost.server, 100), micros_each(cost.client, 100)), (None, Some(500.0)));
        assert_eq!(micros_each(cost.client, 0), None);
    }
}
