//! The fold of the log: what each operation does to the view, and whether it is refused.
//!
//! Deterministic: the same log gives the same view, at once or after a restart. Everything is checked before anything
//! is changed, so a refused operation changes nothing but the sequence.

use std::sync::Arc;

use crate::collection::ledger::Ledger;
use crate::collection::memtable::Row;
use crate::collection::op::{Change, Created, Operation, RecordRemoved, RecordWritten, StreamFrame, Updated, Upserted};
use crate::collection::parts::Parts;
use crate::collection::request::Seen;
use crate::collection::stream::FrameRefusal;
use crate::collection::view::{View, describe};
use crate::types::limits::SPACES_MAX;
use crate::types::{Dimension, RecordId, Sequence, Space, SpaceName, StreamId};

/// How an operation was decided.
pub type Outcome = Result<Applied, Refusal>;

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Settings or spaces changed.
    Changed,
    /// Records were written.
    Upserted {
        /// The operation's sequence, which is the records' version.
        sequence: Sequence,
        /// How many.
        record_count: usize,
        /// Those whose text was embedded from its beginning only.
        truncated_ids: Arc<[RecordId]>,
    },
    /// Records were deleted.
    Deleted {
        /// The operation's sequence.
        sequence: Sequence,
        /// How many existed.
        deleted_count: usize,
    },
    /// A frame was refused before it came to the log, and is settled.
    FrameRefused {
        /// The operation's sequence.
        sequence: Sequence,
    },
    /// A stream was finished.
    StreamFinished {
        /// The operation's sequence.
        sequence: Sequence,
        /// Frames of the stream.
        settled_frame: u64,
        /// Those that were refused.
        refused_count: u64,
    },
}

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A record has another version than asked for.
    #[error("record {id:?} was expected to have version {expected}, but has {got} (0: it does not exist)")]
    VersionMismatch {
        /// The first such record.
        id: RecordId,
        /// Its position within the batch.
        index: usize,
        /// The version asked for.
        expected: Sequence,
        /// The version that it has.
        got: Sequence,
    },
    /// A frame is not the one after its stream's mark.
    #[error("stream {stream_id:?}: expected frame {expected}, but got {got}")]
    FrameOutOfOrder {
        /// The stream.
        stream_id: StreamId,
        /// The frame after the mark.
        expected: u64,
        /// The frame that came.
        got: u64,
    },
    /// The request id stands for another request.
    #[error("request id {request_id:?} was used before, for a request with another content")]
    RequestIdReused {
        /// The request id.
        request_id: String,
    },
    /// A space of that name is there, and is another.
    #[error("the collection has another space {name:?}: {existing}")]
    SpaceConflict {
        /// The name.
        name: String,
        /// How they differ.
        existing: String,
    },
    /// The model has a space already.
    #[error("the texts of model {model_id:?} have a space already: {space}")]
    ModelHasSpace {
        /// The model.
        model_id: String,
        /// Its space.
        space: SpaceName,
    },
    /// A first write would add a second space of raw vectors.
    #[error(
        "no space of the collection holds vectors of dimension {got}; it has {existing}, \
         and a write adds at most one space of raw vectors: create another one by name"
    )]
    SecondRawSpace {
        /// The dimension of the vector.
        got: Dimension,
        /// The spaces that exist.
        existing: String,
    },
    /// The collection is full of spaces.
    #[error("a collection has at most {SPACES_MAX} spaces")]
    TooManySpaces,
}

impl View {
    /// Applies one record of the log.
    pub(super) fn apply(&mut self, sequence: Sequence, operation: Operation, ledger: &mut Ledger) -> Outcome {
        assert_eq!(sequence, self.sequence.next(), "the log has no gaps");
        self.sequence = sequence;
        let Operation { change, stream_frame, request_key } = operation;
        if let Some(frame) = stream_frame {
            return self.apply_frame(sequence, frame, change, ledger);
        }
        let Some(key) = request_key else {
            return self.change(sequence, change, ledger);
        };
        match ledger.requests.seen(&key) {
            Seen::Answered(outcome) => outcome,
            Seen::Reused => Err(Refusal::RequestIdReused { request_id: key.request_id }),
            Seen::Never => {
                let outcome = self.change(sequence, change, ledger);
                ledger.requests.remember(&key, outcome.clone());
                outcome
            }
        }
    }

    /// A frame moves the mark of its stream whether it is written or refused; one out of order changes nothing.
    fn apply_frame(&mut self, sequence: Sequence, frame: StreamFrame, change: Change, ledger: &mut Ledger) -> Outcome {
        ledger.streams.check(&frame)?;
        let fault = match &change {
            Change::FrameRefused(fault) => Some(FrameRefusal::Faulty(fault.clone())),
            _ => None,
        };
        let outcome = self.change(sequence, change, ledger);
        let decided = outcome.as_ref().err().cloned().map(FrameRefusal::Decided);
        ledger.streams.settle(sequence, frame, fault.or(decided));
        outcome
    }

