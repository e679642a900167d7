//! Generated vectors: the same for the same seed, each known by its number, cheap enough to be made while they are sent.
//!
//! A vector is the sum of two of a pool, which lies near a space of a few dimensions, as embeddings of texts do. Nothing
//! is kept but the pool, and no two of the first 16 million are equal.

use std::collections::HashSet;
use std::path::Path;

use super::BenchError;
use super::array::read_vectors;
use super::random::Random;
use crate::types::Vector;

/// Vectors of the pool.
const POOL: u64 = 4096;
/// Directions in which the vectors differ most.
const LATENT: usize = 32;
/// How far a vector is off those directions, in each component.
const NOISE: f32 = 0.1;

/// The first of the vectors that is a query: far beyond the records.
pub const FIRST_QUERY: u64 = 15_000_000;

/// The vectors of one dimension and one seed, or those of files.
pub struct Vectors {
    dimension: usize,
    source: Source,
}

enum Source {
    /// Sums of two of these.
    Pool(Vec<f32>),
    /// Records, and queries from `FIRST_QUERY` on, again and again.
    Read { records: Vec<Vector>, queries: Vec<Vector> },
}

impl Vectors {
    /// Makes the pool.
    pub fn new(dimension: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let directions: Vec<f32> = (0..LATENT * dimension).map(|_| random.centred()).collect();
        let mut pool = Vec::with_capacity(POOL as usize * dimension);
        for _ in 0..POOL {
            let start = pool.len();
            pool.extend((0..dimension).map(|_| random.centred() * NOISE));
            for direction in directions.chunks_exact(dimension) {
                let weight = random.centred();
                for (component, step) in pool[start..].iter_mut().zip(direction) {
                    *component += weight * step;
                }
            }
        }
        Self { dimension, source: Source::Pool(pool) }
    }

    /// Reads records and queries from NumPy files, which must have the same number of components.
    pub fn read(records: &Path, queries: &Path) -> Result<Self, BenchError> {
        let (records_path, queries_path) = (records.display(), queries.display());
        let (records, queries) = (read_vectors(records)?, read_vectors(queries)?);
        let dimension = records[0].dimension().get();
        let got = queries[0].dimension().get();
        if got != dimension {
            let message =
                format!("the vectors of {records_path} have {dimension} components, but those of {queries_path} {got}");
            return Err(message.into());
        }
        Ok(Self { dimension, source: Source::Read { records, queries } })
    }

    /// How many records were read; none where they are generated without end.
    pub fn record_count(&self) -> Option<u64> {
        match &self.source {
            Source::Pool(_) => None,
            Source::Read { records, .. } => Some(records.len() as u64),
        }
    }

    /// Components of each.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The vector of this number.
    pub fn get(&self, number: u64) -> Vec<f32> {
        let mut vector = vec![0.0; self.dimension];
        self.each(number, |at, component| vector[at] = component);
        vector
    }

    /// The vector of this number as little-endian bytes, 4 for each component.
    pub fn write_f32_le(&self, number: u64, out: &mut [u8]) {
        let (fours, _) = out.as_chunks_mut::<4>();
        self.each(number, |at, component| fours[at] = component.to_le_bytes());
    }

    fn each(&self, number: u64, mut see: impl FnMut(usize, f32)) {
        match &self.source {
            Source::Pool(pool) => {
                // Neighbours in number have different bases, so that the first some thousand are spread wide.
                let part = |index: u64| {
                    let start = index as usize * self.dimension;
                    &pool[start..start + self.dimension]
                };
                let (base, offset) = (part(number % POOL), part((number / POOL + number % POOL) % POOL));
                base.iter().zip(offset).enumerate().for_each(|(at, (base, offset))| see(at, base + 0.5 * offset));
            }
            Source::Read { records, queries } => {
                let vector = match number.checked_sub(FIRST_QUERY) {
                    Some(query) => &queries[(query % queries.len() as u64) as usize],
                    None => &records[number as usize],
                };
                vector.components().iter().enumerate().for_each(|(at, &component)| see(at, component));
            }
        }
    }
}

