//! Searching a segment: by walking its graph, or by comparing rows one after another. Either way a few rows come out by
//! their codes, and are compared again by their own components.

use super::Graph;
use super::walk::{Scratch, Walk, WalkStats};
use crate::index::coded::Certainty;
use crate::index::flat;

/// Points whose distances are computed at once, in a scan.
const SCAN_POINTS: u32 = 64;

/// A hit: the key of a row, as `flat::Queries` gives keys (smaller is nearer), and its number.
pub type Hit = (f32, u32);

/// What a walk is to find.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How far it goes.
    pub walk: Walk,
    /// Keys of hits from elsewhere, smallest first: what is farther than the `k`-th of them is of no use.
    pub known: &'a [f32],
    /// What scores are computed from.
    pub scores: Scores,
}

/// What the scores of hits are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// The rows' components: exact.
    ByComponents,
    /// Their codes: off by about a thousandth, and without a look at the components.
    ByCodes,
}

impl Graph {
    /// Walks the graph. `hits` gets the nearest rows that `counts`: `walk.k` and a few more, in no order.
    pub fn search(
        &self,
        query: &flat::Queries,
        wanted: &Wanted<'_>,
        scratch: &mut Scratch,
        counts: impl Fn(u32) -> bool,
        hits: &mut Vec<Hit>,
    ) -> WalkStats {
        let (length, walk) = (self.begin(query, scratch), wanted.walk);
        scratch.nearest.extend(wanted.known.iter().take(walk.k).map(|&key| self.transform.to_distance(length, key)));
        let stats = self.walk(walk, scratch, |node| self.rows_of(node).any(&counts));
        let found = &mut scratch.found;
        if found.len() > walk.k {
            // Codes that differ by less than rounding says nothing about stand for rows of which either may be nearer.
            let (_, &mut (distance, _), _) = found.select_nth_unstable_by(walk.k - 1, |a, b| a.0.total_cmp(&b.0));
            let error = self.points.error(&scratch.query, Certainty::Likely);
            let bound = (distance.max(0.0).sqrt() + 2.0 * error).powi(2);
            found.retain(|found| found.0 <= bound);
        }
        if wanted.scores == Scores::ByCodes {
            for &(distance, node) in found.iter() {
                let key = self.transform.to_key(length, distance);
                hits.extend(self.rows_of(node).filter(|&row| counts(row)).map(|row| (key, row)));
            }
            return stats;
        }
        for &(_, node) in found.iter() {
            self.vectors.prefetch(node);
        }
        for &(_, node) in found.iter() {
            let key = self.vectors.key(query, node);
            hits.extend(self.rows_of(node).filter(|&row| counts(row)).map(|row| (key, row)));
        }
        stats
    }

    /// Compares the given rows, or all, each by its codes; then by its components whatever may be among the `k` nearest.
    /// `hits` gets those, in no order.
    pub fn scan(
        &self,
        query: &flat::Queries,
        k: usize,
        certainty: Certainty,
        rows: Rows<'_>,
        scratch: &mut Scratch,
        hits: &mut Vec<Hit>,
    ) -> usize {
        self.begin(query, scratch);
        let Scratch { query: brought, distances, dots, found, .. } = scratch;
        found.clear();
        match rows {
            Rows::All(counts) => {
                let count = self.node_count() as u32;
                for first in (0..count).step_by(SCAN_POINTS as usize) {
                    self.points.distances(brought, first..count.min(first + SCAN_POINTS), dots, distances);
                    let nodes = distances.iter().zip(first..);
                    let live = nodes.filter(|&(_, node)| self.rows_of(node).any(counts));
                    found.extend(live.map(|(&distance, node)| (distance, node)));
                }
            }
            Rows::These(rows) => {
                for (place, &row) in rows.iter().enumerate() {
                    if let Some(&next) = rows.get(place + SCAN_AHEAD) {
                        self.points.prefetch(self.node_of(next));
                    }
                    // The number of the row takes the place of the node's: a row may be wanted where its twin is not.
                    found.push((self.points.distance(brought, self.node_of(row)), row));
                }
            }
        }
        let scanned = found.len();
        let is_by_row = matches!(rows, Rows::These(_));
        let mut compare = |&(_, number): &(f32, u32)| {
            let node = if is_by_row { self.node_of(number) } else { number };
            let key = self.vectors.key(query, node);
            match rows {
                Rows::All(counts) => {
                    hits.extend(self.rows_of(node).filter(|&row| counts(row)).map(|row| (key, row)));
                }
                Rows::These(_) => hits.push((key, number)),
            }
            key
        };
        if found.len() <= k {
            found.iter().for_each(|found| _ = compare(found));
            return scanned;
        }
        // The true distances of any `k` bound the true distance of the `k`-th nearest.
        found.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0));
        let (first, rest) = found.split_at(k);
        let error = self.points.error(brought, certainty);
        let farthest = first.iter().map(|found| found.0).fold(0.0, f32::max).max(0.0).sqrt();
        let bound = (farthest + 2.0 * error).powi(2) * ROUNDING;
        first.iter().for_each(|found| _ = compare(found));
        rest.iter().filter(|found| found.0 <= bound).for_each(|found| _ = compare(found));
        scanned
    }

    fn begin(&self, query: &flat::Queries, scratch: &mut Scratch) -> f64 {
        scratch.query.set(&self.transform, query.vector(0));
        scratch.nearest.clear();
        self.transform.query_length(query.vector(0))
    }
}

/// Rows that are fetched while others are compared.
const SCAN_AHEAD: usize = 8;
/// What the arithmetic of a distance may add.
const ROUNDING: f32 = 1.0 + 1e-4;

/// The rows of a scan.
pub enum Rows<'a> {
    /// All that count.
    All(&'a dyn Fn(u32) -> bool),
    /// These, in the order of their numbers.
    These(&'a [u32]),
}
