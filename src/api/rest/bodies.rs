//! The JSON of each endpoint. A name that is not here is an error, never ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::pb::v1 as pb;

fn default_collection() -> String {
    "default".to_owned()
}

/// `?collection=`.
#[derive(Deserialize)]
pub struct CollectionParams {
    #[serde(default = "default_collection")]
    pub collection: String,
}

/// `?collection=&top_k=`.
#[derive(Deserialize)]
pub struct SearchParams {
    #[serde(default = "default_collection")]
    pub collection: String,
    pub top_k: Option<u32>,
}

/// `?collection=&limit=&after=`.
#[derive(Deserialize)]
pub struct PageParams {
    #[serde(default = "default_collection")]
    pub collection: String,
    pub limit: Option<u32>,
    pub after: Option<String>,
}

/// `POST /vector`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsertVector {
    pub id: String,
    pub vector: Vec<f32>,
    pub metadata: Option<Map<String, Value>>,
    pub space: Option<String>,
}

/// `POST /upsert-text`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpsertText {
    pub id: String,
    pub text: String,
    pub model_id: Option<String>,
    pub metadata: Option<Map<String, Value>>,
}

/// `POST /embed`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedText {
    pub text: String,
    pub model_id: Option<String>,
}

/// `POST /search/vector`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchVector {
    pub vector: Vec<f32>,
    pub top_k: Option<u32>,
    pub filter: Option<Value>,
    pub space: Option<String>,
}

/// `POST /search/text`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchText {
    pub text: String,
    pub model_id: Option<String>,
    pub top_k: Option<u32>,
    pub filter: Option<Value>,
}

/// `POST /benchmark`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RunBenchmark {
    pub vector_count: u32,
    pub dimension: u32,
    pub search_count: u32,
    pub test_persistence: bool,
}

/// Answer to `GET /`.
#[derive(Serialize)]
pub struct Root {
    pub name: &'static str,
    pub version: &'static str,
    pub status: &'static str,
    pub collections: usize,
    pub vectors: u64,
}

/// Answer to a write: how many records it wrote or deleted.
#[derive(Serialize)]
pub struct Written {
    pub success: bool,
    pub message: String,
    pub count: u64,
    /// Set where only the beginning of the text was embedded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Answer to `GET /vector/{id}`.
#[derive(Serialize)]
pub struct FoundVector {
    pub id: String,
    pub vector: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    pub space: String,
    pub version: u64,
    pub success: bool,
    pub message: &'static str,
}

/// Answer to `POST /embed`.
#[derive(Serialize)]
pub struct EmbeddedText {
    pub text: String,
    pub embedding: Vec<f32>,
    pub dimensions: usize,
    pub model_id: String,
    pub truncated: bool,
    pub success: bool,
    pub message: &'static str,
}

/// One hit of a search.
#[derive(Serialize)]
pub struct SearchHit {
    pub id: String,
    pub score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// Answer to `POST /search/text`.
#[derive(Serialize)]
pub struct TextHits {
    pub results: Vec<SearchHit>,
    pub query: String,
    pub success: bool,
    pub message: String,
}

/// Answer to `POST /benchmark`.
#[derive(Serialize)]
pub struct BenchmarkReport {
    pub params: BenchmarkParams,
    pub insert: BenchmarkInsert,
    pub search: BenchmarkLatency,
    pub persistence: Option<BenchmarkPersistence>,
}

/// What was measured.
#[derive(Serialize)]
pub struct BenchmarkParams {
    pub vector_count: u32,
    pub dimension: u32,
    pub search_count: u32,
    pub test_persistence: bool,
}

/// Three ways to insert the same vectors.
#[derive(Serialize)]
pub struct BenchmarkInsert {
    pub single_durable: BenchmarkLatency,
    pub batch: BenchmarkLatency,
    pub buffered: BenchmarkLatency,
}

/// Latency and throughput of calls.
#[derive(Serialize)]
pub struct BenchmarkLatency {
    pub calls: u64,
    pub vectors: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A restart of the scratch store.
#[derive(Serialize)]
pub struct BenchmarkPersistence {
    pub close_ms: f64,
    pub open_ms: f64,
    pub record_count: u64,
    pub verified: bool,
}

impl From<pb::RunBenchmarkResponse> for BenchmarkReport {
    fn from(report: pb::RunBenchmarkResponse) -> Self {
        let params = report.params.unwrap_or_default();
        let insert = report.insert.unwrap_or_default();
        Self {
            params: BenchmarkParams {
                vector_count: params.vector_count,
                dimension: params.dimension,
                search_count: params.search_count,
                test_persistence: params.test_persistence,
            },
            insert: BenchmarkInsert {
                single_durable: insert.single_durable.unwrap_or_default().into(),
                batch: insert.batch.unwrap_or_default().into(),
                buffered: insert.buffered.unwrap_or_default().into(),
            },
            search: report.search.unwrap_or_default().into(),
            persistence: report.persistence.map(|persistence| BenchmarkPersistence {
                close_ms: persistence.close_ms,
                open_ms: persistence.open_ms,
                record_count: persistence.record_count,
                verified: persistence.verified,
            }),
        }
    }
}

impl From<pb::BenchmarkLatency> for BenchmarkLatency {
    fn from(latency: pb::BenchmarkLatency) -> Self {
        Self {
            calls: latency.calls,
            vectors: latency.vectors,
            seconds: latency.seconds,
            per_second: latency.per_second,
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        }
    }
}
