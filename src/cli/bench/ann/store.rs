//! The scratch collection: filled, built, and then changed as asked.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::AnnOptions;
use super::cores::FewCores;
use super::data::DataSet;
use crate::cli::bench::BenchError;
use crate::cli::bench::bar::Bar;
use crate::cli::bench::random::Random;
use crate::collection::{
    Answer, Change, Collection, Content, Created, Operation, RecordRemoved, RecordWritten, SpaceNumber, Upserted,
};
use crate::database::Database;
use crate::storage::log::Durability;
use crate::types::limits::BATCH_RECORDS_MAX;
use crate::types::{CollectionName, Dimension, Metric, RecordId, Space, SpaceName, Vector};

/// Components of a batch: some megabytes.
const BATCH_COMPONENTS: usize = 1 << 19;
/// Batches on their way, far below what a collection takes in.
const BATCHES_IN_FLIGHT: usize = 8;

/// A filled collection.
pub struct Store {
    /// Holds the folder's lock.
    _database: Database,
    /// The collection.
    pub collection: Arc<Collection>,
    /// Its only space.
    pub space: SpaceNumber,
    /// How its vectors are compared.
    pub metric: Metric,
    /// Time to write all rows.
    pub load: Duration,
    /// Time that the building took after it.
    pub build: Duration,
}

impl Store {
    /// Writes the base, has it built, writes the rest, and deletes.
    pub fn fill(folder: &Path, options: &AnnOptions, data: &DataSet) -> Result<Self, BenchError> {
        let _few = options.build_threads.map(FewCores::confine).transpose()?;
        let (database, _) = Database::open(folder)?;
        let space = Space {
            name: SpaceName::new("vectors")?,
            dimension: Dimension::new(data.dimension).ok_or("a vector has at least one component")?,
            metric: options.metric.into(),
            text_model: None,
        };
        let created = Created { spaces: vec![space.clone()], ..Created::default() };
        let collection = database.create(&CollectionName::new("bench")?, created, None)?;
        let number = collection.view().place(space.dimension, None)?;
        let is_late = |row: u64| in_share(row + 1, options.memtable) > in_share(row, options.memtable);
        let rows_late = in_share(data.rows, options.memtable);
        let start = |what, rows| Writer::new(&collection, &space, Bar::new(what, rows, "rows"));

        let started = Instant::now();
        let mut writer = start("writing", data.rows - rows_late);
        data.each_row(|row, vector| if is_late(row) { Ok(()) } else { writer.write(row, vector) })?;
        writer.finish()?;
        let mut load = started.elapsed();
        let build = build(&collection);
        if rows_late > 0 {
            let started = Instant::now();
            let mut writer = start("writing", rows_late);
            data.each_row(|row, vector| if is_late(row) { writer.write(row, vector) } else { Ok(()) })?;
            writer.finish()?;
            load += started.elapsed();
        }
        if options.deleted > 0.0 {
            let mut writer = start("deleting", data.rows);
            let is_deleted = |&row: &u64| Random::numbered(options.seed, row).share() < options.deleted / 100.0;
            (0..data.rows).filter(is_deleted).try_for_each(|row| writer.delete(row))?;
            writer.finish()?;
        }
        if collection.view().record_count() == 0 {
            return Err(format!("--deleted {} has left none of {} records", options.deleted, data.rows).into());
        }
        Ok(Self { _database: database, collection, space: number, metric: space.metric, load, build })
    }

    /// The id of a row of the base.
    pub fn id(row: u64) -> String {
        row.to_string()
    }
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

/// Batches on their way into the collection.
struct Writer<'a> {
    collection: &'a Collection,
    space: SpaceName,
    records: Vec<RecordWritten>,
    removed: Vec<RecordRemoved>,
    batch_records: usize,
    answers: VecDeque<Answer>,
    bar: Bar,
}

impl<'a> Writer<'a> {
    fn new(collection: &'a Collection, space: &Space, bar: Bar) -> Self {
        let batch_records = (BATCH_COMPONENTS / space.dimension.get()).clamp(1, BATCH_RECORDS_MAX);
        let (records, removed, answers) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { collection, space: space.name.clone(), records, removed, batch_records, answers, bar }
    }

    fn write(&mut self, row: u64, vector: Vector) -> Result<(), BenchError> {
        let (id, space) = (RecordId::new(&Store::id(row))?, self.space.clone());
        self.records.push(RecordWritten { id, space, vector, content: Arc::new(Content::default()), if_version: None });
        self.bar.add(1);
        if self.records.len() < self.batch_records { Ok(()) } else { self.send() }
    }

    fn delete(&mut self, row: u64) -> Result<(), BenchError> {
        let id = RecordId::new(&Store::id(row))?;
        self.removed.push(RecordRemoved { id, if_version: None, observed_version: None });
        self.bar.set(row);
        if self.removed.len() < BATCH_RECORDS_MAX { Ok(()) } else { self.send() }
    }

    /// Sends what was gathered; waits where too much is on its way.
    fn send(&mut self) -> Result<(), BenchError> {
        let (records, removed) = (std::mem::take(&mut self.records), std::mem::take(&mut self.removed));
        let upserted = (!records.is_empty()).then(|| Change::Upserted(Upserted { records, ..Upserted::default() }));
        let deleted = (!removed.is_empty()).then_some(Change::Deleted(removed));
        for change in [upserted, deleted].into_iter().flatten() {
            self.answers.push_back(self.collection.submit(Operation::new(change), Durability::Buffered)?);
        }
        self.wait_until(BATCHES_IN_FLIGHT)
    }

    /// Sends the rest, and waits for all.
    fn finish(mut self) -> Result<(), BenchError> {
        self.send()?;
        self.wait_until(0)
    }

    fn wait_until(&mut self, in_flight: usize) -> Result<(), BenchError> {
        while self.answers.len() > in_flight {
            let Some(answer) = self.answers.pop_front() else { break };
            answer.blocking_recv()???;
        }
        Ok(())
    }
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
