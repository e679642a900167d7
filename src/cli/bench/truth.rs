//! The true answer to a query, and how much of it was found.

use std::collections::HashSet;

use crate::collection::Found;
use crate::types::{Metric, RecordId};

/// Room for the rounding of a score in 32 bits, which decides between records that are equally near: of a cosine, or as a
/// share of a dot product or a distance.
const ROUNDING: f32 = 1e-6;

/// The true answer to one query.
pub struct Truth {
    ids: HashSet<RecordId>,
    /// Scores from here to there are those of the last of them.
    last_score: (f32, f32),
}

impl Truth {
    /// The ids, and the score of the last of them.
    pub fn new(metric: Metric, ids: HashSet<RecordId>, last_score: f32) -> Self {
        let rounding = ROUNDING * if metric == Metric::Cosine { 1.0 } else { last_score.abs() };
        Self { ids, last_score: (last_score - rounding, last_score + rounding) }
    }

    /// What an exact search has found.
    pub fn of(metric: Metric, found: &Found) -> Self {
        let ids = found.hits().map(|(_, row)| row.id.clone()).collect();
        Self::new(metric, ids, found.hits().last().map_or(0.0, |(score, _)| score))
    }

    /// How many there are to be found.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// How many of them are among the hits. Each hit counts once, and no more than there are to be found.
    pub fn found_in<'a>(&self, hits: impl Iterator<Item = (f32, &'a str)>) -> usize {
        let (from, to) = self.last_score;
        let mut right = HashSet::with_capacity(self.ids.len());
        for (score, id) in hits {
            if self.ids.contains(id) || (from..=to).contains(&score) {
                right.insert(id);
            }
        }
        right.len().min(self.ids.len())
    }

    /// The share that was found, 0 to 1; 1 where there is nothing to be found.
    pub fn recall<'a>(&self, hits: impl Iterator<Item = (f32, &'a str)>) -> f64 {
        if self.ids.is_empty() {
            return 1.0;
        }
        self.found_in(hits) as f64 / self.ids.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_that_is_as_near_as_the_last_counts_and_nothing_twice() {
        let ids = ["3", "5"].map(|id| RecordId::new(id).unwrap());
        let truth = Truth::new(Metric::Cosine, HashSet::from(ids), 0.5);
        let recall = |hits: &[(f32, &str)]| truth.recall(hits.iter().copied());
        assert_eq!(recall(&[(0.9, "3"), (0.5, "5")]), 1.0);
        assert_eq!(recall(&[(0.9, "3"), (0.500_000_4, "8")]), 1.0);
        assert_eq!(recall(&[(0.9, "3"), (0.9, "3")]), 0.5);
        assert_eq!(recall(&[(0.9, "3"), (0.499, "8")]), 0.5);
        assert_eq!(recall(&[(0.5, "7"), (0.5, "8"), (0.5, "9")]), 1.0);
        assert_eq!(recall(&[]), 0.0);
    }

    #[test]
    fn where_there_is_nothing_to_be_found_nothing_is_missing() {
        assert_eq!(Truth::new(Metric::Cosine, HashSet::new(), 0.0).recall([].into_iter()), 1.0);
    }
}
