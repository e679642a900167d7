//! Threads that make load: each has a runtime of its own.
//!
//! A connection and what uses it share a thread, so that nothing is handed from core to core and no lock is contended.

use std::thread;

use tokio::runtime;
use tokio::sync::mpsc;

use super::BenchError;

/// As many threads as there are connections, but not more than cores.
pub fn thread_count(connections: usize) -> usize {
    connections.min(thread::available_parallelism().map_or(1, usize::from))
}

/// Runs one future on each of `count` threads, which are given their number. Returns at the first failure.
pub async fn run_on_threads<T, Work>(
    count: usize,
    work: impl Fn(usize) -> Work + Clone + Send + 'static,
) -> Result<Vec<T>, BenchError>
where
    T: Send + 'static,
    Work: Future<Output = Result<T, BenchError>>,
{
    let (done, mut results) = mpsc::unbounded_channel();
    for number in 0..count {
        let (work, done) = (work.clone(), done.clone());
        thread::Builder::new().name(format!("load-{number}")).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let result = runtime.map_err(BenchError::from).and_then(|runtime| runtime.block_on(work(number)));
            // Nobody listens where another thread has failed before.
            let _ = done.send(result);
        })?;
    }
    drop(done);
    let mut all = Vec::with_capacity(count);
    while let Some(result) = results.recv().await {
        all.push(result?);
    }
    match all.len() == count {
        true => Ok(all),
        false => Err("a thread of the load has panicked".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_thread_runs_once_and_a_failure_is_told() {
        let mut numbers = run_on_threads(3, async |number| Ok(number)).await.unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2]);
        let failing = async |number: usize| if number == 1 { Err(BenchError::from("broken")) } else { Ok(()) };
        assert_eq!(run_on_threads(2, failing).await.unwrap_err().to_string(), "broken");
    }
}
