//! Files of answers to requests, so that a retry is answered as the first call was.

use std::path::Path;
use std::sync::Arc;

use prost::Message;
use uuid::Uuid;

use super::{DiskError, FileKind, path_of};
use crate::collection::apply::{Applied, Outcome, Refusal};
use crate::collection::op::{DecodeError, RequestKey, decode_id, decode_stream_id};
use crate::collection::request::Remembered;
use crate::pb::storage as pb;
use crate::storage::fs::Fs;
use crate::storage::sections::{Kind, SectionFile, SectionWriter};
use crate::types::{Dimension, Sequence, SpaceName};

pub const KIND: Kind = Kind { number: 3, name: "answers", format: 1 };
/// Messages, each with its length before it.
const ANSWERS: u32 = 1;

/// Writes a file of answers, oldest first, and returns its id.
pub fn write_answers(
    fs: &dyn Fs,
    folder: &Path,
    number: u32,
    answers: &[Remembered<Outcome>],
) -> Result<Uuid, DiskError> {
    let mut writer = SectionWriter::create(fs, &path_of(folder, number, FileKind::Answers), KIND)?;
    writer.begin(ANSWERS)?;
    for answer in answers {
        writer.write(&encode(answer).encode_length_delimited_to_vec())?;
    }
    Ok(writer.finish()?)
}

/// Reads a file of answers.
pub fn read_answers(fs: &dyn Fs, folder: &Path, number: u32, id: Uuid) -> Result<Vec<Remembered<Outcome>>, DiskError> {
    let path = path_of(folder, number, FileKind::Answers);
    let file = SectionFile::open(fs, &path, KIND)?;
    if file.id() != id {
        return Err(DiskError::Stranger { file: path, expected: id, got: file.id() });
    }
    let content = file.read(ANSWERS)?;
    let mut bytes = &content[..];
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let answer = pb::Answered::decode_length_delimited(&mut bytes).map_err(DecodeError::from).and_then(decode);
        answers.push(answer.map_err(|error| DiskError::Content { file: path.clone(), error })?);
    }
    Ok(answers)
}

fn encode(answer: &Remembered<Outcome>) -> pb::Answered {
    use pb::answered::Outcome as Kind;
    let outcome = match &answer.answer {
        Ok(Applied::Changed) => Kind::Changed(pb::Changed {}),
        Ok(Applied::Upserted { sequence, record_count, truncated_ids }) => Kind::Upserted(pb::UpsertedAnswer {
            sequence: sequence.0,
            record_count: *record_count as u64,
            truncated_ids: truncated_ids.iter().map(|id| id.as_str().to_owned()).collect(),
        }),
        Ok(Applied::Deleted { sequence, deleted_count }) => {
            Kind::Deleted(pb::DeletedAnswer { sequence: sequence.0, deleted_count: *deleted_count as u64 })
        }
        Ok(Applied::FrameRefused { sequence }) => Kind::FrameRefused(sequence.0),
        Ok(Applied::StreamFinished { sequence, settled_frame, refused_count }) => {
            Kind::StreamFinished(pb::StreamFinishedAnswer {
                sequence: sequence.0,
                settled_frame: *settled_frame,
                refused_count: *refused_count,
            })
        }
        Err(refusal) => Kind::Refusal(encode_refusal(refusal)),
    };
    let key = pb::RequestKey { request_id: answer.request_id.to_string(), content_hash: answer.content_hash };
    pb::Answered { key: Some(key), outcome: Some(outcome) }
}

fn decode(answered: pb::Answered) -> Result<Remembered<Outcome>, DecodeError> {
    use pb::answered::Outcome as Kind;
    let key = RequestKey::decode(answered.key.ok_or_else(|| invalid("request key: it is missing"))?);
    let answer = match answered.outcome.ok_or(DecodeError::UnknownKind)? {
        Kind::Changed(pb::Changed {}) => Ok(Applied::Changed),
        Kind::Upserted(upserted) => {
            let truncated: Result<Vec<_>, _> = upserted.truncated_ids.iter().map(|id| decode_id(id)).collect();
            let (sequence, record_count) = (Sequence(upserted.sequence), upserted.record_count as usize);
            Ok(Applied::Upserted { sequence, record_count, truncated_ids: truncated?.into() })
        }
        Kind::Deleted(deleted) => {
            Ok(Applied::Deleted { sequence: Sequence(deleted.sequence), deleted_count: deleted.deleted_count as usize })
        }
        Kind::FrameRefused(sequence) => Ok(Applied::FrameRefused { sequence: Sequence(sequence) }),
        Kind::StreamFinished(finished) => Ok(Applied::StreamFinished {
            sequence: Sequence(finished.sequence),
            settled_frame: finished.settled_frame,
            refused_count: finished.refused_count,
        }),
        Kind::Refusal(refusal) => Err(decode_refusal(refusal)?),
    };
    Ok(Remembered { request_id: Arc::from(key.request_id), content_hash: key.content_hash, answer })
}

