//! The product of bytes with the instructions of x86: four products to a lane in one instruction (VNNI, in 512 or
//! 256 bits), or in three (AVX2).

#![expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory: see the tiles")]

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

// Indices rather than iterators in the tiles: with those the compiler keeps the sums in memory, which is five times slower.

/// All outputs of the panel at once: 24 registers of sums, four of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn tile_avx512<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    let mut totals = [[_mm512_setzero_si512(); STEP_LINES]; R];
    for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
        let mut weights = [_mm512_setzero_si512(); STEP_LINES];
        for l in 0..STEP_LINES {
            // SAFETY: a line is 64 bytes, and aligned.
            weights[l] = unsafe { _mm512_load_si512(lines[l].0.as_ptr().cast()) };
        }
        for r in 0..R {
            // SAFETY: the panel has `inputs` / 4 steps, and the row four codes for each: `check` has seen to it.
            let codes = unsafe { rows.as_ptr().add(r * inputs + step * STEP_INPUTS).cast::<i32>().read_unaligned() };
            let codes = _mm512_set1_epi32(codes);
            for l in 0..STEP_LINES {
                totals[r][l] = _mm512_dpbusd_epi32(totals[r][l], codes, weights[l]);
            }
        }
    }
    for r in 0..R {
        for l in 0..STEP_LINES {
            let place = &mut sums[r * PANEL_OUTPUTS + l * 16..][..16];
            // SAFETY: the place has 16 numbers.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), totals[r][l]) };
        }
    }
}

/// 16 outputs at once: 12 registers of sums, two of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn tile_avxvnni<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for r in 0..R {
                // SAFETY: as in `tile_avx512`.
                let codes =
                    unsafe { rows.as_ptr().add(r * inputs + step * STEP_INPUTS).cast::<i32>().read_unaligned() };
                let codes = _mm256_set1_epi32(codes);
                totals[r][0] = _mm256_dpbusd_avx_epi32(totals[r][0], codes, weights[0]);
                totals[r][1] = _mm256_dpbusd_avx_epi32(totals[r][1], codes, weights[1]);
            }
        }
        for r in 0..R {
            store(totals[r], &mut sums[r * PANEL_OUTPUTS + line * 16..][..16]);
        }
    }
}

/// 16 outputs at once. The instruction that multiplies bytes adds two products in 16 bits, where 255 x 127 x 2 does not
/// fit, but 128 x 127 x 2 does: so 128 is taken from the codes, and the weights times 128 are added in the end.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_avx2<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line], sums: &mut [i32]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    let (ones, middle) = (_mm256_set1_epi16(1), _mm256_set1_epi8(-128));
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        let mut of_weights = [_mm256_setzero_si256(); 2];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for h in 0..2 {
                // The middle as an unsigned byte is 128; weights are at least -127.
                let pairs = _mm256_maddubs_epi16(middle, weights[h]);
                of_weights[h] = _mm256_add_epi32(of_weights[h], _mm256_madd_epi16(pairs, ones));
            }
            for r in 0..R {
                // SAFETY: as in `tile_avx512`.
                let codes =
                    unsafe { rows.as_ptr().add(r * inputs + step * STEP_INPUTS).cast::<i32>().read_unaligned() };
                let codes = _mm256_xor_si256(_mm256_set1_epi32(codes), middle);
                let sizes = _mm256_abs_epi8(codes);
                for h in 0..2 {
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(weights[h], codes));
                    totals[r][h] = _mm256_add_epi32(totals[r][h], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for r in 0..R {
            let totals = [0, 1].map(|h: usize| _mm256_add_epi32(totals[r][h], of_weights[h]));
            store(totals, &mut sums[r * PANEL_OUTPUTS + line * 16..][..16]);
        }
    }
}

/// Weights of the first and the last eight outputs of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(line: &Line) -> [__m256i; 2] {
    // SAFETY: a line is 64 bytes, and aligned.
    unsafe { [_mm256_load_si256(line.0.as_ptr().cast()), _mm256_load_si256(line.0.as_ptr().add(32).cast())] }
}

/// Puts the sums of 16 outputs of a row in their place.
#[inline]
#[target_feature(enable = "avx2")]
fn store(totals: [__m256i; 2], place: &mut [i32]) {
    assert_eq!(place.len(), 16, "16 outputs");
    // SAFETY: the place has 16 numbers.
    unsafe {
        _mm256_storeu_si256(place.as_mut_ptr().cast(), totals[0]);
        _mm256_storeu_si256(place.as_mut_ptr().add(8).cast(), totals[1]);
    }
}
