//! How far walks of this graph have to reach for a given recall: measured with rows that are not in the graph yet.

use super::points::Query;
use super::walk::{Scratch, Walk};
use super::{Graph, Task, parallel};

/// What is measured.
const KS: [usize; 3] = [1, 10, 100];
const REACHES: [f32; 14] = [0.0, 0.01, 0.025, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.4];
/// The hardest of the nodes that are left out are those that lie farthest from their tenth neighbour: one of so many, and so many
/// at least.
const HARDEST_SHARE: usize = 8;
const HARDEST_MIN: usize = 96;
const HARDEST_K: usize = 10;
/// Walks are measured up to one of so many nodes, and so many at least.
const WALKED_SHARE: usize = 30;
const HOPS_MIN: usize = 1000;
/// What is good enough to stop measuring.
const RECALL_MAX: f64 = 0.9995;
/// So far it is measured at least: `reach_min` asks for no more, but for the highest targets.
const REACH_MEASURED_MIN: f32 = 0.175;
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
    pub fn measure(graph: &Graph, left_out: &[u32], is_linked: &[bool], threads: usize, task: &Task) -> Self {
        let linked = is_linked.iter().filter(|linked| **linked).count();
        let Some(&largest) = KS.iter().rfind(|&&k| 4 * k <= linked) else { return Self::default() };
        let (left_out, truths) = hardest_first(left_out, truths(graph, left_out, is_linked, largest, threads), largest);
        let left_out = &left_out[..];
        let ks = KS.into_iter().filter(|&k| k <= largest);
        let curves = ks.map(|k| Curve { k, points: curve(graph, left_out, &truths, k, threads, task) });
        Self { curves: if left_out.is_empty() { Vec::new() } else { curves.collect() } }
    }

    /// For a file: for each curve `k` and the number of its points, then the points.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for curve in &self.curves {
            bytes.extend_from_slice(&(curve.k as u32).to_le_bytes());
            bytes.extend_from_slice(&(curve.points.len() as u32).to_le_bytes());
            for point in &curve.points {
                bytes.extend_from_slice(&point.reach.to_le_bytes());
                bytes.extend_from_slice(&point.recall.to_le_bytes());
                bytes.extend_from_slice(&point.hops.to_le_bytes());
            }
        }
        bytes
    }

    /// What `encode` has made; none for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
            let (first, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(first)
        }
        let mut curves = Vec::new();
        while !bytes.is_empty() {
            let k = u32::from_le_bytes(*take(&mut bytes)?) as usize;
            let count = u32::from_le_bytes(*take(&mut bytes)?);
            let mut points = Vec::new();
            for _ in 0..count {
                let reach = f32::from_le_bytes(*take(&mut bytes)?);
                let recall = f64::from_le_bytes(*take(&mut bytes)?);
                points.push(Measured { reach, recall, hops: f64::from_le_bytes(*take(&mut bytes)?) });
            }
            curves.push(Curve { k, points });
        }
        Some(Self { curves })
    }

    /// The least reach with the recall that is asked for, if any has it.
    pub fn reach(&self, k: usize, target_recall: f64) -> Option<f32> {
        if self.curves.is_empty() {
            return Some(REACH_DEFAULT);
        }
        let aim = (target_recall + (1.0 - target_recall) * MARGIN).min(RECALL_MAX.max(target_recall));
        let of = |curve: &Curve| {
            let least = reach_min(curve.k, target_recall);
            let reached = curve.points.iter().position(|point| point.recall >= aim);
            let Some(place) = reached else { return f32::INFINITY };
            let Some(before) = place.checked_sub(1).map(|before| curve.points[before]) else { return least };
            let point = curve.points[place];
            let share = (aim - before.recall) / (point.recall - before.recall).max(f64::MIN_POSITIVE);
            least.max(before.reach + (point.reach - before.reach) * share as f32)
        };
        self.between(k, |curve| f64::from(of(curve))).map(|reach| reach as f32).filter(|reach| reach.is_finite())
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

/// The least reach for a recall. Rows that are all but copies of each other are found by the shortest walks, and say nothing of queries that
/// are none: measured with texts that were searched for among a million rows, most of them made of others with some noise. Who wants
/// many comes by more, and needs to reach less far.
fn reach_min(k: usize, target_recall: f64) -> f32 {
    let missing = (1.0 - target_recall).max(1e-4);
    let least = (0.13 * (-missing.log10() - 0.75)).max(0.0) as f32;
    if k > 10 { least / 2.0 } else { least }
}

/// Those that lie farthest from their neighbours first.
fn hardest_first(left_out: &[u32], truths: Vec<Vec<Edge>>, k: usize) -> (Vec<u32>, Vec<Vec<Edge>>) {
    let mut keyed: Vec<(u32, Vec<Edge>)> = left_out.iter().copied().zip(truths).collect();
    let distance = |truth: &[Edge]| truth[k.min(HARDEST_K) - 1].0;
    keyed.sort_by(|a, b| distance(&b.1).total_cmp(&distance(&a.1)).then(a.0.cmp(&b.0)));
    keyed.into_iter().unzip()
}

/// A neighbour, and its squared distance.
type Edge = (f32, u32);

/// For each node the nearest linked nodes, nearest first.
fn truths(graph: &Graph, left_out: &[u32], is_linked: &[bool], k: usize, threads: usize) -> Vec<Vec<Edge>> {
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
        truth.extend_from_slice(found);
    });
    truths
}

fn cut(found: &mut Vec<(f32, u32)>, k: usize) {
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.truncate(k);
    }
}

fn curve(
    graph: &Graph,
    left_out: &[u32],
    truths: &[Vec<Edge>],
    k: usize,
    threads: usize,
    task: &Task,
) -> Vec<Measured> {
    let mut points: Vec<Measured> = Vec::new();
    // Beyond, going through all nodes in order is faster, and what is planned is a scan.
    let hops_max = (graph.node_count() / WALKED_SHARE).max(HOPS_MIN);
    for reach in REACHES {
        if task.is_stopped() {
            break;
        }
        let walk = Walk { k, reach, hops_max };
        let mut seen = vec![(0, 0, false); left_out.len()];
        let pieces = left_out.iter().zip(truths).zip(&mut seen);
        parallel::for_each(threads, pieces, Scratch::default, |scratch, ((&node, truth), seen)| {
            scratch.query.set(&graph.transform, graph.vectors.get(node));
            scratch.nearest.clear();
            let stats = graph.walk(walk, scratch, |_| true);
            let is_right = |found: &&(f32, u32)| truth[..k].iter().any(|edge| edge.1 == found.1);
            *seen = (scratch.found.iter().filter(is_right).count(), stats.hops, stats.is_cut);
        });
        // Users ask for what is no copy of a row, and of another kind at times: so the hardest count as much as all.
        let hardest = (left_out.len() / HARDEST_SHARE).max(HARDEST_MIN).min(left_out.len());
        let recall_of = |seen: &[(usize, usize, bool)]| {
            seen.iter().map(|seen| seen.0).sum::<usize>() as f64 / (k * seen.len()) as f64
        };
        let recall = recall_of(&seen).min(recall_of(&seen[..hardest]));
        let hops: usize = seen.iter().map(|seen| seen.1).sum();
        // A search that is cut is followed by a scan, so some may be.
        if seen.iter().filter(|seen| seen.2).count() * 4 > left_out.len() {
            break;
        }
        points.push(Measured { reach, recall, hops: hops as f64 / left_out.len() as f64 });
        if recall >= RECALL_MAX && reach >= REACH_MEASURED_MIN {
            break;
        }
    }
    points
}
