//! Batches of records on their way into a collection of this process.

use std::collections::VecDeque;
use std::sync::Arc;

use super::BenchError;
use super::engine::Engine;
use crate::collection::{Answer, Change, Collection, Content, Operation, RecordRemoved, RecordWritten, Upserted};
use crate::storage::log::Durability;
use crate::types::{RecordId, SpaceName, Vector};

/// Batches on their way, far below what a collection takes in.
const BATCHES_IN_FLIGHT: usize = 8;

/// Gathers writes into batches, and has few of them on their way at once.
pub struct Writer<'a> {
    collection: &'a Collection,
    space: SpaceName,
    records: Vec<RecordWritten>,
    removed: Vec<RecordRemoved>,
    batch_records: usize,
    answers: VecDeque<Answer>,
}

impl<'a> Writer<'a> {
    /// With nothing to write yet.
    pub fn new(engine: &'a Engine, batch_records: usize) -> Self {
        let (collection, space) = (&*engine.collection, engine.space.name.clone());
        let (records, removed, answers) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { collection, space, records, removed, batch_records, answers }
    }

    /// Writes a record, over the one of that id if there is one.
    pub fn write(&mut self, id: RecordId, vector: Vector, content: Arc<Content>) -> Result<(), BenchError> {
        self.records.push(RecordWritten { id, space: self.space.clone(), vector, content, if_version: None });
        if self.records.len() < self.batch_records { Ok(()) } else { self.send() }
    }

    /// Deletes a record.
    pub fn delete(&mut self, id: RecordId) -> Result<(), BenchError> {
        self.removed.push(RecordRemoved { id, if_version: None, observed_version: None });
        if self.removed.len() < self.batch_records { Ok(()) } else { self.send() }
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
    pub fn finish(mut self) -> Result<(), BenchError> {
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
