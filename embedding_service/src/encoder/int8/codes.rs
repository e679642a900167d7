//! Activations as whole numbers: a row is a code for each component, and where and how wide the steps of the codes are.
//!
//! Each row has its own range, from its least to its most, as it is computed ("dynamic, per token"; the asymmetric scheme of
//! Jacob et al., arXiv 1712.05877, section 2.1, but with a zero that need not be a multiple of the step).

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

use super::super::buffer::Buffer;
use super::super::elementwise::Norm;
use super::code::{Code, Limits};

/// A row that is all the same still needs a step to divide by.
const STEP_MIN: f32 = 1e-30;

/// Rows of codes: component = zero + step x code.
#[derive(Default)]
pub(super) struct Codes<C> {
    codes: Buffer<C>,
    scales: Vec<Scale>,
}

/// How the codes of a row are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Scale {
    pub(super) step: f32,
    pub(super) zero: f32,
}

/// Some rows of codes.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, C> {
    pub(super) codes: &'a [C],
    pub(super) scales: &'a [Scale],
}

impl<C: Code> Codes<C> {
    /// Room for `rows` rows of `width` codes, whatever is in it.
    fn room(&mut self, rows: usize, width: usize) -> (&mut [C], &mut [Scale]) {
        self.scales.resize(rows, Scale::default());
        (self.codes.take(rows * width), &mut self.scales)
    }

    /// `input` row by row. `width` is a multiple of 64.
    pub(super) fn encode(&mut self, input: &[f32], width: usize) {
        let (codes, scales) = self.room(input.len() / width, width);
        Encode { input, width, codes, scales }.dispatch();
    }

    /// `rows` = norm(`rows`), row by row, and their codes.
    pub(super) fn norm_and_encode(&mut self, rows: &mut [f32], norm: &Norm) {
        let width = norm.scale.len();
        let (codes, scales) = self.room(rows.len() / width, width);
        NormAndEncode { rows, norm, codes, scales }.dispatch();
    }

    /// All rows, of `width` codes each.
    pub(super) fn rows(&self, width: usize) -> Rows<'_, C> {
        Rows { codes: self.codes.get(self.scales.len() * width), scales: &self.scales }
    }
}

impl<C: Code> Rows<'_, C> {
    pub(super) fn width(self) -> usize {
        self.codes.len() / self.scales.len().max(1)
    }

    /// `count` rows from `first` on.
    pub(super) fn range(self, first: usize, count: usize) -> Self {
        let width = self.width();
        Rows { codes: &self.codes[first * width..][..count * width], scales: &self.scales[first..][..count] }
    }
}

struct Encode<'a, C> {
    input: &'a [f32],
    width: usize,
    codes: &'a mut [C],
    scales: &'a mut [Scale],
}

impl<C: Code> SimdOp for Encode<'_, C> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let limits = C::limits(self.width);
        let rows = self.input.chunks_exact(self.width).zip(self.codes.chunks_exact_mut(self.width));
        for ((input, codes), scale) in rows.zip(self.scales) {
            let mut least = ops.zero();
            let mut most = ops.zero();
            for x in input.chunks_exact(ops.len()) {
                let x = ops.load(x);
                least = ops.min(least, x);
                most = ops.max(most, x);
            }
            *scale = scale_of(isa, least, most, limits);
            encode_row(isa, input, *scale, codes);
        }
    }
}

struct NormAndEncode<'a, C> {
    rows: &'a mut [f32],
    norm: &'a Norm,
    codes: &'a mut [C],
    scales: &'a mut [Scale],
}

impl<C: Code> SimdOp for NormAndEncode<'_, C> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { rows, norm, codes, scales } = self;
        let ops = isa.f32();
        let width = norm.scale.len();
        let limits = C::limits(width);
        for ((row, codes), scale) in rows.chunks_exact_mut(width).zip(codes.chunks_exact_mut(width)).zip(scales) {
            let mut sum = ops.zero();
            for x in row.chunks_exact(ops.len()) {
                sum = ops.add(sum, ops.load(x));
            }
            let (least, most) = norm.apply(isa, row, ops.sum(sum));
            *scale = scale_of(isa, least, most, limits);
            encode_row(isa, row, *scale, codes);
        }
    }
}

