//! AdminService: what the server is, what it holds, how fast it is.

use std::time::{Duration, Instant};

use crate::api::convert::invalid;
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::snapshots::{CHUNK_BYTES_MAX, TRANSFERS_MAX};
use crate::api::handlers::{Handlers, blocking};
use crate::database::{Entry, benchmark};
use crate::distance::kernels;
use crate::pb::v1 as pb;
use crate::types::Dimension;
use crate::types::limits;

/// What is built; the rest of the contract answers UNIMPLEMENTED.
const CAPABILITIES: [&str; 26] = [
    "AdminService.CreateSnapshot",
    "AdminService.DeleteSnapshot",
    "AdminService.DownloadSnapshot",
    "AdminService.GetServerInfo",
    "AdminService.GetStatistics",
    "AdminService.ListSnapshots",
    "AdminService.RestoreSnapshot",
    "AdminService.RunBenchmark",
    "AdminService.UploadSnapshot",
    "CollectionService.CreateCollection",
    "CollectionService.DeleteCollection",
    "CollectionService.GetCollection",
    "CollectionService.ListCollections",
    "CollectionService.UpdateCollection",
    "CountRequest.filter",
    "DeleteRequest.filter",
    "ListRequest.filter",
    "SearchRequest.filter",
    "VectorService.Count",
    "VectorService.Delete",
    "VectorService.Get",
    "VectorService.List",
    "VectorService.Search",
    "VectorService.StreamSearch",
    "VectorService.StreamUpsert",
    "VectorService.Upsert",
];

const BENCHMARK_VECTORS_MAX: u32 = 100_000;
/// Numbers in all vectors: they are kept three times over, 4 bytes each.
const BENCHMARK_COMPONENTS_MAX: u64 = 50_000_000;
const BENCHMARK_DIMENSION_MAX: u32 = 4_096;
const BENCHMARK_SEARCHES_MAX: u32 = 10_000;

impl Handlers {
    /// `AdminService.GetServerInfo`.
    pub async fn server_info(&self) -> Result<pb::GetServerInfoResponse, ApiError> {
        Ok(pb::GetServerInfoResponse {
            name: "vectron".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            limits: Some(pb::Limits {
                message_bytes_max: limits::MESSAGE_BYTES_MAX as u64,
                batch_records_max: limits::BATCH_RECORDS_MAX as u32,
                dimension_max: limits::DIMENSION_MAX as u32,
                top_k_max: limits::TOP_K_MAX as u32,
                id_bytes_max: limits::ID_BYTES_MAX as u32,
                text_bytes_max: limits::TEXT_BYTES_MAX as u32,
                metadata_bytes_max: limits::METADATA_BYTES_MAX as u32,
                collections_max: limits::COLLECTIONS_MAX as u32,
                snapshots_max: limits::SNAPSHOTS_MAX as u32,
                snapshot_archive_bytes_max: limits::ARCHIVE_BYTES_MAX,
                snapshot_chunk_bytes_max: CHUNK_BYTES_MAX as u32,
                snapshot_transfers_max: TRANSFERS_MAX as u32,
            }),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            kernel: kernels().name.to_owned(),
        })
    }

    /// `AdminService.GetStatistics`.
    pub async fn statistics(&self) -> Result<pb::GetStatisticsResponse, ApiError> {
        let database = self.database()?;
        let mut response = pb::GetStatisticsResponse {
            disk_free_bytes: database.free_bytes(),
            ..pb::GetStatisticsResponse::default()
        };
        for (name, entry) in database.list(None, usize::MAX) {
            let Entry::Open(collection) = entry else {
                response.damaged_collections.push(name.to_string());
                continue;
            };
            let (view, memory, keeping) = (collection.view(), collection.statistics(), collection.keeping());
            let statistics = pb::CollectionStatistics {
                name: name.to_string(),
                record_count: view.record_count() as u64,
                log_bytes: collection.log_bytes(),
                sequence: view.sequence().0,
                vector_bytes: memory.vector_bytes,
                segment_count: memory.segment_count as u64,
                segment_records: memory.segment_rows as u64,
                table_records: memory.table_rows as u64,
                dead_rows: memory.dead_rows as u64,
                built_rows: memory.rows_built,
                graph_bytes: memory.graph_bytes,
                code_bytes: memory.code_bytes,
                other_bytes: memory.other_bytes,
                settled: collection.is_settled(),
                parts_bytes: keeping.parts_bytes,
                checkpoint_age_seconds: keeping.age.as_secs_f64(),
                checkpoint_failures: keeping.failures,
                checkpoint_error: keeping.error.map(|error| error.to_string()).unwrap_or_default(),
                read_only: collection.health().is_err(),
            };
            response.record_count += statistics.record_count;
            response.log_bytes += statistics.log_bytes;
            response.parts_bytes += statistics.parts_bytes;
            response.collections.push(statistics);
        }
        Ok(response)
    }

