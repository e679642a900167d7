//! Records: ids, vectors, and which fields a reader wants.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::convert::{check_text, invalid, read_metadata, to_value};
use crate::api::error::{ApiError, Reason};
use crate::collection::{Content, Row};
use crate::pb::v1 as pb;
use crate::pb::v1::vector::Components;
use crate::types::limits::BATCH_RECORDS_MAX;
use crate::types::{RecordId, Sequence, Space, SpaceName, Vector};

/// A record to be written, before its text is embedded and its space is known.
pub struct NewRecord {
    /// Its position within the request.
    pub index: usize,
    /// Its id.
    pub id: RecordId,
    /// Its vector with the space that was named; `None`: the text is to be embedded.
    pub vector: Option<(Vector, Option<SpaceName>)>,
    /// What is kept beside the vector.
    pub content: Arc<Content>,
    /// The version that it has to have.
    pub if_version: Option<Sequence>,
}

/// The fields of a record that a reader wants, beside its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The components and the name of the space.
    pub vector: bool,
    /// The text.
    pub text: bool,
    /// The metadata.
    pub metadata: bool,
    /// The version.
    pub version: bool,
}

impl Fields {
    /// All of them.
    pub const ALL: Fields = Fields { vector: true, text: true, metadata: true, version: true };
    /// All but the vector.
    pub const WITHOUT_VECTOR: Fields = Fields { vector: false, ..Fields::ALL };
    /// None: the id alone.
    pub const ID: Fields = Fields { vector: false, text: false, metadata: false, version: false };

    /// What the mask names; `default` where there is no mask.
    pub fn read(mask: Option<&prost_types::FieldMask>, default: Fields) -> Result<Fields, ApiError> {
        let Some(mask) = mask else { return Ok(default) };
        let mut fields = Fields::ID;
        for path in &mask.paths {
            match path.as_str() {
                "*" => fields = Fields::ALL,
                "id" => {}
                "vector" => fields.vector = true,
                "text" => fields.text = true,
                "metadata" => fields.metadata = true,
                "version" => fields.version = true,
                _ => {
                    let expected = "expected `id`, `vector`, `text`, `metadata`, `version` or `*`";
                    return Err(invalid("read_mask", format_args!("{expected}, but got {path:?}")));
                }
            }
        }
        Ok(fields)
    }
}

/// One id.
pub fn read_id(field: &str, id: &str) -> Result<RecordId, ApiError> {
    RecordId::new(id).map_err(|error| ApiError::field(Reason::InvalidId, field, error))
}

/// The ids of a batch: 1 to 10,000.
pub fn read_ids<'a>(field: &str, ids: impl ExactSizeIterator<Item = &'a String>) -> Result<Vec<RecordId>, ApiError> {
    check_batch(field, ids.len())?;
    ids.enumerate().map(|(index, id)| read_id(&format!("{field}[{index}]"), id)).collect()
}

/// The components of a vector, and the space that it names.
pub fn read_vector(field: &str, vector: &pb::Vector) -> Result<(Vector, Option<SpaceName>), ApiError> {
    let invalid_vector = |error: &dyn std::fmt::Display| ApiError::field(Reason::InvalidVector, field, error);
    let components = match &vector.components {
        Some(Components::Floats(floats)) => Vector::new(floats.values.clone()),
        Some(Components::F32Le(bytes)) => Vector::from_f32_le(bytes),
        None => return Err(invalid_vector(&"it has no components; set `floats` or `f32_le`")),
    };
    let components = components.map_err(|error| invalid_vector(&error))?;
    let space = (!vector.space.is_empty()).then(|| SpaceName::new(&vector.space)).transpose();
    Ok((components, space.map_err(|error| invalid(format!("{field}.space"), error))?))
}

/// What becomes of a record that is at fault: its position and id, and what is wrong. An error refuses the whole batch at
/// once; else the records after it are looked at too.
pub trait AtFault: FnMut(usize, &str, ApiError) -> Result<(), ApiError> {}

impl<F: FnMut(usize, &str, ApiError) -> Result<(), ApiError>> AtFault for F {}

/// The first mistake refuses the batch.
pub fn refuse(_index: usize, _id: &str, error: ApiError) -> Result<(), ApiError> {
    Err(error)
}

/// The records of a batch: 1 to 10,000. Of several with the same id the last wins, and stands where the first stood.
pub fn read_records(inputs: Vec<pb::RecordInput>, mut at_fault: impl AtFault) -> Result<Vec<NewRecord>, ApiError> {
    check_batch("records", inputs.len())?;
    let mut records: Vec<NewRecord> = Vec::with_capacity(inputs.len());
    let mut positions: HashMap<RecordId, usize> = HashMap::with_capacity(inputs.len());
    for (index, mut input) in inputs.into_iter().enumerate() {
        let id = std::mem::take(&mut input.id);
        let record = match read_record(index, &id, input) {
            Ok(record) => record,
            Err(error) => {
                at_fault(index, &id, error)?;
                continue;
            }
        };
        let Some(&position) = positions.get(&record.id) else {
            positions.insert(record.id.clone(), records.len());
            records.push(record);
            continue;
        };
        if record.if_version.is_some() || records[position].if_version.is_some() {
            let message = format_args!("id {id:?} comes twice in one batch, with if_version");
            at_fault(index, &id, invalid(format!("records[{index}]"), message))?;
            continue;
        }
        records[position] = record;
    }
    Ok(records)
}

