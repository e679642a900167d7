//! First neighbours: trees of random halvings, and all pairs within each leaf.
//!
//! Points that are near are often on the same side of a random cut. A few trees give most points most of their neighbours,
//! and the pairs of a leaf are compared as a matrix, many times faster than one by one.

use std::ops::Range;

use super::edges::Edge;
use super::random::Random;
use crate::index::graph::layout::MISSING;
use crate::index::graph::parallel;
use crate::index::graph::points::{Group, Points};

/// Points of a leaf at most.
const LEAF_POINTS: usize = 1024;
/// Points that are compared with a leaf at once.
const TILE_POINTS: usize = 16;

/// One tree: the points in the order of its leaves, and the leaves as stretches of it.
pub fn order(points: &Points, members: Vec<u32>, random: &mut Random) -> (Vec<u32>, Vec<Range<usize>>) {
    let (mut order, mut leaves) = (members, Vec::new());
    halve(points, &mut order, 0, random, &mut leaves);
    (order, leaves)
}

/// For each point that is linked the nearest linked ones of its leaf, nearest first: `count` each, with missing ones last.
pub fn nearest(
    points: &Points,
    order: &[u32],
    leaves: &[Range<usize>],
    count: usize,
    threads: usize,
    is_linked: &[bool],
) -> Vec<Edge> {
    let mut found: Vec<Vec<Edge>> = vec![Vec::new(); leaves.len()];
    let linked = |leaf: &Range<usize>| -> Vec<u32> {
        order[leaf.clone()].iter().copied().filter(|&point| is_linked[point as usize]).collect()
    };
    parallel::for_each(threads, leaves.iter().zip(&mut found), Group::default, |group, (leaf, found)| {
        *found = pairs(points, &linked(leaf), count, group);
    });
    let mut nearest = vec![(f32::INFINITY, MISSING); is_linked.len() * count];
    for (leaf, found) in leaves.iter().zip(&found) {
        for (&point, found) in linked(leaf).iter().zip(found.chunks_exact(count)) {
            nearest[point as usize * count..][..count].copy_from_slice(found);
        }
    }
    nearest
}

/// Halves a stretch of the order until it fits a leaf.
fn halve(points: &Points, order: &mut [u32], first: usize, random: &mut Random, leaves: &mut Vec<Range<usize>>) {
    if order.len() <= LEAF_POINTS {
        leaves.push(first..first + order.len());
        return;
    }
    let pivots = [order[random.below(order.len())], order[random.below(order.len())]];
    let mut keyed = points.between(order, pivots);
    let middle = keyed.len() / 2;
    keyed.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.iter_mut().zip(&keyed).for_each(|(point, keyed)| *point = keyed.1);
    drop(keyed);
    let (left, right) = order.split_at_mut(middle);
    halve(points, left, first, random, leaves);
    halve(points, right, first + middle, random, leaves);
}

/// The nearest of each point among those of its leaf.
fn pairs(points: &Points, leaf: &[u32], count: usize, group: &mut Group) -> Vec<Edge> {
    points.gather(leaf, group);
    let mut nearest = Vec::with_capacity(leaf.len() * count);
    let mut distances = Vec::new();
    let mut keyed: Vec<Edge> = Vec::new();
    for first in (0..leaf.len()).step_by(TILE_POINTS) {
        let tile = first..leaf.len().min(first + TILE_POINTS);
        group.distances(tile.clone(), &mut distances);
        for (own, distances) in tile.zip(distances.chunks_exact(leaf.len())) {
            keyed.clear();
            let others = distances.iter().zip(leaf).enumerate().filter(|(place, _)| *place != own);
            keyed.extend(others.map(|(_, (&distance, &point))| (distance, point)));
            let order = |a: &Edge, b: &Edge| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            if keyed.len() > count {
                keyed.select_nth_unstable_by(count - 1, order);
                keyed.truncate(count);
            }
            keyed.sort_unstable_by(order);
            keyed.resize(count, (f32::INFINITY, MISSING));
            nearest.extend_from_slice(&keyed);
        }
    }
    nearest
}
