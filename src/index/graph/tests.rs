//! Graphs over generated rows, compared with exact search.

use std::collections::HashSet;

use super::*;
use crate::index::coded::Certainty;
use crate::index::flat::Queries;
use crate::types::{Metric, Vector, norm};

mod baseline;
mod calibration;
mod recall;
mod scan;
mod structure;
mod walks;

/// Random numbers, the same everywhere (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Nearly a normal distribution, of variance 4/3: whole numbers over a power of two, so that nothing is rounded.
    fn bell(&mut self) -> f32 {
        let bits = self.next();
        let sum: i64 = (0..4).map(|part| (bits >> (16 * part) & 0xFFFF) as i64).sum();
        (sum - 131_070) as f32 / 32_768.0
    }

    fn bells(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.bell()).collect()
    }
}

/// Rows of one kind, and queries of the same kind that are none of them.
struct Sample {
    metric: Metric,
    rows: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

/// Of how many components, in how many clusters, and how wide these are beside the distance of their centres.
#[derive(Clone, Copy)]
struct Kind {
    dimension: usize,
    clusters: usize,
    spread: f32,
}

impl Kind {
    fn of(dimension: usize) -> Self {
        Self { dimension, clusters: 40, spread: 1.0 }
    }

    fn sample(self, metric: Metric, rows: usize, queries: usize, seed: u64) -> Sample {
        let mut random = Random(seed);
        let centers: Vec<Vec<f32>> = (0..self.clusters).map(|_| random.bells(self.dimension)).collect();
        let mut vectors = |count| -> Vec<Vec<f32>> {
            let vector = |_| {
                let center = &centers[random.below(self.clusters)];
                center.iter().map(|x| x + self.spread * random.bell()).collect()
            };
            (0..count).map(vector).collect()
        };
        let rows = vectors(rows);
        Sample { metric, rows, queries: vectors(queries) }
    }
}

impl Sample {
    /// The same with every row and every query changed.
    fn map(mut self, change: impl Fn(usize, &mut [f32])) -> Self {
        self.rows.iter_mut().enumerate().for_each(|(number, row)| change(number, row));
        self.queries.iter_mut().enumerate().for_each(|(number, query)| change(number, query));
        self
    }

    fn build(&self, options: &GraphOptions) -> Built {
        let row = |row: usize| &self.rows[row][..];
        let dimension = self.rows[0].len();
        Graph::build(self.metric, dimension, self.rows.len(), row, options, &Task::default()).unwrap()
    }

    fn query(&self, query: usize) -> Queries {
        Queries::new(self.metric, [&Vector::new(self.queries[query].clone()).unwrap()])
    }

    /// The keys of all rows, nearest first.
    fn exact(&self, query: &Queries) -> Vec<Hit> {
        let key = |row: &Vec<f32>| query.key(0, row, (1.0 / norm(row)) as f32);
        sorted(self.rows.iter().zip(0..).map(|(row, number)| (key(row), number)).collect())
    }

    /// The mean share of the `k` nearest that walks of that reach find, and their mean number of hops.
    fn recall(&self, built: &Built, k: usize, reach: f32) -> (f64, f64) {
        let (mut found, mut hops, mut scratch) = (0, 0, Scratch::default());
        for number in 0..self.queries.len() {
            let query = self.query(number);
            let mut hits = Vec::new();
            let stats = built.graph.search(&query, &wanted(walk(k, reach), &[]), &mut scratch, |_| true, &mut hits);
            hops += stats.hops;
            found += right(&built.originals(hits), &self.exact(&query)[..k], self.tolerance(number));
        }
        let queries = self.queries.len() as f64;
        (found as f64 / (k as f64 * queries), hops as f64 / queries)
    }

    /// Keys that differ by no more are the same: a dot product is rounded by so much. A distance is not, beside itself.
    fn tolerance(&self, query: usize) -> f32 {
        let longest = self.rows.iter().map(|row| norm(row)).fold(0.0, f64::max);
        let product = match self.metric {
            Metric::Cosine => 1.0,
            Metric::DotProduct => norm(&self.queries[query]) * longest,
            Metric::Euclidean => 0.0,
        };
        (1e-6 * product) as f32
    }
}

impl Built {
    /// Hits with the numbers that rows had before, nearest first; each once.
    fn originals(&self, hits: Vec<Hit>) -> Vec<Hit> {
        let hits = sorted(hits.into_iter().map(|(key, row)| (key, self.order[row as usize])).collect());
        assert_eq!(hits.len(), hits.iter().map(|hit| hit.1).collect::<HashSet<_>>().len(), "a row is found once");
        hits
    }
}

fn sorted(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    hits
}

/// How many of the first hits are as near as the true ones.
fn right(hits: &[Hit], truth: &[Hit], tolerance: f32) -> usize {
    let farthest = truth[truth.len() - 1].0 + tolerance;
    hits.iter().take(truth.len()).filter(|hit| hit.0 <= farthest).count()
}

fn walk(k: usize, reach: f32) -> Walk {
    Walk { k, reach, hops_max: usize::MAX }
}

fn wanted(walk: Walk, known: &[f32]) -> Wanted<'_> {
    Wanted { walk, known, scores: Scores::ByComponents }
}
