//! Filters as JSON: the message's own JSON form, and a shorter one.

use serde_json::{Map, Value as Json};

use crate::api::convert::filter::{EXPECTED_CONDITIONS, Fault, check_count, check_depth};
use crate::api::convert::value::from_json_value;
use crate::api::error::ApiError;
use crate::pb::v1 as pb;
use crate::pb::v1::field_range::{Lower, Upper};
use crate::pb::v1::filter::Condition;

/// A filter as JSON: the message's own JSON form, and a shorter one. Lists stand for themselves (`"all_of": [ … ]`), values
/// too (`"value": 3`), and names are written either way (`all_of`, `allOf`). A name that is not known is an error.
pub fn filter_from_json(filter: Json) -> Result<pb::Filter, ApiError> {
    Ok(from_json(filter, 1)?)
}

fn from_json(filter: Json, depth: usize) -> Result<pb::Filter, Fault> {
    check_depth(depth)?;
    let mut fields = Fields::new(filter, EXPECTED_CONDITIONS)?.0.into_iter();
    let (Some((name, value)), None) = (fields.next(), fields.next()) else {
        let message = format_args!("{EXPECTED_CONDITIONS}, and no more than one; put several into `all_of`");
        return Err(Fault::new("", message));
    };
    let name = snake(&name);
    let condition = match name.as_str() {
        "all_of" => list_from_json(value, depth).map(Condition::AllOf),
        "any_of" => list_from_json(value, depth).map(Condition::AnyOf),
        "not" => from_json(value, depth + 1).map(|part| Condition::Not(Box::new(part))),
        "equals" => field_and_value(value).map(|(field, value)| Condition::Equals(pb::FieldEquals { field, value })),
        "contains" => {
            field_and_value(value).map(|(field, value)| Condition::Contains(pb::FieldContains { field, value }))
        }
        "in" => in_from_json(value).map(Condition::In),
        "range" => range_from_json(value).map(Condition::Range),
        "exists" => exists_from_json(value).map(Condition::Exists),
        _ => return Err(Fault::new("", format_args!("{EXPECTED_CONDITIONS}, but got {:?}", shortened(&name)))),
    };
    Ok(pb::Filter { condition: Some(condition.map_err(|fault| fault.within(&name))?) })
}

fn list_from_json(list: Json, depth: usize) -> Result<pb::FilterList, Fault> {
    let expected = "expected a list of filters";
    let list = match list {
        Json::Object(_) => {
            Fields::new(list, expected)?.only(&["filters"])?.take("filters").unwrap_or(Json::Array(vec![]))
        }
        list => list,
    };
    let Json::Array(parts) = list else {
        return Err(Fault::new("", format_args!("{expected}, but got {}", kind(&list))));
    };
    check_count("", parts.len())?;
    let parts = parts.into_iter().enumerate();
    let filters = parts
        .map(|(index, part)| from_json(part, depth + 1).map_err(|fault| fault.within(format_args!("[{index}]"))))
        .collect::<Result<_, _>>()?;
    Ok(pb::FilterList { filters })
}

fn field_and_value(condition: Json) -> Result<(String, Option<pb::Value>), Fault> {
    let mut fields =
        Fields::new(condition, "expected an object with `field` and `value`")?.only(&["field", "value"])?;
    let field = fields.take_field()?;
    let value = fields.take("value").ok_or_else(|| Fault::new("value", "must be set; `null` is a value"))?;
    Ok((field, Some(value_from_json("value", value)?)))
}

fn in_from_json(condition: Json) -> Result<pb::FieldIn, Fault> {
    let mut fields =
        Fields::new(condition, "expected an object with `field` and `values`")?.only(&["field", "values"])?;
    let field = fields.take_field()?;
    let values = match fields.take("values") {
        Some(Json::Array(values)) => values.into_iter().enumerate(),
        Some(other) => return Err(Fault::new("values", format_args!("expected a list, but got {}", kind(&other)))),
        None => return Err(Fault::new("values", "must be set")),
    };
    let values = values.map(|(index, value)| {
        value_from_json("", value).map_err(|fault| fault.within(format_args!("values[{index}]")))
    });
    Ok(pb::FieldIn { field, values: values.collect::<Result<_, _>>()? })
}

fn range_from_json(condition: Json) -> Result<pb::FieldRange, Fault> {
    const NAMES: [&str; 5] = ["field", "greater_than", "at_least", "less_than", "at_most"];
    let mut fields = Fields::new(condition, "expected an object with `field` and bounds")?.only(&NAMES)?;
    let field = fields.take_field()?;
    let mut bound = |name: &str| fields.take(name).map(|value| value_from_json(name, value)).transpose();
    let lower = match (bound("greater_than")?, bound("at_least")?) {
        (Some(_), Some(_)) => return Err(Fault::new("", "expected `greater_than` or `at_least`, not both")),
        (greater_than, at_least) => greater_than.map(Lower::GreaterThan).or(at_least.map(Lower::AtLeast)),
    };
    let upper = match (bound("less_than")?, bound("at_most")?) {
        (Some(_), Some(_)) => return Err(Fault::new("", "expected `less_than` or `at_most`, not both")),
        (less_than, at_most) => less_than.map(Upper::LessThan).or(at_most.map(Upper::AtMost)),
    };
    Ok(pb::FieldRange { field, lower, upper })
}

