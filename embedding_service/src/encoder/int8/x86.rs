//! The product of bytes with the instructions of x86: four products to a lane in one instruction (VNNI, in 512 or
//! 256 bits), or in three (AVX2).

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

use super::product::{Kernel, Line, PANEL_OUTPUTS, Product, STEP_INPUTS, STEP_LINES};

/// The kernels that this processor can run, the fastest last.
pub(super) fn available() -> Vec<Kernel> {
    let mut available = Vec::new();
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the feature the kernel is compiled for was just detected.
        available.push(Kernel { name: "avx2", multiply: |product| unsafe { multiply_avx2(product) } });
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
        // SAFETY: as above.
        available.push(Kernel { name: "avxvnni", multiply: |product| unsafe { multiply_avxvnni(product) } });
    }
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: as above.
        available.push(Kernel { name: "avx512", multiply: |product| unsafe { multiply_avx512(product) } });
    }
    available
}

/// Cuts the product into tiles of at most `$rows` rows: as many as the registers hold sums for.
macro_rules! in_tiles {
    ($product:ident, $rows:literal, $tile:ident, $($rest:literal)*) => {{
        $product.check();
        let Product { rows, inputs, panel, sums } = $product;
        let sums = sums.chunks_mut($rows * PANEL_OUTPUTS);
        for (rows, sums) in rows.chunks($rows * inputs).zip(sums) {
            match rows.len() / inputs {
                $($rest => $tile::<$rest>(rows, inputs, panel, sums),)*
                _ => $tile::<$rows>(rows, inputs, panel, sums),
            }
        }
    }};
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_avx512(product: Product<'_>) {
    in_tiles!(product, 6, tile_avx512, 1 2 3 4 5);
}

#[target_feature(enable = "avx2,avxvnni")]
fn multiply_avxvnni(product: Product<'_>) {
    in_tiles!(product, 6, tile_avxvnni, 1 2 3 4 5);
}

#[target_feature(enable = "avx2")]
fn multiply_avx2(product: Product<'_>) {
    in_tiles!(product, 4, tile_avx2, 1 2 3);
}

/// All outputs of the panel at once: 24 registers of sums, four of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn tile_avx512<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    let mut totals = [[_mm512_setzero_si512(); STEP_LINES]; R];
    let rows: [&[u8]; R] = std::array::from_fn(|r| &rows[r * inputs..][..inputs]);
    for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
        // SAFETY: a line is 64 bytes, and aligned.
        let lines: [__m512i; STEP_LINES] =
            std::array::from_fn(|l| unsafe { _mm512_load_si512(lines[l].0.as_ptr().cast()) });
        for (totals, row) in totals.iter_mut().zip(rows) {
            // SAFETY: the panel has `inputs` / 4 steps, and the row four codes for each: `check` has seen to it.
            let codes = unsafe { row.as_ptr().add(step * STEP_INPUTS).cast::<i32>().read_unaligned() };
            let codes = _mm512_set1_epi32(codes);
            for (total, line) in totals.iter_mut().zip(lines) {
                *total = _mm512_dpbusd_epi32(*total, codes, line);
            }
        }
    }
    let (places, _) = sums.as_chunks_mut::<16>();
    for (total, place) in totals.as_flattened().iter().zip(places) {
        // SAFETY: the place has 16 numbers.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), *total) };
    }
}

/// 16 outputs at once: 12 registers of sums, two of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn tile_avxvnni<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    let rows: [&[u8]; R] = std::array::from_fn(|r| &rows[r * inputs..][..inputs]);
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: the panel has `inputs` / 4 steps, and the row four codes for each: `check` has seen to it.
                let codes = unsafe { row.as_ptr().add(step * STEP_INPUTS).cast::<i32>().read_unaligned() };
                let codes = _mm256_set1_epi32(codes);
                for (total, weights) in totals.iter_mut().zip(weights) {
                    *total = _mm256_dpbusd_avx_epi32(*total, codes, weights);
                }
            }
        }
        store(&totals, line, sums);
    }
}

/// 16 outputs at once. The instruction that multiplies bytes adds two products in 16 bits, where 255 x 127 x 2 does not
/// fit, but 128 x 127 x 2 does: so 128 is taken from the codes, and the weights times 128 are added in the end.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_avx2<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    let rows: [&[u8]; R] = std::array::from_fn(|r| &rows[r * inputs..][..inputs]);
    let (ones, middle) = (_mm256_set1_epi16(1), _mm256_set1_epi8(-128));
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        let mut of_weights = [_mm256_setzero_si256(); 2];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for (total, weights) in of_weights.iter_mut().zip(weights) {
                // The middle as an unsigned byte is 128; weights are at least -127.
                *total = _mm256_add_epi32(*total, _mm256_madd_epi16(_mm256_maddubs_epi16(middle, weights), ones));
            }
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: the panel has `inputs` / 4 steps, and the row four codes for each: `check` has seen to it.
                let codes = unsafe { row.as_ptr().add(step * STEP_INPUTS).cast::<i32>().read_unaligned() };
                let codes = _mm256_xor_si256(_mm256_set1_epi32(codes), middle);
                let sizes = _mm256_abs_epi8(codes);
                for (total, weights) in totals.iter_mut().zip(weights) {
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(weights, codes));
                    *total = _mm256_add_epi32(*total, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for totals in &mut totals {
            for (total, of_weights) in totals.iter_mut().zip(of_weights) {
                *total = _mm256_add_epi32(*total, of_weights);
            }
        }
        store(&totals, line, sums);
    }
}

/// Weights of the first and the last eight outputs of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(line: &Line) -> [__m256i; 2] {
    // SAFETY: a line is 64 bytes, and aligned.
    std::array::from_fn(|half| unsafe { _mm256_load_si256(line.0.as_ptr().add(32 * half).cast()) })
}

/// Puts the sums of 16 outputs where they belong in each row.
#[inline]
#[target_feature(enable = "avx2")]
fn store<const R: usize>(totals: &[[__m256i; 2]; R], line: usize, sums: &mut [i32]) {
    for (totals, row) in totals.iter().zip(sums.chunks_exact_mut(PANEL_OUTPUTS)) {
        let (places, _) = row[line * 16..][..16].as_chunks_mut::<8>();
        for (total, place) in totals.iter().zip(places) {
            // SAFETY: the place has eight numbers.
            unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), *total) };
        }
    }
}
