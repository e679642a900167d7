//! A linear layer in bytes or words, and what is done with its output while it is in the first cache.
//!
//! Weights are signed, with a scale for each output (symmetric, by the largest). With `weight` = `scale` x code and
//! `component` = `zero` + `step` x code, the output is `scale` x (`step` x sum of products + `zero` x sum of weights)
//! + bias: the kernel sums products of codes, everything else is done here in f32.

use rten_simd::ops::{BitOps, NumOps, ToFloat};
use rten_simd::{Isa, SimdOp};

use super::code::Code;
use super::codes::{Rows, Scale};
use super::product::{Kernel, LINE_OUTPUTS, Line, PANEL_OUTPUTS, Product, STEP_LINES, kernel};

/// Rows whose sums are finished together: a multiple of the tiles of all kernels, small enough for the first cache.
const BLOCK_ROWS: usize = 24;

/// Of an output beside its weights and its bias: its scale, and its sum of weights.
pub(super) const OUTPUT_BYTES: usize = 2 * size_of::<f32>();

/// What becomes of a value, with its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is stored.
    Store,
    /// It is added to what is there: a residual connection.
    Add,
    /// Its GELU is stored.
    Gelu,
}

/// Weights of a linear layer, packed for the kernel. `C` is what its inputs come in.
pub(super) struct Linear<C: Code> {
    inputs: usize,
    /// Panel after panel; see `Product::panel`.
    lines: Vec<Line<C>>,
    /// For each panel what its sums are finished with.
    columns: Vec<Columns>,
    kernel: Kernel,
}

/// What the sums of a panel's outputs are finished with.
#[derive(Clone)]
#[repr(align(64))]
struct Columns {
    scale: [f32; PANEL_OUTPUTS],
    /// Sum of the output's weights: what a component of 1 adds to it.
    weights: [f32; PANEL_OUTPUTS],
    bias: [f32; PANEL_OUTPUTS],
}

#[repr(align(64))]
struct Sums([i32; BLOCK_ROWS * PANEL_OUTPUTS]);

impl<C: Code> Linear<C> {
    /// `weights` has a row for each output, as checkpoints store it. Inputs and outputs are multiples of 64.
    pub(super) fn new(weights: &[f32], bias: &[f32]) -> Self {
        let (outputs, inputs) = (bias.len(), weights.len() / bias.len());
        assert!(outputs.is_multiple_of(PANEL_OUTPUTS) && inputs.is_multiple_of(C::STEP_INPUTS), "{inputs} x {outputs}");
        let weight_max = C::limits(inputs).weight_max as f32;
        let panel_lines = inputs / C::STEP_INPUTS * STEP_LINES;
        let mut lines = vec![Line::<C>::default(); outputs / PANEL_OUTPUTS * panel_lines];
        let none = Columns { scale: [0.0; PANEL_OUTPUTS], weights: [0.0; PANEL_OUTPUTS], bias: [0.0; PANEL_OUTPUTS] };
        let mut columns = vec![none; outputs / PANEL_OUTPUTS];
        for (output, (row, bias)) in weights.chunks_exact(inputs).zip(bias).enumerate() {
            let (panel, column) = (output / PANEL_OUTPUTS, output % PANEL_OUTPUTS);
            let most = row.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
            // A row of zeros has codes of zeros.
            let scale = if most > 0.0 { most / weight_max } else { 1.0 };
            let lines = &mut lines[panel * panel_lines..][..panel_lines];
            let mut sum: i32 = 0;
            for (input, weight) in row.iter().enumerate() {
                let code = C::weight((weight / scale).round());
                sum += code.into();
                let line = &mut lines[input / C::STEP_INPUTS * STEP_LINES + column / LINE_OUTPUTS];
                line.0[column % LINE_OUTPUTS].as_mut()[input % C::STEP_INPUTS] = code;
            }
            let columns = &mut columns[panel];
            columns.scale[column] = scale;
            columns.weights[column] = scale * sum as f32;
            columns.bias[column] = *bias;
        }
        Self { inputs, lines, columns, kernel: kernel() }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.columns[..])
    }

    pub(super) fn outputs(&self) -> usize {
        self.columns.len() * PANEL_OUTPUTS
    }

    /// `output` has a row for each row of `rows`.
    pub(super) fn run(&self, rows: Rows<'_, C>, finish: Finish, output: &mut [f32]) {
        let count = rows.scales.len();
        assert_eq!((rows.codes.len(), output.len()), (count * self.inputs, count * self.outputs()), "whole rows");
        let mut sums = Sums([0; BLOCK_ROWS * PANEL_OUTPUTS]);
        let panels = self.lines.chunks_exact(self.lines.len() / self.columns.len());
        for (index, (panel, columns)) in panels.zip(&self.columns).enumerate() {
            for first in (0..count).step_by(BLOCK_ROWS) {
                let rows = rows.range(first, BLOCK_ROWS.min(count - first));
                let sums = &mut sums.0[..rows.scales.len() * PANEL_OUTPUTS];
                C::multiply(&self.kernel)(Product { rows: rows.codes, inputs: self.inputs, panel, sums });
                let output = &mut output[first * self.outputs()..];
                let (stride, column) = (self.outputs(), index * PANEL_OUTPUTS);
                FinishBlock { sums, scales: rows.scales, columns, finish, output, stride, column }.dispatch();
            }
        }
    }
}

/// Sums of one panel become values of `output`, from `column` on.
struct FinishBlock<'a> {
    sums: &'a [i32],
    scales: &'a [Scale],
    columns: &'a Columns,
    finish: Finish,
    output: &'a mut [f32],
    stride: usize,
    column: usize,
}

