//! The manifest: a collection as it stood after one record of its log, but for the records, which lie in parts.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::answers::{decode_refusal, encode_refusal};
use super::bounds::check_counts;
use super::{DiskError, FileKind};
use crate::collection::op::{
    DecodeError, REVISION, decode_fault, decode_space, decode_stream_id, encode_fault, encode_space,
};
use crate::collection::stream::{FrameRefusal, StreamMark};
use crate::pb::storage as pb;
use crate::storage::fs::Fs;
use crate::storage::manifest;
use crate::types::{Sequence, Space, StreamId};

/// A collection without its records.
#[derive(Debug, PartialEq)]
pub struct Manifest {
    /// The last record of the log that is in it.
    pub sequence: Sequence,
    /// What the collection is for.
    pub description: String,
    /// The model for texts that name none; empty: the service's.
    pub default_model_id: String,
    /// The spaces.
    pub spaces: Vec<Space>,
    /// Where the records lie.
    pub parts: Vec<PartEntry>,
    /// The number of the next part or file.
    pub next_part: u32,
    /// How far streams have come.
    pub streams: Vec<(StreamId, StreamMark)>,
    /// Answers to requests, oldest first.
    pub answers: Vec<AnswersFile>,
}

/// A part.
#[derive(Clone, Debug, PartialEq)]
pub struct PartEntry {
    /// Its number.
    pub number: u32,
    /// Its space.
    pub space: u16,
    /// The id of its rows file.
    pub rows_id: Uuid,
    /// Rows, dead ones among them.
    pub row_count: u32,
    /// Those that are dead.
    pub dead: RoaringBitmap,
    /// The id of its graph file, where a graph was built.
    pub graph_id: Option<Uuid>,
}

/// A file of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswersFile {
    /// Its number.
    pub number: u32,
    /// Its id.
    pub id: Uuid,
    /// Answers in it.
    pub count: u32,
}

impl Manifest {
    /// Whether it names a file.
    pub fn names(&self, number: u32, kind: FileKind) -> bool {
        match kind {
            FileKind::Rows => self.parts.iter().any(|part| part.number == number),
            FileKind::Graph => self.parts.iter().any(|part| part.number == number && part.graph_id.is_some()),
            FileKind::Answers => self.answers.iter().any(|file| file.number == number),
        }
    }
}

/// Replaces a collection's manifest, durably.
pub fn write_manifest(fs: &dyn Fs, folder: &Path, manifest: &Manifest) -> Result<(), DiskError> {
    Ok(manifest::write(fs, folder, &encode(manifest).encode_to_vec())?)
}

/// Reads a collection's manifest; none where nothing of it but the log is on disk.
pub fn read_manifest(fs: &dyn Fs, folder: &Path) -> Result<Option<Manifest>, DiskError> {
    let Some(message) = manifest::read(fs, folder)? else { return Ok(None) };
    let decoded = check_counts(&message)
        .and_then(|()| pb::Manifest::decode(&message[..]).map_err(DecodeError::from))
        .and_then(decode);
    decoded.map(Some).map_err(|error| DiskError::Content { file: folder.join(manifest::FILE_NAME), error })
}

fn encode(manifest: &Manifest) -> pb::Manifest {
    let part = |part: &PartEntry| {
        let mut dead = Vec::new();
        if !part.dead.is_empty() {
            part.dead.serialize_into(&mut dead).expect("memory can be written to");
        }
        pb::Part {
            number: part.number,
            space: part.space.into(),
            rows_id: part.rows_id.as_bytes().to_vec().into(),
            row_count: part.row_count,
            dead: dead.into(),
            graph_id: part.graph_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
        }
    };
    let answers = |file: &AnswersFile| pb::AnswersFile {
        number: file.number,
        id: file.id.as_bytes().to_vec().into(),
        count: file.count,
    };
    pb::Manifest {
        revision: REVISION_MANIFEST,
        sequence: manifest.sequence.0,
        description: manifest.description.clone(),
        default_model_id: manifest.default_model_id.clone(),
        spaces: manifest.spaces.iter().map(encode_space).collect(),
        parts: manifest.parts.iter().map(part).collect(),
        next_part: manifest.next_part,
        streams: manifest.streams.iter().map(encode_stream).collect(),
        answers: manifest.answers.iter().map(answers).collect(),
    }
}

