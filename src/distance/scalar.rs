//! The definition of every distance, written so that the compiler can vectorise it.

use super::{Block, Kernels};

pub(super) const KERNELS: Kernels = Kernels { name: "scalar", dot, squared_euclidean };

/// Independent sums, so that an addition need not wait for the one before.
const LANES: usize = 16;

fn dot(block: Block<'_>, out: &mut [f32]) {
    each(block, out, |x, y| x * y);
}

fn squared_euclidean(block: Block<'_>, out: &mut [f32]) {
    each(block, out, |x, y| (x - y) * (x - y));
}

#[inline(always)]
fn each(block: Block<'_>, out: &mut [f32], term: impl Fn(f32, f32) -> f32 + Copy) {
    block.check(out);
    let results = out.chunks_exact_mut(block.row_count().max(1));
    for (query, results) in block.queries.chunks_exact(block.dimension).zip(results) {
        for (row, result) in block.rows.chunks_exact(block.dimension).zip(results) {
            *result = sum(query, row, term);
        }
    }
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f32>() + rest
}
