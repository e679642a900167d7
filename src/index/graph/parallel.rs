//! Work that is cut into pieces, each with a place of its own for its results: the same with any number of threads.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `work` for every piece, on so many threads. `start` makes what a thread keeps between pieces.
pub fn for_each<P: Send, S>(
    threads: usize,
    pieces: impl Iterator<Item = P> + Send,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, P) + Sync,
) {
    let pieces = Mutex::new(pieces);
    let run = || {
        let mut state = start();
        // The lock is held to take a piece, never to work on it.
        while let Some(piece) = { pieces.lock().unwrap_or_else(PoisonError::into_inner).next() } {
            work(&mut state, piece);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
}
