//! Load of searches: connections, each with a window of queries in flight, until a budget is spent.
//!
//! Closed loop: an answer makes room for the next query. First a warm-up, which nobody counts; then all connections
//! begin at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::queries::Queries;
use super::stream::StreamClient;
use super::unary::UnaryClient;
use super::{Mode, WINDOW_MAX};
use crate::cli::bench::BenchError;
use crate::cli::bench::connection::{Connection, Endpoint};
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::threads::{run_on_threads, thread_count};

/// The part of a run's budget that the warm-up takes.
const WARM_UP_SHARE: f64 = 0.1;

/// How long a run takes.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// So many queries.
    Queries(u64),
    /// So much time; what is in flight then is waited for.
    Time(Duration),
}

impl Budget {
    fn warm_up(self) -> Self {
        match self {
            Self::Queries(queries) => Self::Queries((queries as f64 * WARM_UP_SHARE).ceil() as u64),
            Self::Time(time) => Self::Time(time.mul_f64(WARM_UP_SHARE)),
        }
    }
}

/// What to run.
#[derive(Clone)]
pub struct Load {
    /// One call for each query, or many on a stream.
    pub mode: Mode,
    /// Connections.
    pub connections: usize,
    /// Queries in flight on each.
    pub in_flight: usize,
    /// Of the whole run.
    pub budget: Budget,
    /// What is asked.
    pub queries: Arc<Queries>,
}

/// What came of a run.
pub struct Measured {
    /// From the first query to the last answer.
    pub time: Duration,
    /// One for each query.
    pub latencies: Latencies,
    /// The first answers, by the number of the query.
    pub samples: Vec<(u64, Bytes)>,
    /// Queries of the warm-up, which are not among the others.
    pub warm_up_queries: usize,
}

impl Measured {
    /// Queries answered in a second.
    pub fn queries_per_s(&self) -> f64 {
        self.latencies.count() as f64 / self.time.as_secs_f64()
    }
}

/// What is left of a budget, for all connections together.
struct Quota {
    next: AtomicU64,
    queries_max: u64,
}

/// A part of a run, for one connection.
#[derive(Clone)]
pub struct Phase {
    quota: Arc<Quota>,
    until: Option<Instant>,
    /// How many of the first answers are kept.
    samples_max: u64,
}

impl Phase {
    fn new(quota: Arc<Quota>, budget: Budget, samples_max: u64) -> Self {
        let until = match budget {
            Budget::Time(time) => Some(Instant::now() + time),
            Budget::Queries(_) => None,
        };
        Self { quota, until, samples_max }
    }

    /// The number of the next query, unless the budget is spent.
    pub fn take(&self, now: Instant) -> Option<u64> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        let number = self.quota.next.fetch_add(1, Ordering::Relaxed);
        (number < self.quota.queries_max).then_some(number)
    }
}

impl Quota {
    fn of(budget: Budget) -> Arc<Self> {
        let queries_max = match budget {
            Budget::Queries(queries) => queries,
            Budget::Time(_) => u64::MAX,
        };
        Arc::new(Self { next: AtomicU64::new(0), queries_max })
    }
}

/// What one client has seen of a phase.
#[derive(Default)]
pub struct Seen {
    latencies: Latencies,
    samples: Vec<(u64, Bytes)>,
}

impl Seen {
    /// A query was answered.
    pub fn record(&mut self, phase: &Phase, number: u64, latency: Duration, answer: Bytes) {
        self.latencies.record(latency);
        if number < phase.samples_max {
            self.samples.push((number, answer));
        }
    }

    /// Takes in what another client has seen.
    pub fn merge(&mut self, other: Seen) {
        self.latencies.merge(other.latencies);
        self.samples.extend(other.samples);
    }
}

/// What a connection does in a phase, by mode.
enum Client {
    Unary(UnaryClient),
    Stream(StreamClient),
}

