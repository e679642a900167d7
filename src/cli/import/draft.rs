//! One line of a file on its way to a record.
//!
//! The rules are the server's own (`types`, `api::convert`), so that what is wrong is found here, with its line.

use std::collections::BTreeMap;

use crate::api::convert::{check_text, read_metadata};
use crate::cli::record_json::to_vector;
use crate::collection::has_direction;
use crate::pb::v1 as pb;
use crate::types::{Dimension, RecordId, SpaceName, Vector};

/// Which fields (of JSON) or columns (of CSV) hold what. All others are metadata.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Fields of the file")]
pub struct FieldNames {
    /// The field or column of the id: a text, or a whole number.
    #[arg(id = "id_field", long = "id-field", default_value = "id", value_name = "NAME")]
    pub id: String,

    /// The field or column of the text.
    #[arg(id = "text_field", long = "text-field", default_value = "text", value_name = "NAME")]
    pub text: String,

    /// The field or column of the vector: JSON numbers; in CSV also numbers separated by spaces or semicolons.
    #[arg(id = "vector_field", long = "vector-field", default_value = "vector", value_name = "NAME")]
    pub vector: String,

    /// The field or column of an object with metadata. Every field that has no role is added to it.
    #[arg(id = "metadata_field", long = "metadata-field", default_value = "metadata", value_name = "NAME")]
    pub metadata: String,

    /// The field or column of the name of the vector's space.
    #[arg(id = "space_field", long = "space-field", default_value = "space", value_name = "NAME")]
    pub space: String,

    /// Leave this field or column out; may be given several times. `--ignore vector` has texts embedded anew.
    #[arg(long, value_name = "NAME")]
    pub ignore: Vec<String>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The id.
    Id,
    /// The text.
    Text,
    /// The vector.
    Vector,
    /// An object with metadata.
    Metadata,
    /// The name of the vector's space.
    Space,
    /// One field of the metadata.
    Extra,
    /// Left out.
    Ignored,
}

impl FieldNames {
    /// What the field of this name holds.
    pub fn role(&self, name: &str) -> Role {
        if self.ignore.iter().any(|ignored| ignored == name) {
            return Role::Ignored;
        }
        let roles = [
            (&self.id, Role::Id),
            (&self.text, Role::Text),
            (&self.vector, Role::Vector),
            (&self.metadata, Role::Metadata),
            (&self.space, Role::Space),
        ];
        roles.into_iter().find(|(field, _)| *field == name).map_or(Role::Extra, |(_, role)| role)
    }
}

/// What a line gives, before it is checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The id.
    pub id: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The vector.
    pub vector: Option<Vec<f32>>,
    /// The name of its space.
    pub space: Option<String>,
    /// The metadata.
    pub metadata: BTreeMap<String, pb::Value>,
}

/// A record that keeps every rule that can be checked without knowing the collection.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// What is sent.
    pub record: pb::RecordInput,
    /// Of its vector, where it has one.
    pub vector: Option<VectorFacts>,
}

/// What decides whether a vector fits a space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VectorFacts {
    /// How many components it has.
    pub dimension: Dimension,
    /// Whether it has a cosine; a zero vector has none.
    pub has_direction: bool,
}

impl Draft {
    /// Adds one field of the metadata.
    pub fn add_metadata(&mut self, name: String, value: pb::Value) -> Result<(), String> {
        match self.metadata.contains_key(&name) {
            true => Err(format!("metadata {name:?} is given twice, beside the metadata object and within it")),
            false => {
                self.metadata.insert(name, value);
                Ok(())
            }
        }
    }

    /// Checks what the server would refuse. `space`: of vectors that name none.
    pub fn check(self, names: &FieldNames, space: &str) -> Result<Checked, String> {
        let id = self.id.ok_or_else(|| format!("there is no id: expected a field {:?}", names.id))?;
        RecordId::new(&id).map_err(|error| error.to_string())?;
        let (facts, vector) = match self.vector {
            Some(components) => {
                let vector = Vector::new(components).map_err(|error| error.to_string())?;
                let facts = VectorFacts { dimension: vector.dimension(), has_direction: has_direction(&vector) };
                let space = self.space.as_deref().unwrap_or(space);
                if !space.is_empty() {
                    SpaceName::new(space).map_err(|error| error.to_string())?;
                }
                (Some(facts), Some(to_vector(&vector, space)))
            }
            None => (None, None),
        };
        match &self.text {
            Some(text) => check_text(&names.text, text).map_err(|error| error.message)?,
            None if vector.is_none() => {
                let (text, vector) = (&names.text, &names.vector);
                return Err(format!("expected a field {text:?}, a field {vector:?}, or both, but there is neither"));
            }
            None => {}
        }
        if let (Some(space), None) = (&self.space, &vector) {
            return Err(format!("a space belongs to a vector, but {space:?} stands with a text alone"));
        }
        if !self.metadata.is_empty() {
            read_metadata(&names.metadata, self.metadata.clone()).map_err(|error| error.message)?;
        }
        let record = pb::RecordInput { id, vector, text: self.text, metadata: self.metadata, if_version: None };
        Ok(Checked { record, vector: facts })
    }
}

#[cfg(test)]
impl Default for FieldNames {
    fn default() -> Self {
        let [id, text, vector, metadata, space] = ["id", "text", "vector", "metadata", "space"].map(str::to_owned);
        Self { id, text, vector, metadata, space, ignore: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(id: &str) -> Draft {
        Draft { id: Some(id.to_owned()), text: Some("t".to_owned()), ..Draft::default() }
    }

    fn check(draft: Draft) -> Result<Checked, String> {
        draft.check(&FieldNames::default(), "")
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_here_with_its_words() {
        assert!(check(draft("a")).is_ok());
        for (draft, expected) in [
            (Draft::default(), "there is no id: expected a field \"id\""),
            (draft(""), "an id has 1 to 512 bytes, but this one is empty"),
            (Draft { text: None, ..draft("a") }, "there is neither"),
            (Draft { text: Some(String::new()), ..draft("a") }, "text: expected a text of 1 to 1048576 bytes"),
            (Draft { vector: Some(vec![]), ..draft("a") }, "1 to 65536 components, but this one has 0"),
            (Draft { vector: Some(vec![f32::NAN]), ..draft("a") }, "component 0 is NaN"),
            (Draft { space: Some("s".to_owned()), ..draft("a") }, "a space belongs to a vector"),
            (Draft { vector: Some(vec![1.0]), space: Some("a b".to_owned()), ..draft("a") }, "the name of a space"),
        ] {
            let error = check(draft.clone()).unwrap_err();
            assert!(error.contains(expected), "{draft:?}: {error}");
        }
    }

    #[test]
    fn a_space_is_for_vectors_that_name_none() {
        let names = FieldNames::default();
        let space = |draft: Draft| draft.check(&names, "mine").unwrap().record.vector.map(|vector| vector.space);
        assert_eq!(space(draft("a")), None);
        assert_eq!(space(Draft { vector: Some(vec![1.0]), ..draft("a") }).as_deref(), Some("mine"));
        let named = Draft { vector: Some(vec![1.0]), space: Some("other".to_owned()), ..draft("a") };
        assert_eq!(space(named).as_deref(), Some("other"));
    }

    #[test]
    fn a_field_that_is_ignored_has_no_role() {
        let names = FieldNames { ignore: vec!["vector".to_owned()], ..FieldNames::default() };
        assert_eq!(names.role("vector"), Role::Ignored);
        assert_eq!(names.role("text"), Role::Text);
        assert_eq!(names.role("colour"), Role::Extra);
    }
}