fn exists_from_json(condition: Json) -> Result<pb::FieldExists, Fault> {
    let mut fields = Fields::new(condition, "expected an object with `field`")?.only(&["field"])?;
    Ok(pb::FieldExists { field: fields.take_field()? })
}

/// Plain JSON; or an object, which is no value of a filter, as the message `Value` has it: `{"int_value": "3"}`.
fn value_from_json(path: &str, value: Json) -> Result<pb::Value, Fault> {
    let plain = match value {
        Json::Object(_) => kind_from_json(value).map_err(|fault| fault.within(path))?,
        Json::Array(_) => {
            return Err(Fault::new(path, "expected null, a bool, a number or a string, but got a list"));
        }
        plain => plain,
    };
    from_json_value("", plain, 1).map_err(|error| {
        // Only a number can be at fault here; the error tells a field of metadata, which it is not.
        let message = error.message;
        Fault::new(path, message.split_once(": ").map_or(message.as_str(), |(_, rest)| rest))
    })
}

fn kind_from_json(value: Json) -> Result<Json, Fault> {
    const NAMES: [&str; 5] = ["null_value", "bool_value", "int_value", "double_value", "string_value"];
    let expected = "expected null, a bool, a number or a string";
    let fields = Fields::new(value, expected)?.only(&NAMES)?.0;
    let mut fields = fields.into_iter();
    let (Some((name, value)), None) = (fields.next(), fields.next()) else {
        return Err(Fault::new("", format_args!("{expected}, but got an object")));
    };
    let wrong = |value: &Json| Fault::new(&name, format_args!("does not take {}", kind(value)));
    match (name.as_str(), value) {
        ("null_value", _) => Ok(Json::Null),
        ("bool_value", value @ Json::Bool(_)) | ("string_value", value @ Json::String(_)) => Ok(value),
        ("int_value" | "double_value", value @ Json::Number(_)) => Ok(value),
        // Whole numbers of 64 bits are strings in the JSON of messages.
        ("int_value", Json::String(digits)) => digits
            .parse::<i64>()
            .map(Json::from)
            .map_err(|_| Fault::new(&name, format_args!("expected a whole number, but got {:?}", shortened(&digits)))),
        (_, value) => Err(wrong(&value)),
    }
}

/// The fields of a JSON object by their names in the contract.
struct Fields(Map<String, Json>);

impl Fields {
    fn new(object: Json, expected: &str) -> Result<Self, Fault> {
        match object {
            Json::Object(fields) => Ok(Self(fields)),
            other => Err(Fault::new("", format_args!("{expected}, but got {}", kind(&other)))),
        }
    }

    /// Refuses other names, and the same name written both ways.
    fn only(self, names: &[&str]) -> Result<Self, Fault> {
        let mut known = Map::new();
        for (name, value) in self.0 {
            let name = snake(&name);
            if !names.contains(&name.as_str()) {
                let message = format_args!("expected `{}`, but got {:?}", names.join("`, `"), shortened(&name));
                return Err(Fault::new("", message));
            }
            if known.contains_key(&name) {
                return Err(Fault::new("", format_args!("{name:?} comes twice")));
            }
            known.insert(name, value);
        }
        Ok(Self(known))
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name)
    }

    fn take_field(&mut self) -> Result<String, Fault> {
        match self.take("field") {
            Some(Json::String(field)) => Ok(field),
            Some(other) => Err(Fault::new("field", format_args!("expected a string, but got {}", kind(&other)))),
            None => Err(Fault::new("field", "must be set")),
        }
    }
}

