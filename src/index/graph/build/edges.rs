//! Who is whose neighbour, while a graph is built.

use super::prune::Pruner;
use crate::index::graph::layout::MISSING;
use crate::index::graph::parallel;
use crate::index::graph::points::Points;

/// Nodes of a piece of work.
pub const PIECE_NODES: usize = 256;
/// Candidates that a node keeps from the trees.
const CANDIDATES_MAX: usize = 96;

/// A neighbour, and its squared distance.
pub type Edge = (f32, u32);

/// Neighbours of all nodes: a fixed number each, with missing ones last.
pub struct Edges {
    degree: usize,
    neighbors: Vec<Edge>,
}

/// Those that may become neighbours of a node, nearest first and each once. Once pruned: the neighbours that it chose, the
/// first `strong` of them by the rule, and the rest to fill up.
#[derive(Default)]
struct NodeCandidates {
    edges: Vec<Edge>,
    strong: Option<usize>,
}

/// The candidates of all nodes.
pub struct Candidates {
    nodes: Vec<NodeCandidates>,
}

/// Some nodes' candidates that are being found.
pub struct CandidatesPiece<'a> {
    first: usize,
    nodes: &'a mut [NodeCandidates],
}

impl Candidates {
    /// None, for so many nodes.
    pub fn new(count: usize) -> Self {
        Self { nodes: std::iter::repeat_with(NodeCandidates::default).take(count).collect() }
    }

    /// Adds so many for each node.
    pub fn add(&mut self, found: &[Edge], per_node: usize, threads: usize) {
        let pieces = self.nodes.chunks_mut(PIECE_NODES).zip(found.chunks(PIECE_NODES * per_node));
        parallel::for_each(
            threads,
            pieces,
            || (),
            |(), (nodes, found)| {
                for (node, found) in nodes.iter_mut().zip(found.chunks_exact(per_node)) {
                    node.edges.extend(found.iter().filter(|edge| edge.1 != MISSING));
                    tidy(&mut node.edges);
                    node.edges.truncate(CANDIDATES_MAX);
                }
            },
        );
    }

    /// In pieces, for the threads of a round.
    pub fn pieces(&mut self) -> impl Iterator<Item = CandidatesPiece<'_>> {
        let pieces = self.nodes.chunks_mut(PIECE_NODES).enumerate();
        pieces.map(|(piece, nodes)| CandidatesPiece { first: piece * PIECE_NODES, nodes })
    }
}

impl CandidatesPiece<'_> {
    /// The nodes of the piece.
    pub fn nodes(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.nodes.len()
    }

    /// The candidates of a node.
    pub fn of(&mut self, node: usize) -> &mut Vec<Edge> {
        &mut self.nodes[node - self.first].edges
    }

    /// Leaves those that the node chooses.
    pub fn prune(&mut self, node: usize, pruner: &mut Pruner, points: &Points, degree: usize) {
        self.nodes[node - self.first].prune(pruner, points, degree);
    }
}

impl NodeCandidates {
    fn prune(&mut self, pruner: &mut Pruner, points: &Points, degree: usize) -> usize {
        if let Some(strong) = self.strong {
            return strong;
        }
        let strong = pruner.prune(points, &mut self.edges, degree);
        self.edges.shrink_to_fit();
        self.strong = Some(strong);
        strong
    }
}

impl Edges {
    /// Neighbours of a node, missing ones left out.
    pub fn of(&self, node: usize) -> &[Edge] {
        let all = &self.neighbors[node * self.degree..][..self.degree];
        &all[..all.iter().position(|edge| edge.1 == MISSING).unwrap_or(self.degree)]
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.neighbors.len() / self.degree
    }

    /// Neighbours that a node can have.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// All places of a node.
    pub fn places_mut(&mut self, node: usize) -> &mut [Edge] {
        &mut self.neighbors[node * self.degree..][..self.degree]
    }

