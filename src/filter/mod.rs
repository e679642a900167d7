//! Conditions on metadata: what they mean, and which rows of a segment fulfil them.
//!
//! `Filter::matches` is the definition. A `MetadataIndex` answers the same for all rows of an immutable segment at
//! once, without the metadata: exactly where it can, else with rows that may match, which the caller then checks. It
//! also says how many rows to expect, for a planner. Deliberately absent: which plan is best (`collection`), and every
//! protocol (`api/convert`).

mod error;
mod expression;
mod field_path;
mod index;
mod keywords;
mod matched;
mod numbers;
mod postings;
mod scalar;

pub use error::{FilterFault, InvalidFilter};
pub use expression::Filter;
pub use index::{MetadataIndex, Selection};

#[cfg(test)]
mod tests;
