//! Building a graph, in rounds that each begin where the last one ended: so the same vectors give the same graph, with any
//! number of threads.
//!
//! First neighbours come from `partition`, whose first tree also gives the nodes their order in memory. In each round every
//! node is searched for in the graph so far; what the walk visited, and the neighbours of before, are the candidates for its
//! new ones (`prune`); an edge is offered to its other end too (`edges`). A few nodes are left out until the end: with them the
//! graph is calibrated. At last every node is made reachable (`reachable`).

mod edges;
mod partition;
mod prune;
mod random;
mod reachable;
mod twins;

use super::layout::Blocks;
use super::points::{Group, Points, Query, Transform};
use super::walk::{Scratch, Walk};
use super::{Calibration, Graph, GraphOptions, Task, Vectors, parallel};
use crate::types::Metric;
use edges::{Candidates, Edges, PIECE_NODES, tidy};
use prune::Pruner;
use random::Random;

/// Trees that first neighbours are looked for in, and how many each gives.
const TREES: usize = 4;
const TREE_NEIGHBORS: usize = 48;
/// Nodes where walks begin.
const ENTRIES: usize = 64;
/// Nodes that are left out at first: one of so many, within these bounds; none of a small graph.
const LEFT_OUT_SHARE: usize = 16;
const LEFT_OUT_MAX: usize = 1024;
const LEFT_OUT_MIN: usize = 32;

/// A graph, and which row of before is which of it.
pub struct Built {
    /// The graph.
    pub graph: Graph,
    /// Row `i` of the graph was row `order[i]`.
    pub order: Vec<u32>,
}

