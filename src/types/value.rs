use std::collections::BTreeMap;

use super::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX};

/// A JSON-like value that keeps 64-bit integers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Double(f64),
    /// Text.
    String(String),
    /// An ordered list.
    List(Vec<Value>),
    /// Named values.
    Object(BTreeMap<String, Value>),
}

/// The metadata of a record: named values, finite, at most 1 MiB and 24 levels deep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

/// Why values are no metadata.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidMetadata {
    /// A number is NaN or infinite.
    #[error("every number of the metadata is finite, but one in field {field:?} is {value}")]
    NotFinite {
        /// The top-level field that it is in.
        field: String,
        /// What it is.
        value: f64,
    },
    /// Lists and objects are nested too deep.
    #[error("metadata is at most {METADATA_DEPTH_MAX} levels deep, but field {field:?} is deeper")]
    TooDeep {
        /// The top-level field.
        field: String,
    },
    /// Names and values are too large together.
    #[error("the metadata of a record has at most {METADATA_BYTES_MAX} bytes, but this has {bytes}")]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
}

impl Metadata {
    /// Checks depth, size and numbers.
    pub fn new(fields: BTreeMap<String, Value>) -> Result<Self, InvalidMetadata> {
        let mut bytes = 0;
        for (field, value) in &fields {
            bytes += field.len() + check(field, value, 1)?;
        }
        if bytes > METADATA_BYTES_MAX {
            return Err(InvalidMetadata::TooLarge { bytes });
        }
        Ok(Self(fields))
    }

    /// Bytes in memory, as far as can be told: what the allocator adds is not in it.
    pub fn bytes(&self) -> usize {
        fn heap(value: &Value) -> usize {
            match value {
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
                Value::String(text) => text.len(),
                Value::List(values) => values.iter().map(|value| size_of::<Value>() + heap(value)).sum(),
                Value::Object(fields) => of(fields),
            }
        }
        fn of(fields: &BTreeMap<String, Value>) -> usize {
            fields.iter().map(|(name, value)| size_of::<(String, Value)>() + name.len() + heap(value)).sum()
        }
        of(&self.0)
    }

    /// The fields by name.
    pub fn fields(&self) -> &BTreeMap<String, Value> {
        &self.0
    }
}

/// What each value counts beside its names and texts: at least what it takes encoded.
const VALUE_BYTES: usize = 8;

/// Returns the size of the value in bytes.
fn check(field: &str, value: &Value, depth: usize) -> Result<usize, InvalidMetadata> {
    if depth > METADATA_DEPTH_MAX {
        return Err(InvalidMetadata::TooDeep { field: field.to_owned() });
    }
    let inner = match value {
        Value::Double(number) if !number.is_finite() => {
            return Err(InvalidMetadata::NotFinite { field: field.to_owned(), value: *number });
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
        Value::String(text) => text.len(),
        Value::List(values) => values.iter().try_fold(0, |sum, value| Ok(sum + check(field, value, depth + 1)?))?,
        Value::Object(fields) => {
            fields.iter().try_fold(0, |sum, (name, value)| Ok(sum + name.len() + check(field, value, depth + 1)?))?
        }
    };
    Ok(VALUE_BYTES + inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> BTreeMap<String, Value> {
        let value = (1..levels).fold(Value::Int(1), |value, _| Value::List(vec![value]));
        BTreeMap::from([("deep".to_owned(), value)])
    }

    #[test]
    fn limits_hold_exactly() {
        assert!(Metadata::new(nested(24)).is_ok());
        assert_eq!(Metadata::new(nested(25)), Err(InvalidMetadata::TooDeep { field: "deep".to_owned() }));
        let text = |bytes| BTreeMap::from([("t".to_owned(), Value::String("x".repeat(bytes)))]);
        assert!(Metadata::new(text(METADATA_BYTES_MAX - 9)).is_ok());
        assert!(matches!(Metadata::new(text(METADATA_BYTES_MAX - 8)), Err(InvalidMetadata::TooLarge { .. })));
        let nulls = BTreeMap::from([("n".to_owned(), Value::List(vec![Value::Null; METADATA_BYTES_MAX / 8]))]);
        assert!(matches!(Metadata::new(nulls), Err(InvalidMetadata::TooLarge { .. })));
        let nan = BTreeMap::from([("n".to_owned(), Value::List(vec![Value::Double(f64::NAN)]))]);
        assert!(matches!(Metadata::new(nan), Err(InvalidMetadata::NotFinite { .. })));
    }
}