/// `allOf` as `all_of`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// A message is for reading: a name of megabytes is not repeated whole.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::convert::read_filter;
    use crate::api::error::Reason;
    use crate::filter::Filter;

    fn read_json(json: &str) -> Result<Arc<Filter>, ApiError> {
        let filter = filter_from_json(serde_json::from_str(json).unwrap())?;
        Ok(read_filter(Some(filter))?.unwrap())
    }

    #[test]
    fn the_short_form_and_the_messages_own_are_the_same_filter() {
        let short = r#"{"all_of": [
            {"equals": {"field": "topic", "value": "noun.animal"}},
            {"any_of": [{"in": {"field": "n", "values": [1, 2.5, null, true]}}, {"not": {"exists": {"field": "a.b"}}}]},
            {"range": {"field": "words", "at_least": 3, "less_than": 9}},
            {"range": {"field": "big", "greater_than": 9007199254740993, "at_most": 1e300}},
            {"contains": {"field": "tags", "value": "x"}}]}"#;
        let long = r#"{"allOf": {"filters": [
            {"equals": {"field": "topic", "value": {"stringValue": "noun.animal"}}},
            {"anyOf": {"filters": [
                {"in": {"field": "n", "values": [{"intValue": "1"}, {"doubleValue": 2.5}, {"nullValue": "NULL_VALUE_UNSPECIFIED"}, {"boolValue": true}]}},
                {"not": {"exists": {"field": "a.b"}}}]}},
            {"range": {"field": "words", "atLeast": {"int_value": 3}, "lessThan": {"intValue": 9}}},
            {"range": {"field": "big", "greaterThan": {"intValue": "9007199254740993"}, "atMost": {"doubleValue": 1e300}}},
            {"contains": {"field": "tags", "value": {"stringValue": "x"}}}]}}"#;
        assert_eq!(read_json(short).unwrap(), read_json(long).unwrap());
        assert_eq!(read_json(r#"{"all_of": []}"#).unwrap(), read_json(r#"{"allOf": {}}"#).unwrap());
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (json, expected) in [
            (
                "3",
                "filter: expected one of `all_of`, `any_of`, `not`, `equals`, `in`, `range`, `exists`, `contains`, but got a number",
            ),
            ("{}", "filter: expected one of `all_of`"),
            (r#"{"equal": {}}"#, "`contains`, but got \"equal\""),
            (r#"{"exists": {"field": "a"}, "not": {}}"#, "no more than one; put several into `all_of`"),
            (
                r#"{"all_of": [{"exists": {"field": "a"}}, {"equals": {"feld": "a", "value": 1}}]}"#,
                "filter.all_of[1].equals: expected `field`, `value`, but got \"feld\"",
            ),
            (r#"{"all_of": {"filter": []}}"#, "filter.all_of: expected `filters`, but got \"filter\""),
            (r#"{"any_of": 1}"#, "filter.any_of: expected a list of filters, but got a number"),
            (r#"{"equals": {"value": 1}}"#, "filter.equals.field: must be set"),
            (r#"{"equals": {"field": 7, "value": 1}}"#, "filter.equals.field: expected a string, but got a number"),
            (
                r#"{"equals": {"field": "", "value": 1}}"#,
                "filter.equals.field: the name of a field has 1 to 1024 bytes",
            ),
            (r#"{"equals": {"field": "a"}}"#, "filter.equals.value: must be set"),
            (
                r#"{"not": {"equals": {"field": "a", "value": [1]}}}"#,
                "filter.not.equals.value: expected null, a bool, a number or a string, but got a list",
            ),
            (r#"{"contains": {"field": "a", "value": {"b": 1}}}"#, "filter.contains.value: expected `null_value`, "),
            (
                r#"{"contains": {"field": "a", "value": {"intValue": "1x"}}}"#,
                "filter.contains.value.int_value: expected a whole number, but got \"1x\"",
            ),
            (
                r#"{"equals": {"field": "a", "value": 9223372036854775808}}"#,
                "filter.equals.value: a whole number is -2^63 to 2^63-1, but got 9223372036854775808",
            ),
            (r#"{"in": {"field": "a", "values": []}}"#, "filter.in.values: expected 1 to 10000 values, but got 0"),
            (r#"{"in": {"field": "a", "values": [1, {}]}}"#, "filter.in.values[1]: expected null"),
            (r#"{"in": {"field": "a", "values": 1}}"#, "filter.in.values: expected a list, but got a number"),
            (r#"{"range": {"field": "a"}}"#, "filter.range: a range has at least one bound"),
            (
                r#"{"range": {"field": "a", "at_least": "3"}}"#,
                "filter.range.at_least: expected a number, but got a string",
            ),
            (
                r#"{"range": {"field": "a", "at_least": 3, "greaterThan": 2}}"#,
                "filter.range: expected `greater_than` or `at_least`, not both",
            ),
            (r#"{"range": {"field": "a", "gte": 3}}"#, "but got \"gte\""),
        ] {
            let error = read_json(json).unwrap_err();
            assert_eq!(error.reason, Reason::InvalidFilter);
            assert!(error.message.contains(expected), "{json}: {}", error.message);
            assert!(error.field.unwrap().starts_with("filter"), "{json}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_are_built() {
        let deep = |levels: usize| {
            format!("{}{{\"exists\": {{\"field\": \"a\"}}}}{}", "{\"not\": ".repeat(levels), "}".repeat(levels))
        };
        assert!(read_json(&deep(15)).is_ok());
        assert!(read_json(&deep(16)).unwrap_err().message.contains("at most 16 levels"));
        assert!(read_json(&deep(100)).unwrap_err().message.contains("at most 16 levels"));
        let wide =
            |parts: usize| format!("{{\"any_of\": [{}]}}", vec![r#"{"exists": {"field": "a"}}"#; parts].join(","));
        assert!(read_json(&wide(1023)).is_ok());
        assert!(read_json(&wide(1024)).unwrap_err().message.contains("at most 1024 nodes"));
        let nested = format!("{{\"all_of\": [{}, {}]}}", wide(600), wide(600));
        assert!(read_json(&nested).unwrap_err().message.contains("at most 1024 nodes"));
    }
}
