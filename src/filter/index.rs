//! Which rows of an immutable segment fulfil a filter, without their metadata.
//!
//! Each field, also one within objects by its path with dots, has the rows where it is present, the rows of each of its
//! values, and the rows of each element of its lists. Cost: a few bytes for each value of each row, whatever the values
//! are (`keywords`, `numbers`), and some hundred bytes for each of at most 2,048 fields.
//!
//! Invariant: a field that is in the index has all of its rows. Fields beyond the bound are not in it at all; a condition
//! on a field that is not known then holds for nobody knows which rows.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use crate::filter::Filter;
use crate::filter::expression::Condition;
use crate::filter::field_path::FieldPath;
use crate::filter::matched::{Matched, bitmap_bytes, sorted_to_bitmap};
use crate::filter::postings::{Postings, PostingsBuilder};
use crate::filter::scalar::Scalar;
use crate::types::limits::FILTER_FIELD_BYTES_MAX;
use crate::types::{Metadata, Value};

/// Fields of a segment: the first that come are indexed.
const FIELDS_MAX: usize = 2_048;
/// Share of rows that is expected of a condition on a field that is not indexed. Such a field is rare: it came after
/// thousands of others.
const SHARE_UNKNOWN: f64 = 0.1;

/// Finds the rows of an immutable segment by their metadata, of which it keeps none.
pub struct MetadataIndex {
    row_count: u32,
    all: RoaringBitmap,
    fields: HashMap<Box<str>, Field>,
    /// Whether every field that a filter can name is in `fields`.
    is_complete: bool,
}

/// Rows that a filter selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Every row that matches, and others perhaps.
    pub rows: RoaringBitmap,
    /// Whether there are no others. Else each row is to be checked with `Filter::matches`.
    pub is_exact: bool,
}

struct Field {
    present: RoaringBitmap,
    values: Postings,
    /// Of the lists that the field holds.
    elements: Option<Box<Postings>>,
}

#[derive(Default)]
struct FieldBuilder {
    present: Vec<u32>,
    values: PostingsBuilder,
    elements: Option<Box<PostingsBuilder>>,
}

struct Builder {
    fields: HashMap<Box<str>, FieldBuilder>,
    is_complete: bool,
}

impl MetadataIndex {
    /// Indexes the rows 0, 1, 2, … in their order; at most 2^32 - 1 of them.
    pub fn build<'a>(rows: impl Iterator<Item = &'a Metadata>) -> Self {
        let mut builder = Builder { fields: HashMap::new(), is_complete: true };
        let mut row_count = 0_u32;
        for metadata in rows {
            builder.add_fields(&mut String::new(), true, metadata.fields(), row_count);
            row_count = row_count.checked_add(1).expect("a segment has fewer rows than 2^32");
        }
        let mut all = RoaringBitmap::new();
        all.insert_range(0..row_count);
        let fields = builder.fields.into_iter().map(|(path, field)| (path, field.build(row_count))).collect();
        Self { row_count, all, fields, is_complete: builder.is_complete }
    }

    /// The rows that match, or a superset of them.
    pub fn select(&self, filter: &Filter) -> Selection {
        let matched = self.find(filter);
        let is_exact = matched.is_exact();
        Selection { rows: matched.into_possible(), is_exact }
    }

    /// The share of rows that is expected to match, 0 to 1: for a single condition on a field known from its rows, for
    /// several as though they were independent. Touches no bitmap, so it takes a microsecond or so for each condition.
    pub fn estimate(&self, filter: &Filter) -> f64 {
        let share = match filter.condition() {
            Condition::AllOf(parts) => parts.iter().map(|part| self.estimate(part)).product(),
            Condition::AnyOf(parts) => 1.0 - parts.iter().map(|part| 1.0 - self.estimate(part)).product::<f64>(),
            Condition::Not(part) => 1.0 - self.estimate(part),
            Condition::Equals { field, value } => self.share(field, |field| field.values.count(value.borrowed())),
            // A field has one value, so the rows of different values are different rows.
            Condition::In { field, values } => {
                self.share(field, |field| values.iter().map(|value| field.values.count(value.borrowed())).sum())
            }
            Condition::Range { field, range } => self.share(field, |field| field.values.count_range(range)),
            Condition::Exists { field } => self.share(field, |field| field.present.len()),
            Condition::Contains { field, value } => self
                .share(field, |field| field.elements.as_ref().map_or(0, |elements| elements.count(value.borrowed()))),
        };
        share.clamp(0.0, 1.0)
    }

    /// Rows that were indexed.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let fields =
            self.fields.iter().map(|(path, field)| size_of::<(Box<str>, Field)>() + path.len() + field.bytes());
        size_of::<Self>() + bitmap_bytes(&self.all) + fields.sum::<usize>()
    }

    fn find(&self, filter: &Filter) -> Matched<'_> {
        match filter.condition() {
            Condition::AllOf(parts) if parts.is_empty() => Matched::exact(&self.all),
            Condition::AllOf(parts) => Matched::all_of(parts.iter().map(|part| self.find(part)).collect()),
            Condition::AnyOf(parts) => Matched::any_of(parts.iter().map(|part| self.find(part)).collect()),
            Condition::Not(part) => self.find(part).not(&self.all),
            Condition::Equals { field, value } => self.find_in(field, |field| field.values.find(value.borrowed())),
            Condition::In { field, values } => self.find_in(field, |field| {
                Matched::any_of(values.iter().map(|value| field.values.find(value.borrowed())).collect())
            }),
            Condition::Range { field, range } => self.find_in(field, |field| field.values.find_range(range)),
            Condition::Exists { field } => self.find_in(field, |field| Matched::exact(&field.present)),
            Condition::Contains { field, value } => self.find_in(field, |field| {
                field.elements.as_ref().map_or_else(Matched::none, |elements| elements.find(value.borrowed()))
            }),
        }
    }

    fn find_in<'a>(&'a self, path: &FieldPath, find: impl FnOnce(&'a Field) -> Matched<'a>) -> Matched<'a> {
        match self.fields.get(path.name()) {
            Some(field) => find(field),
            None if self.is_complete => Matched::none(),
            None => Matched::Between { certain: RoaringBitmap::new(), possible: self.all.clone() },
        }
    }

    fn share(&self, path: &FieldPath, count: impl FnOnce(&Field) -> u64) -> f64 {
        match self.fields.get(path.name()) {
            Some(field) => count(field) as f64 / f64::from(self.row_count),
            None if self.is_complete => 0.0,
            None => SHARE_UNKNOWN,
        }
    }
}