/// Manifests came with this revision of what is stored, and are as they were then.
const REVISION_MANIFEST: u32 = 3;

fn decode(manifest: pb::Manifest) -> Result<Manifest, DecodeError> {
    if manifest.revision > REVISION {
        return Err(DecodeError::Newer { revision: manifest.revision });
    }
    let spaces = manifest.spaces.into_iter().map(decode_space).collect::<Result<Vec<_>, _>>()?;
    let rows = manifest.parts.iter().try_fold(0_u32, |rows, part| rows.checked_add(part.row_count));
    // Records are numbered over all parts.
    rows.ok_or_else(|| invalid(format!("number of rows: all parts together have more than {}", u32::MAX)))?;
    let part = |part: pb::Part| {
        if dead_containers(&part.dead) > part.row_count.div_ceil(1 << 16).into() {
            return Err(invalid(format!(
                "part {}: its set of rows has more containers than the rows need",
                part.number
            )));
        }
        let dead = if part.dead.is_empty() {
            RoaringBitmap::new()
        } else {
            RoaringBitmap::deserialize_from(&part.dead[..]).map_err(|error| invalid(format!("set of rows: {error}")))?
        };
        if part.space as usize >= spaces.len() || dead.max().is_some_and(|row| row >= part.row_count) {
            return Err(invalid(format!("part {}: it names a space or a row that does not exist", part.number)));
        }
        Ok(PartEntry {
            number: part.number,
            space: part.space as u16,
            rows_id: decode_uuid(&part.rows_id)?,
            row_count: part.row_count,
            dead,
            graph_id: if part.graph_id.is_empty() { None } else { Some(decode_uuid(&part.graph_id)?) },
        })
    };
    let answers = |file: pb::AnswersFile| {
        Ok::<_, DecodeError>(AnswersFile { number: file.number, id: decode_uuid(&file.id)?, count: file.count })
    };
    Ok(Manifest {
        sequence: Sequence(manifest.sequence),
        description: manifest.description,
        default_model_id: manifest.default_model_id,
        parts: manifest.parts.into_iter().map(part).collect::<Result<_, _>>()?,
        spaces,
        next_part: manifest.next_part,
        streams: manifest.streams.into_iter().map(decode_stream).collect::<Result<_, _>>()?,
        answers: manifest.answers.into_iter().map(answers).collect::<Result<_, _>>()?,
    })
}

/// How many containers a roaring bitmap in its portable format has, by its first bytes (github.com/RoaringBitmap/RoaringFormatSpec):
/// each holds rows of the same upper 16 bits, and takes far more in memory than it may have bytes.
fn dead_containers(bitmap: &[u8]) -> u64 {
    const WITH_RUNS: u32 = 12347;
    let number =
        |at: usize| bitmap.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    match (number(0), number(4)) {
        (Some(cookie), _) if cookie & 0xFFFF == WITH_RUNS => u64::from(cookie >> 16) + 1,
        (_, Some(count)) => count.into(),
        // Not a bitmap at all, which its decoder says.
        _ => 0,
    }
}

fn encode_stream((stream_id, mark): &(StreamId, StreamMark)) -> pb::StreamMark {
    use pb::refused_frame::Why;
    let refused = |(frame, refusal): &(u64, FrameRefusal)| {
        let why = match refusal {
            FrameRefusal::Faulty(fault) => Why::Fault(encode_fault(fault)),
            FrameRefusal::Decided(refusal) => Why::Refusal(encode_refusal(refusal)),
        };
        pb::RefusedFrame { frame: *frame, why: Some(why) }
    };
    pb::StreamMark {
        stream_id: stream_id.to_string(),
        settled_frame: mark.settled_frame,
        sequence: mark.sequence.0,
        refused_count: mark.refused_count,
        refused: mark.refused.iter().map(refused).collect(),
    }
}

