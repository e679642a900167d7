//! What the records of a collection's log mean, and their bytes (`proto/vectron/storage/v1`).
//!
//! An operation holds effects only: vectors already embedded, ids with their observed versions. Applying it needs no
//! clock, no randomness and no network. An operation that this version does not know stops replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use crate::pb::storage as pb;
use crate::types::{
    Dimension, InvalidMetadata, Metadata, Metric, RecordId, Sequence, Space, SpaceName, StreamId, TextModel, Value,
    Vector,
};

/// The highest revision of operations that this version understands. Each is written with the lowest that has it whole.
pub const REVISION: u32 = 3;

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What happened.
    pub change: Change,
    /// The frame of a stream that it settles.
    pub stream_frame: Option<StreamFrame>,
    /// Makes a retry recognisable.
    pub request_key: Option<RequestKey>,
}

/// A frame of a stream: applied only if it is the one after the stream's mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFrame {
    /// The stream's name.
    pub stream_id: StreamId,
    /// The frame's number: 1, 2, 3, …
    pub frame: u64,
}

/// Makes a retry recognisable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The client's request id.
    pub request_id: String,
    /// Hash of the request: the same id with another content is refused.
    pub content_hash: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The first operation of every collection.
    Created(Created),
    /// Settings were changed, or spaces were added.
    Updated(Updated),
    /// Records were written.
    Upserted(Upserted),
    /// Records were deleted.
    Deleted(Vec<RecordRemoved>),
    /// A frame of a stream was refused before it came here.
    FrameRefused(Arc<FrameFault>),
    /// A stream was finished: its mark is forgotten.
    StreamFinished(StreamId),
}

/// Why a frame of a stream was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameFault {
    /// Machine-readable: the reason of the first error, or of the frame as a whole.
    pub reason: String,
    /// What was expected and what came.
    pub message: String,
    /// The first of the records that are at fault.
    pub errors: Vec<RecordFault>,
    /// Records that are at fault, in all.
    pub error_count: usize,
}

/// What is wrong with a record of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Its position within the frame, from 0.
    pub index: u32,
    /// Its id, as far as it was read.
    pub id: String,
    /// Machine-readable.
    pub reason: String,
    /// What was expected and what came.
    pub message: String,
}

/// The first operation of every collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Created {
    /// What the collection is for.
    pub description: String,
    /// The model for texts that name none; empty: the service's.
    pub default_model_id: String,
    /// The first spaces, names distinct.
    pub spaces: Vec<Space>,
}

/// Settings were changed, or spaces were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Updated {
    /// The new description, where it changes.
    pub description: Option<String>,
    /// The new default model, where it changes.
    pub default_model_id: Option<String>,
    /// Spaces to add.
    pub spaces: Vec<Space>,
}

/// Records were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upserted {
    /// Spaces that this write adds where they are missing.
    pub spaces: Vec<Space>,
    /// The records; each id at most once.
    pub records: Vec<RecordWritten>,
    /// Ids whose text was embedded from its beginning only.
    pub truncated_ids: Vec<RecordId>,
}

/// One record as written.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordWritten {
    /// Its id.
    pub id: RecordId,
    /// The space that it lies in.
    pub space: SpaceName,
    /// Its vector.
    pub vector: Vector,
    /// What is kept beside the vector.
    pub content: Arc<Content>,
    /// The version that it has to have; zero: it must not exist.
    pub if_version: Option<Sequence>,
}

/// What is kept beside a vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// The text, where there is one.
    pub text: Option<Box<str>>,
    /// The metadata.
    pub metadata: Metadata,
}

/// One record as deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRemoved {
    /// Its id.
    pub id: RecordId,
    /// The version that it has to have, or the whole operation is refused.
    pub if_version: Option<Sequence>,
    /// The version that was seen when a filter chose it; with another it is left alone.
    pub observed_version: Option<Sequence>,
}

/// Why bytes are no operation of this version.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A newer version wrote it.
    #[error("the operation has revision {revision}, but this version reads revisions up to {REVISION}")]
    Newer {
        /// Its revision.
        revision: u32,
    },
    /// Nothing that this version knows is set.
    #[error("the operation is of a kind that this version does not know")]
    UnknownKind,
    /// Not even a message.
    #[error("the operation cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A part breaks the rules of its type.
    #[error("the operation has an invalid {0}")]
    Invalid(String),
}

impl Operation {
    /// An operation that belongs to no stream, and whose retry is not recognised.
    pub fn new(change: Change) -> Self {
        Self { change, stream_frame: None, request_key: None }
    }

    /// The lowest revision that has it whole.
    fn revision(&self) -> u32 {
        let is_of_a_stream = matches!(self.change, Change::FrameRefused(_) | Change::StreamFinished(_));
        if is_of_a_stream || self.stream_frame.is_some() { 2 } else { 1 }
    }

