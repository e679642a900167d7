use std::fmt;

/// How two vectors of a space are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Cosine of the angle, -1 to 1, greater is better. Zero vectors have none and are refused.
    #[default]
    Cosine,
    /// Dot product, greater is better.
    DotProduct,
    /// Euclidean distance (not squared), 0 or more, less is better.
    Euclidean,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Cosine => "cosine",
            Metric::DotProduct => "dot product",
            Metric::Euclidean => "Euclidean distance",
        })
    }
}
