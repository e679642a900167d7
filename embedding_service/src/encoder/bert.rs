//! The BERT encoder: token ids in, one vector per text out.
//!
//! The tokens of all texts of a group form one matrix, without padding: every linear layer is one product.

use std::ops::Range;

use rten_simd::SimdOp;

use super::buffer::Buffer;
use super::config::BertConfig;
use super::elementwise::{AddNorm, Norm, SumRows};
use super::layer_weights::LayerWeights;
use super::matmul::Multiplier;
use super::tensors::Tensors;
use super::{LoadError, Pooling, Precision, full, int8};

pub(super) struct Bert {
    config: BertConfig,
    words: Vec<f32>,
    positions: Vec<f32>,
    /// Of a text's first segment; there is no second here.
    segment: Vec<f32>,
    norm: Norm,
    layers: Layers,
}

enum Layers {
    F32(Vec<full::Layer>),
    Int8(Vec<int8::Layer>),
}

/// What one thread keeps between batches: working memory, and its means to multiply.
#[derive(Default)]
pub(crate) struct Scratch {
    texts: Vec<Range<usize>>,
    x: Buffer<f32>,
    y: Buffer<f32>,
    f32: full::Scratch,
    int8: int8::Scratch,
}

impl Bert {
    pub(super) fn new(config: BertConfig, tensors: &Tensors<'_>, precision: Precision) -> Result<Self, LoadError> {
        // Without its last layers a model is another one.
        if let Some(name) = tensors.of_layer(config.num_hidden_layers) {
            let reason = format!("has {name}, but config.json says num_hidden_layers {}", config.num_hidden_layers);
            return Err(LoadError::Malformed { file: "model.safetensors", reason });
        }
        let layers = (0..config.num_hidden_layers).map(|index| LayerWeights::read(tensors, &config, index));
        let layers = match precision {
            Precision::F32 => {
                Layers::F32(layers.map(|weights| Ok(full::Layer::new(weights?))).collect::<Result<_, _>>()?)
            }
            Precision::Int8 => {
                config.check_int8()?;
                Layers::Int8(layers.map(|weights| Ok(int8::Layer::new(weights?))).collect::<Result<_, _>>()?)
            }
        };
        let hidden = config.hidden_size;
        let mut segment = tensors.get("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        segment.truncate(hidden);
        segment.shrink_to_fit();
        Ok(Self {
            words: tensors.get("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions: tensors
                .get("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?,
            segment,
            norm: tensors.norm("embeddings.LayerNorm", &config)?,
            layers,
            config,
        })
    }

    /// Of the weights; of a layer in f32 none, since its library does not tell them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let layers = match &self.layers {
            Layers::F32(_) => 0,
            Layers::Int8(layers) => layers.iter().map(int8::Layer::bytes).sum(),
        };
        let embeddings = [&self.words, &self.positions, &self.segment].map(|numbers| size_of_val(&numbers[..]));
        layers + embeddings.iter().sum::<usize>() + self.norm.bytes()
    }

    pub(super) fn kernel(&self) -> String {
        match &self.layers {
            Layers::F32(_) => format!("f32 ({})", Multiplier::default().kernel_name()),
            Layers::Int8(_) => format!("int8 ({})", int8::kernel_name()),
        }
    }

    pub(super) fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    /// Vectors of `texts`, one after the other, appended to `embeddings`.
    ///
    /// A text has at least one token, at most the model's positions, and only ids below the model's vocabulary.
    pub(super) fn run(&self, texts: &[&[u32]], pooling: Pooling, scratch: &mut Scratch, embeddings: &mut Vec<f32>) {
        let tokens_max = match &self.layers {
            Layers::F32(_) => usize::MAX,
            Layers::Int8(_) => int8::GROUP_TOKENS,
        };
        let mut rest = texts;
        while !rest.is_empty() {
            let group;
            (group, rest) = rest.split_at(texts_within(rest, tokens_max));
            self.run_group(group, pooling, scratch, embeddings);
        }
    }

    fn run_group(&self, texts: &[&[u32]], pooling: Pooling, scratch: &mut Scratch, embeddings: &mut Vec<f32>) {
        let Scratch { texts: ranges, x, y, f32, int8 } = scratch;
        let width = self.config.hidden_size;
        ranges.clear();
        for ids in texts {
            assert!(!ids.is_empty() && ids.len() <= self.config.max_position_embeddings, "{} tokens", ids.len());
            let start = ranges.last().map_or(0, |text: &Range<usize>| text.end);
            ranges.push(start..start + ids.len());
        }
        let tokens = ranges.last().map_or(0, |text| text.end);
        let (x, y) = (x.take(tokens * width), y.take(tokens * width));
        self.look_up(texts, x, y);
        match &self.layers {
            Layers::F32(layers) => full::run(layers, &self.config, ranges, x, f32),
            Layers::Int8(layers) => int8::run(layers, &self.config, ranges, x, int8),
        }
        for text in ranges {
            pool(&x[text.start * width..text.end * width], width, pooling, embeddings);
        }
    }

    /// Fills `x` with the embeddings of words, positions and segment. `y` is working memory.
    fn look_up(&self, texts: &[&[u32]], x: &mut [f32], y: &mut [f32]) {
        let width = self.config.hidden_size;
        let mut rows = x.chunks_exact_mut(width).zip(y.chunks_exact_mut(width));
        for ids in texts {
            let positions = self.positions.chunks_exact(width);
            // The rows come last: `zip` takes from its left first, and must not take a row that it leaves.
            for ((id, position), (x, y)) in ids.iter().zip(positions).zip(&mut rows) {
                x.copy_from_slice(&self.words[*id as usize * width..][..width]);
                y.copy_from_slice(position);
            }
        }
        AddNorm { x, y, bias: &self.segment, norm: &self.norm }.dispatch();
    }
}

/// How many of the first texts have at most `tokens_max` tokens together; at least one.
fn texts_within(texts: &[&[u32]], tokens_max: usize) -> usize {
    let mut tokens = 0;
    let beyond = texts.iter().position(|ids| {
        tokens += ids.len();
        tokens > tokens_max
    });
    beyond.map_or(texts.len(), |count| count.max(1))
}

/// Appends the vector of a text, of whose tokens `rows` has the vectors.
fn pool(rows: &[f32], width: usize, pooling: Pooling, embeddings: &mut Vec<f32>) {
    let start = embeddings.len();
    match pooling {
        Pooling::Cls => embeddings.extend_from_slice(&rows[..width]),
        Pooling::Mean => {
            embeddings.resize(start + width, 0.0);
            let mean = &mut embeddings[start..];
            SumRows { rows, sum: mean }.dispatch();
            let scale = 1.0 / (rows.len() / width) as f32;
            mean.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
