//! The JSON of each endpoint. A name that is not here is an error, never ignored.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::pb::v1 as pb;

fn default_collection() -> String {
    "default".to_owned()
}

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// `?collection=`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CollectionParams {
    /// The name of the collection.
    #[serde(default = "default_collection")]
    #[param(default = "default")]
    pub collection: String,
}

/// `?collection=&top_k=`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchParams {
    /// The name of the collection.
    #[serde(default = "default_collection")]
    #[param(default = "default")]
    pub collection: String,
    /// The most hits to return: 1 to 10,000. Default: 10. Wins over the body's.
    pub top_k: Option<u32>,
}

/// `?collection=&limit=&after=`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// The name of the collection.
    #[serde(default = "default_collection")]
    #[param(default = "default")]
    pub collection: String,
    /// Ids of a page: 1 to 10,000. Absent: all ids, streamed.
    pub limit: Option<u32>,
    /// Begin after this id.
    pub after: Option<String>,
}

/// `POST /vector`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InsertVector {
    /// UTF-8, 1 to 512 bytes. An existing record with this id is replaced.
    #[schema(example = "a")]
    pub id: String,
    /// 1 to 65,536 finite numbers.
    #[schema(example = json!([0.1, 0.2, 0.3]))]
    pub vector: Vec<f32>,
    /// Any JSON object, at most 1 MiB and 24 levels deep; whole numbers keep 64 bits.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// The name of a space, where several have the vector's dimension.
    pub space: Option<String>,
}

/// `POST /upsert-text`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertText {
    /// UTF-8, 1 to 512 bytes. An existing record with this id is replaced.
    #[schema(example = "1")]
    pub id: String,
    /// 1 byte to 1 MiB. What lies beyond the model's limit is stored but not embedded.
    #[schema(example = "The cat sat on the mat")]
    pub text: String,
    /// The model. Absent: the collection's default, else the service's.
    pub model_id: Option<String>,
    /// Any JSON object, at most 1 MiB and 24 levels deep; whole numbers keep 64 bits.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// `POST /embed`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedText {
    /// 1 byte to 1 MiB.
    #[schema(example = "hello")]
    pub text: String,
    /// The model. Absent: the service's default.
    pub model_id: Option<String>,
}

/// `POST /search/vector`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchVector {
    /// Of the dimension of the space that is searched.
    #[schema(example = json!([0.1, 0.2, 0.3]))]
    pub vector: Vec<f32>,
    /// The most hits to return: 1 to 10,000. Default: 10.
    pub top_k: Option<u32>,
    /// Only records whose metadata fulfil this: one of `all_of`, `any_of` (lists of filters), `not` (a filter), `equals`,
    /// `contains` (`field`, `value`), `in` (`field`, `values`), `range` (`field`, `at_least` or `greater_than`, `at_most` or
    /// `less_than`), `exists` (`field`). At most 1,024 nodes, 16 deep. Absent: all.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Value>,
    /// The name of a space, where several have the vector's dimension.
    pub space: Option<String>,
}

/// `POST /search/text`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchText {
    /// 1 byte to 1 MiB. What lies beyond the model's limit is not embedded.
    #[schema(example = "a sleeping pet")]
    pub text: String,
    /// The model, and with it the space. Absent: the collection's default, else the service's.
    pub model_id: Option<String>,
    /// The most hits to return: 1 to 10,000. Default: 10.
    pub top_k: Option<u32>,
    /// Only records whose metadata fulfil this: one of `all_of`, `any_of` (lists of filters), `not` (a filter), `equals`,
    /// `contains` (`field`, `value`), `in` (`field`, `values`), `range` (`field`, `at_least` or `greater_than`, `at_most` or
    /// `less_than`), `exists` (`field`). At most 1,024 nodes, 16 deep. Absent: all.
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Value>,
}

/// `POST /benchmark`.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunBenchmark {
    /// Vectors to insert: 1 to 100,000. Default: 1,000.
    pub vector_count: u32,
    /// Components of each: 1 to 4,096. Default: 384.
    pub dimension: u32,
    /// Searches: 1 to 10,000. Default: 100.
    pub search_count: u32,
    /// Also close the store, open it again, and compare. Default: false.
    pub test_persistence: bool,
}

/// Answer to `GET /`.
#[derive(Serialize, ToSchema)]
pub struct Root {
    pub name: &'static str,
    pub version: &'static str,
    /// `starting`, `ok`, or `degraded` where a collection could not be opened.
    pub status: &'static str,
    pub collections: usize,
    pub vectors: u64,
}

/// Answer to a write: how many records it wrote or deleted.
#[derive(Serialize, ToSchema)]
pub struct Written {
    pub success: bool,
    pub message: String,
    pub count: u64,
    /// Set where only the beginning of the text was embedded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Answer to `GET /vector/{id}`.
#[derive(Serialize, ToSchema)]
pub struct FoundVector {
    pub id: String,
    pub vector: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub space: String,
    pub version: u64,
    pub success: bool,
    pub message: &'static str,
}

/// Answer to `POST /embed`.
#[derive(Serialize, ToSchema)]
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
#[derive(Serialize, ToSchema)]
pub struct SearchHit {
    pub id: String,
    pub score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// Answer to `POST /search/text`.
#[derive(Serialize, ToSchema)]
pub struct TextHits {
    pub results: Vec<SearchHit>,
    pub query: String,
    pub success: bool,
    pub message: String,
}

/// Answer to `POST /benchmark`.
#[derive(Serialize, ToSchema)]
pub struct BenchmarkReport {
    pub params: BenchmarkParams,
    pub insert: BenchmarkInsert,
    pub search: BenchmarkLatency,
    pub persistence: Option<BenchmarkPersistence>,
}

/// What was measured.
#[derive(Serialize, ToSchema)]
pub struct BenchmarkParams {
    pub vector_count: u32,
    pub dimension: u32,
    pub search_count: u32,
    pub test_persistence: bool,
}

/// Three ways to insert the same vectors.
#[derive(Serialize, ToSchema)]
pub struct BenchmarkInsert {
    pub single_durable: BenchmarkLatency,
    pub batch: BenchmarkLatency,
    pub buffered: BenchmarkLatency,
}

/// Latency and throughput of calls.
#[derive(Serialize, ToSchema)]
pub struct BenchmarkLatency {
    pub calls: u64,
    pub vectors: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// A restart of the scratch store.
#[derive(Serialize, ToSchema)]
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
