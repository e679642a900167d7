//! The encoder's row by row operations, vectorised for this processor at run time.
//!
//! Rows are `width` components, a multiple of the widest vector (`BertConfig` checks it), so that no row has a rest.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Gelu;

/// `x` = gelu(`x` + `bias`), row by row. The GELU with erf, not the one with tanh.
pub(super) struct AddGelu<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) bias: &'a [f32],
}

impl SimdOp for AddGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        for row in self.x.chunks_exact_mut(self.bias.len()) {
            for (x, bias) in row.chunks_exact_mut(lanes).zip(self.bias.chunks_exact(lanes)) {
                let sum = ops.add(ops.load(x), ops.load(bias));
                ops.store(Gelu {}.eval(isa, sum), x);
            }
        }
    }
}

/// Weights of a layer normalisation.
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
}

impl Norm {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.scale[..]) + size_of_val(&self.shift[..])
    }

    /// Normalises a row whose components sum to `sum`. Returns the least and the most of each lane.
    #[inline(always)]
    pub(super) fn apply<I: Isa>(&self, isa: I, row: &mut [f32], sum: f32) -> (I::F32, I::F32) {
        let ops = isa.f32();
        let lanes = ops.len();
        let mean = ops.splat(sum / row.len() as f32);

        // In a second pass: the difference of two large sums would lose the small variance.
        let mut squares = ops.zero();
        for x in row.chunks_exact(lanes) {
            let deviation = ops.sub(ops.load(x), mean);
            squares = ops.mul_add(deviation, deviation, squares);
        }
        let variance = ops.sum(squares) / row.len() as f32;
        let inverse = ops.splat(1.0 / (variance + self.epsilon).sqrt());

        let (mut least, mut most) = (ops.splat(f32::INFINITY), ops.splat(f32::NEG_INFINITY));
        let weights = self.scale.chunks_exact(lanes).zip(self.shift.chunks_exact(lanes));
        for (x, (scale, shift)) in row.chunks_exact_mut(lanes).zip(weights) {
            let deviation = ops.mul(ops.sub(ops.load(x), mean), inverse);
            let value = ops.mul_add(deviation, ops.load(scale), ops.load(shift));
            least = ops.min(least, value);
            most = ops.max(most, value);
            ops.store(value, x);
        }
        (least, most)
    }
}

/// `x` = norm(`x` + `y` + `bias`), row by row: the residual connection after each half of a layer.
pub(super) struct AddNorm<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) y: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) norm: &'a Norm,
}

impl SimdOp for AddNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { x, y, bias, norm } = self;
        let ops = isa.f32();
        let lanes = ops.len();
        let width = bias.len();

        for (row, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            let mut sum = ops.zero();
            for ((x, y), bias) in row.chunks_exact_mut(lanes).zip(y.chunks_exact(lanes)).zip(bias.chunks_exact(lanes)) {
                let value = ops.add(ops.add(ops.load(x), ops.load(y)), ops.load(bias));
                ops.store(value, x);
                sum = ops.add(sum, value);
            }
            norm.apply(isa, row, ops.sum(sum));
        }
    }
}

/// `sum` = sum of the rows.
pub(super) struct SumRows<'a> {
    pub(super) rows: &'a [f32],
    pub(super) sum: &'a mut [f32],
}

impl SimdOp for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        self.sum.fill(0.0);
        for row in self.rows.chunks_exact(self.sum.len()) {
            for (sum, x) in self.sum.chunks_exact_mut(lanes).zip(row.chunks_exact(lanes)) {
                ops.store(ops.add(ops.load(sum), ops.load(x)), sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, frequency: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * frequency).sin() * 3.0).collect()
    }

    /// erf by its power series in f64: exact to f32 where |x| < 4.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn gelu_is_the_one_with_erf() {
        let bias = wave(32, 0.9);
        let before = wave(96, 0.31);
        let mut after = before.clone();
        AddGelu { x: &mut after, bias: &bias }.dispatch();
        for (i, got) in after.iter().enumerate() {
            let x = f64::from(before[i] + bias[i % 32]);
            let x = x.clamp(-5.5, 5.5);
            let expected = 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2));
            if x.abs() < 5.5 {
                assert!((expected - f64::from(*got)).abs() < 2e-6, "gelu({x}) = {got}, expected {expected}");
            }
        }
    }

    #[test]
    fn norm_is_that_of_the_definition() {
        let width = 48;
        let (x, y, bias) = (wave(2 * width, 0.7), wave(2 * width, 0.13), wave(width, 0.5));
        let norm = Norm { scale: wave(width, 0.2), shift: wave(width, 0.4), epsilon: 1e-12 };
        let mut got = x.clone();
        AddNorm { x: &mut got, y: &y, bias: &bias, norm: &norm }.dispatch();
        for row in 0..2 {
            let sums: Vec<f32> = (0..width).map(|i| x[row * width + i] + y[row * width + i] + bias[i]).collect();
            let mean = sums.iter().sum::<f32>() / width as f32;
            let variance = sums.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
            for i in 0..width {
                let expected = (sums[i] - mean) / (variance + 1e-12).sqrt() * norm.scale[i] + norm.shift[i];
                assert!((got[row * width + i] - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn rows_are_summed() {
        let mut sum = vec![f32::NAN; 16];
        let rows: Vec<f32> = (0..48).map(|i| i as f32).collect();
        SumRows { rows: &rows, sum: &mut sum }.dispatch();
        assert_eq!(sum[3], 3.0 + 19.0 + 35.0);
    }
}
