//! The queue between callers and worker threads.
//!
//! A batch is filled with texts of as many calls as fit, without waiting for more: at rest a text runs at once, under
//! load batches grow by themselves. Threads that are idle together share what there is. Calls take turns, text by
//! text, so that a call of thousands of texts does not hold up one of a single text. A call whose caller has left is
//! dropped when its turn comes.
//!
//! Bounded by tokens: every call in it holds its part of a budget, and gives it back as its texts are taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::budget::Held;
use super::pace::Pace;
use crate::encoder::Tokens;

/// A queue of texts for models `M`. Its lock is held for the time of a few pushes and pops, never while a model runs.
pub struct Queue<M> {
    /// Tokens of a batch; a single text may have more.
    batch_tokens_max: usize,
    state: Mutex<State<M>>,
    /// Told of every call that is put in, and of the end.
    changed: Condvar,
    /// Of the threads that take from it.
    pace: Pace,
}

struct State<M> {
    calls: VecDeque<Waiting<M>>,
    /// Of all texts of `calls`.
    tokens: usize,
    texts: usize,
    /// Threads in `take`.
    idle: usize,
    closed: bool,
}

/// The texts of one call.
pub struct Call<M> {
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

struct Waiting<M> {
    model: Arc<M>,
    /// The texts that are still to be run, and the index of the first of them.
    texts: VecDeque<Tokens>,
    next_index: usize,
    tokens: usize,
    normalize: bool,
    results: UnboundedSender<Done>,
    held: Held,
    since: Instant,
}

/// Texts to be run together: at least one, all for the same model.
pub struct Batch<M> {
    /// The model.
    pub model: Arc<M>,
    /// The texts.
    pub items: Vec<Item>,
}

/// One text of a batch.
pub struct Item {
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
pub struct Done {
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
pub struct Closed;

impl<M> Queue<M> {
    /// An empty queue.
    pub fn new(batch_tokens_max: usize) -> Self {
        let state = State { calls: VecDeque::new(), tokens: 0, texts: 0, idle: 0, closed: false };
        Self { batch_tokens_max, state: Mutex::new(state), changed: Condvar::new(), pace: Pace::default() }
    }

    /// How fast its threads are.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Tokens that are run before the last text of a call of so many texts, if it came now. Calls take turns, so that none has
    /// to wait for more of another call's texts than it has itself.
    pub(crate) fn tokens_ahead(&self, texts: usize) -> usize {
        let state = self.lock();
        let in_turns = state.calls.len().saturating_mul(texts).saturating_mul(state.tokens) / state.texts.max(1);
        in_turns.min(state.tokens)
    }

    /// Queues all texts of the call.
    pub fn push(&self, call: Call<M>) -> Result<(), Closed> {
        let tokens = call.texts.iter().map(|text| text.ids.len()).sum();
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        state.tokens += tokens;
        state.texts += call.texts.len();
        state.calls.push_back(Waiting {
            model: call.model,
            texts: call.texts.into(),
            next_index: 0,
            tokens,
            normalize: call.normalize,
            results: call.results,
            held: call.held,
            since: Instant::now(),
        });
        drop(state);
        // All of them: the call may fill more than one batch.
        self.changed.notify_all();
        Ok(())
    }

