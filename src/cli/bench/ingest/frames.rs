//! Frames, encoded as they are needed: every record is the same message but for its id and its components, so that only
//! these are written anew.

use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::cli::bench::encoding::Encoding;
use crate::cli::bench::messages::{PREFIX_BYTES, put_prefix};
use crate::cli::bench::scratch::record_id;
use crate::cli::bench::vectors::Vectors;
use crate::pb::v1 as pb;

/// Tags of `StreamUpsertRequest` and `UpsertFrame`: the frame is field 2, its number field 1.
const TAG_FRAME: u8 = 2 << 3 | 2;
const TAG_NUMBER: u8 = 1 << 3;

/// Writes frames of one dimension and encoding.
pub struct Frames {
    /// A record as an `UpsertFrame` holds it, with its tag and length. The components come last.
    record: Bytes,
    id_at: usize,
    id_bytes: usize,
    components_at: usize,
}

/// A frame on its way out.
pub struct Frame {
    /// The `StreamUpsertRequest` with its prefix.
    pub request: Bytes,
    /// Bytes of the encoded `UpsertFrame`, which is what credit counts.
    pub frame_bytes: u64,
}

impl Frames {
    /// Prepares the record.
    pub fn new(vectors: &Vectors, encoding: Encoding) -> Self {
        let id = record_id(0);
        let vector = pb::Vector { components: Some(encoding.components(vectors, 0)), space: String::new() };
        let record = pb::RecordInput { id: id.clone(), vector: Some(vector), ..Default::default() };
        let record = Bytes::from(pb::UpsertFrame { frame: 0, records: vec![record] }.encode_to_vec());
        let id_at = record.windows(id.len()).position(|bytes| bytes == id.as_bytes());
        Self {
            id_at: id_at.expect("the record has its id"),
            id_bytes: id.len(),
            components_at: record.len() - vectors.dimension() * size_of::<f32>(),
            record,
        }
    }

    /// Bytes of the `UpsertFrame` of this number with so many records.
    pub fn frame_bytes(&self, number: u64, records: u64) -> u64 {
        (1 + encoded_len_varint(number)) as u64 + records * self.record.len() as u64
    }

    /// The frame of this number, with the vectors from `first` on.
    pub fn frame(&self, vectors: &Vectors, number: u64, first: u64, records: u64) -> Frame {
        let frame_bytes = self.frame_bytes(number, records);
        let message_bytes = 1 + encoded_len_varint(frame_bytes) + frame_bytes as usize;
        let mut out = BytesMut::with_capacity(PREFIX_BYTES + message_bytes);
        put_prefix(message_bytes, &mut out);
        out.put_u8(TAG_FRAME);
        encode_varint(frame_bytes, &mut out);
        out.put_u8(TAG_NUMBER);
        encode_varint(number, &mut out);
        for record in first..first + records {
            let start = out.len();
            out.put_slice(&self.record);
            let out = &mut out[start..];
            write_digits(record, &mut out[self.id_at..self.id_at + self.id_bytes]);
            vectors.write_f32_le(record, &mut out[self.components_at..]);
        }
        Frame { request: out.freeze(), frame_bytes }
    }
}

/// The number in decimal, with zeros before it: what `record_id` gives, without a detour over the heap.
fn write_digits(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::v1::stream_upsert_request::Message as Request;

    #[test]
    fn frames_are_what_the_contract_says() {
        for encoding in [Encoding::Bytes, Encoding::Floats] {
            for dimension in [1, 12, 384] {
                let vectors = Vectors::new(dimension, 1);
                let frames = Frames::new(&vectors, encoding);
                let frame = frames.frame(&vectors, 300, 987_654, 3);
                let record = |number: u64| pb::RecordInput {
                    id: record_id(number),
                    vector: Some(pb::Vector {
                        components: Some(encoding.components(&vectors, number)),
                        space: String::new(),
                    }),
                    ..Default::default()
                };
                let expected = pb::UpsertFrame { frame: 300, records: (987_654..987_657).map(record).collect() };
                assert_eq!(frame.frame_bytes, expected.encoded_len() as u64);
                let expected = pb::StreamUpsertRequest { message: Some(Request::Frame(expected)) };
                assert_eq!(frame.request[PREFIX_BYTES..], expected.encode_to_vec());
            }
        }
    }
}
