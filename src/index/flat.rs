//! Exact search: every row is compared. The truth that other indexes are tested against.

use crate::distance::{Block, Kernel, kernels};
use crate::types::{Metric, Vector, norm};

/// Rows of a block at most: as many as a word has bits, so that a mask says which are live.
pub const BLOCK_ROWS: usize = 64;

/// Queries of one space, prepared for its metric.
pub struct Queries {
    metric: Metric,
    dimension: usize,
    /// One after another; for the cosine scaled to unit length, so that no row need be.
    components: Vec<f32>,
}

/// Rows of one space that lie one after another.
pub struct Rows<'a> {
    /// Components of all rows.
    pub components: &'a [f32],
    /// One over the length of each row.
    pub inverse_norms: &'a [f32],
    /// Bit i is set where row i counts; at most 64 rows.
    pub live: u64,
}

impl Queries {
    /// At least one. For the cosine each must have a length (`norm` above zero).
    pub fn new<'a>(metric: Metric, vectors: impl IntoIterator<Item = &'a Vector>) -> Self {
        let (mut components, mut dimension) = (Vec::new(), 0);
        for vector in vectors {
            dimension = vector.dimension().get();
            match metric {
                Metric::Cosine => {
                    let inverse = 1.0 / norm(vector.components());
                    components.extend(vector.components().iter().map(|&x| (f64::from(x) * inverse) as f32));
                }
                Metric::DotProduct | Metric::Euclidean => components.extend_from_slice(vector.components()),
            }
        }
        assert!(dimension > 0, "there is something to search for");
        Self { metric, dimension, components }
    }

    /// Calls `found` with the number of a query, the number of a live row, and the keys of that row and those that follow
    /// it; a smaller key is nearer. Each pair comes once.
    #[inline]
    pub fn scan(&self, rows: &Rows<'_>, mut found: impl FnMut(usize, usize, &[f32])) {
        let kernel = self.kernel();
        if rows.live == 0 {
            return;
        }
        let query_count = self.components.len() / self.dimension;
        let mut results = vec![0.0; query_count * BLOCK_ROWS];
        for (first, count) in runs(rows.live) {
            let components = &rows.components[first * self.dimension..][..count * self.dimension];
            let inverse_norms = &rows.inverse_norms[first..][..count];
            let results = &mut results[..query_count * count];
            kernel(Block { queries: &self.components, rows: components, dimension: self.dimension }, results);
            for (query, keys) in results.chunks_exact_mut(count).enumerate() {
                self.to_keys(keys, inverse_norms);
                found(query, first, keys);
            }
        }
    }

    #[inline]
    fn to_keys(&self, results: &mut [f32], inverse_norms: &[f32]) {
        match self.metric {
            Metric::Cosine => results.iter_mut().zip(inverse_norms).for_each(|(result, &inverse)| *result *= -inverse),
            Metric::DotProduct => results.iter_mut().for_each(|result| *result = -*result),
            Metric::Euclidean => {}
        }
    }

    /// One of the queries alone.
    pub fn only(&self, query: usize) -> Self {
        Self { metric: self.metric, dimension: self.dimension, components: self.vector(query).to_vec() }
    }

    /// A query as it is compared: for the cosine of unit length.
    pub fn vector(&self, query: usize) -> &[f32] {
        &self.components[query * self.dimension..][..self.dimension]
    }

    /// The key of one row for one query. `inverse_norm` is one over the row's length.
    #[inline]
    pub fn key(&self, query: usize, row: &[f32], inverse_norm: f32) -> f32 {
        let mut key = [0.0];
        let block = Block { queries: self.vector(query), rows: row, dimension: self.dimension };
        self.kernel()(block, &mut key);
        self.to_keys(&mut key, &[inverse_norm]);
        key[0]
    }

    fn kernel(&self) -> Kernel {
        match self.metric {
            Metric::Cosine | Metric::DotProduct => kernels().dot,
            Metric::Euclidean => kernels().squared_euclidean,
        }
    }

    /// What a user is told: the cosine, the dot product or the Euclidean distance.
    pub fn score(&self, key: f32) -> f32 {
        match self.metric {
            // Rounding may step out of the range that a cosine has.
            Metric::Cosine => (-key).clamp(-1.0, 1.0),
            Metric::DotProduct => -key,
            Metric::Euclidean => key.sqrt(),
        }
    }
}

