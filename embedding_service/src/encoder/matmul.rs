//! The matrix product: the only file that knows which library does it.
//!
//! Nine tenths of the encoder's time is spent here. Weights are packed once, at load.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::Matrix;

/// Multiplies with the kernel for this processor, chosen at run time. Cheap to make; each thread has its own, since the
/// library's executor cannot be handed from one to another.
#[derive(Default)]
pub(super) struct Multiplier(GemmExecutor);

/// Weights of a linear layer, packed for the kernel, and its bias.
pub(super) struct Linear {
    weights: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

/// Whether the product adds the layer's bias, or whoever reads its output does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Added,
    LeftToReader,
}

impl Multiplier {
    /// What its library calls the kernel.
    pub(super) fn kernel_name(&self) -> &str {
        self.0.kernel_name()
    }

    /// `weights` has one row for each output, as checkpoints store it.
    pub(super) fn pack(&self, weights: &[f32], bias: Vec<f32>) -> Linear {
        let outputs = bias.len();
        let by_output = Matrix::from_data([outputs, weights.len() / outputs], weights);
        Linear { weights: self.0.prepack_b(by_output.transposed()), bias }
    }

    /// `output` = `input` x weights, for as many rows as `input` has.
    pub(super) fn multiply(&self, input: &[f32], layer: &Linear, bias: Bias, output: &mut [f32]) {
        let rows = output.len() / layer.outputs();
        let input = Matrix::from_data([rows, layer.inputs()], input);
        let bias = (bias == Bias::Added).then_some(BiasVector::Row(layer.bias.as_slice()));
        let options = GemmOptions { bias, ..GemmOptions::default() };
        self.0
            .gemm(output, GemmInputA::Unpacked(input), GemmInputB::Packed(&layer.weights), options)
            .expect("shapes fit by construction, and the kernel is the same on every thread");
    }
}

impl Linear {
    pub(super) fn inputs(&self) -> usize {
        self.weights.rows()
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_is_that_of_the_definition() {
        let (rows, inputs, outputs) = (7, 33, 20);
        let input: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.37).sin()).collect();
        let weights: Vec<f32> = (0..outputs * inputs).map(|i| (i as f32 * 0.11).cos()).collect();
        let bias: Vec<f32> = (0..outputs).map(|i| i as f32).collect();

        let multiplier = Multiplier::default();
        let layer = multiplier.pack(&weights, bias.clone());
        let mut output = vec![f32::NAN; rows * outputs];
        multiplier.multiply(&input, &layer, Bias::Added, &mut output);

        for row in 0..rows {
            for column in 0..outputs {
                let product: f32 = (0..inputs).map(|i| input[row * inputs + i] * weights[column * inputs + i]).sum();
                let got = output[row * outputs + column];
                assert!((product + bias[column] - got).abs() < 1e-4, "row {row}, column {column}: {got}");
            }
        }
    }
}