    /// The bytes of the log's record.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match &self.change {
            Change::Created(created) => pb::operation::Kind::CollectionCreated(pb::CollectionCreated {
                description: created.description.clone(),
                default_model_id: created.default_model_id.clone(),
                spaces: created.spaces.iter().map(encode_space).collect(),
            }),
            Change::Updated(updated) => pb::operation::Kind::CollectionUpdated(pb::CollectionUpdated {
                description: updated.description.clone(),
                default_model_id: updated.default_model_id.clone(),
                spaces: updated.spaces.iter().map(encode_space).collect(),
            }),
            Change::Upserted(upserted) => pb::operation::Kind::RecordsUpserted(pb::RecordsUpserted {
                spaces: upserted.spaces.iter().map(encode_space).collect(),
                records: upserted.records.iter().map(encode_record).collect(),
                truncated_ids: upserted.truncated_ids.iter().map(|id| id.as_str().to_owned()).collect(),
            }),
            Change::Deleted(records) => pb::operation::Kind::RecordsDeleted(pb::RecordsDeleted {
                records: records
                    .iter()
                    .map(|record| pb::RecordDeleted {
                        id: record.id.as_str().to_owned(),
                        if_version: record.if_version.map(|version| version.0),
                        observed_version: record.observed_version.map(|version| version.0),
                    })
                    .collect(),
            }),
            Change::FrameRefused(fault) => pb::operation::Kind::FrameRefused(encode_fault(fault)),
            Change::StreamFinished(stream_id) => {
                pb::operation::Kind::StreamFinished(pb::StreamFinished { stream_id: stream_id.to_string() })
            }
        };
        let stream_frame = self
            .stream_frame
            .as_ref()
            .map(|frame| pb::StreamFrame { stream_id: frame.stream_id.to_string(), frame: frame.frame });
        let request_key = self.request_key.as_ref().map(RequestKey::encode);
        pb::Operation { revision: self.revision(), kind: Some(kind), stream_frame, request_key }.encode_to_vec()
    }

    /// Reads the bytes of a record of the log.
    pub fn decode(bytes: prost::bytes::Bytes) -> Result<Self, DecodeError> {
        let operation = pb::Operation::decode(bytes)?;
        if operation.revision > REVISION {
            return Err(DecodeError::Newer { revision: operation.revision });
        }
        let change = match operation.kind.ok_or(DecodeError::UnknownKind)? {
            pb::operation::Kind::CollectionCreated(created) => Change::Created(Created {
                description: created.description,
                default_model_id: created.default_model_id,
                spaces: created.spaces.into_iter().map(decode_space).collect::<Result<_, _>>()?,
            }),
            pb::operation::Kind::CollectionUpdated(updated) => Change::Updated(Updated {
                description: updated.description,
                default_model_id: updated.default_model_id,
                spaces: updated.spaces.into_iter().map(decode_space).collect::<Result<_, _>>()?,
            }),
            pb::operation::Kind::RecordsUpserted(upserted) => Change::Upserted(Upserted {
                spaces: upserted.spaces.into_iter().map(decode_space).collect::<Result<_, _>>()?,
                records: upserted.records.into_iter().map(decode_record).collect::<Result<_, _>>()?,
                truncated_ids: upserted.truncated_ids.iter().map(|id| decode_id(id)).collect::<Result<_, _>>()?,
            }),
            pb::operation::Kind::RecordsDeleted(deleted) => Change::Deleted(
                deleted
                    .records
                    .into_iter()
                    .map(|record| {
                        Ok(RecordRemoved {
                            id: decode_id(&record.id)?,
                            if_version: record.if_version.map(Sequence),
                            observed_version: record.observed_version.map(Sequence),
                        })
                    })
                    .collect::<Result<_, DecodeError>>()?,
            ),
            pb::operation::Kind::FrameRefused(fault) => Change::FrameRefused(Arc::new(decode_fault(fault))),
            pb::operation::Kind::StreamFinished(finished) => {
                Change::StreamFinished(decode_stream_id(&finished.stream_id)?)
            }
        };
        let stream_frame = operation
            .stream_frame
            .map(|frame| {
                Ok::<_, DecodeError>(StreamFrame { stream_id: decode_stream_id(&frame.stream_id)?, frame: frame.frame })
            })
            .transpose()?;
        Ok(Self { change, stream_frame, request_key: operation.request_key.map(RequestKey::decode) })
    }
}

impl RequestKey {
    /// As a part of a log's record.
    pub fn encode(&self) -> pb::RequestKey {
        pb::RequestKey { request_id: self.request_id.clone(), content_hash: self.content_hash }
    }

    /// From a part of a log's record.
    pub fn decode(key: pb::RequestKey) -> Self {
        Self { request_id: key.request_id, content_hash: key.content_hash }
    }
}

pub(super) fn encode_fault(fault: &FrameFault) -> pb::FrameRefused {
    let encode = |error: &RecordFault| pb::RecordError {
        index: error.index,
        id: error.id.clone(),
        reason: error.reason.clone(),
        message: error.message.clone(),
    };
    pb::FrameRefused {
        errors: fault.errors.iter().map(encode).collect(),
        error_count: fault.error_count as u32,
        reason: fault.reason.clone(),
        message: fault.message.clone(),
    }
}

