//! How far walks of this graph have to reach for a given recall: measured with rows that are not in the graph yet.

use super::points::Query;
use super::walk::{Scratch, Walk};
use super::{Graph, parallel};

/// What is measured.
const KS: [usize; 3] = [1, 10, 100];
const REACHES: [f32; 14] = [0.0, 0.01, 0.025, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4];
/// What is good enough to stop measuring.
const RECALL_MAX: f64 = 0.9995;
/// Where nothing could be measured: a graph of a few hundred nodes.
const REACH_DEFAULT: f32 = 0.3;
const HOPS_DEFAULT: f64 = 50.0;
/// Queries differ from rows: the share of what is missing to a recall of 1 that is aimed beyond.
const MARGIN: f64 = 0.4;

/// Recall and length of walks, for some `k` and reaches.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    curves: Vec<Curve>,
}

#[derive(Clone, Debug)]
struct Curve {
    k: usize,
    points: Vec<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    reach: f32,
    recall: f64,
    hops: f64,
}

impl Calibration {
    /// Measures with nodes that no edge leads to yet, against the nearest of the nodes that `is_linked`.
    pub fn measure(graph: &Graph, left_out: &[u32], is_linked: &[bool], threads: usize) -> Self {
        let linked = is_linked.iter().filter(|linked| **linked).count();
        let Some(&largest) = KS.iter().rfind(|&&k| 4 * k <= linked) else { return Self::default() };
        let truths = truths(graph, left_out, is_linked, largest, threads);
        let ks = KS.into_iter().filter(|&k| k <= largest);
        let curves = ks.map(|k| Curve { k, points: curve(graph, left_out, &truths, k, threads) });
        Self { curves: if left_out.is_empty() { Vec::new() } else { curves.collect() } }
    }

    /// The least reach with the recall that is asked for; the farthest that was measured, where none has it.
    pub fn reach(&self, k: usize, target_recall: f64) -> f32 {
        let aim = target_recall + (1.0 - target_recall) * MARGIN;
        let of = |curve: &Curve| {
            let reached = curve.points.iter().position(|point| point.recall >= aim);
            let Some(place) = reached else { return curve.points.last().map_or(REACH_DEFAULT, |last| last.reach) };
            let Some(before) = place.checked_sub(1).map(|before| curve.points[before]) else { return 0.0 };
            let point = curve.points[place];
            let share = (aim - before.recall) / (point.recall - before.recall).max(f64::MIN_POSITIVE);
            before.reach + (point.reach - before.reach) * share as f32
        };
        self.between(k, |curve| f64::from(of(curve))).map_or(REACH_DEFAULT, |reach| reach as f32)
    }

    /// Nodes that a walk visits.
    pub fn hops(&self, k: usize, reach: f32) -> f64 {
        let of = |curve: &Curve| {
            let farther = curve.points.iter().find(|point| point.reach >= reach).or(curve.points.last());
            farther.map_or(k as f64, |point| point.hops)
        };
        // Beyond what was measured a walk grows with what is wanted.
        let beyond = self.curves.last().map_or(1.0, |last| (k as f64 / last.k as f64).max(1.0));
        self.between(k, of).map_or(k as f64 + HOPS_DEFAULT, |hops| hops * beyond)
    }

    /// What holds for `k`: between the values of the nearest that were measured, by the logarithm.
    fn between(&self, k: usize, of: impl Fn(&Curve) -> f64) -> Option<f64> {
        let above = self.curves.iter().position(|curve| curve.k >= k);
        let Some(above) = above else { return self.curves.last().map(of) };
        let high = &self.curves[above];
        if high.k == k || above == 0 {
            return Some(of(high));
        }
        let low = &self.curves[above - 1];
        let share = (k as f64 / low.k as f64).ln() / (high.k as f64 / low.k as f64).ln();
        Some(of(low) + (of(high) - of(low)) * share)
    }
}

/// For each node the nearest linked nodes, nearest first.
fn truths(graph: &Graph, left_out: &[u32], is_linked: &[bool], k: usize, threads: usize) -> Vec<Vec<u32>> {
    const STRETCH: u32 = 1024;
    let mut truths = vec![Vec::new(); left_out.len()];
    let start = || (Query::default(), Vec::new(), Vec::new(), Vec::new());
    parallel::for_each(threads, left_out.iter().zip(&mut truths), start, |state, (&node, truth)| {
        let (query, dots, distances, found) = state;
        query.set(&graph.transform, graph.vectors.get(node));
        found.clear();
        let count = graph.node_count;
        for first in (0..count).step_by(STRETCH as usize) {
            graph.points.distances(query, first..count.min(first + STRETCH), dots, distances);
            let linked = distances.iter().zip(first..).filter(|&(_, node)| is_linked[node as usize]);
            found.extend(linked.map(|(&distance, node)| (distance, node)));
            if found.len() > 8 * STRETCH as usize {
                cut(found, k);
            }
        }
        cut(found, k);
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        truth.extend(found.iter().map(|found| found.1));
    });
    truths
}

fn cut(found: &mut Vec<(f32, u32)>, k: usize) {
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.truncate(k);
    }
}

fn curve(graph: &Graph, left_out: &[u32], truths: &[Vec<u32>], k: usize, threads: usize) -> Vec<Measured> {
    let mut points: Vec<Measured> = Vec::new();
    for reach in REACHES {
        let walk = Walk { k, reach, hops_max: usize::MAX };
        let mut seen = vec![(0, 0); left_out.len()];
        let pieces = left_out.iter().zip(truths).zip(&mut seen);
        parallel::for_each(threads, pieces, Scratch::default, |scratch, ((&node, truth), seen)| {
            scratch.query.set(&graph.transform, graph.vectors.get(node));
            scratch.nearest.clear();
            let stats = graph.walk(walk, scratch, |_| true);
            let is_right = |found: &&(f32, u32)| truth[..k].contains(&found.1);
            *seen = (scratch.found.iter().filter(is_right).count(), stats.hops);
        });
        let right: usize = seen.iter().map(|seen| seen.0).sum();
        let hops: usize = seen.iter().map(|seen| seen.1).sum();
        let recall = right as f64 / (k * left_out.len()) as f64;
        points.push(Measured { reach, recall, hops: hops as f64 / left_out.len() as f64 });
        if recall >= RECALL_MAX {
            break;
        }
    }
    points
}