    /// The next batch; waits for one. Nothing where the queue is closed and empty.
    pub fn take(&self) -> Option<Batch<M>> {
        let mut state = self.lock();
        state.idle += 1;
        loop {
            // A fair share: else one thread would run all of a small call, and the others nothing.
            let share = state.tokens.div_ceil(state.idle);
            let batch = state.next_batch(share.min(self.batch_tokens_max));
            if batch.is_some() || state.closed {
                state.idle -= 1;
                return batch;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more calls. What is queued is still run.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Nothing that runs under the lock leaves the state half changed, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    /// Takes texts in turn, up to the first that does not fit: were it passed over, shorter ones that keep coming could
    /// pass it for ever. Calls for other models are passed over, and keep their place in front.
    fn next_batch(&mut self, tokens_max: usize) -> Option<Batch<M>> {
        let mut batch: Option<Batch<M>> = None;
        let mut tokens = 0;
        let mut passed = Vec::new();
        while let Some(mut call) = self.calls.pop_front() {
            if call.results.is_closed() {
                self.tokens -= call.tokens;
                self.texts -= call.texts.len();
                continue;
            }
            if batch.as_ref().is_some_and(|batch| !Arc::ptr_eq(&batch.model, &call.model)) {
                passed.push(call);
                continue;
            }
            let fits = |text: &mut Tokens| batch.is_none() || tokens + text.ids.len() <= tokens_max;
            let Some(text) = call.texts.pop_front_if(fits) else {
                self.calls.push_front(call);
                break;
            };
            let length = text.ids.len();
            tokens += length;
            call.tokens -= length;
            call.held.shrink_to(call.tokens);
            self.tokens -= length;
            self.texts -= 1;
            let batch = batch.get_or_insert_with(|| Batch { model: call.model.clone(), items: Vec::new() });
            batch.items.push(Item {
                index: call.next_index,
                tokens: text,
                normalize: call.normalize,
                results: call.results.clone(),
                since: call.since,
            });
            call.next_index += 1;
            if !call.texts.is_empty() {
                self.calls.push_back(call);
            }
        }
        for call in passed.into_iter().rev() {
            self.calls.push_front(call);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::super::budget::Budget;
    use super::*;

    const BATCH_TOKENS_MAX: usize = 10;

    fn call(model: &Arc<String>, lengths: &[usize]) -> (Call<String>, UnboundedReceiver<Done>) {
        call_of(&Budget::new(1000), model, lengths)
    }

    fn call_of(budget: &Budget, model: &Arc<String>, lengths: &[usize]) -> (Call<String>, UnboundedReceiver<Done>) {
        let (results, done) = unbounded_channel();
        let text = |length: &usize| Tokens { ids: vec![0; *length].into(), truncated: false };
        let texts = lengths.iter().map(text).collect();
        let held = budget.take_now(lengths.iter().sum()).unwrap();
        (Call { model: model.clone(), texts, normalize: true, results, held }, done)
    }

    fn push(queue: &Queue<String>, model: &Arc<String>, lengths: &[usize]) -> UnboundedReceiver<Done> {
        let (call, done) = call(model, lengths);
        queue.push(call).unwrap();
        done
    }

    fn lengths(queue: &Queue<String>) -> Vec<usize> {
        queue.take().unwrap().items.iter().map(|item| item.tokens.ids.len()).collect()
    }

    #[test]
    fn batch_takes_texts_of_all_calls_in_turn() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        let _large = push(&queue, &model, &[3, 3, 3, 3, 3]);
        let _small = push(&queue, &model, &[2]);
        assert_eq!(queue.lock().tokens, 17);
        assert_eq!(lengths(&queue), [3, 2, 3]);
        let rest = queue.take().unwrap();
        assert_eq!(rest.items.iter().map(|item| item.index).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(queue.lock().tokens, 0);
    }

    #[test]
    fn idle_threads_share_a_small_call() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        queue.lock().idle = 1;
        let _done = push(&queue, &model, &[2, 2, 2, 2]);
        assert_eq!(lengths(&queue), [2, 2]);
        queue.lock().idle = 0;
        assert_eq!(lengths(&queue), [2, 2]);
    }

    #[test]
    fn text_longer_than_a_batch_runs_alone() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        let _done = push(&queue, &model, &[50, 1]);
        assert_eq!(lengths(&queue), [50]);
        assert_eq!(lengths(&queue), [1]);
    }

    #[test]
    fn batch_has_one_model() {
        let (queue, a, b) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()), Arc::new("b".to_owned()));
        let _calls = [push(&queue, &a, &[1, 1]), push(&queue, &b, &[2]), push(&queue, &a, &[3])];
        let batch = queue.take().unwrap();
        assert_eq!((batch.model.as_str(), batch.items.len()), ("a", 3));
        assert_eq!((queue.take().unwrap().model.as_str(), queue.lock().tokens), ("b", 0));
    }

    #[test]
    fn long_text_is_not_passed_by_short_ones_that_keep_coming() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        let mut calls = vec![push(&queue, &model, &[3]), push(&queue, &model, &[8])];
        for _ in 0..3 {
            calls.push(push(&queue, &model, &[3]));
        }
        assert_eq!(lengths(&queue), [3]);
        assert_eq!(lengths(&queue), [8]);
        assert_eq!(lengths(&queue), [3, 3, 3]);
    }

    #[test]
    fn models_take_turns_where_a_text_does_not_fit() {
        let (queue, a, b) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()), Arc::new("b".to_owned()));
        let _calls = [push(&queue, &a, &[8, 8, 8]), push(&queue, &b, &[8, 8, 8])];
        let models: Vec<String> = (0..6).map(|_| queue.take().unwrap().model.to_string()).collect();
        assert_eq!(models, ["a", "b", "a", "b", "a", "b"]);
    }

    #[test]
    fn caller_that_left_is_dropped() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        drop(push(&queue, &model, &[9, 9]));
        let _stays = push(&queue, &model, &[4]);
        assert_eq!(lengths(&queue), [4]);
        assert_eq!(queue.lock().tokens, 0);
    }

    #[test]
    fn call_waits_for_as_many_texts_of_another_as_it_has() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        let _calls = [push(&queue, &model, &[3; 20]), push(&queue, &model, &[3]), push(&queue, &model, &[3])];
        assert_eq!((queue.tokens_ahead(1), queue.tokens_ahead(2), queue.tokens_ahead(1000)), (9, 18, 66));
        while queue.lock().tokens > 0 {
            queue.take();
        }
        assert_eq!((queue.tokens_ahead(1), queue.lock().texts), (0, 0));
    }

    #[test]
    fn budget_is_given_back_as_texts_are_taken() {
        let (queue, model, budget) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()), Budget::new(20));
        let (call, _done) = call_of(&budget, &model, &[8, 8, 4]);
        queue.push(call).unwrap();
        assert_eq!(lengths(&queue), [8]);
        assert!(budget.take_now(9).is_err());
        let (left, done) = call_of(&budget, &model, &[8]);
        queue.push(left).unwrap();
        drop(done);
        assert_eq!(lengths(&queue), [8]);
        assert!(budget.take_now(16).is_ok(), "4 tokens wait, and a caller that has left was dropped");
    }

    #[test]
    fn closed_queue_gives_what_it_has_and_takes_no_more() {
        let (queue, model) = (Queue::new(BATCH_TOKENS_MAX), Arc::new("a".to_owned()));
        let _done = push(&queue, &model, &[5]);
        queue.close();
        assert_eq!(queue.push(call(&model, &[1]).0), Err(Closed));
        assert_eq!(lengths(&queue), [5]);
        assert!(queue.take().is_none());
    }
}
