//! One call for each query: as many loops on a connection as there may be queries in flight.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::load::{Phase, Seen};
use super::queries::Queries;
use crate::cli::bench::BenchError;
use crate::cli::bench::connection::{Call, Connection, Endpoint};

/// A connection that makes unary calls.
pub struct UnaryClient {
    connection: Connection,
    call: Call,
    queries: Arc<Queries>,
    in_flight: usize,
}

impl UnaryClient {
    /// On this connection.
    pub fn new(connection: Connection, endpoint: &Endpoint, queries: Arc<Queries>, in_flight: usize) -> Self {
        Self { connection, call: Call::new(endpoint, "Search"), queries, in_flight }
    }

    /// Keeps the window full until the phase is over.
    pub async fn run(&self, phase: Phase) -> Result<Seen, BenchError> {
        let mut loops = JoinSet::new();
        for _ in 0..self.in_flight {
            let (connection, call) = (self.connection.clone(), self.call.clone());
            loops.spawn(call_in_turn(connection, call, self.queries.clone(), phase.clone()));
        }
        let mut all = Seen::default();
        while let Some(seen) = loops.join_next().await {
            all.merge(seen??);
        }
        Ok(all)
    }
}

async fn call_in_turn(
    mut connection: Connection,
    call: Call,
    queries: Arc<Queries>,
    phase: Phase,
) -> Result<Seen, BenchError> {
    let mut seen = Seen::default();
    let mut began = Instant::now();
    while let Some(number) = phase.take(began) {
        let answer = connection.unary(&call, queries.framed(number)).await?;
        // One look at the clock serves the end of this call and the beginning of the next.
        let ended = Instant::now();
        seen.record(&phase, number, ended - began, answer);
        began = ended;
    }
    Ok(seen)
}
