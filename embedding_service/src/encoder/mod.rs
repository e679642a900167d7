//! Text → tokens → embedding, on the CPU, in f32 or in 8 bits.
//!
//! Runs BERT-family checkpoints as they are published: config.json, tokenizer.json, model.safetensors, all three
//! handed over as bytes. An architecture that is not supported is refused by name. Knows nothing of files, models'
//! names, queues and threads: a caller brings its own `Scratch` and gets the same numbers on every thread, and for
//! every grouping of texts into batches up to the rounding of f32.

mod attention;
mod bert;
mod buffer;
mod config;
mod elementwise;
mod full;
mod int8;
mod layer_weights;
mod matmul;
mod tensors;
mod tokens;

use serde::Deserialize;

use bert::Bert;
pub(crate) use bert::Scratch;
use config::BertConfig;
use tensors::Tensors;
pub(crate) use tensors::first_not_finite;
use tokens::TextTokenizer;
pub(crate) use tokens::Tokens;

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean of all of them.
    Mean,
    /// The first one.
    Cls,
}

/// In which numbers the layers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the model was trained.
    F32,
    /// Weights and activations of the products in 8 bits, of some in 12: several times faster, and near.
    Int8,
}

impl Precision {
    /// That of a model with embeddings of `dimension` components, where nobody chooses: `Int8`, where it can be.
    pub fn of_dimension(dimension: usize) -> Self {
        if int8::takes(dimension) { Self::Int8 } else { Self::F32 }
    }

    /// Its name in models.toml and in options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// The three files of a checkpoint, and how it is to be used.
pub(crate) struct Checkpoint<'a> {
    /// config.json.
    pub config: &'a [u8],
    /// tokenizer.json.
    pub tokenizer: &'a [u8],
    /// model.safetensors.
    pub weights: &'a [u8],
    /// How the vectors of a text's tokens become one.
    pub pooling: Pooling,
    /// Tokens of a text that are embedded, special tokens included.
    pub tokens_max: usize,
    /// In which numbers the layers are computed.
    pub precision: Precision,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The checkpoint is of a kind that the encoder does not run.
    #[error("{what} in config.json is `{got}`; supported is {expected}")]
    Unsupported {
        /// The field of config.json.
        what: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A file is not what it should be.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The registry asks for more tokens than the model has positions, or for too few to hold the special tokens.
    #[error("tokens_max is {tokens_max}; the model takes 3 to {positions}")]
    TokensMax {
        /// What the registry says.
        tokens_max: usize,
        /// What the model has.
        positions: usize,
    },
}

/// A text that the tokenizer refuses.
#[derive(Debug, thiserror::Error)]
#[error("cannot be split into tokens: {0}")]
pub(crate) struct TokenizeError(tokenizers::Error);

/// A loaded model. Shared by all threads.
pub(crate) struct Encoder {
    tokenizer: TextTokenizer,
    bert: Bert,
    pooling: Pooling,
}

impl Encoder {
    /// Reads and packs the weights: some 0.3 s for 90 MB.
    pub(crate) fn load(checkpoint: &Checkpoint<'_>) -> Result<Self, LoadError> {
        let config = BertConfig::from_json(checkpoint.config)?;
        let (tokens_max, positions) = (checkpoint.tokens_max, config.max_position_embeddings);
        if !(3..=positions).contains(&tokens_max) {
            return Err(LoadError::TokensMax { tokens_max, positions });
        }
        let tokenizer = TextTokenizer::from_json(checkpoint.tokenizer, tokens_max, config.vocab_size)?;
        let bert = Bert::new(config, &Tensors::from_bytes(checkpoint.weights)?, checkpoint.precision)?;
        Ok(Self { tokenizer, bert, pooling: checkpoint.pooling })
    }

    /// Tokens of a text that are embedded.
    pub(crate) fn tokens_max(&self) -> usize {
        self.tokenizer.tokens_max
    }

    /// Bytes that the tensor `name` of a checkpoint, of the shape `shape`, has in memory as `precision` keeps it.
    pub(crate) fn tensor_bytes(name: &str, shape: &[usize], precision: Precision) -> usize {
        // Heads that a model was trained with are left out.
        if name.contains("pooler.") || name.starts_with("cls.") {
            return 0;
        }
        if let (Precision::Int8, &[outputs, inputs]) = (precision, shape)
            && let Some((_, name)) = name.split_once("encoder.layer.").and_then(|(_, name)| name.split_once('.'))
            && let Some(bytes) =
                name.strip_suffix(".weight").and_then(|name| int8::linear_bytes(name, [outputs, inputs]))
        {
            return bytes;
        }
        shape.iter().fold(size_of::<f32>(), |product, &size| product.saturating_mul(size))
    }

    /// Components of an embedding.
    pub(crate) fn dimension(&self) -> usize {
        self.bert.dimension()
    }

    /// The precision that the layers are computed in, and by which instructions: for the log.
    pub(crate) fn kernel(&self) -> String {
        self.bert.kernel()
    }

    /// Splits a text into tokens, and cuts it to the model's limit.
    pub(crate) fn tokenize(&self, text: &str) -> Result<Tokens, TokenizeError> {
        self.tokenizer.tokenize(text).map_err(TokenizeError)
    }

    /// Embeddings of `texts`, one after the other, appended to `embeddings`; not scaled to unit length.
    ///
    /// Runs on the calling thread alone where that is in a rayon pool of one thread.
    pub(crate) fn embed(&self, texts: &[&[u32]], scratch: &mut Scratch, embeddings: &mut Vec<f32>) {
        self.bert.run(texts, self.pooling, scratch, embeddings);
    }
}

/// Scales `vector` to unit length; one without length stays as it is.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests;
