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
    /// Hash of the weights, the tokenizer, the configuration and the pooling.
    pub fingerprint: String,
}
