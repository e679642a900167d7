//! 8-bit codes.

use std::arch::x86_64::*;

use crate::quantization::kernels::check;

/// Rows of a tile.
const TILE_ROWS: usize = 4;

/// Compares queries and rows in tiles. `$tile` is a function of the numbers of queries and rows.
macro_rules! in_tiles {
    ($queries:expr, $rows:expr, $width:expr, $out:expr, $tile:ident, $tile_queries:literal) => {{
        let (queries, rows, width, out) = ($queries, $rows, $width, $out);
        let row_count = check(queries, rows, width, out);
        let tiled_end = row_count - row_count % TILE_ROWS;
        for (group, queries) in queries.chunks($tile_queries * width).enumerate() {
            let first = group * $tile_queries * row_count;
            for row in (0..tiled_end).step_by(TILE_ROWS) {
                let rows = &rows[row * width..][..TILE_ROWS * width];
                match queries.len() / width {
                    1 => $tile::<1, TILE_ROWS>(queries, rows, width, &mut out[first + row..], row_count),
                    2 => $tile::<2, TILE_ROWS>(queries, rows, width, &mut out[first + row..], row_count),
                    3 => $tile::<3, TILE_ROWS>(queries, rows, width, &mut out[first + row..], row_count),
                    _ => $tile::<$tile_queries, TILE_ROWS>(queries, rows, width, &mut out[first + row..], row_count),
                }
            }
            for row in tiled_end..row_count {
                for (number, query) in queries.chunks_exact(width).enumerate() {
                    let out = &mut out[first + number * row_count + row..];
                    $tile::<1, 1>(query, &rows[row * width..][..width], width, out, row_count);
                }
            }
        }
    }};
}

#[target_feature(enable = "avx2,fma")]
pub fn dot_avx2(queries: &[i8], rows: &[u8], width: usize, out: &mut [i32]) {
    in_tiles!(queries, rows, width, out, tile_avx2, 2);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn dot_avx512(queries: &[i8], rows: &[u8], width: usize, out: &mut [i32]) {
    in_tiles!(queries, rows, width, out, tile_avx512, 4);
}

/// 16 codes at a time, as 16-bit numbers; the rest one by one.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tile_avx2<const Q: usize, const R: usize>(
    queries: &[i8],
    rows: &[u8],
    width: usize,
    out: &mut [i32],
    stride: usize,
) {
    assert!(queries.len() == Q * width && rows.len() == R * width, "the tile is whole");
    let mut sums = [[_mm256_setzero_si256(); R]; Q];
    let offset = _mm256_set1_epi16(128);
    let whole = width / 16 * 16;
    for at in (0..whole).step_by(16) {
        let rows: [__m256i; R] = std::array::from_fn(|r| {
            // SAFETY: at + 16 is at most the width, and each of the R rows has that many codes.
            let codes = unsafe { _mm_loadu_si128(rows.as_ptr().add(r * width + at).cast()) };
            _mm256_sub_epi16(_mm256_cvtepu8_epi16(codes), offset)
        });
        for (q, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above, for the Q queries.
            let codes = unsafe { _mm_loadu_si128(queries.as_ptr().add(q * width + at).cast()) };
            let query = _mm256_cvtepi8_epi16(codes);
            for (sum, &row) in sums.iter_mut().zip(&rows) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(query, row));
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        for (r, &sum) in sums.iter().enumerate() {
            let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let pair = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
            let one = _mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair));
            let (x, y) = (&queries[q * width..][whole..width], &rows[r * width..][whole..width]);
            let rest: i32 = x.iter().zip(y).map(|(&x, &y)| i32::from(x) * (i32::from(y) - 128)).sum();
            out[q * stride + r] = _mm_cvtsi128_si32(one) + rest;
        }
    }
}