impl Client {
    async fn run(&mut self, phase: Phase) -> Result<Seen, BenchError> {
        match self {
            Self::Unary(client) => client.run(phase).await,
            Self::Stream(client) => client.run(phase).await,
        }
    }
}

impl Load {
    /// Runs it against one server.
    pub async fn run(&self, endpoint: &Endpoint) -> Result<Measured, BenchError> {
        assert!((1..=WINDOW_MAX).contains(&self.in_flight), "the window was checked");
        let threads = thread_count(self.connections);
        let shared = Arc::new(Shared {
            load: self.clone(),
            endpoint: endpoint.clone(),
            warm_up: Quota::of(self.budget.warm_up()),
            measured: Quota::of(self.budget),
            all_warm: Barrier::new(self.connections),
        });
        let work = move |thread: usize| {
            let connections = (thread..shared.load.connections).step_by(threads).count();
            run_connections(shared.clone(), connections)
        };
        let runs: Vec<Run> = run_on_threads(threads, work).await?.into_iter().flatten().collect();
        let began = runs.iter().map(|run| run.began).min();
        let ended = runs.iter().map(|run| run.ended).max();
        let time = began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began);
        let warm_up_queries = runs.iter().map(|run| run.warm_up_queries).sum();
        let mut all = Seen::default();
        runs.into_iter().for_each(|run| all.merge(run.seen));
        Ok(Measured { time, latencies: all.latencies, samples: all.samples, warm_up_queries })
    }
}

/// What all connections of a run share.
struct Shared {
    load: Load,
    endpoint: Endpoint,
    warm_up: Arc<Quota>,
    measured: Arc<Quota>,
    all_warm: Barrier,
}

/// The measured part of one connection.
struct Run {
    began: Instant,
    ended: Instant,
    seen: Seen,
    warm_up_queries: usize,
}

async fn run_connections(shared: Arc<Shared>, connections: usize) -> Result<Vec<Run>, BenchError> {
    let mut running = JoinSet::new();
    for _ in 0..connections {
        running.spawn(run_connection(shared.clone()));
    }
    let mut runs = Vec::with_capacity(connections);
    while let Some(run) = running.join_next().await {
        runs.push(run??);
    }
    Ok(runs)
}

async fn run_connection(shared: Arc<Shared>) -> Result<Run, BenchError> {
    let Load { mode, in_flight, budget, queries, .. } = shared.load.clone();
    let connection = Connection::open(&shared.endpoint).await?;
    let mut client = match mode {
        Mode::Unary => Client::Unary(UnaryClient::new(connection, &shared.endpoint, queries.clone(), in_flight)),
        Mode::Stream => {
            Client::Stream(StreamClient::open(connection, &shared.endpoint, queries.clone(), in_flight).await?)
        }
    };
    let warm_up = client.run(Phase::new(shared.warm_up.clone(), budget.warm_up(), 0)).await?;
    let warm_up_queries = warm_up.latencies.count();
    shared.all_warm.wait().await;
    let began = Instant::now();
    let seen = client.run(Phase::new(shared.measured.clone(), budget, queries.sample_count())).await?;
    Ok(Run { began, ended: Instant::now(), seen, warm_up_queries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_queries_is_given_out_once() {
        let budget = Budget::Queries(3);
        let quota = Quota::of(budget);
        let phases = [Phase::new(quota.clone(), budget, 0), Phase::new(quota, budget, 0)];
        let now = Instant::now();
        let taken: Vec<_> = (0..6).map(|turn| phases[turn % 2].take(now)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(2), None, None, None]);
    }

    #[test]
    fn a_budget_of_time_ends_with_it() {
        let budget = Budget::Time(Duration::from_secs(60));
        let phase = Phase::new(Quota::of(budget), budget, 0);
        let now = Instant::now();
        assert_eq!(phase.take(now), Some(0));
        assert_eq!(phase.take(now + Duration::from_secs(61)), None);
        assert_eq!(phase.take(now), Some(1));
    }
}
