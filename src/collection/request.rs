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
        Self { answers: HashMap::new(), oldest_first: VecDeque::new() }
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
        let request_id: Arc<str> = key.request_id.as_str().into();
        self.answers.insert(request_id.clone(), (key.content_hash, answer));
        self.oldest_first.push_back(request_id);
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
