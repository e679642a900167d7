//! One bit a component.

use std::arch::x86_64::*;

use crate::quantization::bits::{Estimates, GROUP_ROWS, Neighborhood, Residual};

/// Bytes of a table whose sums fit 16 bits in every lane: 255 times 256 is less than 2^16.
const PASS_BYTES: usize = 256 * 16;

/// Sums of what a table says of each of 32 vectors: 16-bit sums of even and of odd bytes, for the low and the high halves.
/// A sum of bytes at even places is taken with those at odd places above them, which are taken away again at the end.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums_avx2(table: &[u8], codes: &[u8]) -> [__m128i; 4] {
    let low_half = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); 4];
    for at in (0..table.len()).step_by(32) {
        // SAFETY: both have a multiple of 32 bytes, and `at` is a multiple below that.
        let (table, codes) = unsafe {
            (_mm256_loadu_si256(table.as_ptr().add(at).cast()), _mm256_loadu_si256(codes.as_ptr().add(at).cast()))
        };
        let low = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low_half));
        let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half));
        sums[0] = _mm256_add_epi16(sums[0], low);
        sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16::<8>(low));
        sums[2] = _mm256_add_epi16(sums[2], high);
        sums[3] = _mm256_add_epi16(sums[3], _mm256_srli_epi16::<8>(high));
    }
    sums[0] = _mm256_sub_epi16(sums[0], _mm256_slli_epi16::<8>(sums[1]));
    sums[2] = _mm256_sub_epi16(sums[2], _mm256_slli_epi16::<8>(sums[3]));
    sums.map(|sum| _mm_add_epi16(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum)))
}

#[target_feature(enable = "avx2,fma")]
pub fn estimate_avx2(query: &Estimates<'_>, group: &Neighborhood<'_>, out: &mut [f32; GROUP_ROWS]) {
    check_group(query, group);
    let mut totals = [_mm256_setzero_si256(); 4];
    for (table, codes) in query.table.chunks(PASS_BYTES).zip(group.codes.chunks(PASS_BYTES)) {
        for (total, sums) in totals.iter_mut().zip(sums_avx2(table, codes)) {
            *total = _mm256_add_epi32(*total, _mm256_cvtepu16_epi32(sums));
        }
    }
    let (step, base) = (_mm256_set1_ps(query.step), _mm256_set1_ps(query.base));
    let center = _mm256_set1_ps(query.center);
    for (number, total) in totals.iter().enumerate() {
        let dot = _mm256_fmadd_ps(step, _mm256_cvtepi32_ps(*total), base);
        // SAFETY: each array has 32 numbers, and 8 of them from 8 times 0 to 3.
        unsafe {
            let constant = _mm256_loadu_ps(group.constants.as_ptr().add(8 * number));
            let slope = _mm256_loadu_ps(group.slopes.as_ptr().add(8 * number));
            let estimate = _mm256_fmadd_ps(slope, dot, _mm256_add_ps(center, constant));
            _mm256_storeu_ps(out.as_mut_ptr().add(8 * number), estimate);
        }
    }
}

