//! A filter as a tree, and what it means. Whoever holds one need not check it again.

use std::ops::{Bound, RangeBounds};

use crate::filter::field_path::FieldPath;
use crate::filter::scalar::{Number, NumberRange, Scalar, read_number};
use crate::filter::{FilterFault, InvalidFilter};
use crate::types::limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX};
use crate::types::{Metadata, Value};

/// A condition on the metadata of a record: a tree of at most 1,024 nodes, 16 deep.
///
/// The name of a field has 1 to 1,024 bytes and at most 32 dots. A dot descends into objects, never into lists; a name
/// that itself holds the dot is found too, and wins over a shorter one. Numbers are compared exactly, whole or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    condition: Condition,
    node_count: usize,
    depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    AllOf(Vec<Filter>),
    AnyOf(Vec<Filter>),
    Not(Box<Filter>),
    Equals {
        field: FieldPath,
        value: Scalar<Box<str>>,
    },
    In {
        field: FieldPath,
        /// In their order, each once.
        values: Box<[Scalar<Box<str>>]>,
    },
    Range {
        field: FieldPath,
        range: NumberRange,
    },
    Exists {
        field: FieldPath,
    },
    Contains {
        field: FieldPath,
        value: Scalar<Box<str>>,
    },
}

impl Filter {
    /// Every part holds; holds always where there are none.
    pub fn all_of(parts: Vec<Filter>) -> Result<Self, InvalidFilter> {
        Self::branch("all_of", parts, Condition::AllOf)
    }

    /// At least one part holds; never holds where there are none.
    pub fn any_of(parts: Vec<Filter>) -> Result<Self, InvalidFilter> {
        Self::branch("any_of", parts, Condition::AnyOf)
    }

    /// The part does not hold: so a field that is missing fulfils `not` of whatever is asked of it.
    #[expect(clippy::should_implement_trait, reason = "it may fail")]
    pub fn not(part: Filter) -> Result<Self, InvalidFilter> {
        Self::branch("not", vec![part], |mut parts| Condition::Not(Box::new(parts.remove(0))))
    }

    /// The field equals the value: null, a bool, a number or a string. 1 and 1.0 are equal; a list equals nothing.
    pub fn equals(field: &str, value: Value) -> Result<Self, InvalidFilter> {
        let field = read_field("equals", field)?;
        let value = Scalar::new(value).map_err(|fault| fault.at("equals.value"))?;
        Ok(Self::leaf(Condition::Equals { field, value }))
    }

    /// The field equals one of 1 to 10,000 values.
    pub fn is_in(field: &str, values: Vec<Value>) -> Result<Self, InvalidFilter> {
        let field = read_field("in", field)?;
        if !(1..=FILTER_VALUES_MAX).contains(&values.len()) {
            return Err(FilterFault::ValueCount { got: values.len() }.at("in.values"));
        }
        let read = |(index, value)| Scalar::new(value).map_err(|fault| fault.at(format!("in.values[{index}]")));
        let mut values = values.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        values.sort_unstable();
        values.dedup();
        Ok(Self::leaf(Condition::In { field, values: values.into() }))
    }

    /// The field is a number within the bounds, which are finite numbers; at least one is there. Bounds that exclude
    /// every number are allowed: the filter then never holds.
    pub fn range(field: &str, lower: Bound<Value>, upper: Bound<Value>) -> Result<Self, InvalidFilter> {
        let field = read_field("range", field)?;
        if matches!((&lower, &upper), (Bound::Unbounded, Bound::Unbounded)) {
            return Err(FilterFault::NoBound.at("range"));
        }
        let lower = read_bound(lower, "range.greater_than", "range.at_least")?;
        let upper = read_bound(upper, "range.less_than", "range.at_most")?;
        Ok(Self::leaf(Condition::Range { field, range: (lower, upper) }))
    }

    /// The field is present, whatever it is; null counts as present.
    pub fn exists(field: &str) -> Result<Self, InvalidFilter> {
        Ok(Self::leaf(Condition::Exists { field: read_field("exists", field)? }))
    }

    /// The field is a list with an element equal to the value: null, a bool, a number or a string.
    pub fn contains(field: &str, value: Value) -> Result<Self, InvalidFilter> {
        let field = read_field("contains", field)?;
        let value = Scalar::new(value).map_err(|fault| fault.at("contains.value"))?;
        Ok(Self::leaf(Condition::Contains { field, value }))
    }

    /// Whether the metadata fulfil the filter. This is the definition.
    pub fn matches(&self, metadata: &Metadata) -> bool {
        let find = |field: &FieldPath| field.find(metadata.fields());
        let find_scalar = |field| find(field).and_then(Scalar::of);
        match &self.condition {
            Condition::AllOf(parts) => parts.iter().all(|part| part.matches(metadata)),
            Condition::AnyOf(parts) => parts.iter().any(|part| part.matches(metadata)),
            Condition::Not(part) => !part.matches(metadata),
            Condition::Equals { field, value } => find_scalar(field) == Some(value.borrowed()),
            Condition::In { field, values } => find_scalar(field)
                .is_some_and(|found| values.binary_search_by(|value| value.borrowed().cmp(&found)).is_ok()),
            Condition::Range { field, range } => {
                matches!(find_scalar(field), Some(Scalar::Number(number)) if range.contains(&number))
            }
            Condition::Exists { field } => find(field).is_some(),
            Condition::Contains { field, value } => match find(field) {
                Some(Value::List(elements)) => {
                    elements.iter().any(|element| Scalar::of(element) == Some(value.borrowed()))
                }
                _ => false,
            },
        }
    }

    /// Conditions in the tree, this one included: what a match costs at most, in tenths of microseconds or so.
    pub fn node_count(&self) -> usize {
        self.node_count
    }

    pub(super) fn condition(&self) -> &Condition {
        &self.condition
    }

    fn leaf(condition: Condition) -> Self {
        Self { condition, node_count: 1, depth: 1 }
    }

    fn branch(
        name: &str,
        parts: Vec<Filter>,
        condition: impl FnOnce(Vec<Filter>) -> Condition,
    ) -> Result<Self, InvalidFilter> {
        let node_count = 1 + parts.iter().map(|part| part.node_count).sum::<usize>();
        let depth = 1 + parts.iter().map(|part| part.depth).max().unwrap_or(0);
        if node_count > FILTER_NODES_MAX {
            return Err(FilterFault::TooManyNodes { nodes: node_count }.at(name));
        }
        if depth > FILTER_DEPTH_MAX {
            return Err(FilterFault::TooDeep.at(name));
        }
        Ok(Self { condition: condition(parts), node_count, depth })
    }
}

fn read_field(condition: &str, name: &str) -> Result<FieldPath, InvalidFilter> {
    FieldPath::new(name).map_err(|fault| fault.at(format!("{condition}.field")))
}

fn read_bound(bound: Bound<Value>, excluded_path: &str, included_path: &str) -> Result<Bound<Number>, InvalidFilter> {
    Ok(match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Excluded(value) => Bound::Excluded(read_number(&value).map_err(|fault| fault.at(excluded_path))?),
        Bound::Included(value) => Bound::Included(read_number(&value).map_err(|fault| fault.at(included_path))?),
    })
}
