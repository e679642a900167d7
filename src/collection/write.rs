//! The path of a write: into the log, then applied in the order of the log, then acknowledged.
//!
//! One thread applies. It takes operations in the order in which they entered the log, waits until the promise of each
//! holds (written, or synced), applies all that are ready to a copy of the view, publishes it, and only then answers.
//! So a durable write is invisible until it is synced, and a buffered one behind it appears after it. Dropping the
//! receiver of an answer cancels nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use crate::collection::apply::Outcome;
use crate::collection::keep::Checkpoint;
use crate::collection::ledger::Ledger;
use crate::collection::op::Operation;
use crate::collection::view::{Installed, View};
use crate::storage::log::{Completion, Durability, Log, LogError};
use crate::types::Sequence;

/// The answer to a write, when it comes. (The channel needs no runtime: the engine stays synchronous.)
pub type Answer = oneshot::Receiver<Result<Outcome, LogError>>;

/// What readers and the writer share.
pub(super) struct Shared {
    pub view: ArcSwap<View>,
    pub ledger: Mutex<Ledger>,
    /// The sequence of `view`, for readers that wait for one.
    pub visible: watch::Sender<Sequence>,
    /// Bytes of operations that are not applied yet.
    pub unapplied_bytes: AtomicU64,
}

/// What the applier does, one after the other.
pub(super) enum Work {
    /// Applies an operation of the log.
    Apply(Submitted),
    /// Puts a segment in the place of what it was built from. It does not change what a reader can see.
    Install(Box<Installed>, mpsc::Sender<Sequence>),
    /// Seals all memtables, full or not, and has a checkpoint written.
    Seal(mpsc::Sender<Sequence>),
}

/// An operation that has entered the log.
pub(super) struct Submitted {
    operation: Operation,
    /// Its size in the log, which is about its size in memory.
    bytes: u64,
    completion: Completion,
    answer: oneshot::Sender<Result<Outcome, LogError>>,
}

/// Bytes of operations that have entered the log and are not applied yet. Beyond it a write is refused.
const UNAPPLIED_BYTES_MAX: u64 = 256 << 20;

/// The way into the log. The lock makes the order of the queue the order of the log; it is held for an append, which
/// does not wait, and never across `.await`.
pub(super) struct Writer {
    pub log: Arc<dyn Log>,
    pub shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Work>>>,
}

impl Writer {
    pub fn new(log: Arc<dyn Log>, shared: Arc<Shared>) -> (Self, mpsc::Receiver<Work>) {
        // The channel has no bound of its own: `UNAPPLIED_BYTES_MAX` is the bound.
        let (sender, receiver) = mpsc::channel();
        (Self { log, shared, queue: Mutex::new(Some(sender)) }, receiver)
    }

    pub fn submit(&self, operation: Operation, durability: Durability) -> Result<Answer, LogError> {
        let payload = operation.encode();
        let bytes = payload.len() as u64;
        let (answer, receiver) = oneshot::channel();
        let queue = lock(&self.queue);
        let sender = queue.as_ref().ok_or(LogError::Closed)?;
        let unapplied_bytes = self.shared.unapplied_bytes.load(Ordering::Relaxed);
        // One operation alone is always let in, however large.
        if unapplied_bytes > 0 && unapplied_bytes + bytes > UNAPPLIED_BYTES_MAX {
            return Err(LogError::Full {
                pending_bytes: unapplied_bytes,
                append_bytes: bytes,
                pending_bytes_max: UNAPPLIED_BYTES_MAX,
            });
        }
        let completion = self.log.append(vec![payload], durability)?;
        self.shared.unapplied_bytes.fetch_add(bytes, Ordering::Relaxed);
        // The applier goes only after the sender was dropped, which takes this lock.
        let submitted = Submitted { operation, bytes, completion, answer };
        sender.send(Work::Apply(submitted)).map_err(|_| LogError::Closed)?;
        Ok(receiver)
    }

    /// Has the applier do something between two operations, waits for it, and returns the sequence of the first of the two. None
    /// where the applier has gone, or goes.
    pub fn arrange(&self, work: impl FnOnce(mpsc::Sender<Sequence>) -> Work) -> Option<Sequence> {
        let (done, wait) = mpsc::channel();
        let is_sent = lock(&self.queue).as_ref().is_some_and(|queue| queue.send(work(done)).is_ok());
        if is_sent { wait.recv().ok() } else { None }
    }

    /// Refuses further writes; what is queued is still applied.
    pub fn stop(&self) {
        lock(&self.queue).take();
    }
}

/// After so many bytes of the log there is a checkpoint, whatever the memtables hold.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Applies until the queue is closed and empty. `after` is called after each time that the view has changed, and `keep` for each
/// checkpoint.
pub(super) fn apply_all(
    queue: &mpsc::Receiver<Work>,
    shared: &Shared,
    after: impl Fn(&View),
    keep: impl Fn(Checkpoint),
) {
    let seal = |view: &mut View| {
        view.seal();
        keep(Checkpoint::new(view, &mut lock(&shared.ledger)));
    };
    let mut applied_bytes = 0;
    let mut view = View::clone(&shared.view.load());
    let (mut held, mut failure) = (None, None);
    while let Some(first) = held.take().or_else(|| queue.recv().ok()) {
        let (mut answers, mut arranged) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(work) = next.take() {
            match work {
                Work::Apply(submitted) => {
                    applied_bytes += submitted.bytes;
                    answers.push(apply_one(submitted, &mut view, shared, &mut failure));
                    if view.is_due() || applied_bytes > CHECKPOINT_BYTES {
                        seal(&mut view);
                        applied_bytes = 0;
                    }
                }
                Work::Install(installed, done) => {
                    view.install(*installed);
                    arranged.push((done, view.sequence()));
                }
                Work::Seal(done) => {
                    seal(&mut view);
                    arranged.push((done, view.sequence()));
                }
            }
            match queue.try_recv() {
                Ok(Work::Apply(submitted)) if !submitted.completion.is_ready() => held = Some(Work::Apply(submitted)),
                Ok(work) => next = Some(work),
                Err(_) => {}
            }
        }
        shared.view.store(Arc::new(view.clone()));
        shared.visible.send_replace(view.sequence());
        for (sender, answer) in answers {
            // Nobody may be waiting any more; the write stands all the same.
            let _ = sender.send(answer);
        }
        for (done, sequence) in arranged {
            let _ = done.send(sequence);
        }
        after(&view);
    }
}

type Answered = (oneshot::Sender<Result<Outcome, LogError>>, Result<Outcome, LogError>);

fn apply_one(submitted: Submitted, view: &mut View, shared: &Shared, failure: &mut Option<LogError>) -> Answered {
    let Submitted { operation, bytes, completion, answer } = submitted;
    let outcome = match completion.wait() {
        Ok(committed) if committed.first == view.sequence().next() => {
            assert_eq!(committed.first, committed.last, "one operation is one record");
            Ok(view.apply(committed.first, operation, &mut lock(&shared.ledger)))
        }
        // A buffered one was written, and the sync of one before it has failed. Without that one it means something else.
        Ok(_) => Err(failure.clone().expect("the log has no gaps, but for operations that failed")),
        Err(error) => {
            *failure = Some(error.clone());
            Err(error)
        }
    };
    shared.unapplied_bytes.fetch_sub(bytes, Ordering::Relaxed);
    (answer, outcome)
}

/// A panic while the lock was held has already ended the thread that could have left something half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