fn read_record(index: usize, id: &str, input: pb::RecordInput) -> Result<NewRecord, ApiError> {
    let field = &format!("records[{index}]");
    let id = read_id(&format!("{field}.id"), id)?;
    let vector = input.vector.as_ref().map(|vector| read_vector(&format!("{field}.vector"), vector)).transpose()?;
    match &input.text {
        Some(text) => check_text(&format!("{field}.text"), text)?,
        None if vector.is_none() => return Err(invalid(field, "a record needs a vector, a text, or both")),
        None => {}
    }
    let metadata = read_metadata(&format!("{field}.metadata"), input.metadata)?;
    let content = Arc::new(Content { text: input.text.map(String::into_boxed_str), metadata });
    Ok(NewRecord { index, id, vector, content, if_version: input.if_version.map(Sequence) })
}

/// A record as the contract tells it.
pub fn to_record(row: &Row<'_>, space: &Space, fields: Fields) -> pb::Record {
    let vector = fields.vector.then(|| pb::Vector {
        components: Some(Components::F32Le(Vector::to_f32_le(row.components).into())),
        space: space.name.as_str().to_owned(),
    });
    let metadata = match fields.metadata {
        true => row.content.metadata.fields().iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
        false => Default::default(),
    };
    pb::Record {
        id: row.id.as_str().to_owned(),
        vector,
        text: row.content.text.as_deref().filter(|_| fields.text).map(str::to_owned),
        metadata,
        version: if fields.version { row.version.0 } else { 0 },
    }
}

fn check_batch(field: &str, count: usize) -> Result<(), ApiError> {
    if (1..=BATCH_RECORDS_MAX).contains(&count) {
        return Ok(());
    }
    Err(invalid(field, format_args!("expected 1 to {BATCH_RECORDS_MAX}, but got {count}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(id: &str, component: f32, if_version: Option<u64>) -> pb::RecordInput {
        let components = Some(Components::Floats(pb::FloatArray { values: vec![component] }));
        let vector = Some(pb::Vector { components, space: String::new() });
        pb::RecordInput { id: id.to_owned(), vector, if_version, ..pb::RecordInput::default() }
    }

    #[test]
    fn the_last_of_the_same_id_wins() {
        let records =
            read_records(vec![input("a", 1.0, None), input("b", 2.0, None), input("a", 3.0, None)], refuse).unwrap();
        let components: Vec<_> =
            records.iter().map(|record| record.vector.as_ref().unwrap().0.components()[0]).collect();
        assert_eq!(components, [3.0, 2.0]);
    }

    #[test]
    fn the_same_id_twice_with_a_version_is_refused() {
        assert!(read_records(vec![input("a", 1.0, Some(0)), input("a", 3.0, None)], refuse).is_err());
    }

    #[test]
    fn one_bad_record_refuses_the_batch_by_its_position() {
        let error = read_records(vec![input("a", 1.0, None), input("b", f32::NAN, None)], refuse).err().unwrap();
        assert_eq!(error.reason, Reason::InvalidVector);
        assert_eq!(error.field.as_deref(), Some("records[1].vector"));
    }

    #[test]
    fn every_bad_record_can_be_named() {
        let inputs = vec![input("", 1.0, None), input("b", 2.0, None), input("c", f32::NAN, None)];
        let mut faults = Vec::new();
        let records = read_records(inputs, |index, id: &str, error| {
            faults.push((index, id.to_owned(), error.reason));
            Ok(())
        });
        assert_eq!(records.unwrap().iter().map(|record| record.index).collect::<Vec<_>>(), [1]);
        let expected = [(0, String::new(), Reason::InvalidId), (2, "c".to_owned(), Reason::InvalidVector)];
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_mask_names_fields_or_is_refused() {
        let mask = |paths: &[&str]| prost_types::FieldMask { paths: paths.iter().map(|&path| path.into()).collect() };
        assert_eq!(Fields::read(None, Fields::WITHOUT_VECTOR).unwrap(), Fields::WITHOUT_VECTOR);
        assert_eq!(Fields::read(Some(&mask(&["*"])), Fields::ID).unwrap(), Fields::ALL);
        assert_eq!(Fields::read(Some(&mask(&["text"])), Fields::ALL).unwrap(), Fields { text: true, ..Fields::ID });
        assert!(Fields::read(Some(&mask(&["vectr"])), Fields::ALL).is_err());
    }
}
