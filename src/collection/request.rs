//! Request ids that were seen, so that a retry answers as the first call did.
//!
//! A part of the fold of the log: the same log gives the same table. The oldest ids are forgotten first, and only
//! beyond `REQUEST_IDS_MAX` of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::collection::op::RequestKey;
use crate::types::limits::REQUEST_IDS_MAX;

/// Answers by request id.
pub struct RequestTable<A> {
    answers: HashMap<Arc<str>, (u64, A)>,
    oldest_first: VecDeque<Arc<str>>,
    /// The latest that `take_new` has not given yet.
    new_count: usize,
}

/// An answer, and what it was an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<A> {
    /// The client's request id.
    pub request_id: Arc<str>,
    /// Hash of the request.
    pub content_hash: u64,
    /// How it was answered.
    pub answer: A,
}

/// What a request id stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<A> {
    /// Nothing yet.
    Never,
    /// The same request was decided before.
    Answered(A),
    /// Another request was.
    Reused,
}

impl<A> Default for RequestTable<A> {
    fn default() -> Self {
        Self { answers: HashMap::new(), oldest_first: VecDeque::new(), new_count: 0 }
    }
}

impl<A: Clone> RequestTable<A> {
    /// Looks a request up.
    pub fn seen(&self, key: &RequestKey) -> Seen<A> {
        match self.answers.get(key.request_id.as_str()) {
            None => Seen::Never,
            Some((content_hash, answer)) if *content_hash == key.content_hash => Seen::Answered(answer.clone()),
            Some(_) => Seen::Reused,
        }
    }

    /// Remembers the answer to a request that was not seen before.
    pub fn remember(&mut self, key: &RequestKey, answer: A) {
        let (request_id, content_hash) = (key.request_id.as_str().into(), key.content_hash);
        self.put(Remembered { request_id, content_hash, answer });
        self.new_count += 1;
    }

    /// Remembers what an earlier table had given with `take_new`, oldest first.
    pub fn restore(&mut self, remembered: impl IntoIterator<Item = Remembered<A>>) {
        remembered.into_iter().for_each(|remembered| self.put(remembered));
    }

    /// What was remembered since the last call, oldest first.
    pub fn take_new(&mut self) -> Vec<Remembered<A>> {
        let first = self.oldest_first.len() - self.new_count.min(self.oldest_first.len());
        self.new_count = 0;
        let remembered = |request_id: &Arc<str>| {
            let (content_hash, answer) = self.answers.get(request_id)?.clone();
            Some(Remembered { request_id: request_id.clone(), content_hash, answer })
        };
        self.oldest_first.range(first..).filter_map(remembered).collect()
    }

    fn put(&mut self, remembered: Remembered<A>) {
        let Remembered { request_id, content_hash, answer } = remembered;
        if self.answers.insert(request_id.clone(), (content_hash, answer)).is_none() {
            self.oldest_first.push_back(request_id);
        }
        if self.oldest_first.len() > REQUEST_IDS_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_given_once_and_restores_the_table() {
        let key = |n: usize| RequestKey { request_id: n.to_string(), content_hash: n as u64 };
        let (mut table, mut restored) = (RequestTable::default(), RequestTable::default());
        for numbers in [0..3, 3..3, 3..5] {
            numbers.clone().for_each(|n| table.remember(&key(n), n));
            let new = table.take_new();
            assert!(new.iter().map(|remembered| remembered.answer).eq(numbers));
            restored.restore(new);
        }
        assert!((0..5).all(|n| restored.seen(&key(n)) == Seen::Answered(n)));
        assert!(restored.take_new().is_empty());
    }

    #[test]
    fn the_oldest_ids_are_forgotten_first() {
        let key = |n: usize| RequestKey { request_id: n.to_string(), content_hash: 7 };
        let mut table = RequestTable::default();
        for n in 0..=REQUEST_IDS_MAX {
            table.remember(&key(n), n);
        }
        assert_eq!(table.seen(&key(0)), Seen::Never);
        assert_eq!(table.seen(&key(1)), Seen::Answered(1));
        assert_eq!(table.seen(&RequestKey { content_hash: 8, ..key(1) }), Seen::Reused);
    }
}
