//! Walking the graph from near to nearer.
//!
//! The nearest node that was seen and not visited is visited: its distance is computed, and those of its neighbours are
//! estimated from its block. The walk ends where the nearest that is left is farther than the `k`-th nearest that was visited,
//! by a factor of `1 + reach`: so a hard query walks farther than an easy one (Al-Jazzazi and others, "Distance adaptive beam
//! search for provably accurate graph-based nearest neighbor search", arXiv 2505.15636).
//!
//! Memory is the limit, so the walk chooses its next nodes before it has looked at the last ones, and has them fetched
//! meanwhile.

use super::Graph;
use super::frontier::{Frontier, Seen};
use super::points::Query;
use crate::index::coded::Certainty;
use crate::quantization::bits::GROUP_ROWS;

/// Nodes that are fetched while others are looked at.
const AHEAD: usize = 2;

/// Where nearer hits are known from elsewhere, the walk comes near by this many nodes all the same: by the nearest alone it
/// would end where only the nearest of its neighbourhood is near (recall .977 where .99 was promised, in four segments; .994 by
/// five).
const NEAR: usize = 5;

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walk {
    /// How many of the nearest are wanted: at least 1.
    pub k: usize,
    /// How much farther than the `k`-th nearest the walk goes: a share of its squared distance, from 0.
    pub reach: f32,
    /// Nodes to visit at most.
    pub hops_max: usize,
}

/// What walks need besides the graph; kept, so that a walk allocates nothing.
#[derive(Default)]
pub struct Scratch {
    /// The query.
    pub(super) query: Query,
    frontier: Frontier,
    /// A bit for every node.
    visited: Vec<u32>,
    visited_nodes: Vec<u32>,
    /// Squared distances of the nearest that are known, nearest first.
    pub(super) nearest: Vec<f32>,
    /// Squared distances of the nearest that this walk has visited.
    own: Vec<f32>,
    pub(super) distances: Vec<f32>,
    pub(super) dots: Vec<i32>,
    /// Nodes that were visited and count, with their squared distances.
    pub(super) found: Vec<(f32, u32)>,
}

/// How far a walk went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkStats {
    /// Nodes visited.
    pub hops: usize,
    /// Distances computed or estimated.
    pub distances: usize,
    /// Whether the walk had to stop before its end.
    pub is_cut: bool,
}

impl Graph {
    /// Walks towards the query in `scratch`. What was visited and `counts` is in `scratch.found`, in the order of the walk;
    /// `scratch.nearest` may hold distances that are known from elsewhere.
    pub(super) fn walk(&self, walk: Walk, scratch: &mut Scratch, counts: impl Fn(u32) -> bool) -> WalkStats {
        let Scratch { query, frontier, visited, visited_nodes, nearest, own, distances, found, .. } = scratch;
        visited.resize(visited.len().max(self.node_count().div_ceil(32)), 0);
        frontier.reset(walk.k);
        // Nothing is left of a walk that a panic has ended.
        visited_nodes.drain(..).for_each(|node| visited[node as usize / 32] = 0);
        found.clear();
        let mut stats = WalkStats::default();
        // While the walk comes nearer it goes on, whatever is known from elsewhere: it has to get there first.
        let rounding = 4.0 * self.points.error(query, Certainty::Likely).powi(2);
        let near = NEAR.min(walk.k);
        let limit_of = |nearest: &[f32], own: &[f32]| match (nearest.get(walk.k - 1), own.get(near - 1)) {
            (Some(distance), Some(own)) => distance.max(*own) * (1.0 + walk.reach) + rounding,
            _ => f32::INFINITY,
        };
        own.clear();
        let mut limit = f32::INFINITY;
        let mut fetched = Fetched::default();
        if let Some(entry) = self.entry(query, distances, &mut stats) {
            visited[entry as usize / 32] |= 1 << (entry % 32);
            visited_nodes.push(entry);
            fetched.push(entry);
        }
        let mut estimates = [0.0; GROUP_ROWS];
        loop {
            while fetched.count < AHEAD
                && let Some((estimate, node)) = frontier.take_nearest()
            {
                if estimate > limit {
                    break;
                }
                let (word, bit) = (&mut visited[node as usize / 32], 1 << (node % 32));
                if *word & bit == 0 {
                    *word |= bit;
                    visited_nodes.push(node);
                    self.points.prefetch(node);
                    self.blocks.prefetch(node);
                    fetched.push(node);
                }
            }
            let Some(node) = fetched.pop() else { break };
            if stats.hops == walk.hops_max {
                stats.is_cut = true;
                break;
            }
            let distance = self.points.distance(query, node);
            stats.hops += 1;
            let is_near = keep(own, distance, near);
            let is_kept = counts(node) && {
                found.push((distance, node));
                keep(nearest, distance, walk.k)
            };
            if is_near || is_kept {
                limit = limit_of(nearest, own);
            }
            let block = self.blocks.block(node);
            for group in 0..self.blocks.degree() / GROUP_ROWS {
                let nodes = block.neighbors(group);
                self.estimate(query, distance, group, &block, &mut estimates);
                stats.distances += GROUP_ROWS;
                frontier.admit(&Seen { distances: &estimates, nodes, visited }, limit);
            }
        }
        for node in visited_nodes.drain(..) {
            visited[node as usize / 32] = 0;
        }
        stats
    }

    /// Squared distances of a group of neighbours: estimated from their bits, or computed where there are none.
    #[inline(always)]
    fn estimate(
        &self,
        query: &Query,
        distance: f32,
        group: usize,
        block: &super::layout::Block<'_>,
        estimates: &mut [f32; GROUP_ROWS],
    ) {
        if self.transform.is_coded() {
            query.bits.at(distance).of(&block.neighborhood(group), estimates);
            return;
        }
        for (estimate, &neighbor) in estimates.iter_mut().zip(block.neighbors(group)) {
            let is_there = (neighbor as usize) < self.node_count();
            *estimate = if is_there { self.points.distance(query, neighbor) } else { f32::INFINITY };
        }
    }

    /// The nearest of the nodes where walks begin.
    fn entry(&self, query: &Query, distances: &mut Vec<f32>, stats: &mut WalkStats) -> Option<u32> {
        self.entry_points.distances_from(query, distances);
        stats.distances += distances.len();
        let nearest = distances.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(self.entries[nearest.0])
    }
}

/// Keeps the `k` smallest, smallest first. Returns whether they changed.
#[inline(always)]
fn keep(nearest: &mut Vec<f32>, distance: f32, k: usize) -> bool {
    if nearest.len() == k {
        if distance >= nearest[k - 1] {
            return false;
        }
        nearest.pop();
    }
    let place = nearest.iter().rposition(|&other| other <= distance).map_or(0, |place| place + 1);
    nearest.insert(place, distance);
    true
}

/// The nodes that are being fetched, first come first served.
#[derive(Default)]
struct Fetched {
    nodes: [u32; AHEAD],
    count: usize,
}

impl Fetched {
    fn push(&mut self, node: u32) {
        self.nodes[self.count] = node;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<u32> {
        let first = self.nodes[0];
        self.count = self.count.checked_sub(1)?;
        self.nodes.copy_within(1.., 0);
        Some(first)
    }
}
