//! Metadata: the contract's values, the engine's, and JSON.

use std::collections::BTreeMap;

use serde_json::Number;

use crate::api::error::{ApiError, Reason};
use crate::pb::v1 as pb;
use crate::pb::v1::value::Kind;
use crate::types::limits::METADATA_DEPTH_MAX;
use crate::types::{Metadata, Value};

/// The metadata of a record.
pub fn read_metadata(field: &str, fields: BTreeMap<String, pb::Value>) -> Result<Metadata, ApiError> {
    let fields = read_fields(field, fields)?;
    Metadata::new(fields).map_err(|error| ApiError::field(Reason::InvalidMetadata, field, error))
}

/// A value as the contract tells it.
pub fn to_value(value: &Value) -> pb::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(pb::NullValue::Unspecified.into()),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Int(value) => Kind::IntValue(*value),
        Value::Double(value) => Kind::DoubleValue(*value),
        Value::String(value) => Kind::StringValue(value.clone()),
        Value::List(values) => Kind::ListValue(pb::ListValue { values: values.iter().map(to_value).collect() }),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), to_value(value))).collect();
            Kind::ObjectValue(pb::ObjectValue { fields })
        }
    };
    pb::Value { kind: Some(kind) }
}

fn read_fields(field: &str, fields: BTreeMap<String, pb::Value>) -> Result<BTreeMap<String, Value>, ApiError> {
    fields
        .into_iter()
        .map(|(name, value)| {
            let value = read_value(&format!("{field}.{name}"), value)?;
            Ok((name, value))
        })
        .collect()
}

/// The depth is bounded already: by prost's recursion limit, and by `from_json`.
pub(super) fn read_value(field: &str, value: pb::Value) -> Result<Value, ApiError> {
    Ok(match value.kind {
        None => {
            return Err(ApiError::field(
                Reason::InvalidMetadata,
                field,
                "the value has no kind; send `null_value` for null",
            ));
        }
        Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::IntValue(value)) => Value::Int(value),
        Some(Kind::DoubleValue(value)) => Value::Double(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::ListValue(list)) => {
            Value::List(list.values.into_iter().map(|value| read_value(field, value)).collect::<Result<_, _>>()?)
        }
        Some(Kind::ObjectValue(object)) => Value::Object(read_fields(field, object.fields)?),
    })
}

/// A JSON object as the contract's values. Whole numbers stay whole.
pub fn from_json(object: serde_json::Map<String, serde_json::Value>) -> Result<BTreeMap<String, pb::Value>, ApiError> {
    object.into_iter().map(|(name, value)| Ok((name.clone(), from_json_value(&name, value, 1)?))).collect()
}

pub(super) fn from_json_value(name: &str, value: serde_json::Value, depth: usize) -> Result<pb::Value, ApiError> {
    let fail = |message: String| ApiError::field(Reason::InvalidMetadata, format!("metadata.{name}"), message);
    if depth > METADATA_DEPTH_MAX {
        return Err(fail(format!("metadata is at most {METADATA_DEPTH_MAX} levels deep")));
    }
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(pb::NullValue::Unspecified.into()),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::String(value) => Kind::StringValue(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Kind::IntValue(whole),
            (None, Some(double)) if !number.is_u64() => Kind::DoubleValue(double),
            _ => return Err(fail(format!("a whole number is -2^63 to 2^63-1, but got {number}"))),
        },
        serde_json::Value::Array(values) => {
            let values = values.into_iter().map(|value| from_json_value(name, value, depth + 1));
            Kind::ListValue(pb::ListValue { values: values.collect::<Result<_, _>>()? })
        }
        serde_json::Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| Ok((key, from_json_value(name, value, depth + 1)?)));
            Kind::ObjectValue(pb::ObjectValue { fields: fields.collect::<Result<_, ApiError>>()? })
        }
    };
    Ok(pb::Value { kind: Some(kind) })
}

/// The contract's values as a JSON object.
pub fn to_json(fields: BTreeMap<String, pb::Value>) -> serde_json::Map<String, serde_json::Value> {
    fields.into_iter().map(|(name, value)| (name, to_json_value(value))).collect()
}

fn to_json_value(value: pb::Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::IntValue(value)) => value.into(),
        // Finite: it was checked when it was written.
        Some(Kind::DoubleValue(value)) => Number::from_f64(value).map_or(serde_json::Value::Null, Into::into),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(to_json_value).collect(),
        Some(Kind::ObjectValue(object)) => to_json(object.fields).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(json: &str) -> Result<String, ApiError> {
        let object = serde_json::from_str(json).unwrap();
        let metadata = read_metadata("metadata", from_json(object)?)?;
        let fields = metadata.fields().iter().map(|(name, value)| (name.clone(), to_value(value))).collect();
        Ok(serde_json::to_string(&to_json(fields)).unwrap())
    }

    #[test]
    fn json_comes_back_as_it_went_in() {
        let json = r#"{"a":null,"b":[true,"x",{"c":1.5}],"big":9007199254740993,"min":-9223372036854775808,"one":1.0}"#;
        assert_eq!(round_trip(json).unwrap(), json);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused_by_name() {
        let error = round_trip(r#"{"n": 9223372036854775808}"#).unwrap_err();
        assert!(error.message.contains("metadata.n") && error.message.contains("9223372036854775808"), "{error:?}");
    }

    #[test]
    fn a_bomb_of_brackets_is_refused() {
        let json = format!(r#"{{"d": {}1{}}}"#, "[".repeat(40), "]".repeat(40));
        assert_eq!(round_trip(&json).unwrap_err().reason, Reason::InvalidMetadata);
    }
}
