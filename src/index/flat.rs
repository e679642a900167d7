//! Exact search: every row is compared. The truth that other indexes are tested against.

use crate::distance::kernels;
use crate::types::{Metric, Vector, norm};

/// A query prepared for one metric.
pub struct Query {
    metric: Metric,
    /// For the cosine scaled to unit length, so that no row need be.
    components: Box<[f32]>,
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

impl Query {
    /// For the cosine the vector must have a length (`norm` above zero).
    pub fn new(metric: Metric, vector: &Vector) -> Self {
        let components = match metric {
            Metric::Cosine => {
                let inverse = 1.0 / norm(vector.components());
                vector.components().iter().map(|&x| (f64::from(x) * inverse) as f32).collect()
            }
            Metric::DotProduct | Metric::Euclidean => vector.components().into(),
        };
        Self { metric, components }
    }

    /// Calls `found` with the number and the key of each live row; a smaller key is nearer.
    #[inline]
    pub fn scan(&self, rows: &Rows<'_>, mut found: impl FnMut(usize, f32)) {
        let kernels = kernels();
        let mut live = rows.live;
        while live != 0 {
            let row = live.trailing_zeros() as usize;
            live &= live - 1;
            let components = &rows.components[row * self.components.len()..][..self.components.len()];
            let key = match self.metric {
                Metric::Cosine => -(kernels.dot)(&self.components, components) * rows.inverse_norms[row],
                Metric::DotProduct => -(kernels.dot)(&self.components, components),
                Metric::Euclidean => (kernels.squared_euclidean)(&self.components, components),
            };
            found(row, key);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(metric: Metric, query: &[f32], rows: &[&[f32]], live: u64) -> Vec<(usize, f32)> {
        let query = Query::new(metric, &Vector::new(query.to_vec()).unwrap());
        let components: Vec<f32> = rows.concat();
        let inverse_norms: Vec<f32> = rows.iter().map(|row| (1.0 / norm(row)) as f32).collect();
        let mut found = Vec::new();
        let rows = Rows { components: &components, inverse_norms: &inverse_norms, live };
        query.scan(&rows, |row, key| found.push((row, query.score(key))));
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
