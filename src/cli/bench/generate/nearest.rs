//! The nearest rows of many queries, by comparing all while they pass by.

use std::thread;

use super::rows::{Chunk, core_count};
use crate::collection::has_direction;
use crate::index::Nearest;
use crate::index::flat::{self, BLOCK_ROWS, Rows};
use crate::types::{Metric, Vector};

/// Queries that are compared with a block of rows at once: both then stay in a core's cache.
const GROUP_QUERIES: usize = 64;

/// The nearest rows so far.
pub struct NearestRows(Vec<Group>);

struct Group {
    queries: flat::Queries,
    nearest: Vec<Nearest<u32>>,
}

impl NearestRows {
    /// For each query the `top_k` nearest by cosine, at least one.
    pub fn new(queries: &[Vector], top_k: usize) -> Result<Self, String> {
        if let Some(row) = queries.iter().position(|query| !has_direction(query)) {
            return Err(format!("row {row} is a zero vector, which has no cosine"));
        }
        let group = |queries: &[Vector]| Group {
            queries: flat::Queries::new(Metric::Cosine, queries),
            nearest: queries.iter().map(|_| Nearest::new(top_k)).collect(),
        };
        Ok(Self(queries.chunks(GROUP_QUERIES).map(group).collect()))
    }

    /// Compares all queries with these rows, of which the first has the number `first`, on all cores.
    pub fn compare(&mut self, first: u32, chunk: &Chunk) {
        let share = self.0.len().div_ceil(core_count()).max(1);
        thread::scope(|scope| {
            for groups in self.0.chunks_mut(share) {
                scope.spawn(move || groups.iter_mut().for_each(|group| group.compare(first, chunk)));
            }
        });
    }

    /// For each query the numbers of its nearest rows, best first.
    pub fn into_sorted(self) -> Vec<Vec<u32>> {
        let nearest = self.0.into_iter().flat_map(|group| group.nearest);
        nearest.map(|nearest| nearest.into_sorted().into_iter().map(|neighbor| neighbor.item).collect()).collect()
    }
}

impl Group {
    fn compare(&mut self, first: u32, chunk: &Chunk) {
        for (number, (components, inverse_norms)) in chunk.blocks(BLOCK_ROWS).enumerate() {
            let live = u64::MAX >> (BLOCK_ROWS - inverse_norms.len());
            let first = first + (number * BLOCK_ROWS) as u32;
            self.queries.scan(&Rows { components, inverse_norms, live }, |query, offset, keys| {
                self.nearest[query].offer_all(keys, |row| first + (offset + row) as u32);
            });
        }
    }
}