fn decode_stream(mark: pb::StreamMark) -> Result<(StreamId, StreamMark), DecodeError> {
    use pb::refused_frame::Why;
    let refused = |refused: pb::RefusedFrame| {
        let refusal = match refused.why.ok_or(DecodeError::UnknownKind)? {
            Why::Fault(fault) => FrameRefusal::Faulty(Arc::new(decode_fault(fault))),
            Why::Refusal(refusal) => FrameRefusal::Decided(decode_refusal(refusal)?),
        };
        Ok::<_, DecodeError>((refused.frame, refusal))
    };
    let stream_id = decode_stream_id(&mark.stream_id)?;
    let refused = mark.refused.into_iter().map(refused).collect::<Result<_, _>>()?;
    let (settled_frame, sequence, refused_count) = (mark.settled_frame, Sequence(mark.sequence), mark.refused_count);
    Ok((stream_id, StreamMark { settled_frame, sequence, refused, refused_count }))
}

fn decode_uuid(bytes: &[u8]) -> Result<Uuid, DecodeError> {
    Uuid::from_slice(bytes).map_err(|error| invalid(format!("file id: {error}")))
}

fn invalid(what: String) -> DecodeError {
    DecodeError::Invalid(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collection::apply::Refusal;
    use crate::collection::op::FrameFault;
    use crate::storage::fs::RealFs;
    use crate::types::{Dimension, Metric, SpaceName};

    #[test]
    fn a_manifest_comes_back_as_it_was() {
        let space = Space {
            name: SpaceName::new("s").unwrap(),
            dimension: Dimension::new(3).unwrap(),
            metric: Metric::DotProduct,
            text_model: None,
        };
        let fault = FrameFault { reason: "R".to_owned(), message: "m".to_owned(), errors: vec![], error_count: 1 };
        let mark = StreamMark {
            settled_frame: 5,
            sequence: Sequence(7),
            refused: [(3, FrameRefusal::Faulty(Arc::new(fault))), (4, FrameRefusal::Decided(Refusal::TooManySpaces))]
                .into(),
            refused_count: 9,
        };
        let part = PartEntry {
            number: 4,
            space: 0,
            rows_id: Uuid::new_v4(),
            row_count: 10,
            dead: [1, 9].into_iter().collect(),
            graph_id: Some(Uuid::new_v4()),
        };
        let unbuilt = PartEntry { number: 5, dead: RoaringBitmap::new(), graph_id: None, ..part.clone() };
        let manifest = Manifest {
            sequence: Sequence(7),
            description: "d".to_owned(),
            default_model_id: "m".to_owned(),
            spaces: vec![space],
            parts: vec![part, unbuilt],
            next_part: 8,
            streams: vec![(StreamId::new("t").unwrap(), mark)],
            answers: vec![AnswersFile { number: 6, id: Uuid::new_v4(), count: 3 }],
        };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_manifest(&RealFs, folder.path()).unwrap(), None);
        write_manifest(&RealFs, folder.path(), &manifest).unwrap();
        assert_eq!(read_manifest(&RealFs, folder.path()).unwrap().unwrap(), manifest);
        assert!(manifest.names(4, FileKind::Graph) && manifest.names(5, FileKind::Rows));
        assert!(!manifest.names(5, FileKind::Graph) && !manifest.names(6, FileKind::Rows));

        let refusal = |strange: &Manifest| {
            write_manifest(&RealFs, folder.path(), strange).unwrap();
            read_manifest(&RealFs, folder.path()).unwrap_err().to_string()
        };
        let mut strange = manifest;
        strange.parts[1].dead.insert(10);
        assert!(refusal(&strange).contains("part 5"), "{}", refusal(&strange));
        // Eight bytes each: the rows that they are said to be of are not there.
        strange.parts[1].dead = (0..100).map(|container| container << 16).collect();
        assert!(refusal(&strange).contains("more containers than"), "{}", refusal(&strange));
        strange.parts[1].dead.clear();
        strange.parts[1].row_count = u32::MAX;
        assert!(refusal(&strange).contains("number of rows"), "{}", refusal(&strange));
    }
}
