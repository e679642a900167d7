//! In which order calls are run: in that in which they would be done if all had an equal share of the threads.
//!
//! Were the threads really shared, text by text, all calls of a load would be done late together, and each that comes would
//! delay those before it. In this order calls of one size are run one after the other, a short one comes before what is left of a
//! long one, and none is done later than by sharing, but for a batch. It is the fair sojourn protocol of Friedman and Henderson
//! ("Fairness and efficiency in web server protocols", SIGMETRICS 2003), with the calls that really wait in the place of those
//! that would.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::budget::Held;
use super::queue::{Batch, Call, Done, Item};
use crate::encoder::Tokens;

/// The calls that wait for models `M`.
pub(super) struct Schedule<M> {
    /// Of each model that calls wait for.
    lines: Vec<Line<M>>,
    /// Tokens that each call would have been given since there last was none.
    clock: f64,
    /// Of all calls that wait, by `Place::finish`.
    tokens_by_finish: BTreeMap<u64, usize>,
    tokens: usize,
    calls: usize,
    /// Of the next call.
    number: u64,
}

struct Line<M> {
    model: Arc<M>,
    /// Never empty.
    calls: BTreeMap<Place, Waiting>,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// When it would be done, by the clock.
    finish: u64,
    /// Those of one finish are run as they came.
    number: u64,
}

struct Waiting {
    /// The texts that are still to be run, and the index of the first of them.
    texts: VecDeque<Tokens>,
    next_index: usize,
    tokens: usize,
    normalize: bool,
    results: UnboundedSender<Done>,
    held: Held,
    since: Instant,
}

impl<M> Schedule<M> {
    pub(super) fn new() -> Self {
        Self { lines: Vec::new(), clock: 0.0, tokens_by_finish: BTreeMap::new(), tokens: 0, calls: 0, number: 0 }
    }

    /// Of all texts that wait.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that are run before a call of so many is done, its own not counted, if it came now and none came after it.
    pub(super) fn tokens_ahead(&self, tokens: usize) -> usize {
        self.tokens_by_finish.range(..=self.finish_of(tokens)).map(|(_, tokens)| tokens).sum()
    }

    pub(super) fn push(&mut self, call: Call<M>) -> Place {
        let tokens = call.texts.iter().map(|text| text.ids.len()).sum();
        let place = Place { finish: self.finish_of(tokens), number: self.number };
        self.number += 1;
        self.calls += 1;
        self.tokens += tokens;
        *self.tokens_by_finish.entry(place.finish).or_default() += tokens;
        let waiting = Waiting {
            texts: call.texts.into(),
            next_index: 0,
            tokens,
            normalize: call.normalize,
            results: call.results,
            held: call.held,
            since: Instant::now(),
        };
        match self.lines.iter_mut().find(|line| Arc::ptr_eq(&line.model, &call.model)) {
            Some(line) => drop(line.calls.insert(place, waiting)),
            None => self.lines.push(Line { model: call.model, calls: BTreeMap::from([(place, waiting)]) }),
        }
        place
    }

    /// Drops what is left of a call.
    pub(super) fn forget(&mut self, model: &Arc<M>, place: Place) {
        let Some(index) = self.lines.iter().position(|line| Arc::ptr_eq(&line.model, model)) else { return };
        let Some(call) = self.lines[index].calls.remove(&place) else { return };
        self.leaves(index);
        self.subtract(place, call.tokens);
    }

    /// Takes texts for the model of the first call, up to the first that does not fit: were it passed over, shorter ones that
    /// keep coming could pass it for ever.
    pub(super) fn next_batch(&mut self, tokens_max: usize) -> Option<Batch<M>> {
        let calls_before = self.calls;
        let first = |(_, line): &(usize, &Line<M>)| line.calls.first_key_value().map(|(place, _)| *place);
        let index = self.lines.iter().enumerate().min_by_key(first)?.0;
        let mut batch = Batch { model: self.lines[index].model.clone(), items: Vec::new() };
        let mut tokens = 0;
        // A line that ends is taken out, and another may stand in its place.
        while let Some(line) = self.lines.get_mut(index).filter(|line| Arc::ptr_eq(&line.model, &batch.model))
            && let Some(mut first) = line.calls.first_entry()
        {
            let (place, call) = (*first.key(), first.get_mut());
            let before = tokens;
            while let Some(text) =
                call.texts.pop_front_if(|text| batch.items.is_empty() || tokens + text.ids.len() <= tokens_max)
            {
                tokens += text.ids.len();
                batch.items.push(Item {
                    index: call.next_index,
                    tokens: text,
                    normalize: call.normalize,
                    results: call.results.clone(),
                    since: call.since,
                });
                call.next_index += 1;
            }
            let taken = tokens - before;
            call.tokens -= taken;
            call.held.shrink_to(call.tokens);
            let is_whole = call.texts.is_empty();
            if is_whole {
                first.remove();
                self.leaves(index);
            }
            self.subtract(place, taken);
            if !is_whole {
                break;
            }
        }
        if self.calls == 0 {
            self.clock = 0.0;
        } else {
            self.clock += tokens as f64 / calls_before as f64;
        }
        Some(batch)
    }

    fn finish_of(&self, tokens: usize) -> u64 {
        self.clock as u64 + tokens as u64
    }

    /// After a call of the line left it.
    fn leaves(&mut self, index: usize) {
        self.calls -= 1;
        if self.lines[index].calls.is_empty() {
            self.lines.swap_remove(index);
        }
    }

    fn subtract(&mut self, place: Place, tokens: usize) {
        self.tokens -= tokens;
        if let Some(left) = self.tokens_by_finish.get_mut(&place.finish) {
            *left -= tokens;
            if *left == 0 {
                self.tokens_by_finish.remove(&place.finish);
            }
        }
    }
}
