//! Frames that the server refused: which of their records are still to be written.
//!
//! A frame is refused as a whole for the sake of one record. Its others are written by calls of their own, while the
//! stream stands still. What a later frame wrote under the same id stays: the last line wins, as if nothing had been
//! refused. So the frames are gone through from the last to the first, and what was written later is left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::frame::Frame;
use crate::cli::record_json::read_mask;
use crate::pb::v1 as pb;

/// The frames that were refused and not yet gone through.
#[derive(Default)]
pub struct Repairs {
    refused: BTreeMap<u64, Refused>,
    /// Ids of their records.
    watched: HashSet<String>,
    /// Of these, which were written by a frame, and the last such frame.
    written_by: HashMap<String, u64>,
    /// Frames that were gone through.
    done: HashSet<u64>,
}

/// A frame that was refused.
pub struct Refused {
    /// Its records.
    pub frame: Arc<Frame>,
    /// Why.
    pub answer: pb::FrameRefused,
    /// Another process may have gone through it: some records may be there.
    pub may_be_written: bool,
}

impl Repairs {
    /// Whether a frame is still to be gone through.
    pub fn are_needed(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether the frame was refused, as far as this process knows.
    pub fn knows(&self, number: u64) -> bool {
        self.refused.contains_key(&number) || self.done.contains(&number)
    }

    /// A frame was refused.
    pub fn add(&mut self, refused: Refused) {
        let number = refused.frame.number;
        self.watched.extend(refused.frame.records.iter().map(|record| record.id.clone()));
        self.refused.insert(number, refused);
    }

    /// A frame was written, in the order of their numbers.
    pub fn written(&mut self, frame: &Frame) {
        if self.refused.is_empty() {
            return;
        }
        for record in frame.records.iter().filter(|record| self.watched.contains(&record.id)) {
            self.written_by.insert(record.id.clone(), frame.number);
        }
    }

    /// The last frame that was refused.
    pub fn take_last(&mut self) -> Option<Refused> {
        let (number, refused) = self.refused.pop_last()?;
        self.done.insert(number);
        Some(refused)
    }

    /// Whether a record of frame `number` was replaced by a later one.
    pub fn is_replaced(&self, number: u64, id: &str) -> bool {
        self.written_by.get(id).is_some_and(|&later| later > number)
    }

    /// A record of frame `number` was written by a call of its own.
    pub fn record_written(&mut self, number: u64, id: &str) {
        self.written_by.insert(id.to_owned(), number);
    }

    /// All frames were gone through: what was known about ids is needed no more.
    pub fn end(&mut self) {
        self.watched = HashSet::new();
        self.written_by = HashMap::new();
    }
}

/// What is asked to learn which records are there.
pub fn get_request(collection: &str, frame: &Frame, positions: &[usize]) -> pb::GetRequest {
    pb::GetRequest {
        collection: collection.to_owned(),
        ids: positions.iter().map(|&position| frame.records[position].id.clone()).collect(),
        read_mask: read_mask(&["vector", "text", "metadata"]),
        min_sequence: 0,
    }
}

/// Whether writing the record would change nothing but its version.
pub fn is_same(there: &pb::Record, wanted: &pb::RecordInput) -> bool {
    let same_vector = match (&there.vector, &wanted.vector) {
        (Some(there), Some(wanted)) => {
            there.components == wanted.components && (wanted.space.is_empty() || wanted.space == there.space)
        }
        // The text was embedded.
        (Some(_), None) => true,
        (None, _) => false,
    };
    same_vector && there.text == wanted.text && there.metadata == wanted.metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64, ids: &[&str]) -> Arc<Frame> {
        let record = |id: &&str| pb::RecordInput { id: (*id).to_owned(), ..pb::RecordInput::default() };
        Arc::new(Frame {
            number,
            records: ids.iter().map(record).collect(),
            places: Vec::new(),
            bytes: 0,
            offset: 0,
            is_unfit: false,
        })
    }

    fn refused(number: u64, ids: &[&str]) -> Refused {
        Refused { frame: frame(number, ids), answer: pb::FrameRefused::default(), may_be_written: false }
    }

    #[test]
    fn what_a_later_frame_wrote_is_left_out() {
        let mut repairs = Repairs::default();
        repairs.written(&frame(1, &["a"]));
        repairs.add(refused(2, &["a", "b", "c", "d"]));
        repairs.written(&frame(3, &["b", "x"]));
        repairs.add(refused(4, &["c", "d"]));
        assert_eq!(repairs.take_last().unwrap().frame.number, 4);
        // "d" of frame 4 was bad.
        repairs.record_written(4, "c");
        assert_eq!(repairs.take_last().unwrap().frame.number, 2);
        let left: Vec<&str> = ["a", "b", "c", "d"].into_iter().filter(|id| !repairs.is_replaced(2, id)).collect();
        assert_eq!(left, ["a", "d"]);
        assert!(!repairs.are_needed() && repairs.knows(2) && !repairs.knows(3));
    }

    #[test]
    fn a_record_is_the_same_if_writing_it_would_change_nothing() {
        let vector = |space: &str| {
            let components = Some(pb::vector::Components::F32Le(vec![0; 4].into()));
            Some(pb::Vector { components, space: space.to_owned() })
        };
        let there = pb::Record { id: "a".into(), vector: vector("s"), text: Some("t".into()), ..pb::Record::default() };
        let wanted = pb::RecordInput { id: "a".into(), text: Some("t".into()), ..pb::RecordInput::default() };
        assert!(is_same(&there, &wanted));
        assert!(is_same(&there, &pb::RecordInput { vector: vector(""), ..wanted.clone() }));
        assert!(!is_same(&there, &pb::RecordInput { vector: vector("other"), ..wanted.clone() }));
        assert!(!is_same(&there, &pb::RecordInput { text: None, vector: vector(""), ..wanted }));
    }
}
