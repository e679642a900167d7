//! `vectron bench churn`: a collection that is written to and searched at once, in this process.
//!
//! One thread writes: all rows, then some of them again, then deletes some. Others search meanwhile, without a pause, and
//! go on while the store settles and once nothing changes any more. Now and then a search is repeated, exactly, on the same
//! view: so recall is known while the collection changes.

mod builds;
mod options;
mod output;
mod phase;
mod searching;
mod writing;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::array::{Array, check_direction, read_vectors};
use super::data_folder::DataFolder;
use super::engine::Engine;
use super::report::tell;
use super::{BenchError, until_interrupted};
use crate::cli::npy::Number;
use crate::types::Vector;
use builds::Builds;
pub use options::ChurnOptions;
use output::Output;
use phase::{Phase, PhaseEnd, Window};
use searching::Searching;
use writing::Writing;

/// Nothing was built, or had to be, for so long: the collection has settled.
const QUIET: Duration = Duration::from_secs(3);
/// How often the collection is looked at while it settles.
const LOOK: Duration = Duration::from_millis(20);

/// For `--help`.
pub const EXAMPLES: &str = "\
Examples:
  vectron bench churn --base base.npy --queries queries.npy
  vectron bench churn --base base.npy --queries queries.npy --rows-per-s 5000 --search-threads 2
  vectron bench churn --base base.npy --queries queries.npy --updates 50 --deletes 0 --idle 20
  vectron bench churn --base base.npy --queries queries.npy | jq -c 'select(.p99_ratio)'

A line for each phase: `insert` (all rows), `update` (some of them again, each near to where another lies), `delete`,
`settle` (until nothing is being built any more) and `idle`. Rows are written in batches of 100, buffered, while threads
search without a pause.

`p50_us`, `p99_us` and `max_us` are of searches, in microseconds; `rows_per_s` is of writes. One search in 50 is repeated by
comparing all records of the same view, which is in no latency: `recall` is the share of its answer that the first had
found, and `recall_least` the least of any run of at least 500 hits. `built_per_written` is the rows built into segments
so far, for each row written so far; `resident_mb` is the memory of this whole process at the end of the phase.

The last line sums up: `p99_ratio` is the p99 of searches while something was being built, divided by that of `idle`.
On a terminal there is a table instead; --json gives lines of JSON there too.";

/// Measures.
pub async fn run(options: ChurnOptions) -> Result<(), BenchError> {
    // Dropped here, so that an interruption removes it while the work is still on its thread.
    let folder = DataFolder::new(options.data.as_deref())?;
    let path = folder.path().to_owned();
    let work = tokio::task::spawn_blocking(move || measure(&options, &path));
    until_interrupted(async { work.await? }).await
}

fn measure(options: &ChurnOptions, folder: &Path) -> Result<(), BenchError> {
    let (queries, rows) = open(options)?;
    let engine = Engine::create(folder, queries[0].dimension().get(), options.metric.into())?;
    let (clock, is_over) = (Instant::now(), AtomicBool::new(false));
    let searching = Searching::new(&engine, &queries, options, clock);
    let builds = Builds::new(clock);
    let writing = Writing { engine: &engine, options, rows };
    thread::scope(|scope| {
        // Also where a write fails: the scope waits for its threads.
        let _over = Over(&is_over);
        for _ in 0..options.search_threads.get() {
            scope.spawn(|| searching.run(&is_over));
        }
        scope.spawn(|| builds.watch(&engine.collection, &is_over));
        let output = Output::new(options, &engine, &searching, &builds);
        run_phases(&writing, &output, clock)
    })
}

fn run_phases(writing: &Writing<'_>, output: &Output<'_>, clock: Instant) -> Result<(), BenchError> {
    output.begin()?;
    let mut rows_written = 0;
    for phase in [Phase::Insert, Phase::Update, Phase::Delete] {
        let from = clock.elapsed();
        let rows = match phase {
            Phase::Insert => writing.insert()?,
            Phase::Update => writing.update()?,
            _ => writing.delete()?,
        };
        let window = Window { from, to: clock.elapsed() };
        rows_written += if phase == Phase::Delete { 0 } else { rows };
        output.phase(&PhaseEnd { phase, window, rows, rows_written })?;
    }
    let from = clock.elapsed();
    let settled = settle(writing.engine, clock);
    let phase_end = |phase, from, to| PhaseEnd { phase, window: Window { from, to }, rows: 0, rows_written };
    output.phase(&phase_end(Phase::Settle, from, settled))?;
    tell("idle: searches alone");
    let from = clock.elapsed();
    thread::sleep(Duration::from_secs_f64(writing.options.idle));
    let idle = phase_end(Phase::Idle, from, clock.elapsed());
    output.phase(&idle)?;
    output.end(&idle)
}

/// Waits until nothing is built any more. Returns when that was.
fn settle(engine: &Engine, clock: Instant) -> Duration {
    tell("settling: until nothing is being built");
    let (mut built, mut changed) = (engine.collection.built(), clock.elapsed());
    while clock.elapsed() - changed < QUIET {
        thread::sleep(LOOK);
        let now = engine.collection.built();
        if engine.collection.is_building() || now != built {
            (built, changed) = (now, clock.elapsed());
        }
    }
    changed
}

/// The queries, and how many rows of the base are used.
fn open(options: &ChurnOptions) -> Result<(Vec<Vector>, u64), BenchError> {
    let base = *Array::open(&options.base, Number::FLOATS)?.header();
    let rows = options.limit_base.map_or(base.rows, |limit| limit.get().min(base.rows));
    if rows == 0 {
        return Err(format!("{}: expected at least one vector, but there is none", options.base.display()).into());
    }
    let queries = read_vectors(&options.queries)?;
    let (dimension, got) = (base.columns, queries[0].dimension().get());
    if got != dimension {
        let (base, queries) = (options.base.display(), options.queries.display());
        return Err(format!("the vectors of {base} have {dimension} components, but those of {queries} {got}").into());
    }
    for (row, query) in queries.iter().enumerate() {
        check_direction(&options.queries, row as u64, query, options.metric.into())?;
    }
    Ok((queries, rows))
}

/// Ends the threads when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
