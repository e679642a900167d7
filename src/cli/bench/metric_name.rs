//! Metrics on the command line.

use clap::ValueEnum;
use serde::Serialize;

use crate::types::Metric;

/// A metric, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricName {
    /// By the angle alone.
    Cosine,
    /// By the dot product.
    Dot,
    /// By the distance.
    Euclidean,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Cosine => Self::Cosine,
            MetricName::Dot => Self::DotProduct,
            MetricName::Euclidean => Self::Euclidean,
        }
    }
}
