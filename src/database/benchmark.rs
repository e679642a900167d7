//! Measures this machine on a scratch store with generated vectors. Never touches user data.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Database, DatabaseError, DatabaseOptions, raw_space};
use crate::collection::{Change, Collection, Content, Created, Effort, Operation, RecordWritten, Search, Upserted};
use crate::storage::log::{Durability, LogError};
use crate::types::{CollectionName, Dimension, RecordId, Vector};

const FOLDER: &str = "benchmark_temp";
/// Vectors of one batch.
const BATCH_VECTORS: usize = 100;
/// Durable writes of one vector each: every one waits for the disk, so more would only take longer.
const SINGLE_DURABLE_MAX: usize = 100;
/// Hits of a search.
const TOP_K: usize = 10;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Parameters {
    /// Vectors to insert: at least 1.
    pub vector_count: usize,
    /// Components of each.
    pub dimension: Dimension,
    /// Searches: at least 1.
    pub search_count: usize,
    /// Also close the store, open it again, and compare.
    pub test_persistence: bool,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// One durable write after the other, of at most 100 of the vectors.
    pub insert_single_durable: Latency,
    /// Durable batches of 100.
    pub insert_batch: Latency,
    /// One buffered write after the other.
    pub insert_buffered: Latency,
    /// Exact searches, top 10.
    pub search: Latency,
    /// Set where it was asked for.
    pub persistence: Option<Persistence>,
}

/// Latency of calls, one after the other.
#[derive(Clone, Debug)]
pub struct Latency {
    /// Vectors (or searches) in all calls.
    pub items: usize,
    /// Time of each call, shortest first.
    pub calls: Vec<Duration>,
}

/// A restart of the scratch store.
#[derive(Clone, Copy, Debug)]
pub struct Persistence {
    /// Time to close it.
    pub close: Duration,
    /// Time to open it again.
    pub open: Duration,
    /// Records found.
    pub record_count: usize,
    /// Whether every record was found with the same vector.
    pub verified: bool,
}

impl Latency {
    fn new(items: usize, mut calls: Vec<Duration>) -> Self {
        calls.sort_unstable();
        Self { items, calls }
    }

    /// Time of all calls.
    pub fn total(&self) -> Duration {
        self.calls.iter().sum()
    }

    /// The latency that a share of the calls stays within; `share` from 0 to 1.
    pub fn quantile(&self, share: f64) -> Duration {
        let index = ((self.calls.len() as f64 * share).ceil() as usize).clamp(1, self.calls.len()) - 1;
        self.calls[index]
    }
}

/// The scratch folder, removed whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what a benchmark left that was killed.
pub(super) fn remove_leftovers(data: &Path) {
    let _ = std::fs::remove_dir_all(data.join(FOLDER));
}

/// Runs the benchmark in `<data>/benchmark_temp`, which is empty before and gone afterwards.
pub fn run(data: &Path, parameters: Parameters) -> Result<Report, DatabaseError> {
    let scratch = Scratch(data.join(FOLDER));
    remove_leftovers(data);
    let (database, _) = Database::open(&scratch.0, DatabaseOptions::default())?;
    let vectors = generate(parameters.vector_count, parameters.dimension, 1);
    let single = vectors.len().min(SINGLE_DURABLE_MAX);
    let insert_single_durable = insert(&database, "single", &vectors[..single], 1, Durability::Durable)?;
    let insert_buffered = insert(&database, "buffered", &vectors, 1, Durability::Buffered)?;
    let insert_batch = insert(&database, "batch", &vectors, BATCH_VECTORS, Durability::Durable)?;
    let search = search(&*database.get("batch")?, parameters);
    let persistence = match parameters.test_persistence {
        true => Some(restart(&scratch.0, database, &vectors)?),
        false => None,
    };
    Ok(Report { insert_single_durable, insert_batch, insert_buffered, search, persistence })
}

fn insert(
    database: &Database,
    name: &str,
    vectors: &[Vector],
    batch_vectors: usize,
    durability: Durability,
) -> Result<Latency, DatabaseError> {
    let space = raw_space(vectors[0].dimension());
    let created = Created { spaces: vec![space.clone()], ..Created::default() };
    let collection = database.create(&CollectionName::new(name).expect("the name is valid"), created, None)?;
    let mut calls = Vec::new();
    for (batch, vectors) in vectors.chunks(batch_vectors).enumerate() {
        let records = vectors
            .iter()
            .enumerate()
            .map(|(position, vector)| RecordWritten {
                id: record_id(batch * batch_vectors + position),
                space: space.name.clone(),
                vector: vector.clone(),
                content: Arc::new(Content::default()),
                if_version: None,
            })
            .collect();
        let change = Change::Upserted(Upserted { records, ..Upserted::default() });
        let started = Instant::now();
        let answer = collection.submit(Operation::new(change), durability)?;
        let outcome = answer.blocking_recv().map_err(|_| LogError::Closed)??;
        calls.push(started.elapsed());
        assert!(outcome.is_ok(), "a write without conditions is never refused");
    }
    Ok(Latency::new(vectors.len(), calls))
}

fn search(collection: &Collection, parameters: Parameters) -> Latency {
    let view = collection.view();
    let space = view.place(parameters.dimension, None).expect("the collection has this one space");
    let calls = generate(parameters.search_count, parameters.dimension, 2)
        .into_iter()
        .map(|vector| {
            let started = Instant::now();
            Search { space, vector, top_k: TOP_K, filter: None, effort: Effort::Exact }.run(view.clone());
            started.elapsed()
        })
        .collect();
    Latency::new(parameters.search_count, calls)
}

fn restart(folder: &Path, database: Database, vectors: &[Vector]) -> Result<Persistence, DatabaseError> {
    let started = Instant::now();
    database.close();
    drop(database);
    let close = started.elapsed();
    let started = Instant::now();
    let (database, _) = Database::open(folder, DatabaseOptions::default())?;
    let open = started.elapsed();
    let view = database.get("batch")?.view();
    let same = |(number, vector): (usize, &Vector)| {
        view.get(record_id(number).as_str()).is_some_and(|(row, _)| row.components == vector.components())
    };
    let verified = view.record_count() == vectors.len() && vectors.iter().enumerate().all(same);
    Ok(Persistence { close, open, record_count: view.record_count(), verified })
}

fn record_id(number: usize) -> RecordId {
    RecordId::new(&format!("vector-{number}")).expect("the id is valid")
}

/// Vectors with components from -1 to 1, the same for the same seed (SplitMix64).
fn generate(count: usize, dimension: Dimension, seed: u64) -> Vec<Vector> {
    let mut state = seed;
    let mut component = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // Never all zero: the smallest step from zero is wider than the rounding.
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 23) as f32 - 1.0 + f32::EPSILON
    };
    (0..count)
        .map(|_| Vector::new((0..dimension.get()).map(|_| component()).collect()).expect("components are finite"))
        .collect()
}
