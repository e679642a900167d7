//! Load of writes: streams over connections, which begin at once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::stream::{StreamClient, Written};
use crate::cli::bench::BenchError;
use crate::cli::bench::connection::{Connection, Endpoint};
use crate::cli::bench::echo::Credit;
use crate::cli::bench::encoding::Encoding;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::threads::{run_on_threads, thread_count};
use crate::cli::bench::vectors::Vectors;
use crate::pb::v1::Durability;

/// What to write.
pub struct Load {
    /// Into this collection.
    pub collection: String,
    /// When a frame is settled.
    pub durability: Durability,
    /// How vectors are sent.
    pub encoding: Encoding,
    /// The vectors; a row is the vector of its number.
    pub vectors: Arc<Vectors>,
    /// Rows of all streams.
    pub rows: u64,
    /// Rows of a frame.
    pub frame_records: u64,
    /// Streams, each with a part of the rows.
    pub streams: usize,
    /// Connections, each with a part of the streams.
    pub connections: usize,
    /// Counted while it runs.
    pub rows_settled: AtomicU64,
}

/// What came of a run.
pub struct Measured {
    /// From the first frame sent to the last one settled.
    pub time: Duration,
    /// Bytes of all frames.
    pub bytes: u64,
    /// One for each frame.
    pub latencies: Latencies,
    /// The sequence at which everything is visible.
    pub sequence: u64,
    /// What the server allowed on each stream.
    pub credit: Credit,
}

impl Load {
    /// The rows of a stream.
    fn rows_of(&self, stream: usize) -> Range<u64> {
        let bound = |stream: usize| (u128::from(self.rows) * stream as u128 / self.streams as u128) as u64;
        bound(stream)..bound(stream + 1)
    }

    /// Runs it against one server.
    pub async fn run(self: Arc<Self>, endpoint: &Endpoint) -> Result<Measured, BenchError> {
        let threads = thread_count(self.connections);
        let (load, endpoint) = (self.clone(), endpoint.clone());
        let all_open = Arc::new(Barrier::new(self.streams));
        let work = move |thread: usize| {
            let connections = (thread..load.connections).step_by(threads).collect();
            run_connections(load.clone(), endpoint.clone(), connections, all_open.clone())
        };
        let written: Vec<Written> = run_on_threads(threads, work).await?.into_iter().flatten().collect();
        summed(written).ok_or_else(|| "no stream was written".into())
    }
}

fn summed(written: Vec<Written>) -> Option<Measured> {
    let began = written.iter().map(|stream| stream.began).min()?;
    let ended = written.iter().map(|stream| stream.ended).max()?;
    let mut measured = Measured {
        time: ended - began,
        bytes: written.iter().map(|stream| stream.bytes).sum(),
        latencies: Latencies::default(),
        sequence: written.iter().map(|stream| stream.sequence).max()?,
        credit: written.first()?.credit,
    };
    written.into_iter().for_each(|stream| measured.latencies.merge(stream.latencies));
    Some(measured)
}

/// Runs these connections, with all their streams, on this thread.
async fn run_connections(
    load: Arc<Load>,
    endpoint: Endpoint,
    connections: Vec<usize>,
    all_open: Arc<Barrier>,
) -> Result<Vec<Written>, BenchError> {
    let mut running = JoinSet::new();
    for first in connections {
        let connection = Connection::open(&endpoint).await?;
        for stream in (first..load.streams).step_by(load.connections) {
            let (load, connection, endpoint) = (load.clone(), connection.clone(), endpoint.clone());
            let all_open = all_open.clone();
            running.spawn(async move {
                let rows = load.rows_of(stream);
                let stream = StreamClient::open(load, connection, &endpoint, rows).await?;
                all_open.wait().await;
                stream.run().await
            });
        }
    }
    let mut written = Vec::new();
    while let Some(stream) = running.join_next().await {
        written.push(stream??);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_belongs_to_one_stream() {
        let load = |rows, streams| Load {
            collection: String::new(),
            durability: Durability::Durable,
            encoding: Encoding::Bytes,
            vectors: Arc::new(Vectors::new(1, 1)),
            rows,
            frame_records: 1,
            streams,
            connections: 1,
            rows_settled: AtomicU64::new(0),
        };
        for (rows, streams) in [(10, 3), (7, 7), (1_000_000, 4), (u64::MAX, 5)] {
            let load = load(rows, streams);
            let parts: Vec<_> = (0..streams).map(|stream| load.rows_of(stream)).collect();
            assert_eq!((parts[0].start, parts[streams - 1].end), (0, rows));
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(parts.iter().all(|part| !part.is_empty()));
        }
    }
}