    fn change(&mut self, sequence: Sequence, change: Change, ledger: &mut Ledger) -> Outcome {
        match change {
            Change::Created(created) => self.create(created),
            Change::Updated(updated) => self.update(updated),
            Change::Upserted(upserted) => self.upsert(sequence, upserted),
            Change::Deleted(records) => self.delete(sequence, &records),
            Change::FrameRefused(_) => Ok(Applied::FrameRefused { sequence }),
            Change::StreamFinished(stream_id) => {
                let mark = ledger.streams.finish(&stream_id);
                let (settled_frame, refused_count) = (mark.settled_frame, mark.refused_count);
                Ok(Applied::StreamFinished { sequence, settled_frame, refused_count })
            }
        }
    }

    fn create(&mut self, created: Created) -> Outcome {
        self.check_new_spaces(&created.spaces)?;
        self.description = created.description;
        self.default_model_id = created.default_model_id;
        self.add_spaces(created.spaces);
        Ok(Applied::Changed)
    }

    fn update(&mut self, updated: Updated) -> Outcome {
        self.check_new_spaces(&updated.spaces)?;
        if let Some(description) = updated.description {
            self.description = description;
        }
        if let Some(default_model_id) = updated.default_model_id {
            self.default_model_id = default_model_id;
        }
        self.add_spaces(updated.spaces);
        Ok(Applied::Changed)
    }

    fn upsert(&mut self, sequence: Sequence, upserted: Upserted) -> Outcome {
        let is_raw = |space: &&Space| space.text_model.is_none();
        let is_missing = |space: &&Space| self.space_named(space.name.as_str()).is_none();
        let mut new_raw = upserted.spaces.iter().filter(is_raw).filter(is_missing);
        let allowed = usize::from(!self.spaces.iter().any(|space| is_raw(&space)));
        if let Some(excess) = new_raw.nth(allowed) {
            return Err(Refusal::SecondRawSpace { got: excess.dimension, existing: describe(&self.spaces) });
        }
        self.check_new_spaces(&upserted.spaces)?;
        for (index, record) in upserted.records.iter().enumerate() {
            self.check_version(index, &record.id, record.if_version)?;
        }
        self.add_spaces(upserted.spaces);
        let record_count = upserted.records.len();
        for record in upserted.records {
            self.write(sequence, &record);
        }
        Ok(Applied::Upserted { sequence, record_count, truncated_ids: upserted.truncated_ids.into() })
    }

    fn write(&mut self, sequence: Sequence, record: &RecordWritten) {
        let space = self.space_named(record.space.as_str()).expect("a write names spaces that exist, or brings them").0;
        let row =
            Row { id: &record.id, version: sequence, components: record.vector.components(), content: &record.content };
        self.write_row(space, row);
    }

    fn delete(&mut self, sequence: Sequence, records: &[RecordRemoved]) -> Outcome {
        for (index, record) in records.iter().enumerate() {
            self.check_version(index, &record.id, record.if_version)?;
        }
        let mut deleted_count = 0;
        for record in records {
            let version = self.version(record.id.as_str());
            if record.observed_version.is_some() && record.observed_version != version {
                continue;
            }
            deleted_count += usize::from(self.remove_row(record.id.as_str()));
        }
        Ok(Applied::Deleted { sequence, deleted_count })
    }

    fn check_version(&self, index: usize, id: &RecordId, expected: Option<Sequence>) -> Result<(), Refusal> {
        let Some(expected) = expected else { return Ok(()) };
        let got = self.version(id.as_str()).unwrap_or(Sequence::ZERO);
        if got == expected { Ok(()) } else { Err(Refusal::VersionMismatch { id: id.clone(), index, expected, got }) }
    }

    /// A space that is there already may come again, if it is the same.
    fn check_new_spaces(&self, spaces: &[Space]) -> Result<(), Refusal> {
        let mut added = 0;
        for space in spaces {
            match self.space_named(space.name.as_str()).map(|number| self.space(number)) {
                None => {
                    self.check_model_is_new(space)?;
                    added += 1;
                }
                Some(existing) if existing == space => {}
                Some(existing) => {
                    return Err(Refusal::SpaceConflict {
                        name: space.name.to_string(),
                        existing: format!("{existing}, not {space}"),
                    });
                }
            }
        }
        if self.spaces.len() + added > SPACES_MAX { Err(Refusal::TooManySpaces) } else { Ok(()) }
    }

    /// Texts pick their space by the model, so a second one could never be chosen.
    fn check_model_is_new(&self, space: &Space) -> Result<(), Refusal> {
        let Some(model) = &space.text_model else { return Ok(()) };
        match self.space_of_model(&model.model_id) {
            None => Ok(()),
            Some(number) => {
                Err(Refusal::ModelHasSpace { model_id: model.model_id.clone(), space: self.space(number).name.clone() })
            }
        }
    }

    fn add_spaces(&mut self, spaces: Vec<Space>) {
        for space in spaces {
            if self.space_named(space.name.as_str()).is_none() {
                self.parts.push(Parts::new(&space, self.new_number()));
                self.spaces.push(space);
            }
        }
    }
}
