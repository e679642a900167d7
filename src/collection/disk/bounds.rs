//! How many of everything a manifest may have, counted in its bytes before anything is allocated for it: an empty message has two
//! bytes there and a hundred in memory, and a manifest may come from anybody.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::collection::op::DecodeError;
use crate::types::limits::{FRAME_FAULTS_MAX, REFUSED_FRAMES_MAX, SPACES_MAX, STREAMS_MAX};

/// A message within another: its field, how often it may be there, and what is within it.
struct Bound {
    field: u32,
    name: &'static str,
    count_max: usize,
    within: &'static [Bound],
}

/// Parts, or files of answers: a million files have gigabytes in their headers alone.
const FILES_MAX: usize = 1 << 20;
/// Bytes of a part, or of a file of answers, at least: each has an id of 16, and a number.
const FILE_BYTES_MIN: usize = 20;

/// Fields are those of `Manifest`, `StreamMark`, `RefusedFrame` and `FrameRefused`.
const MANIFEST: &[Bound] = &[
    Bound { field: 5, name: "spaces", count_max: SPACES_MAX, within: &[] },
    Bound { field: 6, name: "parts", count_max: FILES_MAX, within: &[] },
    Bound { field: 8, name: "streams", count_max: STREAMS_MAX, within: STREAM },
    Bound { field: 9, name: "files of answers", count_max: FILES_MAX, within: &[] },
];
const STREAM: &[Bound] =
    &[Bound { field: 5, name: "refused frames of a stream", count_max: REFUSED_FRAMES_MAX, within: REFUSED }];
// One: of two the decoder would make one, with the errors of both.
const REFUSED: &[Bound] = &[Bound { field: 2, name: "faults of a frame", count_max: 1, within: FAULT }];
const FAULT: &[Bound] =
    &[Bound { field: 1, name: "records at fault in a frame", count_max: FRAME_FAULTS_MAX, within: &[] }];

/// Refuses a manifest that would take far more memory than it has bytes.
pub fn check_counts(manifest: &[u8]) -> Result<(), DecodeError> {
    let files_max = manifest.len() / FILE_BYTES_MIN;
    check(manifest, MANIFEST, files_max)
}

fn check(mut bytes: &[u8], bounds: &[Bound], files_max: usize) -> Result<(), DecodeError> {
    let mut counts = vec![0; bounds.len()];
    while !bytes.is_empty() {
        let (field, wire_type) = decode_key(&mut bytes)?;
        let place = bounds.iter().position(|bound| bound.field == field && wire_type == WireType::LengthDelimited);
        let Some(place) = place else {
            skip_field(wire_type, field, &mut bytes, DecodeContext::default())?;
            continue;
        };
        let Bound { name, count_max, within, .. } = &bounds[place];
        let length = decode_varint(&mut bytes)?;
        let content = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
        let (content, rest) =
            content.ok_or_else(|| DecodeError::Invalid(format!("field of {name}: it ends beyond the file")))?;
        counts[place] += 1;
        let count_max = if *count_max == FILES_MAX { FILES_MAX.min(files_max) } else { *count_max };
        if counts[place] > count_max {
            return Err(DecodeError::Invalid(format!("number of {name}: expected at most {count_max}, got more")));
        }
        if !within.is_empty() {
            check(content, within, files_max)?;
        }
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::storage as pb;

    /// A message that holds so many empty messages in a field.
    fn hollow(field: u8, count: usize) -> Vec<u8> {
        [field << 3 | 2, 0].repeat(count)
    }

    fn within(field: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![field << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        [&bytes[..], content].concat()
    }

    #[test]
    fn what_would_swell_in_memory_is_refused_before_it_is_decoded() {
        let errors = hollow(1, FRAME_FAULTS_MAX + 1);
        let two_faults = [within(2, &hollow(1, 1)), within(2, &hollow(1, 1))].concat();
        for (name, manifest) in [
            ("parts:", hollow(6, 1 << 16)),
            ("files of answers:", hollow(9, 1 << 16)),
            ("spaces:", hollow(5, SPACES_MAX + 1)),
            ("streams:", hollow(8, STREAMS_MAX + 1)),
            ("refused frames", within(8, &hollow(5, REFUSED_FRAMES_MAX + 1))),
            ("records at fault", within(8, &within(5, &within(2, &errors)))),
            ("faults of a frame", within(8, &within(5, &two_faults))),
        ] {
            // The decoder itself has nothing against it.
            pb::Manifest::decode(&manifest[..]).unwrap();
            let error = check_counts(&manifest).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("expected at most"), "{name}: {error}");
        }
        assert!(check_counts(&[6 << 3 | 2, 9]).unwrap_err().to_string().contains("beyond the file"));
    }

    #[test]
    fn as_much_as_a_collection_may_have_is_taken() {
        let fault =
            pb::FrameRefused { errors: vec![pb::RecordError::default(); FRAME_FAULTS_MAX], ..Default::default() };
        let refused = pb::RefusedFrame { frame: 1, why: Some(pb::refused_frame::Why::Fault(fault)) };
        let stream = pb::StreamMark { refused: vec![refused; REFUSED_FRAMES_MAX], ..Default::default() };
        let part = pb::Part { rows_id: vec![7; 16].into(), row_count: 1, number: 1, ..Default::default() };
        let answers = pb::AnswersFile { number: 1, id: vec![7; 16].into(), count: 1 };
        let manifest = pb::Manifest {
            spaces: vec![pb::Space::default(); SPACES_MAX],
            parts: vec![part; 1000],
            streams: vec![stream; STREAMS_MAX],
            answers: vec![answers; 1000],
            ..Default::default()
        };
        check_counts(&manifest.encode_to_vec()).unwrap();
        let files_alone = pb::Manifest { streams: Vec::new(), spaces: Vec::new(), ..manifest };
        check_counts(&files_alone.encode_to_vec()).unwrap();
    }
}
