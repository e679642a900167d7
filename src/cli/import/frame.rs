//! Which records are sent together.
//!
//! Frame N of a file always holds the same records: it follows from the file's content and from the options alone, never
//! from the server or from what was sent before. That is what lets an import go on where another one stopped.

use prost::Message;

use crate::pb::v1 as pb;

/// Bytes of an encoded frame beside its records: its number.
const FRAME_HEAD_BYTES: usize = 11;
/// Bytes of an encoded frame beside each record: tag and length.
const RECORD_HEAD_BYTES: usize = 6;

/// How records are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Speed")]
pub struct FrameOptions {
    /// Records sent at once; they are written together, or not at all.
    #[arg(long, default_value_t = 500, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch_records: u32,

    /// Bytes sent at once; a record that is larger alone is sent alone.
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1024..=32 << 20))]
    pub batch_bytes: u32,
}

/// Records that are written together.
#[derive(Debug, PartialEq)]
pub struct Frame {
    /// 1, 2, 3, …
    pub number: u64,
    /// The records.
    pub records: Vec<pb::RecordInput>,
    /// Where each is in the file.
    pub places: Vec<Place>,
    /// Bytes of the encoded frame.
    pub bytes: u64,
    /// How far the file had been read when the frame was complete.
    pub offset: u64,
    /// No record fits the collection, which was told already. It is sent all the same, since numbers have no gaps: the
    /// server refuses it.
    pub is_unfit: bool,
}

/// Where a record is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, entry or row.
    pub number: u64,
    /// The line as it is, where it was asked for.
    pub raw: Option<Vec<u8>>,
}

/// Puts records together.
pub struct Framer {
    options: FrameOptions,
    number: u64,
    records: Vec<pb::RecordInput>,
    places: Vec<Place>,
    bytes: usize,
    /// Positions of records that do not fit the collection: they take part in the framing, since what fits may change.
    unfit: Vec<usize>,
}

impl Framer {
    pub fn new(options: FrameOptions) -> Self {
        let (records, places, unfit) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, number: 1, records, places, bytes: FRAME_HEAD_BYTES, unfit }
    }

    /// Adds a record; returns the frame that is complete by that. `offset`: how far the file was read.
    pub fn add(&mut self, record: pb::RecordInput, place: Place, fits: bool, offset: u64) -> Option<Frame> {
        let bytes = record.encoded_len() + RECORD_HEAD_BYTES;
        let is_over = self.bytes + bytes > self.options.batch_bytes as usize && !self.records.is_empty();
        let complete = if is_over { self.take(offset) } else { None };
        if !fits {
            self.unfit.push(self.records.len());
        }
        self.records.push(record);
        self.places.push(place);
        self.bytes += bytes;
        if self.records.len() == self.options.batch_records as usize {
            // With one record a frame none was left over from before.
            return complete.or_else(|| self.take(offset));
        }
        complete
    }

    /// The frame that was begun; `None` where it is empty.
    pub fn take(&mut self, offset: u64) -> Option<Frame> {
        if self.records.is_empty() {
            return None;
        }
        let mut records = std::mem::take(&mut self.records);
        let mut places = std::mem::take(&mut self.places);
        let unfit = std::mem::take(&mut self.unfit);
        let is_unfit = unfit.len() == records.len();
        if !is_unfit {
            for position in unfit.into_iter().rev() {
                records.remove(position);
                places.remove(position);
            }
        }
        self.bytes = FRAME_HEAD_BYTES;
        let mut message = pb::UpsertFrame { frame: self.number, records };
        self.number += 1;
        let bytes = message.encoded_len() as u64;
        let (number, records) = (message.frame, std::mem::take(&mut message.records));
        Some(Frame { number, records, places, bytes, offset, is_unfit })
    }
}

impl Frame {
    /// What is sent. Vectors are shared, not copied.
    pub fn message(&self) -> pb::UpsertFrame {
        pb::UpsertFrame { frame: self.number, records: self.records.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize, text_bytes: usize) -> pb::RecordInput {
        pb::RecordInput { id: format!("{id:04}"), text: Some("x".repeat(text_bytes)), ..pb::RecordInput::default() }
    }

    fn frames(options: FrameOptions, records: &[(usize, bool)]) -> Vec<Frame> {
        let mut framer = Framer::new(options);
        let mut frames = Vec::new();
        for (position, &(text_bytes, fits)) in records.iter().enumerate() {
            let place = Place { number: position as u64 + 1, raw: None };
            frames.extend(framer.add(record(position, text_bytes), place, fits, position as u64));
        }
        frames.extend(framer.take(records.len() as u64));
        frames
    }

    fn lines(frame: &Frame) -> Vec<u64> {
        frame.places.iter().map(|place| place.number).collect()
    }

    #[test]
    fn frames_end_at_their_records_and_at_their_bytes() {
        let by_records = frames(FrameOptions { batch_records: 2, batch_bytes: 1 << 20 }, &[(1, true); 5]);
        assert_eq!(by_records.iter().map(lines).collect::<Vec<_>>(), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(by_records.iter().map(|frame| frame.number).collect::<Vec<_>>(), [1, 2, 3]);

        let options = FrameOptions { batch_records: 1000, batch_bytes: 1024 };
        let by_bytes = frames(options, &[(400, true), (400, true), (400, true), (5000, true), (1, true)]);
        assert_eq!(by_bytes.iter().map(lines).collect::<Vec<_>>(), [vec![1, 2], vec![3], vec![4], vec![5]]);
        assert!(by_bytes.iter().all(|frame| frame.bytes <= 1024 || frame.records.len() == 1));
        assert!(by_bytes.iter().all(|frame| frame.bytes == frame.message().encoded_len() as u64));

        let one_by_one = frames(FrameOptions { batch_records: 1, batch_bytes: 1024 }, &[(5000, true); 3]);
        assert_eq!(one_by_one.iter().map(lines).collect::<Vec<_>>(), [vec![1], vec![2], vec![3]]);
    }

    #[test]
    fn what_fits_the_collection_changes_no_other_frame() {
        let options = FrameOptions { batch_records: 2, batch_bytes: 1 << 20 };
        let all = frames(options, &[(1, true); 6]);
        let some = frames(options, &[(1, true), (1, false), (1, false), (1, false), (1, true), (1, true)]);
        assert_eq!(lines(&some[0]), [1]);
        assert!(some[1].is_unfit);
        assert_eq!(lines(&some[1]), [3, 4]);
        assert_eq!(some[2].records, all[2].records);
        assert_eq!(some[2].number, 3);
    }
}
