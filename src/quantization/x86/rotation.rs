//! The Walsh-Hadamard transform.

use std::arch::x86_64::*;

/// Bits of the lanes whose number has that stride.
const fn lanes(stride: usize) -> u16 {
    let mut lanes = 0;
    let mut lane = 0;
    while lane < 16 {
        if lane & stride != 0 {
            lanes |= 1 << lane;
        }
        lane += 1;
    }
    lanes
}

/// Strides within a register by shuffles, others register by register.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn transform_avx512(window: &mut [f32], scale: f32) {
    let scale = _mm512_set1_ps(scale);
    let zero = _mm512_setzero_ps();
    for sixteen in window.as_chunks_mut::<16>().0 {
        // SAFETY: 16 numbers are read.
        let mut x = _mm512_mul_ps(unsafe { _mm512_loadu_ps(sixteen.as_ptr()) }, scale);
        x = _mm512_add_ps(_mm512_permute_ps::<0b10_11_00_01>(x), _mm512_mask_sub_ps(x, lanes(1), zero, x));
        x = _mm512_add_ps(_mm512_permute_ps::<0b01_00_11_10>(x), _mm512_mask_sub_ps(x, lanes(2), zero, x));
        x = _mm512_add_ps(_mm512_shuffle_f32x4::<0b10_11_00_01>(x, x), _mm512_mask_sub_ps(x, lanes(4), zero, x));
        x = _mm512_add_ps(_mm512_shuffle_f32x4::<0b01_00_11_10>(x, x), _mm512_mask_sub_ps(x, lanes(8), zero, x));
        // SAFETY: 16 numbers are written.
        unsafe { _mm512_storeu_ps(sixteen.as_mut_ptr(), x) };
    }
    across(window, 16);
}

#[target_feature(enable = "avx2,fma")]
pub fn transform_avx2(window: &mut [f32], scale: f32) {
    let scale = _mm256_set1_ps(scale);
    let negative = |stride: usize| {
        let signs: [f32; 8] = std::array::from_fn(|lane| if lane & stride == 0 { 0.0 } else { -0.0 });
        // SAFETY: 8 numbers are read.
        unsafe { _mm256_loadu_ps(signs.as_ptr()) }
    };
    let [one, two, four] = [negative(1), negative(2), negative(4)];
    for eight in window.as_chunks_mut::<8>().0 {
        // SAFETY: 8 numbers are read.
        let mut x = _mm256_mul_ps(unsafe { _mm256_loadu_ps(eight.as_ptr()) }, scale);
        x = _mm256_add_ps(_mm256_permute_ps::<0b10_11_00_01>(x), _mm256_xor_ps(x, one));
        x = _mm256_add_ps(_mm256_permute_ps::<0b01_00_11_10>(x), _mm256_xor_ps(x, two));
        x = _mm256_add_ps(_mm256_permute2f128_ps::<1>(x, x), _mm256_xor_ps(x, four));
        // SAFETY: 8 numbers are written.
        unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), x) };
    }
    across(window, 8);
}

/// Strides from one register on. Compiled into its callers, with their instructions.
#[inline(always)]
fn across(window: &mut [f32], first: usize) {
    let mut stride = first;
    while stride < window.len() {
        for pair in window.chunks_exact_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}