    /// Neighbours of every node: chosen among its candidates, and offered by those that chose it.
    pub fn choose(points: &Points, mut candidates: Candidates, degree: usize, threads: usize) -> Self {
        let pieces = candidates.nodes.chunks_mut(PIECE_NODES);
        parallel::for_each(threads, pieces, Pruner::default, |pruner, nodes| {
            for node in nodes {
                node.prune(pruner, points, degree);
            }
        });
        let offers = Offers::new(&candidates);
        let mut edges = Self { degree, neighbors: vec![(f32::INFINITY, MISSING); candidates.nodes.len() * degree] };
        let pieces = edges.neighbors.chunks_mut(PIECE_NODES * degree).enumerate();
        let start = || (Pruner::default(), Vec::new());
        parallel::for_each(threads, pieces, start, |(pruner, all), (piece, places)| {
            for (index, places) in places.chunks_exact_mut(degree).enumerate() {
                let node = piece * PIECE_NODES + index;
                let own = &candidates.nodes[node];
                let strong = own.strong.unwrap_or(0);
                all.clear();
                all.extend_from_slice(offers.to(node));
                all.extend_from_slice(&own.edges[..strong]);
                settle(points, pruner, all, &own.edges[strong..], places);
            }
        });
        edges
    }

    /// Adds nodes that had no neighbours: their own, and those that they offer themselves to. Returns which nodes changed.
    pub fn link(&mut self, points: &Points, mut candidates: Candidates, threads: usize) -> Vec<bool> {
        let degree = self.degree;
        let offers = Offers::new(&candidates);
        let mut changed = vec![false; candidates.nodes.len()];
        let pieces = self.neighbors.chunks_mut(PIECE_NODES * degree).zip(changed.chunks_mut(PIECE_NODES));
        let pieces = pieces.zip(candidates.nodes.chunks_mut(PIECE_NODES)).enumerate();
        let start = || (Pruner::default(), Vec::new());
        parallel::for_each(threads, pieces, start, |(pruner, all), (piece, ((places, changed), candidates))| {
            for (index, places) in places.chunks_exact_mut(degree).enumerate() {
                let own = std::mem::take(&mut candidates[index].edges);
                let offered = offers.to(piece * PIECE_NODES + index);
                if own.is_empty() && offered.is_empty() {
                    continue;
                }
                changed[index] = true;
                all.clear();
                all.extend(offered.iter().chain(&own).chain(places.iter()).filter(|edge| edge.1 != MISSING));
                settle(points, pruner, all, &[], places);
            }
        });
        changed
    }
}

/// Puts the neighbours of a node in their places: chosen among `all` where these are too many, filled up where too few.
fn settle(points: &Points, pruner: &mut Pruner, all: &mut Vec<Edge>, spare: &[Edge], places: &mut [Edge]) {
    tidy(all);
    if all.len() > places.len() {
        pruner.prune(points, all, places.len());
    }
    for &edge in spare {
        if all.len() == places.len() {
            break;
        }
        if all.iter().all(|other| other.1 != edge.1) {
            all.push(edge);
        }
    }
    places.fill((f32::INFINITY, MISSING));
    places[..all.len()].copy_from_slice(all);
}

/// Each once, nearest first.
pub fn tidy(edges: &mut Vec<Edge>) {
    edges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    edges.dedup_by_key(|edge| edge.1);
}

/// For every node the nodes that chose it by the rule.
struct Offers {
    /// The offers to node `i` are those from `firsts[i]` to `firsts[i + 1]`.
    firsts: Vec<usize>,
    offers: Vec<Edge>,
}

impl Offers {
    fn new(candidates: &Candidates) -> Self {
        let strong = |node: &NodeCandidates| node.strong.unwrap_or(0);
        let mut firsts = vec![0_usize; candidates.nodes.len() + 1];
        for node in &candidates.nodes {
            for edge in &node.edges[..strong(node)] {
                firsts[edge.1 as usize + 1] += 1;
            }
        }
        for node in 1..firsts.len() {
            firsts[node] += firsts[node - 1];
        }
        let mut next = firsts.clone();
        let mut offers = vec![(f32::INFINITY, MISSING); firsts[firsts.len() - 1]];
        for (number, node) in candidates.nodes.iter().enumerate() {
            for edge in &node.edges[..strong(node)] {
                let place = &mut next[edge.1 as usize];
                offers[*place] = (edge.0, number as u32);
                *place += 1;
            }
        }
        Self { firsts, offers }
    }

    fn to(&self, node: usize) -> &[Edge] {
        &self.offers[self.firsts[node]..self.firsts[node + 1]]
    }
}