    /// `AdminService.RunBenchmark`.
    pub async fn run_benchmark(&self, request: pb::RunBenchmarkRequest) -> Result<pb::RunBenchmarkResponse, ApiError> {
        let params = pb::RunBenchmarkRequest {
            vector_count: read_number("vector_count", request.vector_count, 1_000, BENCHMARK_VECTORS_MAX)?,
            dimension: read_number("dimension", request.dimension, 384, BENCHMARK_DIMENSION_MAX)?,
            search_count: read_number("search_count", request.search_count, 100, BENCHMARK_SEARCHES_MAX)?,
            test_persistence: request.test_persistence,
        };
        let components = u64::from(params.vector_count) * u64::from(params.dimension);
        if components > BENCHMARK_COMPONENTS_MAX {
            let message =
                format_args!("expected at most {BENCHMARK_COMPONENTS_MAX} numbers in all, but got {components}");
            return Err(invalid("vector_count", message));
        }
        let parameters = benchmark::Parameters {
            vector_count: params.vector_count as usize,
            dimension: Dimension::new(params.dimension as usize).expect("checked above"),
            search_count: params.search_count as usize,
            test_persistence: params.test_persistence,
        };
        // As numbers of four bytes, in three collections.
        self.admit(components as usize * 4 * 3)?;
        let folder = self.database()?.folder().to_owned();
        let turn = self.benchmark.clone().try_lock_owned().map_err(|_| {
            ApiError::new(Reason::Overloaded, "a benchmark is running; two would measure each other")
                .with_retry_after(Duration::from_secs(10))
        })?;
        let started = Instant::now();
        // The turn goes with the work: a caller that leaves does not end the benchmark.
        let report = blocking(move || {
            let _turn = turn;
            Ok(benchmark::run(&folder, parameters)?)
        })
        .await?;
        tracing::info!(seconds = started.elapsed().as_secs_f64(), "benchmark done");
        Ok(to_response(params, &report))
    }
}

fn read_number(field: &str, number: u32, default: u32, max: u32) -> Result<u32, ApiError> {
    match number {
        0 => Ok(default),
        number if number <= max => Ok(number),
        number => Err(invalid(field, format_args!("expected 1 to {max}, but got {number}"))),
    }
}

fn to_response(params: pb::RunBenchmarkRequest, report: &benchmark::Report) -> pb::RunBenchmarkResponse {
    pb::RunBenchmarkResponse {
        params: Some(params),
        insert: Some(pb::BenchmarkInsert {
            single_durable: Some(to_latency(&report.insert_single_durable)),
            batch: Some(to_latency(&report.insert_batch)),
            buffered: Some(to_latency(&report.insert_buffered)),
        }),
        search: Some(to_latency(&report.search)),
        persistence: report.persistence.map(|persistence| pb::BenchmarkPersistence {
            close_ms: to_ms(persistence.close),
            open_ms: to_ms(persistence.open),
            record_count: persistence.record_count as u64,
            verified: persistence.verified,
        }),
    }
}

fn to_latency(latency: &benchmark::Latency) -> pb::BenchmarkLatency {
    let seconds = latency.total().as_secs_f64();
    pb::BenchmarkLatency {
        calls: latency.calls.len() as u64,
        vectors: latency.items as u64,
        seconds,
        per_second: latency.items as f64 / seconds.max(f64::MIN_POSITIVE),
        p50_ms: to_ms(latency.quantile(0.5)),
        p99_ms: to_ms(latency.quantile(0.99)),
    }
}

fn to_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
