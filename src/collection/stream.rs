//! How far each stream of writes has come, so that a client can go on after a broken connection: nothing lost, nothing
//! twice.
//!
//! A part of the fold of the log: the same log gives the same table. A frame moves its stream's mark by the same record that
//! writes its rows, so that the two can never differ. The streams written to longest ago are forgotten first, and only
//! beyond `STREAMS_MAX` of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::collection::apply::Refusal;
use crate::collection::op::{FrameFault, StreamFrame};
use crate::types::limits::{REFUSED_FRAMES_MAX, STREAMS_MAX};
use crate::types::{Sequence, StreamId};

/// Marks by stream.
#[derive(Default)]
pub struct StreamTable {
    marks: HashMap<StreamId, StreamMark>,
    /// The streams by the sequence that they were last written to.
    oldest_first: BTreeMap<Sequence, StreamId>,
}

/// How far a stream has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamMark {
    /// Every frame up to this one is settled: written or refused.
    pub settled_frame: u64,
    /// The sequence of that frame.
    pub sequence: Sequence,
    /// The latest refused frames, oldest first.
    pub refused: VecDeque<(u64, FrameRefusal)>,
    /// Frames that were refused, in all.
    pub refused_count: u64,
}

/// Why a frame was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameRefusal {
    /// Before it came to the log.
    Faulty(Arc<FrameFault>),
    /// When it was applied.
    Decided(Refusal),
}

impl StreamTable {
    /// How far a stream has come; nowhere, if it is not known.
    pub fn mark(&self, stream_id: &StreamId) -> StreamMark {
        self.marks.get(stream_id).cloned().unwrap_or_default()
    }

    /// All marks, those written to longest ago first.
    pub(super) fn marks(&self) -> impl Iterator<Item = (&StreamId, &StreamMark)> {
        self.oldest_first.values().filter_map(|stream_id| self.marks.get_key_value(stream_id))
    }

    /// From marks that a table had.
    pub(super) fn restored(marks: Vec<(StreamId, StreamMark)>) -> Self {
        let marks: HashMap<_, _> = marks.into_iter().collect();
        Self { oldest_first: marks.iter().map(|(stream_id, mark)| (mark.sequence, stream_id.clone())).collect(), marks }
    }

    /// Refuses a frame that is not the one after the mark.
    pub(super) fn check(&self, frame: &StreamFrame) -> Result<(), Refusal> {
        let expected = self.marks.get(&frame.stream_id).map_or(0, |mark| mark.settled_frame).saturating_add(1);
        if frame.frame == expected {
            return Ok(());
        }
        Err(Refusal::FrameOutOfOrder { stream_id: frame.stream_id.clone(), expected, got: frame.frame })
    }

    /// Moves the mark to a frame that was checked.
    pub(super) fn settle(&mut self, sequence: Sequence, frame: StreamFrame, refusal: Option<FrameRefusal>) {
        let mark = self.marks.entry(frame.stream_id.clone()).or_default();
        self.oldest_first.remove(&mark.sequence);
        self.oldest_first.insert(sequence, frame.stream_id);
        mark.settled_frame = frame.frame;
        mark.sequence = sequence;
        if let Some(refusal) = refusal {
            mark.refused_count += 1;
            mark.refused.push_back((frame.frame, refusal));
            if mark.refused.len() > REFUSED_FRAMES_MAX {
                mark.refused.pop_front();
            }
        }
        if self.marks.len() > STREAMS_MAX
            && let Some((_, oldest)) = self.oldest_first.pop_first()
        {
            self.marks.remove(&oldest);
        }
    }

    /// Forgets a stream, and returns how far it had come.
    pub(super) fn finish(&mut self, stream_id: &StreamId) -> StreamMark {
        let mark = self.marks.remove(stream_id).unwrap_or_default();
        self.oldest_first.remove(&mark.sequence);
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: usize, frame: u64) -> StreamFrame {
        StreamFrame { stream_id: StreamId::new(&stream.to_string()).unwrap(), frame }
    }

    #[test]
    fn the_streams_written_to_longest_ago_are_forgotten_first() {
        let mut table = StreamTable::default();
        for stream in 0..STREAMS_MAX {
            table.settle(Sequence(1 + stream as u64), frame(stream, 1), None);
        }
        // The oldest is written to again, so that the second oldest goes.
        table.settle(Sequence(1_000_000), frame(0, 2), None);
        table.settle(Sequence(1_000_001), frame(STREAMS_MAX, 1), None);
        assert_eq!(table.mark(&frame(0, 0).stream_id).settled_frame, 2);
        assert_eq!(table.mark(&frame(1, 0).stream_id), StreamMark::default());
        assert_eq!(table.marks.len(), STREAMS_MAX);
        assert_eq!(table.oldest_first.len(), STREAMS_MAX);
    }

    #[test]
    fn the_latest_refused_frames_are_kept_and_all_are_counted() {
        let mut table = StreamTable::default();
        for number in 1..=70 {
            let refusal = FrameRefusal::Faulty(Arc::default());
            table.settle(Sequence(number), frame(0, number), Some(refusal));
        }
        let mark = table.mark(&frame(0, 0).stream_id);
        assert_eq!((mark.refused.len(), mark.refused_count), (REFUSED_FRAMES_MAX, 70));
        assert_eq!((mark.refused[0].0, mark.refused[63].0), (7, 70));
    }
}
