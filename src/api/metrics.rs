//! What is counted, in one place: requests by both doors, and what the store holds.
//!
//! Read at `GET /metrics`, in the text format of Prometheus. An embedding service in this process counts into the same recorder, under
//! names of its own, and gives them at its own port.

use axum::response::Response;
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use vectron_embedding::FIGURES_PREFIX;
use vectron_embedding::port::{Figures, FiguresError, RequestFigures};

use crate::pb::v1 as pb;

/// Of requests.
pub const REQUESTS: RequestFigures =
    RequestFigures { requests: "vectron_requests_total", seconds: "vectron_request_seconds" };
const RECORDS: &str = "vectron_collection_records";
const LOG_BYTES: &str = "vectron_collection_log_bytes";
const SEQUENCE: &str = "vectron_collection_sequence";
const PARTS_BYTES: &str = "vectron_collection_parts_bytes";
const CHECKPOINT_AGE: &str = "vectron_collection_checkpoint_age_seconds";
const CHECKPOINT_FAILURES: &str = "vectron_collection_checkpoint_failures";
const READ_ONLY: &str = "vectron_collection_read_only";
const DAMAGED: &str = "vectron_collections_damaged";
const DISK_FREE: &str = "vectron_disk_free_bytes";

/// Sets up what counts in this process.
pub fn install() -> Result<Figures, FiguresError> {
    let figures = Figures::of_this_process()?;
    describe_counter!(REQUESTS.requests, "Requests answered, by door (grpc or rest), route and code.");
    describe_histogram!(REQUESTS.seconds, "Seconds from a request to the head of its answer, by door and route.");
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
    Ok(figures)
}

/// All figures of the store, with those of the collections as they are now.
pub fn answer(figures: &Figures, statistics: Option<pb::GetStatisticsResponse>) -> Response {
    if let Some(statistics) = &statistics {
        gauge!(DAMAGED).set(statistics.damaged_collections.len() as f64);
        if let Some(bytes) = statistics.disk_free_bytes {
            gauge!(DISK_FREE).set(bytes as f64);
        }
    }
    for collection in statistics.map(|statistics| statistics.collections).unwrap_or_default() {
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
    figures.answer(|name| !name.starts_with(FIGURES_PREFIX))
}