/// The build was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Graph {
    /// Builds a graph over rows of at least one component; `row` is asked for each many times.
    pub fn build<'a>(
        metric: Metric,
        dimension: usize,
        row_count: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
        options: &GraphOptions,
        task: &Task,
    ) -> Result<Built, Stopped> {
        let threads = options.threads.max(1);
        let check = || if task.is_stopped() { Err(Stopped) } else { Ok(()) };
        // Nodes of before: one for each distinct vector, by the first row that has it.
        let groups = twins::group(row_count, threads, &row);
        let count = groups.len();
        let first_row = |node: usize| row(groups.rows(node)[0] as usize);
        let transform = Transform::new(metric, dimension, options.seed, (0..count).map(first_row));
        let unordered = Points::new(&transform, count, threads, first_row);
        check()?;
        let mut random = Random::new(options.seed);
        let (order, leaves) = partition::order(&unordered, (0..count as u32).collect(), &mut random);
        let points = unordered.reordered(&order);
        drop(unordered);
        let vectors = Vectors::new(dimension, count, threads, |node| first_row(order[node] as usize));
        let (row_order, twins) = groups.in_order(&order);
        check()?;

        let left_out = choose_left_out(count, &mut random);
        let mut is_linked = vec![true; count];
        left_out.iter().for_each(|&node| is_linked[node as usize] = false);
        let linked: Vec<u32> = (0..count as u32).filter(|&node| is_linked[node as usize]).collect();
        let mut candidates = Candidates::new(count);
        for tree in 0..TREES {
            // The first tree is that of the order: its leaves are stretches of nodes.
            let (members, leaves) = match tree {
                0 => ((0..count as u32).collect(), leaves.clone()),
                _ => partition::order(&points, linked.clone(), &mut random),
            };
            let found = partition::nearest(&points, &members, &leaves, TREE_NEIGHBORS, threads, &is_linked);
            candidates.add(&found, TREE_NEIGHBORS, threads);
            check()?;
        }
        let mut edges = Edges::choose(&points, candidates, options.degree, threads);
        check()?;

        let blocks = Blocks::new(count, options.degree, if transform.is_coded() { transform.width() } else { 0 });
        let calibration = Calibration::default();
        let (entries, entry_points) = (Vec::new(), Group::default());
        let node_count = count as u32;
        let mut graph =
            Graph { transform, points, blocks, vectors, entries, entry_points, calibration, twins, node_count };
        graph.choose_entries(&linked, &mut random);
        for _ in 0..options.rounds {
            graph.write_blocks(&edges, None, threads);
            check()?;
            let candidates = graph.look(&linked, &edges, options, task);
            check()?;
            edges = Edges::choose(&graph.points, candidates, options.degree, threads);
            check()?;
        }
        graph.write_blocks(&edges, None, threads);
        check()?;
        graph.calibration = Calibration::measure(&graph, &left_out, &is_linked, threads, task);
        check()?;
        let candidates = graph.look(&left_out, &edges, options, task);
        let mut changed = edges.link(&graph.points, candidates, threads);
        reachable::ensure(&mut edges, &graph.entries, &mut changed);
        graph.write_blocks(&edges, Some(&changed), threads);
        check()?;
        Ok(Built { graph, order: row_order })
    }

    fn choose_entries(&mut self, linked: &[u32], random: &mut Random) {
        let count = ENTRIES.min(linked.len());
        self.entries = (0..count).map(|_| linked[random.below(linked.len())]).collect();
        self.entries.sort_unstable();
        self.entries.dedup();
        self.points.gather(&self.entries, &mut self.entry_points);
    }

    /// Writes the blocks of all nodes, or of those that changed.
    fn write_blocks(&mut self, edges: &Edges, changed: Option<&[bool]>, threads: usize) {
        let points = &self.points;
        let start = || (Vec::new(), Vec::new());
        parallel::for_each(threads, self.blocks.pieces(PIECE_NODES), start, |(center, neighbors), mut piece| {
            for index in 0..piece.count() {
                let node = piece.first + index;
                if changed.is_some_and(|changed| !changed[node]) {
                    continue;
                }
                points.components(node as u32, center);
                neighbors.clear();
                neighbors.extend(edges.of(node).iter().map(|edge| edge.1));
                piece.write(index, neighbors, center, |neighbor, out| points.components(neighbor, out));
            }
        });
    }

    /// Searches for some nodes: what the walks visited, and the neighbours of before, are their candidates.
    fn look(&self, nodes: &[u32], edges: &Edges, options: &GraphOptions, task: &Task) -> Candidates {
        let mut candidates = Candidates::new(self.node_count());
        let mut wanted = vec![false; self.node_count()];
        nodes.iter().for_each(|&node| wanted[node as usize] = true);
        let pieces = candidates.pieces();
        let start = || (Scratch::default(), Pruner::default());
        parallel::for_each(options.threads.max(1), pieces, start, |(scratch, pruner), mut piece| {
            for node in piece.nodes() {
                if !wanted[node] || task.is_stopped() {
                    continue;
                }
                self.bring(node as u32, &mut scratch.query);
                scratch.nearest.clear();
                self.walk(options.walk, scratch, |_| true);
                let candidates = piece.of(node);
                candidates.extend(scratch.found.iter().filter(|found| found.1 as usize != node));
                candidates.extend_from_slice(edges.of(node));
                tidy(candidates);
                // At once: all candidates of all nodes would need more memory than the graph.
                piece.prune(node, pruner, &self.points, options.degree);
            }
        });
        candidates
    }

    /// A node as a query.
    pub(super) fn bring(&self, node: u32, query: &mut Query) {
        let mut components = query.take_components();
        self.points.components(node, &mut components);
        query.set_brought(components, self.transform.is_coded());
    }
}

/// Evenly among all, and one by chance of each stretch.
fn choose_left_out(count: usize, random: &mut Random) -> Vec<u32> {
    let wanted = (count / LEFT_OUT_SHARE).min(LEFT_OUT_MAX);
    if wanted < LEFT_OUT_MIN {
        return Vec::new();
    }
    let stretch = count / wanted;
    (0..wanted).map(|place| (place * stretch + random.below(stretch)) as u32).collect()
}

impl Default for Walk {
    fn default() -> Self {
        GraphOptions::default().walk
    }
}
