//! Distances with AVX2 and AVX-512. Each kernel equals its scalar definition up to rounding.
//!
//! A tile of Q queries and R rows is compared at once, with one register of sums for each pair: each register of
//! components that is loaded is used Q or R times. Every pair is summed alike whatever the tile, so that the result is the
//! same in every one.

use std::arch::x86_64::*;

use super::{Block, Kernels};

/// The AVX2 kernels, where the processor has them.
pub(super) fn avx2() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        // SAFETY: the two features that the kernels are compiled for were just detected.
        dot: |block, out| unsafe { dot_avx2(block, out) },
        // SAFETY: as above.
        squared_euclidean: |block, out| unsafe { squared_euclidean_avx2(block, out) },
    })
}

/// The AVX-512 kernels, where the processor has them.
pub(super) fn avx512() -> Option<Kernels> {
    // More than these kernels need: what goes by one name is chosen as a whole, here and in `quantization`.
    let is_there = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni");
    is_there.then_some(Kernels {
        name: "avx512",
        // SAFETY: the two features that the kernels are compiled for were just detected.
        dot: |block, out| unsafe { dot_avx512(block, out) },
        // SAFETY: as above.
        squared_euclidean: |block, out| unsafe { squared_euclidean_avx512(block, out) },
    })
}

/// Rows of a tile; what is left over is compared row by row.
const TILE_ROWS: usize = 4;
/// Rows that meet all queries before the next rows do: they stay in the first-level cache meanwhile.
const CACHED_ROWS: usize = 16;

/// Compares a block tile by tile. `$tile` is a function of the numbers of queries and rows.
macro_rules! in_tiles {
    ($block:expr, $out:expr, $tile:ident, $tile_queries:literal, $($step:expr),*) => {{
        let Block { queries, rows, dimension } = $block;
        $block.check($out);
        let row_count = $block.row_count();
        for cached_rows in (0..row_count).step_by(CACHED_ROWS) {
            let cached_end = row_count.min(cached_rows + CACHED_ROWS);
            let tiled_end = cached_end - (cached_end - cached_rows) % TILE_ROWS;
            for (group, queries) in queries.chunks($tile_queries * dimension).enumerate() {
                let results = group * $tile_queries * row_count;
                for row in (cached_rows..tiled_end).step_by(TILE_ROWS) {
                    let rows = &rows[row * dimension..][..TILE_ROWS * dimension];
                    let place = Place { stride: row_count, first: results + row };
                    match queries.len() / dimension {
                        1 => $tile::<1, TILE_ROWS>(queries, rows, dimension, $out, place, $($step),*),
                        2 => $tile::<2, TILE_ROWS>(queries, rows, dimension, $out, place, $($step),*),
                        3 => $tile::<3, TILE_ROWS>(queries, rows, dimension, $out, place, $($step),*),
                        _ => $tile::<$tile_queries, TILE_ROWS>(queries, rows, dimension, $out, place, $($step),*),
                    }
                }
                for row in tiled_end..cached_end {
                    let components = &rows[row * dimension..][..dimension];
                    for (number, query) in queries.chunks_exact(dimension).enumerate() {
                        let place = Place { stride: row_count, first: results + number * row_count + row };
                        $tile::<1, 1>(query, components, dimension, $out, place, $($step),*);
                    }
                }
            }
        }
    }};
}

/// Where the results of a tile go: query `q` and row `r` at `first + q * stride + r`.
#[derive(Clone, Copy)]
struct Place {
    stride: usize,
    first: usize,
}

#[target_feature(enable = "avx2,fma")]
fn dot_avx2(block: Block<'_>, out: &mut [f32]) {
    let step = |x, y, sum| _mm256_fmadd_ps(x, y, sum);
    // Two queries: with more, the sums would not fit the 16 registers.
    in_tiles!(block, out, tile_avx2, 2, step, |x: f32, y: f32| x * y);
}

#[target_feature(enable = "avx2,fma")]
fn squared_euclidean_avx2(block: Block<'_>, out: &mut [f32]) {
    let step = |x, y, sum| {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    };
    in_tiles!(block, out, tile_avx2, 2, step, |x: f32, y: f32| (x - y) * (x - y));
}

#[target_feature(enable = "avx512f,avx512dq")]
fn dot_avx512(block: Block<'_>, out: &mut [f32]) {
    in_tiles!(block, out, tile_avx512, 4, |x, y, sum| _mm512_fmadd_ps(x, y, sum));
}

