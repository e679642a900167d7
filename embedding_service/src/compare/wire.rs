//! The table to and from the messages of the contract.

use super::input::{Pair, Sample};
use super::measure::Stage;
use super::report::{Measured, ModelReport, Outcome, Retrieval, Setting};
use crate::pb::v1 as pb;

impl From<ModelReport> for pb::ModelBenchmark {
    fn from(report: ModelReport) -> Self {
        let named = Self {
            model_id: report.model_id,
            provider: report.provider,
            dimension: count(report.dimensions),
            model_name: report.model_name,
            precision: report.precision.unwrap_or_default(),
            ..Self::default()
        };
        match report.outcome {
            Outcome::Skipped { skipped, skipped_code } => Self { skipped_reason: skipped, skipped_code, ..named },
            Outcome::Measured(measured) => Self {
                processing_seconds: measured.processing_time,
                contrast_score: measured.contrast_score,
                single_p50_seconds: measured.single_p50,
                single_mean_seconds: measured.single_mean,
                texts_per_second: measured.texts_per_second,
                tokens_per_second: measured.tokens_per_second.unwrap_or_default(),
                tokens: measured.tokens.unwrap_or_default(),
                truncated: count(measured.truncated),
                cosine_within: measured.cosine_within,
                cosine_across: measured.cosine_across,
                retrieval: measured.retrieval.map(|found| pb::RetrievalQuality {
                    recall_at_1: found.recall_at_1,
                    recall_at_5: found.recall_at_5,
                    recall_at_10: found.recall_at_10,
                    mean_reciprocal_rank: found.mean_reciprocal_rank,
                }),
                ..named
            },
        }
    }
}

impl From<pb::ModelBenchmark> for ModelReport {
    fn from(result: pb::ModelBenchmark) -> Self {
        let retrieval = result.retrieval.map(|found| Retrieval {
            recall_at_1: found.recall_at_1,
            recall_at_5: found.recall_at_5,
            recall_at_10: found.recall_at_10,
            mean_reciprocal_rank: found.mean_reciprocal_rank,
        });
        let outcome = if result.skipped_reason.is_empty() {
            Outcome::Measured(Measured {
                processing_time: result.processing_seconds,
                contrast_score: result.contrast_score,
                cosine_within: result.cosine_within,
                cosine_across: result.cosine_across,
                texts_per_second: result.texts_per_second,
                tokens_per_second: (result.tokens > 0).then_some(result.tokens_per_second),
                tokens: (result.tokens > 0).then_some(result.tokens),
                truncated: result.truncated as usize,
                single_p50: result.single_p50_seconds,
                single_mean: result.single_mean_seconds,
                retrieval,
            })
        } else {
            Outcome::Skipped { skipped: result.skipped_reason, skipped_code: result.skipped_code }
        };
        Self {
            model_id: result.model_id,
            provider: result.provider,
            model_name: result.model_name,
            dimensions: result.dimension as usize,
            precision: (!result.precision.is_empty()).then_some(result.precision),
            outcome,
        }
    }
}

impl Setting {
    /// As the first message of a comparison tells it.
    pub(crate) fn started(self, model_ids: Vec<String>) -> pb::BenchmarkStarted {
        pb::BenchmarkStarted {
            model_ids,
            texts: count(self.texts),
            topics: count(self.topics),
            pairs: count(self.pairs),
            documents: count(self.documents),
            repeats: count(self.repeats),
        }
    }
}

impl From<&pb::BenchmarkStarted> for Setting {
    fn from(started: &pb::BenchmarkStarted) -> Self {
        Self {
            texts: started.texts as usize,
            topics: started.topics as usize,
            pairs: started.pairs as usize,
            documents: started.documents as usize,
            repeats: started.repeats as usize,
        }
    }
}

impl From<Stage> for pb::BenchmarkStage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Load => Self::Load,
            Stage::WarmUp => Self::WarmUp,
            Stage::Single => Self::Single,
            Stage::Batch => Self::Batch,
            Stage::Retrieval => Self::Retrieval,
        }
    }
}

impl From<pb::BenchmarkSample> for Sample {
    fn from(pb::BenchmarkSample { topic, text }: pb::BenchmarkSample) -> Self {
        Self { topic, text }
    }
}

impl From<Sample> for pb::BenchmarkSample {
    fn from(Sample { topic, text }: Sample) -> Self {
        Self { topic, text }
    }
}

impl From<pb::BenchmarkPair> for Pair {
    fn from(pb::BenchmarkPair { query, document }: pb::BenchmarkPair) -> Self {
        Self { query, document }
    }
}

impl From<Pair> for pb::BenchmarkPair {
    fn from(Pair { query, document }: Pair) -> Self {
        Self { query, document }
    }
}

/// All counts of a comparison are bounded far below.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