impl Builder {
    fn add_fields(&mut self, path: &mut String, is_top: bool, fields: &BTreeMap<String, Value>, row: u32) {
        let start = path.len();
        // Of two readings of a path the one with the longer name counts, as in `FieldPath`. It is the other and a dot and
        // more, so it stands behind it: from the end, it comes first.
        for (name, value) in fields.iter().rev() {
            if !is_top {
                path.push('.');
            }
            path.push_str(name);
            // No filter can name a longer path.
            if path.len() <= FILTER_FIELD_BYTES_MAX {
                self.add_field(path, value, row);
            }
            path.truncate(start);
        }
    }

    fn add_field(&mut self, path: &mut String, value: &Value, row: u32) {
        match self.field(path) {
            Some(field) => field.add(value, row),
            None => self.is_complete = false,
        }
        if let Value::Object(fields) = value {
            self.add_fields(path, false, fields, row);
        }
    }

    fn field(&mut self, path: &str) -> Option<&mut FieldBuilder> {
        if !self.fields.contains_key(path) {
            if self.fields.len() == FIELDS_MAX {
                return None;
            }
            self.fields.insert(path.into(), FieldBuilder::default());
        }
        self.fields.get_mut(path)
    }
}

impl FieldBuilder {
    fn add(&mut self, value: &Value, row: u32) {
        if self.present.last() == Some(&row) {
            // A reading of the path with a longer name was there.
            return;
        }
        self.present.push(row);
        if let Value::List(elements) = value {
            let postings = self.elements.get_or_insert_default();
            elements.iter().filter_map(Scalar::of).for_each(|element| postings.add(element, row));
        } else if let Some(value) = Scalar::of(value) {
            self.values.add(value, row);
        }
    }

    fn build(self, row_count: u32) -> Field {
        Field {
            present: sorted_to_bitmap(self.present),
            values: self.values.build(row_count),
            elements: self.elements.map(|elements| Box::new(elements.build(row_count))),
        }
    }
}

impl Field {
    fn bytes(&self) -> usize {
        let elements = self.elements.as_ref().map_or(0, |elements| size_of::<Postings>() + elements.bytes());
        bitmap_bytes(&self.present) + self.values.bytes() + elements
    }
}
