//! The registry: which models there are, who runs them, and what decides their embeddings.
//!
//! Read from models.toml, whose comment describes every key. A mistake is an error that names its line, an unknown key too:
//! a misspelt key would otherwise be a setting that silently does nothing. What is read here is checked: nobody else asks
//! again whether a fallback exists or a URL is one.
//!
//! - `file`: models.toml as it is written, and its checks;
//! - `fingerprint`: which embeddings can be compared.

mod file;
mod fingerprint;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::hash::Sha256Hex;
use crate::encoder::{Pooling, Precision};

/// The `provider` of models that run here.
const LOCAL: &str = "local";
const DEFAULT_FILE: &str = include_str!("../../models.toml");

/// The models, in the order of the file, and which one is the default.
#[derive(Debug, Clone)]
pub struct Registry {
    default: String,
    models: Vec<ModelSpec>,
}

/// A model of the registry.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// What requests call it. Fits as the name of a folder.
    pub id: String,
    /// The provider's name for it; of a local model its repository on the model hub.
    pub model_name: String,
    /// Components of an embedding.
    pub dimension: usize,
    /// Tokens of a text that are embedded, special tokens included.
    pub tokens_max: usize,
    /// Whether embeddings are scaled to unit length where a request does not say.
    pub normalize: bool,
    /// What comes before a text.
    pub prompts: Prompts,
    /// The name of an embedding space that it shares with other models.
    pub space: Option<String>,
    /// Models of the same space that serve in its place, in this order.
    pub fallback: Vec<String>,
    /// Models that serve in its place where the caller can take embeddings of any space, in this order.
    pub fallback_any_space: Vec<String>,
    /// How it is run.
    pub runs: Runs,
}

/// How a model is run.
#[derive(Debug, Clone)]
pub enum Runs {
    /// In this process, on the CPU, of these files.
    Here(Arc<LocalSpec>),
    /// By a provider, over HTTP.
    There(Arc<RemoteSpec>),
}

/// Who runs a model elsewhere, which decides how it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// OpenAI, or any server that speaks its `/embeddings`.
    OpenAi,
    /// Cohere, by its version 2 of `/embed`.
    Cohere,
    /// Hugging Face's inference API, or any server with its `feature-extraction`.
    HuggingFace,
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// To be found.
    #[default]
    Document,
    /// To search with.
    Query,
}

/// What comes before a text, by what the text is for. Empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompts {
    /// Before texts that are searched with.
    pub query: String,
    /// Before texts that are to be found.
    pub document: String,
}

/// The files of a model that runs here.
#[derive(Debug, Clone)]
pub struct LocalSpec {
    /// The model's id, which names the folder of its files.
    pub id: String,
    /// Its repository on the model hub: `organization/name`.
    pub repository: String,
    /// The commit of that repository.
    pub revision: String,
    /// How the vectors of the tokens become one.
    pub pooling: Pooling,
    /// Whether embeddings are scaled to unit length where a request does not say.
    pub normalize: bool,
    /// In which numbers its layers are computed.
    pub precision: Precision,
    /// What its files must contain. Absent: what they contained when they were first used.
    pub files: Option<ModelFiles>,
}

/// Where a provider is, and how it is asked.
#[derive(Debug, Clone)]
pub struct RemoteSpec {
    /// Who it is.
    pub provider: Provider,
    /// Its address, without a slash at the end.
    pub base_url: String,
    /// The environment variable that holds the key. Absent: the provider asks for none.
    pub key_env: Option<String>,
    /// Whether the dimension is asked for, of models that can have several.
    pub asks_dimension: bool,
    /// Which tokenizer counts and cuts texts before they are sent. Absent: the provider cuts them, or refuses.
    pub tokenizer: Option<RemoteTokenizer>,
    /// How much it is asked for, and how long.
    pub limits: RemoteLimits,
}

/// A tokenizer that is known here, of models that run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RemoteTokenizer {
    /// Of OpenAI's text-embedding models.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
}

/// How much a provider is asked for, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Texts of one request.
    pub texts_max: usize,
    /// Tokens of one request where a tokenizer is known, else bytes of its texts: a token has a byte at least. One text is
    /// sent alone whatever it has.
    pub tokens_max: usize,
    /// Requests at once.
    pub requests_max: usize,
    /// Tries of one request, the first included.
    pub tries_max: usize,
    /// Time of one try, from the connection to the last byte of the answer.
    pub try_time_max: Duration,
    /// Time of a request with all of its tries and the pauses between them.
    pub time_max: Duration,
}