/// 64 codes at a time, the last ones under a mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn tile_avx512<const Q: usize, const R: usize>(
    queries: &[i8],
    rows: &[u8],
    width: usize,
    out: &mut [i32],
    stride: usize,
) {
    assert!(queries.len() == Q * width && rows.len() == R * width, "the tile is whole");
    let mut sums = [[_mm512_setzero_si512(); R]; Q];
    // The rows' codes are unsigned, so every product has 128 times the query's code too many.
    let mut excess = [_mm512_setzero_si512(); Q];
    let offset = _mm512_set1_epi8(-128);
    for at in (0..width).step_by(64) {
        let mask = u64::MAX >> (64 - (width - at).min(64));
        let rows: [__m512i; R] = std::array::from_fn(|r| {
            // SAFETY: the mask has as many bits as there are codes left of the row; others are not read.
            unsafe { _mm512_maskz_loadu_epi8(mask, rows.as_ptr().add(r * width + at).cast()) }
        });
        for (q, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above, for the Q queries.
            let query = unsafe { _mm512_maskz_loadu_epi8(mask, queries.as_ptr().add(q * width + at)) };
            excess[q] = _mm512_dpbusd_epi32(excess[q], offset, query);
            for (sum, &row) in sums.iter_mut().zip(&rows) {
                *sum = _mm512_dpbusd_epi32(*sum, row, query);
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        let out = &mut out[q * stride..][..R];
        let quarters: [__m128i; R] = std::array::from_fn(|r| {
            let sum = _mm512_sub_epi32(sums[r], excess[q]);
            let half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti32x8_epi32::<1>(sum));
            _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
        });
        if let [a, b, c, d] = quarters[..] {
            let ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
            let cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
            let totals = _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
            // SAFETY: `out` has R numbers, which are four here.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), totals) };
        } else {
            for (out, quarter) in out.iter_mut().zip(quarters) {
                let pair = _mm_add_epi32(quarter, _mm_shuffle_epi32::<0b01_00_11_10>(quarter));
                *out = _mm_cvtsi128_si32(_mm_add_epi32(pair, _mm_shuffle_epi32::<0b10_11_00_01>(pair)));
            }
        }
    }
}

/// 8 components at a time, the rest one by one.
#[target_feature(enable = "avx2,fma")]
pub fn encode_avx2(vector: &[f32], inverse: f32, codes: &mut [u8]) {
    assert_eq!(vector.len(), codes.len(), "a code for each component");
    let whole = vector.len() / 8 * 8;
    let (factor, offset) = (_mm256_set1_ps(inverse), _mm256_set1_epi32(128));
    for at in (0..whole).step_by(8) {
        // SAFETY: at + 8 is at most the number of components, which is that of codes.
        unsafe {
            let x = _mm256_loadu_ps(vector.as_ptr().add(at));
            let rounded = _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(x, factor)), offset);
            let (low, high) = (_mm256_castsi256_si128(rounded), _mm256_extracti128_si256::<1>(rounded));
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(codes.as_mut_ptr().add(at).cast(), _mm_packus_epi16(words, words));
        }
    }
    for (&x, code) in vector[whole..].iter().zip(&mut codes[whole..]) {
        *code = crate::quantization::scalar::code(x, inverse);
    }
}

/// 16 components at a time, the rest one by one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn encode_avx512(vector: &[f32], inverse: f32, codes: &mut [u8]) {
    assert_eq!(vector.len(), codes.len(), "a code for each component");
    let whole = vector.len() / 16 * 16;
    let (factor, offset) = (_mm512_set1_ps(inverse), _mm512_set1_epi32(128));
    for at in (0..whole).step_by(16) {
        // SAFETY: at + 16 is at most the number of components, which is that of codes.
        unsafe {
            let x = _mm512_loadu_ps(vector.as_ptr().add(at));
            let rounded = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, factor)), offset);
            _mm_storeu_si128(codes.as_mut_ptr().add(at).cast(), _mm512_cvtepi32_epi8(rounded));
        }
    }
    for (&x, code) in vector[whole..].iter().zip(&mut codes[whole..]) {
        *code = crate::quantization::scalar::code(x, inverse);
    }
}
