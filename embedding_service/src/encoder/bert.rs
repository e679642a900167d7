//! The BERT encoder: token ids in, one vector per text out.
//!
//! The tokens of all texts of a batch form one matrix, without padding: every linear layer is one product.

use std::ops::Range;

use rten_simd::SimdOp;

use super::attention::{Attention, AttentionScratch};
use super::config::BertConfig;
use super::elementwise::{AddGelu, AddNorm, Norm, SumRows};
use super::matmul::{Bias, Linear, Multiplier};
use super::tensors::Tensors;
use super::{LoadError, Pooling};

pub(super) struct Bert {
    config: BertConfig,
    words: Vec<f32>,
    positions: Vec<f32>,
    /// Of a text's first segment; there is no second here.
    segment: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// Query, key and value in one product.
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

/// What one thread keeps between batches: working memory, and its means to multiply.
#[derive(Default)]
pub struct Scratch {
    multiplier: Multiplier,
    texts: Vec<Range<usize>>,
    x: Vec<f32>,
    y: Vec<f32>,
    qkv: Vec<f32>,
    wide: Vec<f32>,
    attention: AttentionScratch,
}

impl Bert {
    pub(super) fn new(config: BertConfig, tensors: &Tensors<'_>) -> Result<Self, LoadError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let multiplier = Multiplier::default();
        let norm = |name: &str| {
            Ok::<_, LoadError>(Norm {
                scale: tensors.get(&format!("{name}.weight"), &[hidden])?,
                shift: tensors.get(&format!("{name}.bias"), &[hidden])?,
                epsilon: config.layer_norm_eps,
            })
        };
        let linear = |names: &[&str], inputs: usize, outputs: usize| {
            let (mut weights, mut bias) = (Vec::new(), Vec::new());
            for name in names {
                weights.extend(tensors.get(&format!("{name}.weight"), &[outputs, inputs])?);
                bias.extend(tensors.get(&format!("{name}.bias"), &[outputs])?);
            }
            Ok::<_, LoadError>(multiplier.pack(&weights, bias))
        };

        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            layers.push(Layer {
                qkv: linear(&qkv.each_ref().map(String::as_str), hidden, hidden)?,
                attended: linear(&[&name("attention.output.dense")], hidden, hidden)?,
                attended_norm: norm(&name("attention.output.LayerNorm"))?,
                widen: linear(&[&name("intermediate.dense")], hidden, wide)?,
                narrow: linear(&[&name("output.dense")], wide, hidden)?,
                narrow_norm: norm(&name("output.LayerNorm"))?,
            });
        }

        let mut segment = tensors.get("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        segment.truncate(hidden);
        Ok(Self {
            words: tensors.get("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions: tensors
                .get("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?,
            segment,
            norm: norm("embeddings.LayerNorm")?,
            layers,
            config,
        })
    }

    pub(super) fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    /// Vectors of `texts`, one after the other, appended to `embeddings`.
    ///
    /// A text has at least one token, at most the model's positions, and only ids below the model's vocabulary.
    pub(super) fn run(&self, texts: &[&[u32]], pooling: Pooling, scratch: &mut Scratch, embeddings: &mut Vec<f32>) {
        self.look_up(texts, scratch);
        for layer in &self.layers {
            self.run_layer(layer, scratch);
        }

        let width = self.config.hidden_size;
        for text in &scratch.texts {
            let rows = &scratch.x[text.start * width..text.end * width];
            let start = embeddings.len();
            match pooling {
                Pooling::Cls => embeddings.extend_from_slice(&rows[..width]),
                Pooling::Mean => {
                    embeddings.resize(start + width, 0.0);
                    let mean = &mut embeddings[start..];
                    SumRows { rows, sum: mean }.dispatch();
                    let scale = 1.0 / text.len() as f32;
                    mean.iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
    }

    /// Fills `x` with the embeddings of words, positions and segment, and sizes the other buffers.
    fn look_up(&self, texts: &[&[u32]], scratch: &mut Scratch) {
        let width = self.config.hidden_size;
        scratch.texts.clear();
        scratch.x.clear();
        scratch.y.clear();
        for ids in texts {
            assert!(!ids.is_empty() && ids.len() <= self.config.max_position_embeddings, "{} tokens", ids.len());
            let start = scratch.texts.last().map_or(0, |text| text.end);
            scratch.texts.push(start..start + ids.len());
            for id in *ids {
                scratch.x.extend_from_slice(&self.words[*id as usize * width..][..width]);
            }
            scratch.y.extend_from_slice(&self.positions[..ids.len() * width]);
        }
        AddNorm { x: &mut scratch.x, y: &scratch.y, bias: &self.segment, norm: &self.norm }.dispatch();

        let tokens = scratch.texts.last().map_or(0, |text| text.end);
        scratch.qkv.resize(tokens * 3 * width, 0.0);
        scratch.wide.resize(tokens * self.config.intermediate_size, 0.0);
    }

    fn run_layer(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { multiplier, texts, x, y, qkv, wide, attention } = scratch;

        multiplier.multiply(x, &layer.qkv, Bias::Added, qkv);
        let (heads, head_size) = (self.config.num_attention_heads, self.config.head_size());
        // `wide` is free until the products below: the attention's result lies there.
        let attended = &mut wide[..x.len()];
        Attention { qkv, output: attended, texts, heads, head_size, scratch: attention }.dispatch();
        multiplier.multiply(attended, &layer.attended, Bias::LeftToReader, y);
        AddNorm { x, y, bias: layer.attended.bias(), norm: &layer.attended_norm }.dispatch();

        multiplier.multiply(x, &layer.widen, Bias::LeftToReader, wide);
        AddGelu { x: wide, bias: layer.widen.bias() }.dispatch();
        multiplier.multiply(wide, &layer.narrow, Bias::LeftToReader, y);
        AddNorm { x, y, bias: layer.narrow.bias(), norm: &layer.narrow_norm }.dispatch();
    }
}