/// As `sums_avx2`, with 64 bytes at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sums_avx512(table: &[u8], codes: &[u8]) -> [__m128i; 4] {
    let low_half = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_si512(); 4];
    for at in (0..table.len()).step_by(64) {
        // SAFETY: both have a multiple of 64 bytes, and `at` is a multiple below that.
        let (table, codes) = unsafe {
            (_mm512_loadu_si512(table.as_ptr().add(at).cast()), _mm512_loadu_si512(codes.as_ptr().add(at).cast()))
        };
        let low = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low_half));
        let high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half));
        sums[0] = _mm512_add_epi16(sums[0], low);
        sums[1] = _mm512_add_epi16(sums[1], _mm512_srli_epi16::<8>(low));
        sums[2] = _mm512_add_epi16(sums[2], high);
        sums[3] = _mm512_add_epi16(sums[3], _mm512_srli_epi16::<8>(high));
    }
    sums[0] = _mm512_sub_epi16(sums[0], _mm512_slli_epi16::<8>(sums[1]));
    sums[2] = _mm512_sub_epi16(sums[2], _mm512_slli_epi16::<8>(sums[3]));
    sums.map(|sum| {
        let half = _mm256_add_epi16(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
        _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
    })
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn estimate_avx512(query: &Estimates<'_>, group: &Neighborhood<'_>, out: &mut [f32; GROUP_ROWS]) {
    check_group(query, group);
    let mut totals = [_mm512_setzero_si512(); 2];
    for (table, codes) in query.table.chunks(PASS_BYTES).zip(group.codes.chunks(PASS_BYTES)) {
        let [a, b, c, d] = sums_avx512(table, codes);
        totals[0] = _mm512_add_epi32(totals[0], _mm512_cvtepu16_epi32(_mm256_set_m128i(b, a)));
        totals[1] = _mm512_add_epi32(totals[1], _mm512_cvtepu16_epi32(_mm256_set_m128i(d, c)));
    }
    let (step, base) = (_mm512_set1_ps(query.step), _mm512_set1_ps(query.base));
    let center = _mm512_set1_ps(query.center);
    for (number, total) in totals.iter().enumerate() {
        let dot = _mm512_fmadd_ps(step, _mm512_cvtepi32_ps(*total), base);
        // SAFETY: each array has 32 numbers, and 16 of them from 16 times 0 or 1.
        unsafe {
            let constant = _mm512_loadu_ps(group.constants.as_ptr().add(16 * number));
            let slope = _mm512_loadu_ps(group.slopes.as_ptr().add(16 * number));
            let estimate = _mm512_fmadd_ps(slope, dot, _mm512_add_ps(center, constant));
            _mm512_storeu_ps(out.as_mut_ptr().add(16 * number), estimate);
        }
    }
}

/// The kernels read as far as the table says.
fn check_group(query: &Estimates<'_>, group: &Neighborhood<'_>) {
    assert!(
        query.table.len() == group.codes.len() && query.table.len().is_multiple_of(64),
        "a group of the query's width"
    );
}

#[target_feature(enable = "avx2,fma")]
pub fn residual_avx2(center: &[f32], vector: &[f32], signs: &mut [u8]) -> Residual {
    assert!(center.len() == vector.len() && vector.len() == 8 * signs.len(), "a sign for each component");
    let sign = _mm256_set1_ps(-0.0);
    let mut sums = [_mm256_setzero_ps(); 3];
    for (number, signs) in signs.iter_mut().enumerate() {
        // SAFETY: there are 8 components for each byte of signs.
        let (x, c) = unsafe {
            (_mm256_loadu_ps(vector.as_ptr().add(8 * number)), _mm256_loadu_ps(center.as_ptr().add(8 * number)))
        };
        let residual = _mm256_sub_ps(x, c);
        let is_negative = _mm256_cmp_ps::<_CMP_LT_OQ>(residual, _mm256_setzero_ps());
        *signs = !(_mm256_movemask_ps(is_negative) as u8);
        sums[0] = _mm256_fmadd_ps(residual, residual, sums[0]);
        sums[1] = _mm256_add_ps(sums[1], _mm256_andnot_ps(sign, residual));
        sums[2] = _mm256_add_ps(sums[2], _mm256_xor_ps(c, _mm256_and_ps(is_negative, sign)));
    }
    let [square, absolute, center] = sums.map(|sum| {
        let mut lanes = [0.0_f32; 8];
        // SAFETY: the array holds 8 numbers.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        lanes.iter().sum()
    });
    Residual { square, absolute, center }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn residual_avx512(center: &[f32], vector: &[f32], signs: &mut [u8]) -> Residual {
    assert!(center.len() == vector.len() && vector.len() == 8 * signs.len(), "a sign for each component");
    let mut sums = [_mm512_setzero_ps(); 3];
    for (number, signs) in signs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        // SAFETY: there are 16 components for every two bytes of signs.
        let (x, c) = unsafe {
            (_mm512_loadu_ps(vector.as_ptr().add(16 * number)), _mm512_loadu_ps(center.as_ptr().add(16 * number)))
        };
        let residual = _mm512_sub_ps(x, c);
        let is_negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(residual, _mm512_setzero_ps());
        *signs = (!is_negative).to_le_bytes();
        sums[0] = _mm512_fmadd_ps(residual, residual, sums[0]);
        sums[1] = _mm512_add_ps(sums[1], _mm512_abs_ps(residual));
        sums[2] = _mm512_add_ps(sums[2], _mm512_mask_sub_ps(c, is_negative, _mm512_setzero_ps(), c));
    }
    let [square, absolute, center] = sums.map(|sum| _mm512_reduce_add_ps(sum));
    Residual { square, absolute, center }
}

/// 1 for lanes whose number has the bit, -1 for others.
const fn signs(bit: usize) -> [f32; 16] {
    let mut signs = [-1.0; 16];
    let mut lane = 0;
    while lane < 16 {
        if lane >> bit & 1 == 1 {
            signs[lane] = 1.0;
        }
        lane += 1;
    }
    signs
}

const SIGNS: [[f32; 16]; 4] = [signs(0), signs(1), signs(2), signs(3)];

#[target_feature(enable = "avx2,fma")]
pub fn tabulate_avx2(query: &[f32], inverse: f32, table: &mut [u8]) {
    assert_eq!(table.len(), 4 * query.len(), "16 entries for every four components");
    // SAFETY: each array of signs has 16 numbers.
    let signs: [[__m256; 2]; 4] = std::array::from_fn(|bit| unsafe {
        [_mm256_loadu_ps(SIGNS[bit].as_ptr()), _mm256_loadu_ps(SIGNS[bit].as_ptr().add(8))]
    });
    let inverse = _mm256_set1_ps(inverse);
    for (four, entries) in query.as_chunks::<4>().0.iter().zip(table.as_chunks_mut::<16>().0) {
        let least = _mm256_set1_ps(four.iter().map(|x| x.abs()).sum());
        let halves: [__m256i; 2] = std::array::from_fn(|half| {
            let mut sum = least;
            for (bit, &x) in four.iter().enumerate() {
                sum = _mm256_fmadd_ps(_mm256_set1_ps(x), signs[bit][half], sum);
            }
            _mm256_cvtps_epi32(_mm256_mul_ps(sum, inverse))
        });
        // Packing works within 128 bits: the middle quarters change places.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(halves[0], halves[1]));
        let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
        // SAFETY: the entries are 16 bytes.
        unsafe { _mm_storeu_si128(entries.as_mut_ptr().cast(), bytes) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub fn tabulate_avx512(query: &[f32], inverse: f32, table: &mut [u8]) {
    assert_eq!(table.len(), 4 * query.len(), "16 entries for every four components");
    // SAFETY: each array of signs has 16 numbers.
    let signs: [__m512; 4] = std::array::from_fn(|bit| unsafe { _mm512_loadu_ps(SIGNS[bit].as_ptr()) });
    let inverse = _mm512_set1_ps(inverse);
    for (four, entries) in query.as_chunks::<4>().0.iter().zip(table.as_chunks_mut::<16>().0) {
        let mut sum = _mm512_set1_ps(four.iter().map(|x| x.abs()).sum());
        for (bit, &x) in four.iter().enumerate() {
            sum = _mm512_fmadd_ps(_mm512_set1_ps(x), signs[bit], sum);
        }
        let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(sum, inverse));
        // SAFETY: the entries are 16 bytes.
        unsafe { _mm_storeu_si128(entries.as_mut_ptr().cast(), _mm512_cvtusepi32_epi8(rounded)) };
    }
}
