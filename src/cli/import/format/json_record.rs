//! A record from a JSON object, field by field as it is read, without a tree of values in between.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::api::convert::from_json;
use crate::cli::import::draft::{Draft, FieldNames, Role};

/// Reads one object; nothing but white space may follow it.
pub fn read(bytes: &[u8], names: &FieldNames) -> Result<Draft, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let draft = Object(names).deserialize(&mut deserializer).map_err(|error| told(&error))?;
    deserializer.end().map_err(|error| told(&error))?;
    Ok(draft)
}

/// Each line is read for itself: its number is said elsewhere, the column is what matters.
fn told(error: &serde_json::Error) -> String {
    let message = bare(error);
    match (error.line(), error.column()) {
        (_, 0) => message,
        (1, column) => format!("{message} at column {column}"),
        // An entry of an array may have lines of its own.
        (line, column) => format!("{message} at its line {line}, column {column}"),
    }
}

/// The message without its position.
fn bare(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, position))
            if position.bytes().all(|byte| byte.is_ascii_digit() || b" column".contains(&byte)) =>
        {
            message.to_owned()
        }
        _ => text,
    }
}

struct Object<'a>(&'a FieldNames);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Draft;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Draft, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        let mut draft = Draft::default();
        let mut extra = Map::new();
        let mut metadata = Map::new();
        let names = self.0;
        let within = |field: &str, error: A::Error| A::Error::custom(format_args!("{field}: {}", bare(&error)));
        while let Some(key) = map.next_key_seed(Key(names))? {
            match key {
                FieldRole::Role(Role::Id) => {
                    let id = map.next_value_seed(Id).map_err(|error| within(&names.id, error))?;
                    set(&mut draft.id, id, &names.id)?;
                }
                FieldRole::Role(Role::Text) => {
                    let text = map.next_value().map_err(|error| within(&names.text, error))?;
                    set(&mut draft.text, text, &names.text)?;
                }
                FieldRole::Role(Role::Vector) => {
                    let vector = map.next_value().map_err(|error| within(&names.vector, error))?;
                    set(&mut draft.vector, vector, &names.vector)?;
                }
                FieldRole::Role(Role::Space) => {
                    let space = map.next_value().map_err(|error| within(&names.space, error))?;
                    set(&mut draft.space, space, &names.space)?;
                }
                FieldRole::Role(Role::Metadata) => {
                    let object: Option<Map<String, Value>> =
                        map.next_value().map_err(|error| within(&names.metadata, error))?;
                    metadata = object.unwrap_or_default();
                }
                FieldRole::Role(Role::Ignored | Role::Extra) => {
                    map.next_value::<IgnoredAny>()?;
                }
                FieldRole::Extra(name) => {
                    let value = map.next_value()?;
                    extra.insert(name, value);
                }
            }
        }
        let told = |error: crate::api::ApiError| A::Error::custom(error.message);
        draft.metadata = from_json(metadata).map_err(told)?;
        for (name, value) in from_json(extra).map_err(told)? {
            draft.add_metadata(name, value).map_err(A::Error::custom)?;
        }
        Ok(draft)
    }
}

fn set<T, E: Error>(place: &mut Option<T>, value: Option<T>, field: &str) -> Result<(), E> {
    match (place.is_some(), value) {
        (true, Some(_)) => Err(E::custom(format_args!("field {field:?} comes twice"))),
        (_, Some(value)) => {
            *place = Some(value);
            Ok(())
        }
        (_, None) => Ok(()),
    }
}

/// Reads the name of a field as what it holds: only names of metadata are kept.
struct Key<'a>(&'a FieldNames);

enum FieldRole {
    Role(Role),
    Extra(String),
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = FieldRole;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldRole, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = FieldRole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<FieldRole, E> {
        Ok(match self.0.role(name) {
            Role::Extra => FieldRole::Extra(name.to_owned()),
            role => FieldRole::Role(role),
        })
    }
}

/// An id is a text; a whole number is taken as its digits.
struct Id;

impl<'de> DeserializeSeed<'de> for Id {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Id {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::to_json;

    fn read(json: &str) -> Result<Draft, String> {
        super::read(json.as_bytes(), &FieldNames::default())
    }

    #[test]
    fn every_field_has_its_place_and_nothing_is_lost() {
        let draft = read(
            r#"{"id": 17, "text": "a", "vector": [1, -0.5, 1e-3], "space": "s", "metadata": {"big": 9007199254740993},
               "tags": ["x", {"y": null}], "min": -9223372036854775808}"#,
        )
        .unwrap();
        assert_eq!(draft.id.as_deref(), Some("17"));
        assert_eq!(draft.vector, Some(vec![1.0, -0.5, 1e-3]));
        assert_eq!((draft.text.as_deref(), draft.space.as_deref()), (Some("a"), Some("s")));
        let metadata = serde_json::to_string(&to_json(draft.metadata)).unwrap();
        assert_eq!(metadata, r#"{"big":9007199254740993,"min":-9223372036854775808,"tags":["x",{"y":null}]}"#);
    }

    #[test]
    fn null_is_as_good_as_nothing() {
        let draft = read(r#"{"id": "a", "text": null, "vector": null, "metadata": null, "space": null}"#).unwrap();
        assert_eq!(draft, Draft { id: Some("a".to_owned()), ..Draft::default() });
    }

    #[test]
    fn what_is_wrong_is_said_with_field_and_column() {
        for (json, expected) in [
            ("[1]", "invalid type: sequence, expected a JSON object"),
            (r#"{"id": 1.5}"#, "id: invalid type: floating point `1.5`, expected a text or a whole number"),
            (r#"{"id": "a", "text": 5}"#, "text: invalid type: integer `5`, expected a string"),
            (r#"{"vector": [1, "x"]}"#, "vector: invalid type: string \"x\", expected f32"),
            (r#"{"vector": [1e999]}"#, "vector: number out of range"),
            (r#"{"id": "a", "id": "b"}"#, "field \"id\" comes twice"),
            (r#"{"id": "a""#, "EOF while parsing an object at column 10"),
            (r#"{"id": "a"} x"#, "trailing characters at column 13"),
            (r#"{"n": 9223372036854775808}"#, "a whole number is -2^63 to 2^63-1, but got 9223372036854775808"),
            (r#"{"k": 1, "metadata": {"k": 2}}"#, "metadata \"k\" is given twice"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert!(super::read(b"{\"id\": \"\xff\"}", &FieldNames::default()).is_err());
    }

    #[test]
    fn names_of_fields_may_be_others() {
        let names = FieldNames {
            id: "key".to_owned(),
            text: "body".to_owned(),
            ignore: vec!["junk".to_owned()],
            ..FieldNames::default()
        };
        let draft = super::read(br#"{"key": "a", "body": "b", "junk": [1, 2], "text": "c"}"#, &names).unwrap();
        assert_eq!((draft.id.as_deref(), draft.text.as_deref()), (Some("a"), Some("b")));
        assert_eq!(draft.metadata.keys().collect::<Vec<_>>(), ["text"]);
    }
}