/// SHA-256 of a model's files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFiles {
    /// Architecture and sizes.
    #[serde(rename = "config.json")]
    pub config: Sha256Hex,
    /// The tokenizer.
    #[serde(rename = "tokenizer.json")]
    pub tokenizer: Sha256Hex,
    /// The weights.
    #[serde(rename = "model.safetensors")]
    pub weights: Sha256Hex,
}

/// Why a registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a registry. The reason names the line.
    #[error("{origin}: {reason}")]
    Malformed {
        /// The file.
        origin: String,
        /// What is wrong, with its line.
        reason: String,
    },
}

impl Registry {
    /// The built-in registry, or that of `file`. With a precision: all models that run here in this one, whatever the file says;
    /// checked as if it said so.
    pub fn load(file: Option<&Path>, precision: Option<Precision>) -> Result<Self, RegistryError> {
        let Some(path) = file else {
            return Self::parse(DEFAULT_FILE, "the built-in models.toml", precision);
        };
        let origin = path.display().to_string();
        let bytes = fs::read(path).map_err(|source| RegistryError::Read { path: path.to_owned(), source })?;
        match str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &origin, precision),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                Err(RegistryError::Malformed { origin, reason: format!("line {line}: expected text in UTF-8") })
            }
        }
    }

    fn parse(text: &str, origin: &str, precision: Option<Precision>) -> Result<Self, RegistryError> {
        let (default, models) = file::read(text, precision)
            .map_err(|reason| RegistryError::Malformed { origin: origin.to_owned(), reason })?;
        Ok(Self { default, models })
    }

    /// The model of requests that name none.
    pub fn default_id(&self) -> &str {
        &self.default
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[ModelSpec] {
        &self.models
    }

    /// The model `id`.
    pub fn get(&self, id: &str) -> Option<&ModelSpec> {
        self.models.iter().find(|model| model.id == id)
    }

    /// The ids of all models, in the order of the file.
    pub fn ids(&self) -> Vec<&str> {
        self.models.iter().map(|model| model.id.as_str()).collect()
    }
}

impl ModelSpec {
    /// Who runs it, as in models.toml.
    pub fn provider_name(&self) -> &'static str {
        match &self.runs {
            Runs::Here(_) => LOCAL,
            Runs::There(remote) => remote.provider.name(),
        }
    }

    /// Its files, where it runs here.
    pub fn local(&self) -> Option<&LocalSpec> {
        match &self.runs {
            Runs::Here(local) => Some(local),
            Runs::There(_) => None,
        }
    }

    /// In which numbers its layers are computed, by its name in models.toml. Nothing: a provider runs it, and does not say.
    pub fn precision_name(&self) -> Option<&'static str> {
        self.local().map(|local| local.precision.as_str())
    }

    /// In which numbers its layers are computed, as far as it is known here: providers do not say, and are taken at their word.
    fn precision(&self) -> Precision {
        self.local().map_or(Precision::F32, |local| local.precision)
    }
}

impl ModelFiles {
    /// The hash of the file of that name.
    pub fn of(&self, name: &str) -> Option<&Sha256Hex> {
        self.named().into_iter().find(|(named, _)| *named == name).map(|(_, hash)| hash)
    }

    /// Their names and hashes. The weights come last: they take the longest.
    pub fn named(&self) -> [(&'static str, &Sha256Hex); 3] {
        let Self { config, tokenizer, weights } = self;
        let [config_name, tokenizer_name, weights_name] = LocalSpec::FILES;
        [(config_name, config), (tokenizer_name, tokenizer), (weights_name, weights)]
    }
}

impl LocalSpec {
    /// The names of a model's files. The weights come last: they take the longest.
    pub const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
}

impl Prompts {
    /// What comes before a text that is for this.
    pub fn of(&self, input: Input) -> &str {
        match input {
            Input::Query => &self.query,
            Input::Document => &self.document,
        }
    }

    /// The texts with what comes before them.
    pub fn put_before(&self, input: Input, texts: &mut [String]) {
        let prompt = self.of(input);
        if !prompt.is_empty() {
            texts.iter_mut().for_each(|text| text.insert_str(0, prompt));
        }
    }
}

impl Provider {
    /// As in models.toml.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Cohere => "cohere",
            Self::HuggingFace => "huggingface",
        }
    }
}

#[cfg(test)]
mod tests;
