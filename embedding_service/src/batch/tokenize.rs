//! Splitting texts into tokens, on threads of lower priority.
//!
//! Calls take turns of `TURN_TEXTS` texts. A call whose caller has left is dropped at its next turn, and only then gives
//! back the bytes that it holds. That bounds the queue: every call in it holds a part of the budget.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{io, vec};

use tokio::sync::oneshot;

use super::budget::Held;
use super::priority::lower_priority;
use crate::encoder::{TokenizeError, Tokens};
use crate::model::LoadedModel;

/// Texts of a call that are tokenized before it is the turn of the next call: some 10 ms where they are long.
const TURN_TEXTS: usize = 8;

/// The texts of one call, and their part of the budget of bytes.
pub(crate) struct Texts {
    pub(crate) texts: Vec<String>,
    pub(crate) held: Held,
}

/// The tokens of one call; the texts are gone, their part of the budget is still held.
#[derive(Debug)]
pub(crate) struct Tokenized {
    pub(crate) texts: Vec<Tokens>,
    pub(crate) held: Held,
}

/// A text that the tokenizer refuses.
#[derive(Debug)]
pub(crate) struct RefusedText {
    pub(crate) index: usize,
    pub(crate) error: TokenizeError,
}

/// What becomes of a call. Closed without an answer where a thread panicked over it.
pub(crate) type Answer = oneshot::Receiver<Result<Tokenized, RefusedText>>;

/// Calls that wait for a thread. Its lock is held for a push or a pop, never while a text is tokenized.
pub(crate) struct TokenizeQueue {
    state: Mutex<State>,
    /// Told of every call that is put in, and of the end.
    changed: Condvar,
}

struct State {
    jobs: VecDeque<Job<LoadedModel>>,
    closed: bool,
    /// Whether jobs are dropped that a thread has begun, too.
    cleared: bool,
}

struct Job<M> {
    model: Arc<M>,
    texts: vec::IntoIter<String>,
    tokens: Vec<Tokens>,
    held: Held,
    answer: oneshot::Sender<Result<Tokenized, RefusedText>>,
}

impl TokenizeQueue {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false, cleared: false }),
            changed: Condvar::new(),
        }
    }

    /// Starts `count` threads. They end when the queue is closed and empty.
    pub(crate) fn start(self: &Arc<Self>, count: usize) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |index: usize| {
            let queue = self.clone();
            thread::Builder::new().name(format!("tokenize {index}")).spawn(move || queue.work())
        };
        (0..count).map(start).collect()
    }

    /// Queues the texts of a call; nothing where the queue is closed. Dropping the answer tells that the caller has left.
    pub(crate) fn push(&self, model: Arc<LoadedModel>, texts: Texts) -> Option<Answer> {
        let (job, done) = Job::new(model, texts);
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
        Some(done)
    }

    /// Takes no more calls. What is queued is still tokenized.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more calls, and drops those that are queued.
    pub(crate) fn clear(&self) {
        let jobs = {
            let mut state = self.lock();
            (state.closed, state.cleared) = (true, true);
            std::mem::take(&mut state.jobs)
        };
        // Not under the lock: their callers hear of it.
        drop(jobs);
        self.changed.notify_all();
    }

    fn work(&self) {
        lower_priority();
        while let Some(job) = self.take() {
            // A text that trips over a bug must not take the thread with it: its caller sees the answer closed.
            let turn = AssertUnwindSafe(|| job.turn(|model, text| model.encoder.tokenize(text)));
            if let Ok(Some(unfinished)) = panic::catch_unwind(turn) {
                self.put_back(unfinished);
            }
        }
    }

    fn put_back(&self, job: Job<LoadedModel>) {
        let mut state = self.lock();
        if state.cleared {
            return;
        }
        state.jobs.push_back(job);
        drop(state);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Job<LoadedModel>> {
        let mut state = self.lock();
        loop {
            let job = state.jobs.pop_front();
            if job.is_some() || state.closed {
                return job;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing that runs under the lock leaves the state half changed, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Job<M> {
    fn new(model: Arc<M>, Texts { texts, held }: Texts) -> (Self, Answer) {
        let (answer, done) = oneshot::channel();
        let tokens = Vec::with_capacity(texts.len());
        (Self { model, texts: texts.into_iter(), tokens, held, answer }, done)
    }

    /// Tokenizes some texts; returns itself where there are more. Ends where the caller has left.
    fn turn(mut self, tokenize: impl Fn(&M, &str) -> Result<Tokens, TokenizeError>) -> Option<Self> {
        for _ in 0..TURN_TEXTS {
            if self.answer.is_closed() {
                return None;
            }
            let Some(text) = self.texts.next() else { break };
            match tokenize(&self.model, &text) {
                Ok(tokens) => self.tokens.push(tokens),
                Err(error) => {
                    let index = self.tokens.len();
                    let _ = self.answer.send(Err(RefusedText { index, error }));
                    return None;
                }
            }
        }
        if self.texts.len() > 0 {
            return Some(self);
        }
        // A caller that has just left does not want it any more.
        let _ = self.answer.send(Ok(Tokenized { texts: self.tokens, held: self.held }));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::budget::Budget;
    use super::*;

    fn job(count: usize, budget: &Budget) -> (Job<()>, Answer) {
        let held = budget.take_now(count).unwrap();
        Job::new(Arc::new(()), Texts { texts: vec!["x".to_owned(); count], held })
    }

    fn one_token(_: &(), _: &str) -> Result<Tokens, TokenizeError> {
        Ok(Tokens { ids: vec![1].into(), truncated: false })
    }

    #[test]
    fn call_that_was_left_keeps_its_bytes_until_its_work_ends() {
        let budget = Budget::new(100);
        let (job, done) = job(100, &budget);
        let job = job.turn(one_token).unwrap();
        assert_eq!(job.tokens.len(), TURN_TEXTS);

        let tokenized = Cell::new(0);
        let done = Cell::new(Some(done));
        let ended = job.turn(|model, text| {
            // Left while its first text of this turn is tokenized: there is no second.
            done.take();
            assert_eq!(budget.left(), 0);
            tokenized.set(tokenized.get() + 1);
            one_token(model, text)
        });
        assert!(ended.is_none());
        assert_eq!((tokenized.get(), budget.left()), (1, 100));
    }

    #[test]
    fn tokens_come_with_the_bytes_that_are_still_held() {
        let budget = Budget::new(20);
        let (job, mut done) = job(2 * TURN_TEXTS + 1, &budget);
        let job = job.turn(one_token).and_then(|job| job.turn(one_token)).unwrap();
        assert!(job.turn(one_token).is_none());
        let tokenized = done.try_recv().unwrap().unwrap();
        assert_eq!((tokenized.texts.len(), budget.left()), (17, 3));
        drop(tokenized);
        assert_eq!(budget.left(), 20);
    }
}
