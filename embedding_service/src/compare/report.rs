//! The table of a comparison, as `POST /benchmark` answers it and `vectron-embedding compare --output` writes it.

use serde::Serialize;
use utoipa::ToSchema;

/// What was compared, and the table.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    /// What was compared.
    #[serde(flatten)]
    pub setting: Setting,
    /// A row for each model, in the order in which they were asked for.
    pub models: Vec<ModelReport>,
}

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Setting {
    /// Sample texts.
    pub texts: usize,
    /// Their topics.
    pub topics: usize,
    /// Pairs of query and document, as many as were given; 0: retrieval was not measured.
    pub pairs: usize,
    /// Distinct documents of the pairs.
    pub documents: usize,
    /// How often each time was measured.
    pub repeats: usize,
}

/// The row of one model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelReport {
    /// Its id in the registry.
    pub model_id: String,
    /// Who runs it: `local`, `openai`, `cohere` or `huggingface`.
    pub provider: String,
    /// The provider's name for it.
    pub model_name: String,
    /// Components of its embeddings.
    pub dimensions: usize,
    /// In which numbers its layers are computed: `int8` or `f32`. Absent: a provider runs it, and does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of measuring a model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Outcome {
    /// It was measured.
    Measured(Measured),
    /// It was not.
    Skipped {
        /// Why.
        skipped: String,
        /// The machine-readable reason, for example `PROVIDER_NO_KEY`.
        skipped_code: String,
    },
}

/// What was measured of a model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Measured {
    /// Seconds for all sample texts in one call: the median of the repeats.
    pub processing_time: f64,
    /// Mean cosine within topics minus mean cosine across topics: -2 to 2, higher is better.
    pub contrast_score: f64,
    /// Mean cosine of two texts of the same topic.
    pub cosine_within: f64,
    /// Mean cosine of two texts of different topics.
    pub cosine_across: f64,
    /// Sample texts by `processing_time`.
    pub texts_per_second: f64,
    /// Their tokens by `processing_time`. Absent: the provider does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Tokens of all sample texts. Absent: the provider does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Sample texts that were longer than the model's limit, as far as is known.
    pub truncated: usize,
    /// Seconds for a text that comes alone: the median over texts of their medians.
    pub single_p50: f64,
    /// The mean of the same times, in seconds.
    pub single_mean: f64,
    /// How well queries find their documents. Absent where there are no pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<Retrieval>,
}

/// How well queries find their documents among those of all pairs. Each 0 to 1; higher is better. A recall at as many as
/// there are documents, or more, says nothing, and is absent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Retrieval {
    /// Mean part of a query's right documents that is the first: with one right document, the part of the queries whose
    /// document comes first.
    pub recall_at_1: Option<f64>,
    /// The same among the first 5.
    pub recall_at_5: Option<f64>,
    /// The same among the first 10.
    pub recall_at_10: Option<f64>,
    /// Mean of 1 / rank of the nearest right document.
    pub mean_reciprocal_rank: f64,
}

impl ModelReport {
    /// What was measured, where it was.
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Skipped { .. } => None,
        }
    }
}