pub(super) fn decode_fault(fault: pb::FrameRefused) -> FrameFault {
    let decode = |error: pb::RecordError| RecordFault {
        index: error.index,
        id: error.id,
        reason: error.reason,
        message: error.message,
    };
    FrameFault {
        reason: fault.reason,
        message: fault.message,
        errors: fault.errors.into_iter().map(decode).collect(),
        error_count: fault.error_count as usize,
    }
}

pub(super) fn decode_stream_id(stream_id: &str) -> Result<StreamId, DecodeError> {
    StreamId::new(stream_id).map_err(|error| DecodeError::Invalid(format!("stream id: {error}")))
}

pub(super) fn encode_space(space: &Space) -> pb::Space {
    let metric = match space.metric {
        Metric::Cosine => pb::Metric::Cosine,
        Metric::DotProduct => pb::Metric::DotProduct,
        Metric::Euclidean => pb::Metric::Euclidean,
    };
    let model = space.text_model.as_ref();
    pb::Space {
        name: space.name.as_str().to_owned(),
        dimension: space.dimension.get() as u32,
        metric: metric.into(),
        model_id: model.map(|model| model.model_id.clone()).unwrap_or_default(),
        model_fingerprint: model.map(|model| model.fingerprint.clone()).unwrap_or_default(),
    }
}

pub(super) fn decode_space(space: pb::Space) -> Result<Space, DecodeError> {
    let metric = match space.metric() {
        pb::Metric::Cosine => Metric::Cosine,
        pb::Metric::DotProduct => Metric::DotProduct,
        pb::Metric::Euclidean => Metric::Euclidean,
        pb::Metric::Unspecified => return Err(DecodeError::Invalid(format!("metric {}", space.metric))),
    };
    let dimension = Dimension::new(space.dimension as usize)
        .ok_or_else(|| DecodeError::Invalid(format!("dimension {}", space.dimension)))?;
    let text_model = (!space.model_id.is_empty())
        .then_some(TextModel { model_id: space.model_id, fingerprint: space.model_fingerprint });
    let name = SpaceName::new(&space.name).map_err(|error| DecodeError::Invalid(error.to_string()))?;
    Ok(Space { name, dimension, metric, text_model })
}

fn encode_record(record: &RecordWritten) -> pb::RecordUpserted {
    pb::RecordUpserted {
        id: record.id.as_str().to_owned(),
        space: record.space.as_str().to_owned(),
        f32_le: Vector::to_f32_le(record.vector.components()).into(),
        text: record.content.text.as_deref().map(str::to_owned),
        metadata: encode_fields(record.content.metadata.fields()),
        if_version: record.if_version.map(|version| version.0),
    }
}

fn decode_record(record: pb::RecordUpserted) -> Result<RecordWritten, DecodeError> {
    let invalid = |error: &dyn std::fmt::Display| DecodeError::Invalid(format!("record {:?}: {error}", record.id));
    let metadata = Metadata::new(decode_fields(record.metadata)).map_err(|error: InvalidMetadata| invalid(&error))?;
    Ok(RecordWritten {
        id: decode_id(&record.id)?,
        space: SpaceName::new(&record.space).map_err(|error| invalid(&error))?,
        vector: Vector::from_f32_le(&record.f32_le).map_err(|error| invalid(&error))?,
        content: Arc::new(Content { text: record.text.map(String::into_boxed_str), metadata }),
        if_version: record.if_version.map(Sequence),
    })
}

pub(super) fn decode_id(id: &str) -> Result<RecordId, DecodeError> {
    RecordId::new(id).map_err(|error| DecodeError::Invalid(format!("id: {error}")))
}

pub(super) fn encode_fields(fields: &BTreeMap<String, Value>) -> BTreeMap<String, pb::Value> {
    fields.iter().map(|(name, value)| (name.clone(), encode_value(value))).collect()
}

pub(super) fn decode_fields(fields: BTreeMap<String, pb::Value>) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(name, value)| (name, decode_value(value))).collect()
}

fn encode_value(value: &Value) -> pb::Value {
    use pb::value::Kind;
    let kind = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Kind::BoolValue(*value)),
        Value::Int(value) => Some(Kind::IntValue(*value)),
        Value::Double(value) => Some(Kind::DoubleValue(*value)),
        Value::String(value) => Some(Kind::StringValue(value.clone())),
        Value::List(values) => {
            Some(Kind::ListValue(pb::ListValue { values: values.iter().map(encode_value).collect() }))
        }
        Value::Object(fields) => Some(Kind::ObjectValue(pb::ObjectValue { fields: encode_fields(fields) })),
    };
    pb::Value { kind }
}

fn decode_value(value: pb::Value) -> Value {
    use pb::value::Kind;
    match value.kind {
        None => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::IntValue(value)) => Value::Int(value),
        Some(Kind::DoubleValue(value)) => Value::Double(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => Value::List(list.values.into_iter().map(decode_value).collect()),
        Some(Kind::ObjectValue(object)) => Value::Object(decode_fields(object.fields)),
    }
}
