//! The two ways in which the contract carries a vector.

use clap::ValueEnum;
use serde::Serialize;

use super::vectors::Vectors;
use crate::pb::v1::{FloatArray, vector::Components};

/// How vectors are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As a list of numbers.
    Floats,
    /// As packed little-endian bytes.
    Bytes,
}

/// Which of them to measure.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Encodings {
    /// Lists of numbers.
    Floats,
    /// Packed little-endian bytes.
    Bytes,
    /// One after the other.
    Both,
}

impl Encodings {
    /// Each of them.
    pub fn each(self) -> &'static [Encoding] {
        match self {
            Self::Floats => &[Encoding::Floats],
            Self::Bytes => &[Encoding::Bytes],
            Self::Both => &[Encoding::Bytes, Encoding::Floats],
        }
    }
}

impl Encoding {
    /// The generated vector of this number as the contract's message has it.
    pub fn components(self, vectors: &Vectors, number: u64) -> Components {
        match self {
            Self::Floats => Components::Floats(FloatArray { values: vectors.get(number) }),
            Self::Bytes => {
                let mut bytes = vec![0; vectors.dimension() * size_of::<f32>()];
                vectors.write_f32_le(number, &mut bytes);
                Components::F32Le(bytes.into())
            }
        }
    }
}