#[target_feature(enable = "avx512f,avx512dq")]
fn squared_euclidean_avx512(block: Block<'_>, out: &mut [f32]) {
    in_tiles!(block, out, tile_avx512, 4, |x, y, sum| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    });
}

/// 8 components at a time, then the rest by the scalar term.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile_avx2<const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &[f32],
    dimension: usize,
    out: &mut [f32],
    place: Place,
    step: impl Fn(__m256, __m256, __m256) -> __m256 + Copy,
    term: impl Fn(f32, f32) -> f32 + Copy,
) {
    assert!(queries.len() == Q * dimension && rows.len() == R * dimension, "the tile is whole");
    let mut sums = [[_mm256_setzero_ps(); R]; Q];
    let whole = dimension / 8 * 8;
    for at in (0..whole).step_by(8) {
        // SAFETY: at + 8 is at most the dimension, and each of the R rows and Q queries has that many numbers.
        let y: [__m256; R] = std::array::from_fn(|r| unsafe { _mm256_loadu_ps(rows.as_ptr().add(r * dimension + at)) });
        for (q, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let x = unsafe { _mm256_loadu_ps(queries.as_ptr().add(q * dimension + at)) };
            for (sum, &y) in sums.iter_mut().zip(&y) {
                *sum = step(x, y, *sum);
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        for (r, &sum) in sums.iter().enumerate() {
            let mut lanes = [0.0_f32; 8];
            // SAFETY: the array holds 8 numbers.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
            let (x, y) = (&queries[q * dimension..][whole..dimension], &rows[r * dimension..][whole..dimension]);
            let rest: f32 = x.iter().zip(y).map(|(&x, &y)| term(x, y)).sum();
            out[place.first + q * place.stride + r] = lanes.iter().sum::<f32>() + rest;
        }
    }
}

/// 16 components at a time, the last ones under a mask.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn tile_avx512<const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &[f32],
    dimension: usize,
    out: &mut [f32],
    place: Place,
    step: impl Fn(__m512, __m512, __m512) -> __m512 + Copy,
) {
    assert!(queries.len() == Q * dimension && rows.len() == R * dimension, "the tile is whole");
    let mut sums = [[_mm512_setzero_ps(); R]; Q];
    let whole = dimension / 16 * 16;
    for at in (0..whole).step_by(16) {
        // SAFETY: at + 16 is at most the dimension, and each of the R rows and Q queries has that many numbers.
        let y: [__m512; R] = std::array::from_fn(|r| unsafe { _mm512_loadu_ps(rows.as_ptr().add(r * dimension + at)) });
        for (q, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let x = unsafe { _mm512_loadu_ps(queries.as_ptr().add(q * dimension + at)) };
            for (sum, &y) in sums.iter_mut().zip(&y) {
                *sum = step(x, y, *sum);
            }
        }
    }
    if whole < dimension {
        let mask = u16::MAX >> (16 - (dimension - whole));
        for (q, sums) in sums.iter_mut().enumerate() {
            for (r, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the mask has as many bits as there are numbers left; lanes without a bit are not read.
                let (x, y) = unsafe {
                    (
                        _mm512_maskz_loadu_ps(mask, queries.as_ptr().add(q * dimension + whole)),
                        _mm512_maskz_loadu_ps(mask, rows.as_ptr().add(r * dimension + whole)),
                    )
                };
                *sum = step(x, y, *sum);
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        let out = &mut out[place.first + q * place.stride..][..R];
        let quarters: [__m128; R] = std::array::from_fn(|r| {
            let half = _mm256_add_ps(_mm512_castps512_ps256(sums[r]), _mm512_extractf32x8_ps::<1>(sums[r]));
            _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half))
        });
        if let [a, b, c, d] = quarters[..] {
            // Four at once, in the order in which one is summed: lanes 0 and 2, lanes 1 and 3, both.
            let ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            let totals = _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
            // SAFETY: `out` has R numbers, which are four here.
            unsafe { _mm_storeu_ps(out.as_mut_ptr(), totals) };
        } else {
            for (out, quarter) in out.iter_mut().zip(quarters) {
                let pairs = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
                *out = _mm_cvtss_f32(_mm_add_ss(pairs, _mm_shuffle_ps::<1>(pairs, pairs)));
            }
        }
    }
}