/// From the least and the most of each lane. The range always has 0 in it.
#[inline(always)]
fn scale_of<I: Isa>(isa: I, least: I::F32, most: I::F32, limits: Limits) -> Scale {
    let ops = isa.f32();
    let least = first::<I>(ops.fold_splat(least, 0.0, f32::min));
    let most = first::<I>(ops.fold_splat(most, 0.0, f32::max));
    let step = ((most - least) / (limits.code_max - limits.code_min) as f32).max(STEP_MIN);
    Scale { step, zero: least - step * limits.code_min as f32 }
}

/// Of a vector whose lanes are all the same.
#[inline(always)]
fn first<I: Isa>(lanes: I::F32) -> f32 {
    lanes.to_array().as_ref()[0]
}

/// The nearest codes, four registers of f32 at a time.
#[inline(always)]
fn encode_row<I: Isa, C: Code>(isa: I, row: &[f32], scale: Scale, codes: &mut [C]) {
    let ops = isa.f32();
    let lanes = ops.len();
    let inverse = ops.splat(1.0 / scale.step);
    let shift = ops.splat(-scale.zero / scale.step);
    for (row, codes) in row.chunks_exact(4 * lanes).zip(codes.chunks_exact_mut(4 * lanes)) {
        let code = |quarter: usize| {
            let x = ops.load(&row[quarter * lanes..][..lanes]);
            ops.to_int_round(ops.mul_add(x, inverse, shift))
        };
        C::store(isa, [code(0), code(1), code(2), code(3)], codes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, frequency: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * frequency).sin() * 3.0 + 1.0).collect()
    }

    fn assert_near<C: Code>(rows: Rows<'_, C>, expected: &[f32], width: usize) {
        for (at, expected) in expected.iter().enumerate() {
            let Scale { step, zero } = rows.scales[at / width];
            let (code, limits) = (rows.codes[at].into(), C::limits(width));
            assert!((limits.code_min..=limits.code_max).contains(&code), "{at}: {code}");
            let got = zero + step * code as f32;
            assert!((got - expected).abs() <= step * 0.501, "{at}: {got}, expected {expected}, step {step}");
        }
    }

    fn are_within_half_a_step<C: Code>() {
        let width = 128;
        let mut input = wave(5 * width, 0.37);
        // A row with an outlier, one of zeros, one that is all positive, one that is all negative.
        input[7] = 90.0;
        input[width..2 * width].fill(0.0);
        input[2 * width..3 * width].iter_mut().for_each(|x| *x = x.abs() + 1.0);
        input[3 * width..4 * width].iter_mut().for_each(|x| *x = -x.abs());
        let mut codes = Codes::<C>::default();
        codes.encode(&input, width);
        let rows = codes.rows(width);
        assert_eq!((rows.width(), rows.scales.len()), (width, 5));
        assert_near(rows, &input, width);
        assert_near(rows.range(2, 3), &input[2 * width..], width);
        assert_eq!(rows.codes[7].into(), C::limits(width).code_max);
    }

    #[test]
    fn codes_are_within_half_a_step() {
        are_within_half_a_step::<u8>();
        are_within_half_a_step::<i16>();
    }

    fn are_of_the_normed_row<C: Code>() {
        let width = 64;
        let mut rows = wave(3 * width, 0.7);
        let norm = Norm { scale: wave(width, 0.2), shift: wave(width, 0.4), epsilon: 1e-12 };
        let before = rows.clone();
        let mut codes = Codes::<C>::default();
        codes.norm_and_encode(&mut rows, &norm);
        assert_near(codes.rows(width), &rows, width);
        for (before, after) in before.chunks_exact(width).zip(rows.chunks_exact(width)) {
            let mean = before.iter().sum::<f32>() / width as f32;
            let variance = before.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            for i in 0..width {
                let expected = (before[i] - mean) / variance.sqrt() * norm.scale[i] + norm.shift[i];
                assert!((after[i] - expected).abs() < 1e-4, "{} expected {expected}", after[i]);
            }
        }
    }

    #[test]
    fn codes_are_of_the_normed_row() {
        are_of_the_normed_row::<u8>();
        are_of_the_normed_row::<i16>();
    }
}