/// The exact answer to one query: what a search is compared with.
pub struct Truth {
    /// Its cosines with the nearest, in no order; at times some more, which are cut off when they become many.
    nearest: Vec<f32>,
    top_k: usize,
}

/// Room for the rounding of a cosine in 32 bits, which decides between records that are equally near.
const ROUNDING: f32 = 1e-6;

impl Truth {
    /// For each query, which has to be of unit length, the `top_k` nearest of the first `records` vectors by cosine, by
    /// comparing all.
    pub fn of(vectors: &Vectors, records: u64, queries: &[Vec<f32>], top_k: usize) -> Vec<Self> {
        let mut truths: Vec<Self> = queries.iter().map(|_| Self { nearest: Vec::new(), top_k }).collect();
        for number in 0..records {
            let record = unit(vectors.get(number));
            for (truth, query) in truths.iter_mut().zip(queries) {
                truth.add(dot(&record, query));
            }
        }
        truths.iter_mut().for_each(Self::cut);
        truths
    }

    fn add(&mut self, cosine: f32) {
        self.nearest.push(cosine);
        if self.nearest.len() >= 16 * self.top_k.max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.nearest.len() > self.top_k {
            self.nearest.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            self.nearest.truncate(self.top_k);
        }
    }

    /// The share of the nearest that was found, 0 to 1. Counts each record once, and by its own distance: what score it
    /// was given does not matter.
    pub fn recall(&self, vectors: &Vectors, query: &[f32], found: impl Iterator<Item = u64>) -> f64 {
        let count = self.nearest.len();
        if count == 0 {
            return 1.0;
        }
        let worst = self.nearest.iter().copied().fold(f32::INFINITY, f32::min);
        let found: HashSet<u64> = found.collect();
        let near = |number: &&u64| dot(&unit(vectors.get(**number)), query) >= worst - ROUNDING;
        found.iter().filter(near).count().min(count) as f64 / count as f64
    }
}

/// The vector at unit length. A zero vector has none, and none is generated.
pub fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = dot(&vector, &vector).sqrt();
    vector.iter_mut().for_each(|component| *component /= norm);
    vector
}

/// In several sums, so that the compiler may use wide registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_the_same_for_the_same_seed_and_differ_by_number() {
        let (vectors, again, other) = (Vectors::new(24, 1), Vectors::new(24, 1), Vectors::new(24, 2));
        let numbers = [0, 1, 2, POOL - 1, POOL, POOL + 1, 3 * POOL];
        for (index, &number) in numbers.iter().enumerate() {
            let vector = vectors.get(number);
            assert_eq!(vector, again.get(number));
            assert_ne!(vector, other.get(number));
            assert!(numbers[..index].iter().all(|&before| vectors.get(before) != vector));
            let mut bytes = vec![0; 24 * 4];
            vectors.write_f32_le(number, &mut bytes);
            assert_eq!(bytes, vector.iter().flat_map(|component| component.to_le_bytes()).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn recall_counts_the_nearest_once_and_nothing_else() {
        let (vectors, records) = (Vectors::new(48, 3), 3000);
        let query = unit(vectors.get(100_000));
        let cosine = |number: u64| dot(&unit(vectors.get(number)), &query);
        let mut order: Vec<u64> = (0..records).collect();
        order.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
        let truth = Truth::of(&vectors, records, std::slice::from_ref(&query), 10).remove(0);
        let recall = |found: &[u64]| truth.recall(&vectors, &query, found.iter().copied());
        assert_eq!(recall(&order[..10]), 1.0);
        assert_eq!(recall(&order[5..15]), 0.5);
        assert_eq!(recall(&[order[0]; 10]), 0.1);
        assert_eq!(recall(&order[2990..]), 0.0);
        assert_eq!(recall(&[]), 0.0);
    }

    #[test]
    fn with_fewer_records_than_asked_for_all_are_the_nearest() {
        let vectors = Vectors::new(8, 4);
        let query = unit(vectors.get(50));
        let truth = Truth::of(&vectors, 3, std::slice::from_ref(&query), 10).remove(0);
        assert_eq!(truth.recall(&vectors, &query, 0..3), 1.0);
        assert!(truth.recall(&vectors, &query, 0..2) < 0.7);
    }
}
