use std::collections::BTreeMap;

use crate::filter::FilterFault;
use crate::types::Value;
use crate::types::limits::{FILTER_FIELD_BYTES_MAX, FILTER_FIELD_DOTS_MAX};

/// The name of a field, with the places where it may descend into an object.
///
/// A name that itself holds dots is found too. Where several readings of `a.b.c` are there, the longest name wins at
/// each level: the field `a.b.c`, else `c` in the object `a.b`, else what `b.c` finds in the object `a`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldPath {
    name: Box<str>,
    /// Positions of the dots, the last first.
    dots: Box<[usize]>,
}

impl FieldPath {
    pub fn new(name: &str) -> Result<Self, FilterFault> {
        if !(1..=FILTER_FIELD_BYTES_MAX).contains(&name.len()) {
            return Err(FilterFault::FieldBytes { bytes: name.len() });
        }
        let dots: Box<[usize]> = name.rmatch_indices('.').map(|(position, _)| position).collect();
        if dots.len() > FILTER_FIELD_DOTS_MAX {
            return Err(FilterFault::FieldDots { dots: dots.len() });
        }
        Ok(Self { name: name.into(), dots })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn find<'a>(&self, fields: &'a BTreeMap<String, Value>) -> Option<&'a Value> {
        self.find_from(0, fields)
    }

    /// An object is reached in one way only, so that each is looked at once.
    fn find_from<'a>(&self, start: usize, fields: &'a BTreeMap<String, Value>) -> Option<&'a Value> {
        if let Some(value) = fields.get(&self.name[start..]) {
            return Some(value);
        }
        for &dot in self.dots.iter().take_while(|&&dot| dot >= start) {
            if let Some(Value::Object(inner)) = fields.get(&self.name[start..dot])
                && let Some(value) = self.find_from(dot + 1, inner)
            {
                return Some(value);
            }
        }
        None
    }
}
