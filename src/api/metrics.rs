//! What is counted, in one place: requests by both doors, and what the store holds.
//!
//! Read at `GET /metrics`, in the text format of Prometheus.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tonic::Status;

use crate::pb::v1 as pb;

const REQUESTS: &str = "vectron_requests_total";
const REQUEST_SECONDS: &str = "vectron_request_seconds";
const RECORDS: &str = "vectron_collection_records";
const LOG_BYTES: &str = "vectron_collection_log_bytes";
const SEQUENCE: &str = "vectron_collection_sequence";
const PARTS_BYTES: &str = "vectron_collection_parts_bytes";
const CHECKPOINT_AGE: &str = "vectron_collection_checkpoint_age_seconds";
const CHECKPOINT_FAILURES: &str = "vectron_collection_checkpoint_failures";
const READ_ONLY: &str = "vectron_collection_read_only";
const DAMAGED: &str = "vectron_collections_damaged";
const DISK_FREE: &str = "vectron_disk_free_bytes";
const GAUGE_IDLE_MAX: Duration = Duration::from_secs(60);
/// From a search of a small collection to a large batch of texts.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Sets up what counts in this process; to be called once.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        // What is not set anew at a reading belongs to a collection that was dropped.
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE_MAX))
        .set_buckets_for_metric(Matcher::Full(REQUEST_SECONDS.to_owned()), &SECONDS)?
        .install_recorder()?;
    describe_counter!(REQUESTS, "Requests answered, by door (grpc or rest), route and code.");
    describe_histogram!(REQUEST_SECONDS, "Seconds from a request to the head of its answer, by door and route.");
    describe_gauge!(RECORDS, "Records of a collection.");
    describe_gauge!(LOG_BYTES, "Bytes of a collection's log on disk.");
    describe_gauge!(SEQUENCE, "The sequence up to which a collection's writes are visible.");
    describe_gauge!(
        PARTS_BYTES,
        "Bytes of a collection's files beside its log on disk, as of the latest checkpoint that was tried."
    );
    describe_gauge!(
        CHECKPOINT_AGE,
        "Seconds since a collection's latest checkpoint was written, or since it was opened where none was."
    );
    describe_gauge!(
        CHECKPOINT_FAILURES,
        "Attempts to write a checkpoint of a collection that have failed since it was opened."
    );
    describe_gauge!(
        READ_ONLY,
        "1 where a write or sync of a collection's log has failed: it takes no more writes. Else 0."
    );
    describe_gauge!(DAMAGED, "Collections that could not be opened.");
    describe_gauge!(DISK_FREE, "Bytes that may still be written to the disk of the data folder.");
    Ok(handle)
}

/// Counts a request. Routes are those of the router, never what the client sent: their number is bounded.
pub async fn count(request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        // A gRPC service is one route with a wildcard; its methods are few, and named by the contract.
        Some(matched) if matched.as_str().ends_with("/{*rest}") => request.uri().path().to_owned(),
        Some(matched) => matched.as_str().to_owned(),
        None => "none".to_owned(),
    };
    let started = Instant::now();
    let response = next.run(request).await;
    let (door, code) = match grpc_code(response.headers()) {
        Some(code) => ("grpc", code),
        None => ("rest", response.status().as_u16().to_string()),
    };
    // An unknown method of a known service would make a new label for each name that a client thinks of.
    let route = if door == "grpc" && code == "12" { "none".to_owned() } else { route };
    counter!(REQUESTS, "door" => door, "route" => route.clone(), "code" => code).increment(1);
    histogram!(REQUEST_SECONDS, "door" => door, "route" => route).record(started.elapsed());
    response
}

/// The code where the head of the answer has it, which is so for every unary call that failed; else 0.
fn grpc_code(headers: &HeaderMap) -> Option<String> {
    let is_grpc = headers.get(http::header::CONTENT_TYPE)?.as_bytes().starts_with(b"application/grpc");
    let code = headers.get(Status::GRPC_STATUS).and_then(|code| code.to_str().ok()).unwrap_or("0");
    is_grpc.then(|| code.to_owned())
}

/// All figures, with those of the collections as they are now.
pub fn render(handle: &PrometheusHandle, statistics: Option<pb::GetStatisticsResponse>) -> String {
    let Some(statistics) = statistics else {
        handle.run_upkeep();
        return handle.render();
    };
    gauge!(DAMAGED).set(statistics.damaged_collections.len() as f64);
    if let Some(bytes) = statistics.disk_free_bytes {
        gauge!(DISK_FREE).set(bytes as f64);
    }
    for collection in statistics.collections {
        let name = collection.name;
        gauge!(RECORDS, "collection" => name.clone()).set(collection.record_count as f64);
        gauge!(LOG_BYTES, "collection" => name.clone()).set(collection.log_bytes as f64);
        gauge!(SEQUENCE, "collection" => name.clone()).set(collection.sequence as f64);
        gauge!(PARTS_BYTES, "collection" => name.clone()).set(collection.parts_bytes as f64);
        gauge!(CHECKPOINT_AGE, "collection" => name.clone()).set(collection.checkpoint_age_seconds);
        gauge!(READ_ONLY, "collection" => name.clone()).set(f64::from(u8::from(collection.read_only)));
        // A gauge, though it only grows: it goes with its collection, and begins again with one of the same name.
        gauge!(CHECKPOINT_FAILURES, "collection" => name).set(collection.checkpoint_failures as f64);
    }
    handle.run_upkeep();
    handle.render()
}
