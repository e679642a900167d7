//! A record as JSON: what `get`, `search` and `export` print, and `import` reads.

use serde::Serialize;

use crate::api::convert::to_json;
use crate::pb::v1 as pb;
use crate::pb::v1::vector::Components;
use crate::types::Vector;

/// A record as JSON. 32-bit numbers are printed so that they come back bit for bit; whole numbers keep 64 bits.
#[derive(Debug, Serialize)]
pub struct RecordJson {
    /// Its id.
    pub id: String,
    /// Its text, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its vector, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    /// The space that the vector lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Its metadata, where it has any.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// The sequence of its last write, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

impl From<pb::Record> for RecordJson {
    fn from(record: pb::Record) -> Self {
        let (vector, space) = match record.vector {
            Some(vector) => (Some(components(vector.components)), Some(vector.space)),
            None => (None, None),
        };
        let metadata = to_json(record.metadata);
        let version = (record.version > 0).then_some(record.version);
        Self { id: record.id, text: record.text, vector, space, metadata, version }
    }
}

fn components(components: Option<Components>) -> Vec<f32> {
    match components {
        Some(Components::Floats(floats)) => floats.values,
        Some(Components::F32Le(bytes)) => {
            bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
        }
        None => Vec::new(),
    }
}

/// A vector to be sent.
pub fn to_vector(vector: &Vector, space: &str) -> pb::Vector {
    let components = Components::F32Le(Vector::to_f32_le(vector.components()).into());
    pb::Vector { components: Some(components), space: space.to_owned() }
}

/// A mask of fields: which the server shall send, or change.
pub fn read_mask(fields: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: fields.iter().map(|&field| field.to_owned()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let numbers: Vec<f32> = (0..20_000_u32)
            .map(|n| f32::from_bits(n.wrapping_mul(2_654_435_761)))
            .chain([-0.0, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, 0.1])
            .filter(|number| number.is_finite())
            .collect();
        let vector = Some(pb::Vector {
            components: Some(Components::F32Le(Vector::to_f32_le(&numbers).into())),
            space: "s".to_owned(),
        });
        let json = RecordJson::from(pb::Record { id: "1".to_owned(), vector, ..pb::Record::default() });
        let text = serde_json::to_string(&json.vector).unwrap();
        let read: Vec<f32> = serde_json::from_str(&text).unwrap();
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&read), bits(&numbers));
    }
}
