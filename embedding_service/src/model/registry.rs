//! The registry: which models there are, and what their files must contain.
//!
//! Read from models.toml. An unknown key or provider is an error that names its line: a misspelt key would
//! otherwise be a setting that silently does nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::hash::Sha256Hex;
use crate::encoder::Pooling;

const DEFAULT_FILE: &str = include_str!("../../models.toml");

/// The models, in the order of the file, and which one is the default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    default: String,
    #[serde(rename = "model", default)]
    models: Vec<ModelSpec>,
}

/// A model of the registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What requests call it. Fits as the name of a folder.
    pub id: String,
    /// Who runs it.
    pub provider: Provider,
    /// Its repository on the model hub.
    pub model_name: String,
    /// The commit of that repository.
    pub revision: String,
    /// Components of an embedding.
    pub dimension: usize,
    /// Tokens of a text that are embedded, special tokens included.
    pub tokens_max: usize,
    /// How the vectors of the tokens become one.
    pub pooling: Pooling,
    /// Whether embeddings are scaled to unit length where a request does not say.
    pub normalize: bool,
    /// What its files must contain.
    pub files: ModelFiles,
}

/// Who runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// This process, on the CPU.
    Local,
}

/// SHA-256 of a model's files.
#[derive(Debug, Clone, Deserialize)]
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
    /// The built-in registry, or that of `file`.
    pub fn load(file: Option<&Path>) -> Result<Self, RegistryError> {
        let Some(path) = file else {
            return Self::parse(DEFAULT_FILE, "the built-in models.toml");
        };
        let text = fs::read_to_string(path).map_err(|source| RegistryError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, origin: &str) -> Result<Self, RegistryError> {
        let malformed = |reason: String| RegistryError::Malformed { origin: origin.to_owned(), reason };
        let registry: Self = toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        registry.check().map_err(malformed)?;
        Ok(registry)
    }

    fn check(&self) -> Result<(), String> {
        for (index, model) in self.models.iter().enumerate() {
            let id = &model.id;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
            // The id names a folder.
            if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.bytes().all(plain) {
                return Err(format!(
                    "id `{id}`: expected 1 to 64 lower-case letters, digits, `-`, `_` and `.`, the first not `.`"
                ));
            }
            if self.models[..index].iter().any(|other| other.id == *id) {
                return Err(format!("id `{id}` is given to two models"));
            }
            let named = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('/');
            if !model.model_name.split_once('/').is_some_and(|(organization, name)| named(organization) && named(name))
            {
                return Err(format!("model_name `{}` of `{id}`: expected `organization/name`", model.model_name));
            }
        }
        if self.get(&self.default).is_none() {
            return Err(format!("default is `{}`, but the models are {}", self.default, self.ids().join(", ")));
        }
        Ok(())
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
    /// Names of the files, and what they must contain. The weights come last: they take the longest.
    pub fn files(&self) -> [(&'static str, &Sha256Hex); 3] {
        let ModelFiles { config, tokenizer, weights } = &self.files;
        [("config.json", config), ("tokenizer.json", tokenizer), ("model.safetensors", weights)]
    }

    /// Equal if and only if embeddings are comparable: a hash of all that decides what the numbers are. Stored with
    /// collections: what is hashed is written out, and a change of it is another version.
    pub fn fingerprint(&self) -> String {
        let Self { files, normalize, tokens_max, .. } = self;
        let pooling = match self.pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        };
        let normalize = if *normalize { "yes" } else { "no" };
        let all = format!(
            "vectron fingerprint 1\nweights {}\ntokenizer {}\nconfig {}\npooling {pooling}\nnormalize {normalize}\n\
             tokens_max {tokens_max}\n",
            files.weights, files.tokenizer, files.config
        );
        Sha256Hex::of(all.as_bytes()).as_str()[..32].to_owned()
    }
}

impl Provider {
    /// As in models.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(from: &str, to: &str) -> String {
        assert!(DEFAULT_FILE.contains(from));
        Registry::parse(&DEFAULT_FILE.replacen(from, to, 1), "models.toml").unwrap_err().to_string()
    }

    fn line_of(needle: &str) -> usize {
        1 + DEFAULT_FILE.lines().position(|line| line.starts_with(needle)).unwrap()
    }

    #[test]
    fn built_in_registry_has_minilm() {
        let registry = Registry::load(None).unwrap();
        let minilm = registry.get(registry.default_id()).unwrap();
        assert_eq!((minilm.id.as_str(), minilm.dimension, minilm.tokens_max), ("minilm", 384, 256));
    }

    #[test]
    fn unknown_provider_is_refused_with_its_line() {
        let error = refused(r#"provider = "local""#, r#"provider = "cloud""#);
        assert!(error.contains("unknown variant `cloud`, expected `local`"), "{error}");
        assert!(error.contains(&format!("line {}", line_of("provider"))), "{error}");
    }

    #[test]
    fn unknown_key_is_refused_with_its_line() {
        let error = refused("pooling = ", "poling = ");
        assert!(error.contains("unknown field `poling`"), "{error}");
        assert!(error.contains(&format!("line {}", line_of("pooling"))), "{error}");
    }

    #[test]
    fn hash_that_is_none_is_refused() {
        let error = refused("953f9c0d", "953f9c0");
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }

    #[test]
    fn default_must_exist() {
        let error = refused(r#"default = "minilm""#, r#"default = "bert""#);
        assert!(error.ends_with("default is `bert`, but the models are minilm"), "{error}");
    }

    #[test]
    fn id_must_fit_as_a_folder() {
        assert!(refused(r#"id = "minilm""#, r#"id = "../minilm""#).contains("id `../minilm`"));
    }

    #[test]
    fn model_name_has_an_organization_and_a_name() {
        for name in ["minilm", "a/b/c", "/b", "a/", "../b", ""] {
            let error = refused("sentence-transformers/all-MiniLM-L6-v2", name);
            assert!(error.contains("expected `organization/name`"), "{name}: {error}");
        }
    }

    /// Collections have it stored: another value here means that none of them can embed texts any more.
    #[test]
    fn fingerprint_of_minilm_stays_what_it_is() {
        let minilm = Registry::load(None).unwrap().models()[0].fingerprint();
        assert_eq!(minilm, "52e3c1c394faaaf4270b264109a1f92c");
    }

    #[test]
    fn fingerprint_follows_what_decides_the_numbers() {
        let minilm = Registry::load(None).unwrap().models()[0].clone();
        let shorter = ModelSpec { tokens_max: 128, ..minilm.clone() };
        let renamed = ModelSpec { id: "other".to_owned(), ..minilm.clone() };
        assert_eq!(minilm.fingerprint().len(), 32);
        assert_ne!(minilm.fingerprint(), shorter.fingerprint());
        assert_eq!(minilm.fingerprint(), renamed.fingerprint());
    }
}
