//! The queue between callers and worker threads.
//!
//! A batch is filled with texts of as many calls as fit, without waiting for more: at rest a text runs at once, under
//! load batches grow by themselves. Threads that are idle together share what there is. In which order calls are run is in
//! `schedule`. What is left of a call whose caller leaves is dropped at once.
//!
//! Bounded by tokens: every call in it holds its part of a budget, and gives it back as its texts are taken.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::budget::Held;
use super::pace::Pace;
use super::schedule::{Place, Schedule};
use crate::encoder::Tokens;

/// A queue of texts for models `M`. Its lock is held for the time of a few pushes and pops, never while a model runs.
pub(crate) struct Queue<M> {
    /// Tokens of a batch; a single text may have more.
    batch_tokens_max: usize,
    state: Mutex<State<M>>,
    /// Told of every call that is put in, and of the end.
    changed: Condvar,
    /// Of the threads that take from it.
    pace: Pace,
}

struct State<M> {
    calls: Schedule<M>,
    /// Threads in `take`.
    idle: usize,
    closed: bool,
}

/// The texts of one call.
pub(crate) struct Call<M> {
    /// The model that they are for.
    pub model: Arc<M>,
    /// The texts.
    pub texts: Vec<Tokens>,
    /// Whether embeddings are scaled to unit length.
    pub normalize: bool,
    /// Where each is answered. Unbounded, but for one message for each text.
    pub results: UnboundedSender<Done>,
    /// Their tokens' part of the budget.
    pub held: Held,
}

/// That a call waits. What is left of the call is dropped with it.
pub(crate) struct Ticket<M> {
    queue: Arc<Queue<M>>,
    model: Arc<M>,
    place: Place,
}

/// Texts to be run together: at least one, all for the same model.
pub(crate) struct Batch<M> {
    /// The model.
    pub model: Arc<M>,
    /// The texts.
    pub items: Vec<Item>,
}

/// One text of a batch.
pub(crate) struct Item {
    /// Which text of its call it is.
    pub index: usize,
    /// The text.
    pub tokens: Tokens,
    /// Whether its embedding is scaled to unit length.
    pub normalize: bool,
    /// Where it is answered.
    pub results: UnboundedSender<Done>,
    /// Since when it waits.
    pub since: Instant,
}

/// The answer for one text.
#[derive(Debug)]
pub(crate) struct Done {
    /// Which text of its call it is.
    pub index: usize,
    /// Its embedding.
    pub embedding: Vec<f32>,
    /// How long it waited, in microseconds.
    pub queue_us: u64,
    /// How long its batch ran, in microseconds.
    pub inference_us: u64,
}

/// The service stops: no call is queued any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

impl<M> Queue<M> {
    /// An empty queue.
    pub(crate) fn new(batch_tokens_max: usize) -> Self {
        let state = State { calls: Schedule::new(), idle: 0, closed: false };
        Self { batch_tokens_max, state: Mutex::new(state), changed: Condvar::new(), pace: Pace::default() }
    }

    /// How fast its threads are.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Tokens that are run before a call of so many is done, its own not counted, if it came now and none came after it.
    pub(crate) fn tokens_ahead(&self, tokens: usize) -> usize {
        self.lock().calls.tokens_ahead(tokens)
    }

    /// Queues all texts of the call, as long as its ticket is kept.
    pub(crate) fn push(self: &Arc<Self>, call: Call<M>) -> Result<Ticket<M>, Closed> {
        let model = call.model.clone();
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let place = state.calls.push(call);
        drop(state);
        // All of them: the call may fill more than one batch.
        self.changed.notify_all();
        Ok(Ticket { queue: self.clone(), model, place })
    }

