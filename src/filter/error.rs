use crate::types::limits::{
    FILTER_DEPTH_MAX, FILTER_FIELD_BYTES_MAX, FILTER_FIELD_DOTS_MAX, FILTER_NODES_MAX, FILTER_VALUES_MAX,
};

/// A part of a filter breaks its rules.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct InvalidFilter {
    /// Where, from the condition that was to be made: `range.at_least`, for example.
    pub path: String,
    /// What is wrong there.
    pub fault: FilterFault,
}

/// What is wrong with a part of a filter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FilterFault {
    /// The field has no name, or a long one.
    #[error("the name of a field has 1 to {FILTER_FIELD_BYTES_MAX} bytes, but this one has {bytes}")]
    FieldBytes {
        /// Bytes of the name.
        bytes: usize,
    },
    /// The name has too many dots.
    #[error("the name of a field has at most {FILTER_FIELD_DOTS_MAX} dots, but this one has {dots}")]
    FieldDots {
        /// Dots of the name.
        dots: usize,
    },
    /// There are too many conditions.
    #[error("a filter has at most {FILTER_NODES_MAX} nodes, but this one has {nodes} or more")]
    TooManyNodes {
        /// How many were counted.
        nodes: usize,
    },
    /// Conditions are nested too deep.
    #[error("a filter is at most {FILTER_DEPTH_MAX} levels deep, but this one is deeper")]
    TooDeep,
    /// A list or an object equals nothing.
    #[error("expected null, a bool, a number or a string, but got {got}")]
    NotScalar {
        /// What came.
        got: &'static str,
    },
    /// Only numbers have an order.
    #[error("expected a number, but got {got}")]
    NotNumber {
        /// What came.
        got: &'static str,
    },
    /// A number is NaN or infinite.
    #[error("expected a finite number, but got {got}")]
    NotFinite {
        /// What came.
        got: f64,
    },
    /// There are no values, or too many.
    #[error("expected 1 to {FILTER_VALUES_MAX} values, but got {got}")]
    ValueCount {
        /// How many came.
        got: usize,
    },
    /// A range has no end at all.
    #[error("a range has at least one bound, but this one has none")]
    NoBound,
}

impl FilterFault {
    pub(super) fn at(self, path: impl Into<String>) -> InvalidFilter {
        InvalidFilter { path: path.into(), fault: self }
    }
}
