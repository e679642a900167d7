//! Filters: the contract's and the engine's. Every error names its place: `filter.all_of[1].range.at_least`.

use std::fmt::Display;
use std::ops::Bound;
use std::sync::Arc;

use crate::api::convert::value::read_value;
use crate::api::error::{ApiError, Reason};
use crate::filter::{Filter, InvalidFilter};
use crate::pb::v1 as pb;
use crate::pb::v1::field_range::{Lower, Upper};
use crate::pb::v1::filter::Condition;
use crate::types::Value;
use crate::types::limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX};

pub(super) const EXPECTED_CONDITIONS: &str =
    "expected one of `all_of`, `any_of`, `not`, `equals`, `in`, `range`, `exists`, `contains`";

/// What is wrong, and where within the filter.
pub(super) struct Fault {
    path: String,
    message: String,
}

impl Fault {
    pub(super) fn new(path: impl Into<String>, message: impl Display) -> Self {
        Self { path: path.into(), message: message.to_string() }
    }

    /// The same, told from the condition around it.
    pub(super) fn within(self, around: impl Display) -> Self {
        let around = around.to_string();
        let dot = if around.is_empty() || self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{around}{dot}{}", self.path), message: self.message }
    }
}

impl From<InvalidFilter> for Fault {
    fn from(error: InvalidFilter) -> Self {
        Fault::new(error.path, error.fault)
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let Fault { path, message } = fault.within("filter");
        ApiError::field(Reason::InvalidFilter, path, message)
    }
}

/// The filter of a request, where it has one.
pub fn read_filter(filter: Option<pb::Filter>) -> Result<Option<Arc<Filter>>, ApiError> {
    let Some(filter) = filter else { return Ok(None) };
    Ok(Some(Arc::new(read(filter, 1)?)))
}

fn read(filter: pb::Filter, depth: usize) -> Result<Filter, Fault> {
    check_depth(depth)?;
    let condition =
        filter.condition.ok_or_else(|| Fault::new("", format_args!("no condition is set: {EXPECTED_CONDITIONS}")))?;
    Ok(match condition {
        Condition::AllOf(list) => Filter::all_of(read_list("all_of", list, depth)?)?,
        Condition::AnyOf(list) => Filter::any_of(read_list("any_of", list, depth)?)?,
        Condition::Not(part) => Filter::not(read(*part, depth + 1).map_err(|fault| fault.within("not"))?)?,
        Condition::Equals(equals) => Filter::equals(&equals.field, read_set_value("equals.value", equals.value)?)?,
        Condition::In(one_of) => {
            let values = one_of.values.into_iter().enumerate();
            let values = values.map(|(index, value)| read_filter_value(|| format!("in.values[{index}]"), value));
            Filter::is_in(&one_of.field, values.collect::<Result<_, _>>()?)?
        }
        Condition::Range(range) => read_range(range)?,
        Condition::Exists(exists) => Filter::exists(&exists.field)?,
        Condition::Contains(contains) => {
            Filter::contains(&contains.field, read_set_value("contains.value", contains.value)?)?
        }
    })
}

fn read_list(name: &str, list: pb::FilterList, depth: usize) -> Result<Vec<Filter>, Fault> {
    // Before any of them is looked at: a message has room for millions.
    check_count(name, list.filters.len())?;
    let parts = list.filters.into_iter().enumerate();
    parts
        .map(|(index, part)| read(part, depth + 1).map_err(|fault| fault.within(format_args!("{name}[{index}]"))))
        .collect()
}

fn read_range(range: pb::FieldRange) -> Result<Filter, Fault> {
    let number = |path: &str, value| read_filter_value(|| path.to_owned(), value);
    let lower = match range.lower {
        None => Bound::Unbounded,
        Some(Lower::GreaterThan(value)) => Bound::Excluded(number("range.greater_than", value)?),
        Some(Lower::AtLeast(value)) => Bound::Included(number("range.at_least", value)?),
    };
    let upper = match range.upper {
        None => Bound::Unbounded,
        Some(Upper::LessThan(value)) => Bound::Excluded(number("range.less_than", value)?),
        Some(Upper::AtMost(value)) => Bound::Included(number("range.at_most", value)?),
    };
    Ok(Filter::range(&range.field, lower, upper)?)
}

fn read_set_value(path: &str, value: Option<pb::Value>) -> Result<Value, Fault> {
    let value = value.ok_or_else(|| Fault::new(path, "must be set; send `null_value` for null"))?;
    read_filter_value(|| path.to_owned(), value)
}

fn read_filter_value(path: impl Fn() -> String, value: pb::Value) -> Result<Value, Fault> {
    read_value("", value).map_err(|_| Fault::new(path(), "the value has no kind; send `null_value` for null"))
}

pub(super) fn check_depth(depth: usize) -> Result<(), Fault> {
    match depth {
        ..=FILTER_DEPTH_MAX => Ok(()),
        _ => Err(Fault::new(
            "",
            format_args!("a filter is at most {FILTER_DEPTH_MAX} levels deep, but this one is deeper"),
        )),
    }
}

pub(super) fn check_count(path: &str, parts: usize) -> Result<(), Fault> {
    match parts {
        ..FILTER_NODES_MAX => Ok(()),
        _ => Err(Fault::new(
            path,
            format_args!("a filter has at most {FILTER_NODES_MAX} nodes, but this has {parts} parts"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_its_parts_is_refused() {
        let message = |condition| read_filter(Some(pb::Filter { condition })).unwrap_err().message;
        let field = || "a".to_owned();
        let not = |part| Some(Condition::Not(Box::new(part)));
        assert!(message(None).starts_with("filter: no condition is set"));
        assert!(message(not(pb::Filter::default())).starts_with("filter.not: no condition is set"));
        let equals = pb::FieldEquals { field: field(), value: None };
        assert!(message(Some(Condition::Equals(equals))).starts_with("filter.equals.value: must be set"));
        let one_of = pb::FieldIn { field: field(), values: vec![pb::Value::default()] };
        assert!(message(Some(Condition::In(one_of))).starts_with("filter.in.values[0]: the value has no kind"));
    }
}
