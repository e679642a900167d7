use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task;

use crate::api::error::{ApiError, Reason};

/// Searches that may wait for a thread, for each thread. Beyond it a search is refused at once, so that the waiting
/// stays short.
const WAITING_PER_THREAD: usize = 256;

/// Runs long searches on as many threads as there are cores, so that they do not hold up the connections.
#[derive(Clone)]
pub struct SearchPool {
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    threads: usize,
}

impl SearchPool {
    /// As many searches at once as `threads`.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self {
            running: Arc::new(Semaphore::new(threads)),
            admitted: Arc::new(Semaphore::new(threads * (1 + WAITING_PER_THREAD))),
            threads,
        }
    }

    /// Searches that run at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Waits for a free thread and runs the work there. OVERLOADED where too many wait already.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let _admitted = self.admitted.try_acquire().map_err(|_| {
            let waiting = self.threads * WAITING_PER_THREAD;
            ApiError::new(Reason::Overloaded, format_args!("{waiting} searches are waiting already"))
                .with_retry_after(std::time::Duration::from_millis(100))
        })?;
        let closed = |error: &dyn std::fmt::Display| ApiError::new(Reason::Internal, error);
        let running = self.running.clone().acquire_owned().await.map_err(|error| closed(&error))?;
        // The permit goes with the work: a caller that leaves does not make room for more than the threads can run.
        let search = task::spawn_blocking(move || {
            let _running = running;
            work()
        });
        search.await.map_err(|error| closed(&error))
    }
}