pub(super) fn encode_refusal(refusal: &Refusal) -> pb::Refusal {
    use pb::refusal::Kind;
    let kind = match refusal.clone() {
        Refusal::VersionMismatch { id, index, expected, got } => Kind::VersionMismatch(pb::VersionMismatch {
            id: id.to_string(),
            index: index as u64,
            expected: expected.0,
            got: got.0,
        }),
        Refusal::FrameOutOfOrder { stream_id, expected, got } => {
            Kind::FrameOutOfOrder(pb::FrameOutOfOrder { stream_id: stream_id.to_string(), expected, got })
        }
        Refusal::RequestIdReused { request_id } => Kind::RequestIdReused(request_id),
        Refusal::SpaceConflict { name, existing } => Kind::SpaceConflict(pb::SpaceConflict { name, existing }),
        Refusal::ModelHasSpace { model_id, space } => {
            Kind::ModelHasSpace(pb::ModelHasSpace { model_id, space: space.to_string() })
        }
        Refusal::SecondRawSpace { got, existing } => {
            Kind::SecondRawSpace(pb::SecondRawSpace { got: got.get() as u32, existing })
        }
        Refusal::TooManySpaces => Kind::TooManySpaces(pb::TooManySpaces {}),
    };
    pb::Refusal { kind: Some(kind) }
}

pub(super) fn decode_refusal(refusal: pb::Refusal) -> Result<Refusal, DecodeError> {
    use pb::refusal::Kind;
    Ok(match refusal.kind.ok_or(DecodeError::UnknownKind)? {
        Kind::VersionMismatch(mismatch) => Refusal::VersionMismatch {
            id: decode_id(&mismatch.id)?,
            index: mismatch.index as usize,
            expected: Sequence(mismatch.expected),
            got: Sequence(mismatch.got),
        },
        Kind::FrameOutOfOrder(frame) => Refusal::FrameOutOfOrder {
            stream_id: decode_stream_id(&frame.stream_id)?,
            expected: frame.expected,
            got: frame.got,
        },
        Kind::RequestIdReused(request_id) => Refusal::RequestIdReused { request_id },
        Kind::SpaceConflict(conflict) => Refusal::SpaceConflict { name: conflict.name, existing: conflict.existing },
        Kind::ModelHasSpace(model) => Refusal::ModelHasSpace {
            model_id: model.model_id,
            space: SpaceName::new(&model.space).map_err(|error| invalid(error.to_string()))?,
        },
        Kind::SecondRawSpace(second) => Refusal::SecondRawSpace {
            got: Dimension::new(second.got as usize).ok_or_else(|| invalid(format!("dimension {}", second.got)))?,
            existing: second.existing,
        },
        Kind::TooManySpaces(pb::TooManySpaces {}) => Refusal::TooManySpaces,
    })
}

fn invalid(what: impl Into<String>) -> DecodeError {
    DecodeError::Invalid(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::RealFs;
    use crate::types::{RecordId, StreamId};

    #[test]
    fn every_answer_comes_back_as_it_was() {
        let id = || RecordId::new("ä").unwrap();
        let stream_id = || StreamId::new("s").unwrap();
        let outcomes: Vec<Outcome> = vec![
            Ok(Applied::Changed),
            Ok(Applied::Upserted { sequence: Sequence(9), record_count: 3, truncated_ids: [id(), id()].into() }),
            Ok(Applied::Deleted { sequence: Sequence(u64::MAX), deleted_count: 0 }),
            Ok(Applied::FrameRefused { sequence: Sequence(4) }),
            Ok(Applied::StreamFinished { sequence: Sequence(5), settled_frame: 6, refused_count: 7 }),
            Err(Refusal::VersionMismatch { id: id(), index: 2, expected: Sequence(0), got: Sequence(8) }),
            Err(Refusal::FrameOutOfOrder { stream_id: stream_id(), expected: 3, got: 5 }),
            Err(Refusal::RequestIdReused { request_id: "r".to_owned() }),
            Err(Refusal::SpaceConflict { name: "n".to_owned(), existing: "e".to_owned() }),
            Err(Refusal::ModelHasSpace { model_id: "m".to_owned(), space: SpaceName::new("s").unwrap() }),
            Err(Refusal::SecondRawSpace { got: Dimension::new(4).unwrap(), existing: "e".to_owned() }),
            Err(Refusal::TooManySpaces),
        ];
        let remembered = |(number, answer): (usize, &Outcome)| Remembered {
            request_id: format!("request {number}").into(),
            content_hash: number as u64,
            answer: answer.clone(),
        };
        let answers: Vec<_> = outcomes.iter().enumerate().map(remembered).collect();
        let folder = tempfile::tempdir().unwrap();
        super::super::create_folder(&RealFs, folder.path()).unwrap();
        let file_id = write_answers(&RealFs, folder.path(), 3, &answers).unwrap();
        assert_eq!(read_answers(&RealFs, folder.path(), 3, file_id).unwrap(), answers);
        let error = read_answers(&RealFs, folder.path(), 3, Uuid::nil()).unwrap_err().to_string();
        assert!(error.contains("is not the file that the manifest names"), "{error}");
    }
}