    /// The next batch; waits for one. Nothing where the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Batch<M>> {
        let mut state = self.lock();
        state.idle += 1;
        loop {
            // A fair share: else one thread would run all of a small call, and the others nothing.
            let share = state.calls.tokens().div_ceil(state.idle);
            let batch = state.calls.next_batch(share.min(self.batch_tokens_max));
            if batch.is_some() || state.closed {
                state.idle -= 1;
                return batch;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more calls. What is queued is still run.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more calls, and drops those that are queued.
    pub(crate) fn clear(&self) {
        let calls = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::replace(&mut state.calls, Schedule::new())
        };
        // Not under the lock: their callers hear of it.
        drop(calls);
        self.changed.notify_all();
    }

    /// Whether it takes no more calls.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Nothing that runs under the lock leaves the state half changed, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Drop for Ticket<M> {
    fn drop(&mut self) {
        self.queue.lock().calls.forget(&self.model, self.place);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::budget::Budget;
    use super::*;

    const BATCH_TOKENS_MAX: usize = 10;

    type TestQueue = Arc<Queue<String>>;
    type Caller = (Ticket<String>, UnboundedReceiver<Done>);

    fn queue_and_model() -> (TestQueue, Arc<String>) {
        (Arc::new(Queue::new(BATCH_TOKENS_MAX)), Arc::new("a".to_owned()))
    }

    fn call_of(budget: &Budget, model: &Arc<String>, lengths: &[usize]) -> (Call<String>, UnboundedReceiver<Done>) {
        let (results, done) = unbounded_channel();
        let text = |length: &usize| Tokens { ids: vec![0; *length].into(), truncated: false };
        let texts = lengths.iter().map(text).collect();
        let held = budget.take_now(lengths.iter().sum()).unwrap();
        (Call { model: model.clone(), texts, normalize: true, results, held }, done)
    }

    fn push(queue: &TestQueue, model: &Arc<String>, lengths: &[usize]) -> Caller {
        let (call, done) = call_of(&Budget::new(1000), model, lengths);
        (queue.push(call).unwrap_or_else(|Closed| panic!("it is open")), done)
    }

    fn lengths(queue: &TestQueue) -> Vec<usize> {
        queue.take().unwrap().items.iter().map(|item| item.tokens.ids.len()).collect()
    }

    fn tokens(queue: &TestQueue) -> usize {
        queue.lock().calls.tokens()
    }

    #[test]
    fn short_call_comes_before_what_is_left_of_a_long_one() {
        let (queue, model) = queue_and_model();
        let _large = push(&queue, &model, &[3, 3, 3, 3, 3]);
        assert_eq!(lengths(&queue), [3, 3, 3]);
        let _small = push(&queue, &model, &[2]);
        let rest: Vec<_> = queue.take().unwrap().items.iter().map(|item| (item.index, item.tokens.ids.len())).collect();
        assert_eq!(rest, [(0, 2), (3, 3), (4, 3)]);
        assert_eq!(tokens(&queue), 0);
    }

    #[test]
    fn calls_of_one_size_are_run_as_they_came() {
        let (queue, model) = queue_and_model();
        let _first = push(&queue, &model, &[5, 5, 5, 5]);
        let mut later = Vec::new();
        for _ in 0..2 {
            later.push(push(&queue, &model, &[4, 4, 4, 4, 4]));
            assert_eq!(lengths(&queue), [5, 5], "later calls of its size do not delay the first");
        }
        assert_eq!(lengths(&queue), [4, 4]);
    }

    #[test]
    fn idle_threads_share_a_small_call() {
        let (queue, model) = queue_and_model();
        queue.lock().idle = 1;
        let _caller = push(&queue, &model, &[2, 2, 2, 2]);
        assert_eq!(lengths(&queue), [2, 2]);
        queue.lock().idle = 0;
        assert_eq!(lengths(&queue), [2, 2]);
    }

    #[test]
    fn text_longer_than_a_batch_runs_alone() {
        let (queue, model) = queue_and_model();
        let _caller = push(&queue, &model, &[50, 1]);
        assert_eq!(lengths(&queue), [50]);
        assert_eq!(lengths(&queue), [1]);
    }

    #[test]
    fn batch_has_one_model() {
        let (queue, a) = queue_and_model();
        let b = Arc::new("b".to_owned());
        let _calls = [push(&queue, &a, &[1, 1]), push(&queue, &b, &[2]), push(&queue, &a, &[3])];
        let batch = queue.take().unwrap();
        assert_eq!((batch.model.as_str(), batch.items.len()), ("a", 3));
        assert_eq!((queue.take().unwrap().model.as_str(), tokens(&queue)), ("b", 0));
        assert_eq!(queue.lock().calls.tokens_ahead(100), 0);
    }

    #[test]
    fn long_text_is_not_passed_for_ever_by_short_ones_that_keep_coming() {
        let (queue, model) = queue_and_model();
        let _long = push(&queue, &model, &[8]);
        let mut calls = Vec::new();
        for turn in 0.. {
            assert!(turn < 20, "20 batches of others were run");
            calls.extend((0..4).map(|_| push(&queue, &model, &[3])));
            if lengths(&queue).contains(&8) {
                break;
            }
        }
    }

    #[test]
    fn small_call_for_another_model_does_not_wait_for_all_of_a_large_one() {
        let (queue, a) = queue_and_model();
        let b = Arc::new("b".to_owned());
        let _calls = [push(&queue, &a, &[8; 10]), push(&queue, &b, &[8, 8])];
        let models: Vec<String> = (0..4).map(|_| queue.take().unwrap().model.to_string()).collect();
        assert_eq!(models, ["b", "b", "a", "a"]);
    }

    #[test]
    fn caller_that_leaves_gives_back_at_once_what_it_held() {
        let (queue, model) = queue_and_model();
        let budget = Budget::new(20);
        let (call, done) = call_of(&budget, &model, &[9, 9]);
        let ticket = queue.push(call);
        let _stays = push(&queue, &model, &[4]);
        assert!(budget.take_now(3).is_err());
        drop((ticket, done));
        assert_eq!((tokens(&queue), queue.tokens_ahead(1000)), (4, 4));
        assert!(budget.take_now(20).is_ok());
        assert_eq!(lengths(&queue), [4]);
    }

    #[test]
    fn call_waits_for_those_that_would_be_done_before_it() {
        let (queue, model) = queue_and_model();
        let _calls = [push(&queue, &model, &[3; 20]), push(&queue, &model, &[3]), push(&queue, &model, &[3])];
        assert_eq!((queue.tokens_ahead(2), queue.tokens_ahead(3), queue.tokens_ahead(60)), (0, 6, 66));
        while tokens(&queue) > 0 {
            queue.take();
        }
        assert_eq!(queue.tokens_ahead(60), 0);
    }

    #[test]
    fn budget_is_given_back_as_texts_are_taken() {
        let (queue, model) = queue_and_model();
        let budget = Budget::new(20);
        let (call, _done) = call_of(&budget, &model, &[8, 8, 4]);
        let _ticket = queue.push(call);
        assert_eq!(lengths(&queue), [8]);
        assert!(budget.take_now(9).is_err());
        assert!(budget.take_now(8).is_ok());
    }

    #[test]
    fn closed_queue_gives_what_it_has_and_takes_no_more() {
        let (queue, model) = queue_and_model();
        let _caller = push(&queue, &model, &[5]);
        queue.close();
        assert!(queue.push(call_of(&Budget::new(1), &model, &[1]).0).is_err());
        assert_eq!(lengths(&queue), [5]);
        assert!(queue.take().is_none());
    }
}
