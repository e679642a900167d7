//! Makes every node reachable from the nodes where walks begin.
//!
//! What cannot be reached is hung below a node that can: in a free place, or in the place of an edge that no other node needs
//! to be reached by. The edges by which nodes were first reached are never taken away.

use std::collections::VecDeque;

use super::edges::Edges;
use crate::index::graph::layout::MISSING;

/// Changes edges where it is needed, and says so in `changed`.
pub fn ensure(edges: &mut Edges, entries: &[u32], changed: &mut [bool]) {
    let count = edges.node_count();
    let mut reached = Reached { parents: vec![MISSING; count], order: Vec::with_capacity(count) };
    for &entry in entries {
        reached.spread(edges, entry, entry);
    }
    let mut unreached: VecDeque<u32> = (0..count as u32).filter(|&node| !reached.contains(node)).collect();
    // Those that know a reached node come first; where none does, the next is hung anywhere.
    let mut passed_over = 0;
    while let Some(node) = unreached.pop_front() {
        if reached.contains(node) {
            continue;
        }
        let known = edges.of(node as usize).iter().map(|edge| edge.1).filter(|&other| reached.contains(other));
        let known: Vec<u32> = known.collect();
        if known.is_empty() && passed_over < unreached.len() {
            passed_over += 1;
            unreached.push_back(node);
            continue;
        }
        passed_over = 0;
        let anchors = known.iter().chain(reached.order.iter().rev());
        let place = anchors.copied().find_map(|anchor| Some((anchor, reached.free_place(edges, anchor)?)));
        let (anchor, place) = place.expect("a tree has leaves, whose edges nobody needs");
        edges.places_mut(anchor as usize)[place] = (f32::INFINITY, node);
        changed[anchor as usize] = true;
        reached.spread(edges, node, anchor);
    }
    assert_eq!(reached.order.len(), count, "every node can be reached");
}

struct Reached {
    /// For each node the node that it was first reached from; itself where walks begin.
    parents: Vec<u32>,
    order: Vec<u32>,
}

impl Reached {
    fn contains(&self, node: u32) -> bool {
        self.parents[node as usize] != MISSING
    }

    /// Goes wherever edges lead from a node.
    fn spread(&mut self, edges: &Edges, node: u32, parent: u32) {
        if self.contains(node) {
            return;
        }
        self.parents[node as usize] = parent;
        let mut next = self.order.len();
        self.order.push(node);
        while let Some(&node) = self.order.get(next) {
            next += 1;
            for &(_, neighbor) in edges.of(node as usize) {
                if !self.contains(neighbor) {
                    self.parents[neighbor as usize] = node;
                    self.order.push(neighbor);
                }
            }
        }
    }

    /// A place of a node that is free, or whose edge nobody needs; the last of them, which matters least.
    fn free_place(&self, edges: &Edges, node: u32) -> Option<usize> {
        let neighbors = edges.of(node as usize);
        if neighbors.len() < edges.degree() {
            return Some(neighbors.len());
        }
        neighbors.iter().rposition(|edge| self.parents[edge.1 as usize] != node)
    }
}
