//! Products of bytes and of words with the instructions of x86: four bytes or two words to a lane in one instruction (VNNI,
//! in 512 or 256 bits), or in several (AVX2).

#![expect(clippy::needless_range_loop, reason = "iterators keep the sums in memory: see the tiles")]

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

use super::code::Code;
use super::product::{Kernel, LINE_OUTPUTS, Line, PANEL_OUTPUTS, Product, STEP_LINES};

/// The kernels that this processor can run, the fastest last.
pub(super) fn available() -> Vec<Kernel> {
    let mut available = Vec::new();
    if is_x86_feature_detected!("avx2") {
        available.push(Kernel {
            name: "avx2",
            // SAFETY: the feature the kernels are compiled for was just detected.
            bytes: |product| unsafe { bytes_avx2(product) },
            // SAFETY: as above.
            words: |product| unsafe { words_avx2(product) },
        });
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
        available.push(Kernel {
            name: "avxvnni",
            // SAFETY: as above.
            bytes: |product| unsafe { multiply_avxvnni(product) },
            // SAFETY: as above.
            words: |product| unsafe { multiply_avxvnni(product) },
        });
    }
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        available.push(Kernel {
            name: "avx512",
            // SAFETY: as above.
            bytes: |product| unsafe { multiply_avx512(product) },
            // SAFETY: as above.
            words: |product| unsafe { multiply_avx512(product) },
        });
    }
    available
}

/// Cuts the product into tiles of at most as many rows as the registers hold sums for: the first of the numbers.
macro_rules! in_tiles {
    ($product:ident, $tile:ident, $most:literal $($fewer:literal)*) => {{
        $product.check();
        let Product { rows, inputs, panel, sums } = $product;
        let sums = sums.chunks_mut($most * PANEL_OUTPUTS);
        for (rows, sums) in rows.chunks($most * inputs).zip(sums) {
            match rows.len() / inputs {
                $($fewer => $tile(rows, inputs, panel, sums, [(); $fewer]),)*
                _ => $tile(rows, inputs, panel, sums, [(); $most]),
            }
        }
    }};
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_avx512<C: Code>(product: Product<'_, C>) {
    in_tiles!(product, tile_avx512, 6 5 4 3 2 1);
}

#[target_feature(enable = "avx2,avxvnni")]
fn multiply_avxvnni<C: Code>(product: Product<'_, C>) {
    in_tiles!(product, tile_avxvnni, 6 5 4 3 2 1);
}

#[target_feature(enable = "avx2")]
fn bytes_avx2(product: Product<'_, u8>) {
    in_tiles!(product, tile_bytes_avx2, 4 3 2 1);
}

#[target_feature(enable = "avx2")]
fn words_avx2(product: Product<'_, i16>) {
    in_tiles!(product, tile_words_avx2, 5 4 3 2 1);
}

// Indices rather than iterators in the tiles: with those the compiler keeps the sums in memory, which is five times slower.

/// All outputs of the panel at once: 24 registers of sums, four of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn tile_avx512<const R: usize, C: Code>(rows: &[C], inputs: usize, panel: &[Line<C>], sums: &mut [i32], _: [(); R]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    let mut totals = [[_mm512_setzero_si512(); STEP_LINES]; R];
    for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
        let mut weights = [_mm512_setzero_si512(); STEP_LINES];
        for l in 0..STEP_LINES {
            // SAFETY: a line is 64 bytes, and aligned.
            weights[l] = unsafe { _mm512_load_si512((&raw const lines[l]).cast()) };
        }
        for r in 0..R {
            let codes = _mm512_set1_epi32(step_codes(rows, r * inputs, step));
            for l in 0..STEP_LINES {
                totals[r][l] = if C::STEP_INPUTS == 4 {
                    _mm512_dpbusd_epi32(totals[r][l], codes, weights[l])
                } else {
                    _mm512_dpwssd_epi32(totals[r][l], codes, weights[l])
                };
            }
        }
    }
    for r in 0..R {
        for l in 0..STEP_LINES {
            let place = &mut sums[r * PANEL_OUTPUTS + l * LINE_OUTPUTS..][..LINE_OUTPUTS];
            // SAFETY: the place has 16 numbers.
            unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), totals[r][l]) };
        }
    }
}

