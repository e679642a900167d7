//! Vectors as files have them, one after another: held to the rules of [`Vector`] and of their metric while they are read.
//!
//! Two looks. The first costs next to nothing where the bytes are in the cache, and tells of nearly every vector that it is one: no
//! component is so large that any number of them would be too long together, and for the cosine one of them is not tiny. Only
//! what it cannot tell is computed in the second.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::limits::{DIMENSION_MAX, NORM_MAX};
use super::{InvalidVector, Metric, Vector};

/// Why components are no vector of their space.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnfitRow {
    /// They are no vector.
    #[error(transparent)]
    Invalid(#[from] InvalidVector),
    /// They are one, but too short to have a cosine.
    #[error("it has no direction, so it has no cosine")]
    NoDirection,
}

/// The length of a vector that fits a space of that metric.
pub fn check_row(components: &[f32], metric: Metric) -> Result<f64, UnfitRow> {
    let norm = Vector::check(components)?;
    if metric == Metric::Cosine && norm < f64::from(f32::MIN_POSITIVE) {
        return Err(UnfitRow::NoDirection);
    }
    Ok(norm)
}

/// Looks at vectors while they are read, on any number of threads.
pub struct RowCheck {
    metric: Metric,
    dimension: usize,
    /// Rows that the first look could not tell of.
    unsure: Mutex<Vec<Range<usize>>>,
}

/// All bits but the sign: of numbers that are not negative the larger has the larger bits, infinity and NaN the largest.
const MAGNITUDE: u32 = u32::MAX >> 1;
/// The bit that a magnitude above `SURE_MAX` sets when what is left to it is added: an addition is faster than a comparison.
const SIGN: u32 = MAGNITUDE + 1;
/// As many components as a vector may have, each as large as this, are not too long.
const SURE_MAX: f32 = 3e16;
const _: () = assert!(SURE_MAX as f64 * SURE_MAX as f64 * (DIMENSION_MAX as f64) < NORM_MAX * NORM_MAX);

impl RowCheck {
    /// Has seen nothing yet.
    pub fn new(metric: Metric, dimension: usize) -> Self {
        assert!(dimension > 0, "a vector has components");
        Self { metric, dimension, unsure: Mutex::default() }
    }

    /// Looks at some bytes of the section, from `offset` on: both multiples of 4.
    pub fn look(&self, offset: usize, bytes: &[u8]) {
        let components = bytes.as_chunks::<4>().0;
        let first = offset / 4;
        let above =
            |component: &[u8; 4]| (u32::from_le_bytes(*component) & MAGNITUDE) + (SIGN - 1 - SURE_MAX.to_bits());
        let is_bounded = components.iter().fold(0, |all, component| all | above(component)) < SIGN;
        if !is_bounded {
            self.doubt(first / self.dimension..(first + components.len()).div_ceil(self.dimension));
        } else if self.metric == Metric::Cosine {
            let mut at = 0;
            while at < components.len() {
                let row = (first + at) / self.dimension;
                let end = ((row + 1) * self.dimension - first).min(components.len());
                let is_long = |component: &[u8; 4]| f32::from_le_bytes(*component).abs() >= f32::MIN_POSITIVE;
                if !components[at..end].iter().any(is_long) {
                    self.doubt(row..row + 1);
                }
                at = end;
            }
        }
    }

    /// Computes what the looks could not tell of all components, which they have seen. An error names the first row that does not fit
    /// among those.
    pub fn settle(self, components: &[f32]) -> Result<(), (usize, UnfitRow)> {
        let mut unsure = self.unsure.into_inner().unwrap_or_else(PoisonError::into_inner);
        unsure.sort_unstable_by_key(|rows| rows.start);
        let mut settled = 0;
        for rows in unsure {
            for row in rows.start.max(settled)..rows.end {
                let components = &components[row * self.dimension..][..self.dimension];
                check_row(components, self.metric).map_err(|why| (row, why))?;
            }
            settled = settled.max(rows.end);
        }
        Ok(())
    }

    fn doubt(&self, rows: Range<usize>) {
        let mut unsure = self.unsure.lock().unwrap_or_else(PoisonError::into_inner);
        match unsure.last_mut() {
            // One after another, as they are where a file is full of them.
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => unsure.push(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the looks at pieces of so many components and what is settled after them say.
    fn checked(components: &[f32], metric: Metric, dimension: usize, piece: usize) -> Result<(), (usize, UnfitRow)> {
        let check = RowCheck::new(metric, dimension);
        let pieces: Vec<_> = components.chunks(piece).enumerate().collect();
        // Threads take pieces in any order.
        for (number, piece_components) in pieces.iter().rev() {
            check.look(4 * number * piece, &Vector::to_f32_le(piece_components));
        }
        check.settle(components)
    }

    /// The same, row by row.
    fn expected(components: &[f32], metric: Metric, dimension: usize) -> Result<(), (usize, UnfitRow)> {
        let mut rows = components.chunks_exact(dimension).enumerate();
        rows.try_for_each(|(row, components)| check_row(components, metric).map(drop).map_err(|why| (row, why)))
    }

    #[test]
    fn the_looks_find_what_looking_at_every_vector_finds() {
        let unusual =
            [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -9e18, 9.1e18, 8e18, 4e16, -0.0, 1e-44];
        let mut refused = 0;
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            for (dimension, piece) in [(1, 7), (3, 8), (5, 5), (8, 3), (20, 7), (7, 1000)] {
                for rows in [1, 9] {
                    for at in 0..rows * dimension {
                        for value in unusual {
                            // The rest of the row is zero, or it is not.
                            for rest in [0.0, 0.5] {
                                let mut components = vec![0.25; rows * dimension];
                                components[at / dimension * dimension..][..dimension].fill(rest);
                                components[at] = value;
                                let (got, wanted) = (
                                    checked(&components, metric, dimension, piece),
                                    expected(&components, metric, dimension),
                                );
                                refused += usize::from(got.is_err());
                                // NaN is not equal to itself: the text is.
                                assert_eq!(
                                    format!("{got:?}"),
                                    format!("{wanted:?}"),
                                    "{metric} {dimension} {piece} {at}"
                                );
                            }
                        }
                    }
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn vectors_as_they_usually_are_need_no_second_look() {
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            let check = RowCheck::new(metric, 384);
            let components: Vec<f32> = (0..384 * 50).map(|at| (at as f32).sin()).collect();
            check.look(0, &Vector::to_f32_le(&components));
            assert!(check.unsure.lock().unwrap().is_empty());
        }
    }
}
