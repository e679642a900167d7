//! What is dropped where its client reads nothing of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// A value that a client reads from, piece by piece. HTTP does not ask for a piece that the client has no room for, so a task of
/// its own has to look at the time.
pub(super) struct UntilUnread<T> {
    kept: Arc<Mutex<Kept<T>>>,
    time_max: Duration,
    watch: Option<AbortHandle>,
}

struct Kept<T> {
    /// Nothing: it was dropped.
    value: Option<T>,
    /// Since when it is the client's turn.
    since: Option<Instant>,
}

/// The client read nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the client read nothing of its answer for {time_max:?}")]
pub(super) struct Unread {
    pub(super) time_max: Duration,
}

impl<T: Send + 'static> UntilUnread<T> {
    /// It is the client's turn. Nothing is dropped before it is watched.
    pub(super) fn new(value: T, time_max: Duration) -> Self {
        let kept = Kept { value: Some(value), since: Some(Instant::now()) };
        Self { kept: Arc::new(Mutex::new(kept)), time_max, watch: None }
    }

    /// Looks at the time from now on. To be called within a runtime.
    pub(super) fn watch(&mut self) {
        if self.watch.is_some() {
            return;
        }
        let (kept, time_max) = (self.kept.clone(), self.time_max);
        let watch = async move {
            loop {
                tokio::time::sleep(time_max / 4).await;
                let mut kept = lock(&kept);
                if kept.since.is_some_and(|since| since.elapsed() >= time_max) {
                    *kept = Kept { value: None, since: None };
                    return;
                }
            }
        };
        self.watch = Some(tokio::spawn(watch).abort_handle());
    }

    /// The client asks for the next piece. It is not the client's turn before that is there.
    pub(super) fn poll_next<R>(&self, next: impl FnOnce(&mut T) -> Poll<Option<R>>) -> Poll<Option<Result<R, Unread>>> {
        let kept = &mut *lock(&self.kept);
        kept.since = None;
        let Some(value) = &mut kept.value else { return Poll::Ready(Some(Err(Unread { time_max: self.time_max }))) };
        let piece = ready!(next(value));
        kept.since = piece.is_some().then(Instant::now);
        Poll::Ready(piece.map(Ok))
    }

    /// Looks at the value, where it was not dropped.
    pub(super) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        lock(&self.kept).value.as_ref().map(look)
    }
}

impl<T> Drop for UntilUnread<T> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        // The watch has it too, until it has really ended.
        lock(&self.kept).value = None;
    }
}

/// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
fn lock<T>(kept: &Mutex<Kept<T>>) -> MutexGuard<'_, Kept<T>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
