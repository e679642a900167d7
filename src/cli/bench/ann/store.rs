//! The scratch collection: filled, built, and then changed as asked.

use std::path::Path;
use std::time::{Duration, Instant};

use super::AnnOptions;
use super::cores::FewCores;
use super::data::DataSet;
use crate::cli::bench::BenchError;
use crate::cli::bench::bar::Bar;
use crate::cli::bench::engine::Engine;
use crate::cli::bench::random::Random;
use crate::cli::bench::writer::Writer;
use crate::collection::Collection;
use crate::types::limits::BATCH_RECORDS_MAX;

/// Components of a batch: some megabytes.
const BATCH_COMPONENTS: usize = 1 << 19;

/// A filled collection.
pub struct Store {
    /// Where the records are.
    pub engine: Engine,
    /// Time to write all rows.
    pub load: Duration,
    /// Time that the building took after it.
    pub build: Duration,
}

impl Store {
    /// Writes the base, has it built, writes the rest, and deletes.
    pub fn fill(folder: &Path, options: &AnnOptions, data: &DataSet) -> Result<Self, BenchError> {
        let _few = options.build_threads.map(FewCores::confine).transpose()?;
        let engine = Engine::create(folder, data.dimension, options.metric.into())?;
        let collection = &engine.collection;
        let is_late = |row: u64| in_share(row + 1, options.memtable) > in_share(row, options.memtable);
        let rows_late = in_share(data.rows, options.memtable);

        let mut load = write(&engine, data, data.rows - rows_late, |row| !is_late(row))?;
        let build = build(collection);
        if rows_late > 0 {
            load += write(&engine, data, rows_late, is_late)?;
        }
        if options.deleted > 0.0 {
            let bar = Bar::new("deleting", data.rows, "rows");
            let mut writer = Writer::new(&engine, BATCH_RECORDS_MAX);
            for row in 0..data.rows {
                if Random::numbered(options.seed, row).share() < options.deleted / 100.0 {
                    writer.delete(data.id(row)?)?;
                    bar.set(row);
                }
            }
            writer.finish()?;
        }
        if collection.view().record_count() == 0 {
            return Err(format!("--deleted {} has left none of {} records", options.deleted, data.rows).into());
        }
        Ok(Self { engine, load, build })
    }
}

/// Writes the rows that are wanted, of which there are `count`. Returns how long it took.
fn write(engine: &Engine, data: &DataSet, count: u64, wanted: impl Fn(u64) -> bool) -> Result<Duration, BenchError> {
    let started = Instant::now();
    let bar = Bar::new("writing", count, "rows");
    let mut writer = Writer::new(engine, (BATCH_COMPONENTS / data.dimension).clamp(1, BATCH_RECORDS_MAX));
    data.each_row(|row, vector, content| {
        if !wanted(row) {
            return Ok(());
        }
        bar.add(1);
        writer.write(data.id(row)?, vector, content)
    })?;
    writer.finish()?;
    Ok(started.elapsed())
}

/// How many of the first `rows` are in an evenly spread share.
fn in_share(rows: u64, percent: f64) -> u64 {
    (rows as f64 * percent / 100.0) as u64
}

fn build(collection: &Collection) -> Duration {
    let bar = Bar::new("building", collection.view().record_count() as u64, "rows");
    let started = Instant::now();
    collection.compact(&mut |built, all| {
        bar.set_count(all);
        bar.set(built);
    });
    started.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly_and_has_its_size() {
        let late: Vec<u64> = (0..20).filter(|&row| in_share(row + 1, 25.0) > in_share(row, 25.0)).collect();
        assert_eq!(late, [3, 7, 11, 15, 19]);
        assert_eq!((in_share(1_000_000, 0.0), in_share(1_000_000, 12.5)), (0, 125_000));
    }
}