/// The stretches of set bits: where each begins, and how long it is.
fn runs(mut bits: u64) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let skipped = bits.trailing_zeros();
        let first = at + skipped as usize;
        let count = (bits >> skipped).trailing_ones();
        // In two steps: 64 at once would be no shift at all.
        bits = (bits >> skipped) >> (count - 1) >> 1;
        at = first + count as usize;
        Some((first, count as usize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(metric: Metric, query: &[f32], rows: &[&[f32]], live: u64) -> Vec<(usize, f32)> {
        let queries = Queries::new(metric, [&Vector::new(query.to_vec()).unwrap()]);
        let components: Vec<f32> = rows.concat();
        let inverse_norms: Vec<f32> = rows.iter().map(|row| (1.0 / norm(row)) as f32).collect();
        let mut found = Vec::new();
        let rows = Rows { components: &components, inverse_norms: &inverse_norms, live };
        queries.scan(&rows, |_, first, keys| {
            found.extend(keys.iter().enumerate().map(|(row, &key)| (first + row, queries.score(key))));
        });
        found
    }

    #[test]
    fn scores_are_what_the_metric_says() {
        let rows: [&[f32]; 2] = [&[3.0, 4.0], &[0.0, -2.0]];
        assert_eq!(scores(Metric::Cosine, &[0.0, 5.0], &rows, 0b11), [(0, 0.8), (1, -1.0)]);
        assert_eq!(scores(Metric::DotProduct, &[0.0, 5.0], &rows, 0b11), [(0, 20.0), (1, -10.0)]);
        assert_eq!(scores(Metric::Euclidean, &[0.0, 0.0], &rows, 0b11), [(0, 5.0), (1, 2.0)]);
    }

    #[test]
    fn runs_are_the_stretches_of_set_bits() {
        let all = |bits| runs(bits).collect::<Vec<_>>();
        assert_eq!(all(0), []);
        assert_eq!(all(u64::MAX), [(0, 64)]);
        assert_eq!(all(0b1011), [(0, 2), (3, 1)]);
        assert_eq!(all(1 << 63 | 0b110), [(1, 2), (63, 1)]);
    }

    #[test]
    fn many_queries_find_what_each_finds_alone() {
        let vector = |i: usize| Vector::new((0..5).map(|j| ((i * 7 + j * 3) as f32).sin()).collect()).unwrap();
        let vectors: Vec<Vector> = (0..10).map(vector).collect();
        let rows: Vec<Vector> = (10..40).map(vector).collect();
        let components: Vec<f32> = rows.iter().flat_map(|row| row.components().to_vec()).collect();
        let inverse_norms: Vec<f32> = rows.iter().map(|row| (1.0 / norm(row.components())) as f32).collect();
        let rows = Rows { components: &components, inverse_norms: &inverse_norms, live: 0x2FFF_F0F1 };
        let scan = |vectors: &[Vector]| {
            let mut found = Vec::new();
            Queries::new(Metric::Cosine, vectors).scan(&rows, |query, first, keys| {
                found.extend(keys.iter().enumerate().map(|(row, key)| (query, first + row, key.to_bits())));
            });
            found.sort_unstable();
            found
        };
        let together = scan(&vectors);
        assert_eq!(together.len(), 10 * 0x2FFF_F0F1_u64.count_ones() as usize);
        for (number, vector) in vectors.iter().enumerate() {
            let alone = scan(std::slice::from_ref(vector));
            let expected = together.iter().filter(|(query, ..)| *query == number).map(|&(_, row, key)| (0, row, key));
            assert_eq!(alone, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn dead_rows_are_passed_over() {
        let rows: [&[f32]; 3] = [&[1.0], &[2.0], &[3.0]];
        assert_eq!(scores(Metric::DotProduct, &[1.0], &rows, 0b101), [(0, 1.0), (2, 3.0)]);
    }

    #[test]
    fn scores_are_numbers_at_the_limits_of_length() {
        let huge: &[f32] = &[6e18, 6e18];
        let opposite: &[f32] = &[-6e18, -6e18];
        let tiny: &[f32] = &[1e-30, 1e-30];
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            for (_, score) in scores(metric, huge, &[huge, opposite, tiny], 0b111) {
                assert!(score.is_finite(), "{metric}: {score}");
            }
        }
        let cosines = scores(Metric::Cosine, huge, &[huge, opposite, tiny], 0b111);
        for ((_, score), expected) in cosines.iter().zip([1.0, -1.0, 1.0]) {
            assert!((score - expected).abs() < 1e-5, "{score}");
        }
    }
}
