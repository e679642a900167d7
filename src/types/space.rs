use std::fmt;

use super::{Dimension, Metric, SpaceName};

/// A set of vectors that may be compared with one another. Vectors of different spaces never mix.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    /// Unique within the collection.
    pub name: SpaceName,
    /// Components of each vector.
    pub dimension: Dimension,
    /// How vectors are compared.
    pub metric: Metric,
    /// The model that embeds the texts of this space; `None`: raw vectors only.
    pub text_model: Option<TextModel>,
}

/// The model of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextModel {
    /// Its id in the embedding service's registry.
    pub model_id: String,
    /// What decides its embeddings, as a hash: equal fingerprints mean embeddings that can be compared.
    pub fingerprint: String,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dimension {}, {}, ", self.dimension, self.metric)?;
        match &self.text_model {
            Some(model) => write!(f, "model {} with fingerprint {}", model.model_id, model.fingerprint),
            None => f.write_str("raw vectors"),
        }
    }
}
