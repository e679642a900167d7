//! Distances with AVX2 and AVX-512. Each kernel equals its scalar definition up to rounding.

use std::arch::x86_64::*;

use super::Kernels;

/// The AVX2 kernels, where the processor has them.
pub(super) fn avx2() -> Option<Kernels> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Kernels {
        name: "avx2",
        // SAFETY: the two features that the kernels are compiled for were just detected.
        dot: |a, b| unsafe { dot_avx2(a, b) },
        // SAFETY: as above.
        squared_euclidean: |a, b| unsafe { squared_euclidean_avx2(a, b) },
    })
}

/// The AVX-512 kernels, where the processor has them.
pub(super) fn avx512() -> Option<Kernels> {
    is_x86_feature_detected!("avx512f").then_some(Kernels {
        name: "avx512",
        // SAFETY: the feature that the kernels are compiled for was just detected.
        dot: |a, b| unsafe { dot_avx512(a, b) },
        // SAFETY: as above.
        squared_euclidean: |a, b| unsafe { squared_euclidean_avx512(a, b) },
    })
}

#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    sum_avx2(a, b, |x, y, sum| _mm256_fmadd_ps(x, y, sum), |x, y| x * y)
}

#[target_feature(enable = "avx2,fma")]
fn squared_euclidean_avx2(a: &[f32], b: &[f32]) -> f32 {
    let step = |x, y, sum| {
        let difference = _mm256_sub_ps(x, y);
        _mm256_fmadd_ps(difference, difference, sum)
    };
    sum_avx2(a, b, step, |x, y| (x - y) * (x - y))
}

#[target_feature(enable = "avx512f")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    sum_avx512(a, b, |x, y, sum| _mm512_fmadd_ps(x, y, sum))
}

#[target_feature(enable = "avx512f")]
fn squared_euclidean_avx512(a: &[f32], b: &[f32]) -> f32 {
    sum_avx512(a, b, |x, y, sum| {
        let difference = _mm512_sub_ps(x, y);
        _mm512_fmadd_ps(difference, difference, sum)
    })
}

/// Four independent sums of 8 lanes, then the rest by the scalar term.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sum_avx2(
    a: &[f32],
    b: &[f32],
    step: impl Fn(__m256, __m256, __m256) -> __m256,
    term: impl Fn(f32, f32) -> f32,
) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different spaces are never compared");
    let mut sums = [_mm256_setzero_ps(); 4];
    let (a_blocks, a_rest) = a.as_chunks::<32>();
    let (b_blocks, b_rest) = b.as_chunks::<32>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: i < 4, so the 8 numbers from 8 * i lie within the block of 32.
            let (x, y) = unsafe { (_mm256_loadu_ps(a.as_ptr().add(8 * i)), _mm256_loadu_ps(b.as_ptr().add(8 * i))) };
            *sum = step(x, y, *sum);
        }
    }
    let sum = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let mut lanes = [0.0_f32; 8];
    // SAFETY: the array holds 8 numbers.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Four independent sums of 16 lanes, then the rest 16 at a time, the last ones under a mask.
#[inline]
#[target_feature(enable = "avx512f")]
fn sum_avx512(a: &[f32], b: &[f32], step: impl Fn(__m512, __m512, __m512) -> __m512) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of different spaces are never compared");
    let mut sums = [_mm512_setzero_ps(); 4];
    let (a_blocks, a_rest) = a.as_chunks::<64>();
    let (b_blocks, b_rest) = b.as_chunks::<64>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: i < 4, so the 16 numbers from 16 * i lie within the block of 64.
            let (x, y) = unsafe { (_mm512_loadu_ps(a.as_ptr().add(16 * i)), _mm512_loadu_ps(b.as_ptr().add(16 * i))) };
            *sum = step(x, y, *sum);
        }
    }
    for (a, b) in a_rest.chunks(16).zip(b_rest.chunks(16)) {
        let mask = u16::MAX >> (16 - a.len());
        // SAFETY: the mask has as many bits as the chunk has numbers; lanes without a bit are not read.
        let (x, y) = unsafe { (_mm512_maskz_loadu_ps(mask, a.as_ptr()), _mm512_maskz_loadu_ps(mask, b.as_ptr())) };
        sums[0] = step(x, y, sums[0]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}
