//! What is looked at while rows are written: how far it is, and what the server holds in memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::interval;

use super::load::Load;
use crate::cli::bench::bar::Bar;
use crate::cli::bench::server::Server;

/// How often.
const PERIOD: Duration = Duration::from_millis(100);

/// A server's memory over a run, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// Resident before the run.
    pub idle_bytes: u64,
    /// The most that was resident, as the system counted it.
    pub peak_bytes: u64,
    /// The most that belonged to no file, as seen from time to time.
    pub anonymous_peak_bytes: u64,
    /// Resident after the run.
    pub end_bytes: u64,
}

impl MemoryUse {
    /// Before a run; `None` where the server was not started here.
    pub fn before(server: &Server) -> Option<Self> {
        let memory = server.memory()?;
        Some(Self {
            idle_bytes: memory.resident_bytes,
            peak_bytes: memory.peak_bytes,
            anonymous_peak_bytes: memory.anonymous_bytes,
            end_bytes: memory.resident_bytes,
        })
    }

    /// Looks again.
    pub fn update(&mut self, server: &Server) {
        let Some(memory) = server.memory() else { return };
        self.peak_bytes = memory.peak_bytes;
        self.anonymous_peak_bytes = self.anonymous_peak_bytes.max(memory.anonymous_bytes);
        self.end_bytes = memory.resident_bytes;
    }
}

/// Keeps both up to date, until it is dropped.
pub async fn watch(load: &Load, bar: &Bar, mut memory: Option<(&Server, &mut MemoryUse)>) {
    let mut ticks = interval(PERIOD);
    loop {
        ticks.tick().await;
        bar.set(load.rows_settled.load(Ordering::Relaxed));
        if let Some((server, memory)) = &mut memory {
            memory.update(server);
        }
    }
}
