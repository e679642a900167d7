//! The layers of the encoder in whole numbers: products of bytes and of words, everything between them in f32.
//!
//! Words are where they take away most of the error for the time they cost: docs/decisions/0010. Weights are quantized at load,
//! one scale for each output; activations as they are computed, one range for each token. Nothing is calibrated, so a model
//! needs no files but its own.

mod code;
mod codes;
mod linear;
mod product;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use rten_simd::SimdOp;

use self::code::Code;
use self::codes::Codes;
use self::linear::{Finish, Linear};
use self::product::PANEL_OUTPUTS;
use super::attention::{Attention, AttentionScratch};
use super::buffer::Buffer;
use super::config::BertConfig;
use super::elementwise::Norm;
use super::layer_weights::{ATTENDED, LayerWeights, NARROW, QKV, WIDEN};

/// Tokens that run through all layers together: what they need fits into the second cache, beside the weights that pass by.
pub(super) const GROUP_TOKENS: usize = 128;
/// Tokens whose wide activations are there at once.
const WIDE_TOKENS: usize = 48;

/// What the inputs of each product come in, and its weights. Another choice gives other numbers: it is part of what `int8`
/// means in fingerprints.
type Qkv = i16;
type Attended = u8;
type Widen = u8;
type Narrow = i16;

/// The instructions that products are computed with.
pub(super) fn kernel_name() -> &'static str {
    product::kernel().name
}

/// Whether rows can have this size: whole lines of bytes.
pub(super) fn takes(size: usize) -> bool {
    size.is_multiple_of(PANEL_OUTPUTS)
}

/// Bytes of the weights of the linear layer `name`, `[outputs, inputs]`, with what its sums are finished with; the bias left
/// out. Nothing for what is no such layer.
pub(super) fn linear_bytes(name: &str, [outputs, inputs]: [usize; 2]) -> Option<usize> {
    fn bytes<C: Code>([outputs, inputs]: [usize; 2]) -> usize {
        let weights = outputs.saturating_mul(inputs).saturating_mul(size_of::<C::Weight>());
        weights.saturating_add(outputs.saturating_mul(linear::OUTPUT_BYTES))
    }
    let shape = [outputs, inputs];
    match name {
        ATTENDED => Some(bytes::<Attended>(shape)),
        WIDEN => Some(bytes::<Widen>(shape)),
        NARROW => Some(bytes::<Narrow>(shape)),
        name if QKV.contains(&name) => Some(bytes::<Qkv>(shape)),
        _ => None,
    }
}

/// Weights of a layer.
pub(super) struct Layer {
    /// Query, key and value in one product.
    qkv: Linear<Qkv>,
    attended: Linear<Attended>,
    attended_norm: Norm,
    widen: Linear<Widen>,
    narrow: Linear<Narrow>,
    narrow_norm: Norm,
}

/// Working memory, kept between calls.
#[derive(Default)]
pub(super) struct Scratch {
    /// What the products begin with, a row for each token.
    qkv_codes: Codes<Qkv>,
    attended_codes: Codes<Attended>,
    widen_codes: Codes<Widen>,
    narrow_codes: Codes<Narrow>,
    qkv: Buffer<f32>,
    attended: Buffer<f32>,
    wide: Buffer<f32>,
    attention: AttentionScratch,
}

impl Layer {
    pub(super) fn new(weights: LayerWeights) -> Self {
        fn linear<C: Code>((weights, bias): (Vec<f32>, Vec<f32>)) -> Linear<C> {
            Linear::new(&weights, &bias)
        }
        Self {
            qkv: linear(weights.qkv),
            attended: linear(weights.attended),
            attended_norm: weights.attended_norm,
            widen: linear(weights.widen),
            narrow: linear(weights.narrow),
            narrow_norm: weights.narrow_norm,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let norms = self.attended_norm.bytes() + self.narrow_norm.bytes();
        self.qkv.bytes() + self.attended.bytes() + self.widen.bytes() + self.narrow.bytes() + norms
    }

    /// Runs the layer on `x`, a row for each token.
    fn run(&self, config: &BertConfig, texts: &[Range<usize>], x: &mut [f32], scratch: &mut Scratch) {
        let Scratch { qkv_codes, attended_codes, widen_codes, narrow_codes, qkv, attended, wide, attention } = scratch;
        let width = config.hidden_size;
        let tokens = x.len() / width;

        let qkv = qkv.take(tokens * self.qkv.outputs());
        self.qkv.run(qkv_codes.rows(width), Finish::Store, qkv);
        let attended = attended.take(x.len());
        let (heads, head_size) = (config.num_attention_heads, config.head_size());
        Attention { qkv, output: attended, texts, heads, head_size, scratch: attention }.dispatch();
        attended_codes.encode(attended, width);
        self.attended.run(attended_codes.rows(width), Finish::Add, x);
        widen_codes.norm_and_encode(x, &self.attended_norm);

        for first in (0..tokens).step_by(WIDE_TOKENS) {
            let count = WIDE_TOKENS.min(tokens - first);
            let wide = wide.take(count * self.widen.outputs());
            self.widen.run(widen_codes.rows(width).range(first, count), Finish::Gelu, wide);
            narrow_codes.encode(wide, self.widen.outputs());
            let x = &mut x[first * width..][..count * width];
            self.narrow.run(narrow_codes.rows(self.widen.outputs()), Finish::Add, x);
        }
        qkv_codes.norm_and_encode(x, &self.narrow_norm);
    }
}

/// Runs all layers on `x`, a row for each token.
pub(super) fn run(layers: &[Layer], config: &BertConfig, texts: &[Range<usize>], x: &mut [f32], scratch: &mut Scratch) {
    scratch.qkv_codes.encode(x, config.hidden_size);
    for layer in layers {
        layer.run(config, texts, x, scratch);
    }
}
