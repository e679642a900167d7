//! The layers of the encoder in f32.

use std::ops::Range;

use rten_simd::SimdOp;

use super::attention::{Attention, AttentionScratch};
use super::config::BertConfig;
use super::elementwise::{AddGelu, AddNorm, Norm};
use super::layer_weights::LayerWeights;
use super::matmul::{Bias, Linear, Multiplier};

/// Weights of a layer.
pub(super) struct Layer {
    /// Query, key and value in one product.
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

/// Working memory, and a thread's means to multiply.
#[derive(Default)]
pub(super) struct Scratch {
    multiplier: Multiplier,
    y: Vec<f32>,
    qkv: Vec<f32>,
    wide: Vec<f32>,
    attention: AttentionScratch,
}

impl Layer {
    pub(super) fn new(weights: LayerWeights) -> Self {
        let multiplier = Multiplier::default();
        let linear = |(weights, bias): (Vec<f32>, Vec<f32>)| multiplier.pack(&weights, bias);
        Self {
            qkv: linear(weights.qkv),
            attended: linear(weights.attended),
            attended_norm: weights.attended_norm,
            widen: linear(weights.widen),
            narrow: linear(weights.narrow),
            narrow_norm: weights.narrow_norm,
        }
    }

    fn run(&self, config: &BertConfig, texts: &[Range<usize>], x: &mut [f32], scratch: &mut Scratch) {
        let Scratch { multiplier, y, qkv, wide, attention } = scratch;

        multiplier.multiply(x, &self.qkv, Bias::Added, qkv);
        let (heads, head_size) = (config.num_attention_heads, config.head_size());
        // `wide` is free until the products below: the attention's result lies there.
        let attended = &mut wide[..x.len()];
        Attention { qkv, output: attended, texts, heads, head_size, scratch: attention }.dispatch();
        multiplier.multiply(attended, &self.attended, Bias::LeftToReader, y);
        AddNorm { x, y, bias: self.attended.bias(), norm: &self.attended_norm }.dispatch();

        multiplier.multiply(x, &self.widen, Bias::LeftToReader, wide);
        AddGelu { x: wide, bias: self.widen.bias() }.dispatch();
        multiplier.multiply(wide, &self.narrow, Bias::LeftToReader, y);
        AddNorm { x, y, bias: self.narrow.bias(), norm: &self.narrow_norm }.dispatch();
    }
}

/// Runs all layers on `x`, a row for each token.
pub(super) fn run(layers: &[Layer], config: &BertConfig, texts: &[Range<usize>], x: &mut [f32], scratch: &mut Scratch) {
    let tokens = x.len() / config.hidden_size;
    scratch.y.resize(x.len(), 0.0);
    scratch.qkv.resize(3 * x.len(), 0.0);
    scratch.wide.resize(tokens * config.intermediate_size, 0.0);
    for layer in layers {
        layer.run(config, texts, x, scratch);
    }
}