impl SimdOp for FinishBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        match self.finish {
            Finish::Store => self.each(
                isa,
                #[inline(always)]
                |value, _| value,
            ),
            Finish::Add => self.each(
                isa,
                #[inline(always)]
                |value, there| ops.add(value, ops.load(there)),
            ),
            Finish::Gelu => self.each(
                isa,
                #[inline(always)]
                |value, _| gelu(isa, value),
            ),
        }
    }
}

impl FinishBlock<'_> {
    /// Stores what `finish` makes of a value and of what is in its place.
    #[inline(always)]
    fn each<I: Isa>(self, isa: I, finish: impl Fn(I::F32, &[f32]) -> I::F32) {
        let (ops, words) = (isa.f32(), isa.i32());
        let lanes = ops.len();
        for first in (0..PANEL_OUTPUTS).step_by(lanes) {
            let scale = ops.load(&self.columns.scale[first..]);
            let weights = ops.load(&self.columns.weights[first..]);
            let bias = ops.load(&self.columns.bias[first..]);
            for (row, rows_scale) in self.scales.iter().enumerate() {
                let sum = words.to_float(words.load(&self.sums[row * PANEL_OUTPUTS + first..]));
                let shifted = ops.mul_add(weights, ops.splat(rows_scale.zero), bias);
                let value = ops.mul_add(ops.mul(sum, ops.splat(rows_scale.step)), scale, shifted);
                let place = &mut self.output[row * self.stride + self.column + first..][..lanes];
                ops.store(finish(value, place), place);
            }
        }
    }
}

/// Beyond, the GELU is 0 or its argument, to 1.3e-4.
const GELU_EDGE: f32 = 4.0;
/// The normal distribution less 1/2, divided by x: a polynomial in x². By least squares whose weights were shifted until
/// the largest error of x times the distribution was least, with 1/2 met at the edge: 1.9e-4 at most, a hundredth of a step of
/// the codes that follow.
const GELU_POLYNOMIAL: [f32; 7] =
    [0.397_870_26, -0.064_554_41, 0.008_763_69, -0.000_812_187_26, 4.776_386_4e-5, -1.588_826_1e-6, 2.258_818_7e-8];

/// The GELU with erf, to 2e-4, without an exponential or a division.
#[inline(always)]
fn gelu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let clamped = ops.clamp(x, ops.splat(-GELU_EDGE), ops.splat(GELU_EDGE));
    let square = ops.mul(clamped, clamped);
    let [rest @ .., last] = GELU_POLYNOMIAL;
    let mut sum = ops.splat(last);
    for coefficient in rest.iter().rev() {
        sum = ops.mul_add(sum, square, ops.splat(*coefficient));
    }
    ops.mul(x, ops.mul_add(clamped, sum, ops.splat(0.5)))
}

#[cfg(test)]
mod tests {
    use rten_simd::SimdUnaryOp;
    use rten_vecmath::Gelu;

    use super::super::codes::Codes;
    use super::*;

    fn wave(length: usize, frequency: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * frequency).sin()).collect()
    }

    #[test]
    fn gelu_is_near_the_one_with_erf() {
        struct Fast<'a>(&'a mut [f32]);
        impl SimdOp for Fast<'_> {
            type Output = ();
            #[inline(always)]
            fn eval<I: Isa>(self, isa: I) {
                let ops = isa.f32();
                for x in self.0.chunks_exact_mut(ops.len()) {
                    ops.store(gelu(isa, ops.load(x)), x);
                }
            }
        }
        let arguments: Vec<f32> = (-8000..8000).map(|i| i as f32 / 1000.0).collect();
        let mut fast = arguments.clone();
        Fast(&mut fast).dispatch();
        for (x, fast) in arguments.iter().zip(fast) {
            let exact = Gelu {}.scalar_eval(*x);
            assert!((exact - fast).abs() < 2e-4, "gelu({x}) = {fast}, expected {exact}");
        }
    }

    #[test]
    fn layer_is_near_that_of_the_definition() {
        // Errors of half a step in 128 inputs and weights, which are independent: a fifth at the very most in bytes.
        layer_is_within::<u8>(0.2);
        // Steps are 32 times as fine.
        layer_is_within::<i16>(0.2 / 32.0 + 2e-4);
    }

    fn layer_is_within<C: Code>(error_max: f32) {
        let (count, inputs, outputs) = (53, 128, 192);
        let input = wave(count * inputs, 0.37);
        let weights = wave(outputs * inputs, 0.11);
        let bias = wave(outputs, 0.7);
        let layer = Linear::<C>::new(&weights, &bias);
        let mut codes = Codes::<C>::default();
        codes.encode(&input, inputs);

        for finish in [Finish::Store, Finish::Add, Finish::Gelu] {
            let before = wave(count * outputs, 0.9);
            let mut output = before.clone();
            layer.run(codes.rows(inputs), finish, &mut output);
            for (at, got) in output.iter().enumerate() {
                let (row, weights) = (&input[at / outputs * inputs..], &weights[at % outputs * inputs..][..inputs]);
                let value = row.iter().zip(weights).map(|(x, weight)| x * weight).sum::<f32>() + bias[at % outputs];
                let expected = match finish {
                    Finish::Store => value,
                    Finish::Add => value + before[at],
                    Finish::Gelu => Gelu {}.scalar_eval(value),
                };
                assert!((got - expected).abs() < error_max, "{finish:?} {at}: {got}, expected {expected}");
            }
        }
    }
}
