use std::fmt;

use super::limits::{DIMENSION_MAX, NORM_MAX};

/// The number of components of a vector: 1 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimension(u32);

/// The components of a vector: 1 to 65,536 finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector(Box<[f32]>);

/// Why numbers are no vector.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidVector {
    /// There are none, or too many.
    #[error("a vector has 1 to {DIMENSION_MAX} components, but this one has {got}")]
    Length {
        /// How many there are.
        got: usize,
    },
    /// A component is NaN or infinite.
    #[error("every component of a vector is a finite number, but component {component} is {value}")]
    NotFinite {
        /// Its position, from 0.
        component: usize,
        /// What it is.
        value: f32,
    },
    /// Its length would overflow the products and distances of 32-bit numbers.
    #[error("the length of a vector is at most {NORM_MAX:e}, but this one has {norm:e}")]
    TooLong {
        /// Its length.
        norm: f64,
    },
    /// The bytes are no whole number of components.
    #[error("the components of a vector have 4 bytes each, but {bytes} bytes came")]
    Bytes {
        /// How many there are.
        bytes: usize,
    },
}

impl Dimension {
    /// `None` where the number is 0 or over the limit.
    pub fn new(components: usize) -> Option<Self> {
        (1..=DIMENSION_MAX).contains(&components).then_some(Self(components as u32))
    }

    /// The number.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Vector {
    /// Takes the components.
    pub fn new(components: Vec<f32>) -> Result<Self, InvalidVector> {
        Self::check(&components).map(|_| Self(components.into_boxed_slice()))
    }

    /// The length of what would be a vector: 0 to `NORM_MAX`.
    pub fn check(components: &[f32]) -> Result<f64, InvalidVector> {
        if Dimension::new(components.len()).is_none() {
            return Err(InvalidVector::Length { got: components.len() });
        }
        let norm = norm(components);
        if norm <= NORM_MAX {
            return Ok(norm);
        }
        // NaN and infinities make the norm NaN or infinite; large numbers make it large.
        Err(match components.iter().position(|component| !component.is_finite()) {
            Some(component) => InvalidVector::NotFinite { component, value: components[component] },
            None => InvalidVector::TooLong { norm },
        })
    }

    /// Reads packed little-endian IEEE 754 binary32.
    pub fn from_f32_le(bytes: &[u8]) -> Result<Self, InvalidVector> {
        let (components, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(InvalidVector::Bytes { bytes: bytes.len() });
        }
        Self::new(components.iter().map(|&four| f32::from_le_bytes(four)).collect())
    }

    /// Writes packed little-endian IEEE 754 binary32.
    pub fn to_f32_le(components: &[f32]) -> Vec<u8> {
        components.iter().flat_map(|component| component.to_le_bytes()).collect()
    }

    /// How many components there are.
    pub fn dimension(&self) -> Dimension {
        Dimension(self.0.len() as u32)
    }

    /// The components.
    pub fn components(&self) -> &[f32] {
        &self.0
    }
}

/// Length of a vector, in double precision, so that neither large nor small components overflow.
pub fn norm(components: &[f32]) -> f64 {
    // Independent sums, so that an addition need not wait for the one before.
    let (lanes, rest) = components.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for lane in lanes {
        for (sum, &x) in sums.iter_mut().zip(lane) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sums.iter().sum::<f64>() + rest).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_numbers_are_the_same_vector() {
        let vector = Vector::new(vec![1.5, -0.0, f32::MIN_POSITIVE / 2.0]).unwrap();
        let bytes = Vector::to_f32_le(vector.components());
        assert_eq!(Vector::from_f32_le(&bytes).unwrap(), vector);
        assert_eq!(Vector::from_f32_le(&bytes[..7]), Err(InvalidVector::Bytes { bytes: 7 }));
    }

    #[test]
    fn what_is_not_finite_is_refused_by_position() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Vector::new(vec![0.0, value]).unwrap_err();
            assert!(matches!(error, InvalidVector::NotFinite { component: 1, .. }), "{error}");
        }
        assert!(Vector::new(vec![6e18, 6e18]).is_ok());
        assert!(matches!(Vector::new(vec![7e18, 7e18]), Err(InvalidVector::TooLong { .. })));
        assert_eq!(Vector::new(vec![]), Err(InvalidVector::Length { got: 0 }));
        assert_eq!(Vector::new(vec![0.0; 65_537]), Err(InvalidVector::Length { got: 65_537 }));
    }
}