/// 16 outputs at once: 12 registers of sums, two of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn tile_avxvnni<const R: usize, C: Code>(rows: &[C], inputs: usize, panel: &[Line<C>], sums: &mut [i32], _: [(); R]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for r in 0..R {
                let codes = _mm256_set1_epi32(step_codes(rows, r * inputs, step));
                for h in 0..2 {
                    totals[r][h] = if C::STEP_INPUTS == 4 {
                        _mm256_dpbusd_avx_epi32(totals[r][h], codes, weights[h])
                    } else {
                        _mm256_dpwssd_avx_epi32(totals[r][h], codes, weights[h])
                    };
                }
            }
        }
        for r in 0..R {
            store(totals[r], &mut sums[r * PANEL_OUTPUTS + line * LINE_OUTPUTS..][..LINE_OUTPUTS]);
        }
    }
}

/// 16 outputs at once. The instruction that multiplies bytes adds two products in 16 bits, where 255 x 127 x 2 does not
/// fit, but 128 x 127 x 2 does: so 128 is taken from the codes, and the weights times 128 are added in the end.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_bytes_avx2<const R: usize>(rows: &[u8], inputs: usize, panel: &[Line<u8>], sums: &mut [i32], _: [(); R]) {
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
                let codes = _mm256_xor_si256(_mm256_set1_epi32(step_codes(rows, r * inputs, step)), middle);
                let sizes = _mm256_abs_epi8(codes);
                for h in 0..2 {
                    let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(weights[h], codes));
                    totals[r][h] = _mm256_add_epi32(totals[r][h], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for r in 0..R {
            let totals = [0, 1].map(|h: usize| _mm256_add_epi32(totals[r][h], of_weights[h]));
            store(totals, &mut sums[r * PANEL_OUTPUTS + line * LINE_OUTPUTS..][..LINE_OUTPUTS]);
        }
    }
}

/// 16 outputs at once: 10 registers of sums, two of weights, and one of codes.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_words_avx2<const R: usize>(rows: &[i16], inputs: usize, panel: &[Line<i16>], sums: &mut [i32], _: [(); R]) {
    assert!(rows.len() == R * inputs && sums.len() == R * PANEL_OUTPUTS, "the tile is whole");
    for line in 0..STEP_LINES {
        let mut totals = [[_mm256_setzero_si256(); 2]; R];
        for (step, lines) in panel.chunks_exact(STEP_LINES).enumerate() {
            let weights = halves(&lines[line]);
            for r in 0..R {
                let codes = _mm256_set1_epi32(step_codes(rows, r * inputs, step));
                for h in 0..2 {
                    totals[r][h] = _mm256_add_epi32(totals[r][h], _mm256_madd_epi16(codes, weights[h]));
                }
            }
        }
        for r in 0..R {
            store(totals[r], &mut sums[r * PANEL_OUTPUTS + line * LINE_OUTPUTS..][..LINE_OUTPUTS]);
        }
    }
}

/// The codes of a step of the row that begins at `row`.
#[inline(always)]
fn step_codes<C: Code>(rows: &[C], row: usize, step: usize) -> i32 {
    // SAFETY: the tiles ask for no more rows than there are, nor for more steps than their panel has, and for each of
    // those a row has its codes: `check` has seen to it. Four bytes are a step of any kind.
    unsafe { rows.as_ptr().add(row + step * C::STEP_INPUTS).cast::<i32>().read_unaligned() }
}

/// Weights of the first and the last eight outputs of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn halves<C: Code>(line: &Line<C>) -> [__m256i; 2] {
    let line: *const __m256i = (&raw const *line).cast();
    // SAFETY: a line is 64 bytes, and aligned.
    unsafe { [_mm256_load_si256(line), _mm256_load_si256(line.add(1))] }
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
