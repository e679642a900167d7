//! The writes: in batches, as fast as the store takes them or as fast as was said.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::ChurnOptions;
use crate::cli::bench::BenchError;
use crate::cli::bench::array::{Array, check_direction};
use crate::cli::bench::bar::Bar;
use crate::cli::bench::engine::Engine;
use crate::cli::bench::random::Random;
use crate::cli::bench::writer::Writer;
use crate::cli::npy::Number;
use crate::collection::{Content, View};
use crate::types::{RecordId, Vector, norm};

/// Rows of a batch.
const BATCH_ROWS: usize = 100;
/// How far a row that is written again lies from another, as a share of its length.
const NOISE: f64 = 0.1;
/// Sequences of random numbers, each of its own.
const UPDATED: u64 = 0;
const DELETED: u64 = 1;
const NOISES: u64 = 2;

/// What is written, and where.
pub struct Writing<'a> {
    /// Where.
    pub engine: &'a Engine,
    /// What and how fast.
    pub options: &'a ChurnOptions,
    /// Rows of the base that are used.
    pub rows: u64,
}

impl Writing<'_> {
    /// Writes all rows. Returns how many.
    pub fn insert(&self) -> Result<u64, BenchError> {
        let mut base = Array::open(&self.options.base, Number::FLOATS)?;
        let mut pace = self.pace("inserting", self.rows);
        let mut writer = self.writer();
        while let Some((row, vector)) = base.next_vector()?.filter(|(row, _)| *row < self.rows) {
            check_direction(&self.options.base, row, &vector, self.options.metric.into())?;
            writer.write(id(row)?, vector, Arc::default())?;
            pace.step();
        }
        writer.finish()?;
        Ok(self.rows)
    }

    /// Writes some rows again, each near to where another lies. Returns how many.
    pub fn update(&self) -> Result<u64, BenchError> {
        let mut random = Random::numbered(self.options.seed, NOISES);
        let rows = self.some(self.options.updates, UPDATED);
        let mut pace = self.pace("updating", rows.len() as u64);
        let mut writer = self.writer();
        for batch in rows.chunks(BATCH_ROWS) {
            let view = self.engine.collection.view();
            for &row in batch {
                let vector = near(&view, random.below(self.rows), &mut random)?;
                writer.write(id(row)?, vector, Arc::new(Content::default()))?;
                pace.step();
            }
        }
        writer.finish()?;
        Ok(rows.len() as u64)
    }

    /// Deletes some rows. Returns how many.
    pub fn delete(&self) -> Result<u64, BenchError> {
        let rows = self.some(self.options.deletes, DELETED);
        let mut pace = self.pace("deleting", rows.len() as u64);
        let mut writer = self.writer();
        for &row in &rows {
            writer.delete(id(row)?)?;
            pace.step();
        }
        writer.finish()?;
        Ok(rows.len() as u64)
    }

    /// A share of all rows, in random order.
    fn some(&self, percent: f64, sequence: u64) -> Vec<u64> {
        let mut random = Random::numbered(self.options.seed, sequence);
        let mut rows: Vec<u64> = (0..self.rows).collect();
        let count = (self.rows as f64 * percent / 100.0) as usize;
        for at in 0..count {
            let other = at as u64 + random.below(self.rows - at as u64);
            rows.swap(at, other as usize);
        }
        rows.truncate(count);
        rows
    }

    fn writer(&self) -> Writer<'_> {
        Writer::new(self.engine, BATCH_ROWS)
    }

    fn pace(&self, what: &str, rows: u64) -> Pace {
        let rows_per_s = self.options.rows_per_s.map(|rows| rows.get() as f64);
        Pace { bar: Bar::new(what, rows, "rows"), rows_per_s, started: Instant::now(), rows: 0 }
    }
}

fn id(row: u64) -> Result<RecordId, BenchError> {
    Ok(RecordId::new(&row.to_string())?)
}

/// A vector near to that of a row.
fn near(view: &View, row: u64, random: &mut Random) -> Result<Vector, BenchError> {
    let (row, _) = view.get(id(row)?.as_str()).ok_or_else(|| format!("row {row} was not written"))?;
    let deviation = NOISE * norm(row.components) / (row.components.len() as f64).sqrt();
    let mut components = row.components.to_vec();
    for pair in components.chunks_mut(2) {
        for (component, noise) in pair.iter_mut().zip(random.normal_pair()) {
            *component += (noise * deviation) as f32;
        }
    }
    Ok(Vector::new(components)?)
}

/// Holds the writes back.
struct Pace {
    bar: Bar,
    rows_per_s: Option<f64>,
    started: Instant,
    rows: u64,
}

impl Pace {
    /// One more row. Waits after a batch until it is due.
    fn step(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(BATCH_ROWS as u64) {
            self.bar.set(self.rows);
            let due = self.rows_per_s.map(|rows_per_s| Duration::from_secs_f64(self.rows as f64 / rows_per_s));
            thread::sleep(due.unwrap_or_default().saturating_sub(self.started.elapsed()));
        }
    }
}
