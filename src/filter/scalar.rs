//! Values that can be equal to one another, and numbers in their exact order.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::filter::FilterFault;
use crate::types::Value;

/// What a condition compares with. Null is only equal to null; lists and objects are equal to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar<T> {
    Null,
    Bool(bool),
    Number(Number),
    String(T),
}

/// A finite number. Whole numbers and others compare exactly, also beyond 2^53, where an f64 has gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    /// No i64 is equal to it: it is not whole, or below -2^63, or 2^63 or above.
    Double(f64),
}

/// Numbers between two bounds.
pub type NumberRange = (Bound<Number>, Bound<Number>);

/// 2^63, which is the first double that is no i64.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

impl Number {
    /// `None` for NaN and infinities.
    pub fn from_f64(double: f64) -> Option<Self> {
        let is_int = double.fract() == 0.0 && (-INT_END..INT_END).contains(&double);
        match is_int {
            // -0.0 becomes 0.
            true => Some(Number::Int(double as i64)),
            false => double.is_finite().then_some(Number::Double(double)),
        }
    }

    /// The range of this number alone.
    pub fn only(self) -> NumberRange {
        (Bound::Included(self), Bound::Included(self))
    }
}

impl Eq for Number {}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Double(a), Number::Double(b)) => a.total_cmp(&b),
            (Number::Int(int), Number::Double(double)) => compare(int, double),
            (Number::Double(double), Number::Int(int)) => compare(int, double).reverse(),
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// They are never equal, by the invariant of `Number::Double`.
fn compare(int: i64, double: f64) -> Ordering {
    if double >= INT_END {
        return Ordering::Less;
    }
    if double < -INT_END {
        return Ordering::Greater;
    }
    // A double that is not whole lies within 2^52, so the one below it is an i64.
    if int <= double.floor() as i64 { Ordering::Less } else { Ordering::Greater }
}

impl<'a> Scalar<&'a str> {
    /// `None` for lists and objects.
    pub fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => Some(Scalar::Null),
            Value::Bool(value) => Some(Scalar::Bool(*value)),
            Value::Int(value) => Some(Scalar::Number(Number::Int(*value))),
            // Metadata hold finite numbers alone.
            Value::Double(value) => Number::from_f64(*value).map(Scalar::Number),
            Value::String(value) => Some(Scalar::String(value)),
            Value::List(_) | Value::Object(_) => None,
        }
    }
}

impl Scalar<Box<str>> {
    /// Takes a value of a filter.
    pub fn new(value: Value) -> Result<Self, FilterFault> {
        match value {
            Value::Double(got) if !got.is_finite() => Err(FilterFault::NotFinite { got }),
            Value::String(text) => Ok(Scalar::String(text.into_boxed_str())),
            other => match Scalar::of(&other) {
                Some(Scalar::Null) => Ok(Scalar::Null),
                Some(Scalar::Bool(value)) => Ok(Scalar::Bool(value)),
                Some(Scalar::Number(number)) => Ok(Scalar::Number(number)),
                Some(Scalar::String(_)) | None => Err(FilterFault::NotScalar { got: kind(&other) }),
            },
        }
    }

    /// The same without the text.
    pub fn borrowed(&self) -> Scalar<&str> {
        match self {
            Scalar::Null => Scalar::Null,
            Scalar::Bool(value) => Scalar::Bool(*value),
            Scalar::Number(number) => Scalar::Number(*number),
            Scalar::String(text) => Scalar::String(text),
        }
    }
}

/// Takes a bound of a filter's range.
pub fn read_number(value: &Value) -> Result<Number, FilterFault> {
    match value {
        Value::Int(value) => Ok(Number::Int(*value)),
        Value::Double(value) => Number::from_f64(*value).ok_or(FilterFault::NotFinite { got: *value }),
        other => Err(FilterFault::NotNumber { got: kind(other) }),
    }
}

/// For messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Int(_) | Value::Double(_) => "a number",
        Value::String(_) => "a string",
        Value::List(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_and_doubles_compare_exactly() {
        let int = Number::Int;
        let double = |value| Number::from_f64(value).unwrap();
        // In their order, each beside the doubles that are near.
        let ascending = [
            double(-1e300),
            double(-9_223_372_036_854_777_856.0),
            int(i64::MIN),
            int(i64::MIN + 1),
            int(-9_007_199_254_740_993),
            double(-9_007_199_254_740_992.0),
            double(-1.5),
            int(-1),
            double(-0.5),
            double(-0.0),
            double(f64::from_bits(1)),
            int(1),
            double(1.000_000_000_000_000_2),
            double(4_503_599_627_370_495.5),
            int(9_007_199_254_740_991),
            double(9_007_199_254_740_992.0),
            int(9_007_199_254_740_993),
            int(i64::MAX),
            double(9_223_372_036_854_775_808.0),
            double(f64::MAX),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(double(-0.0), int(0));
        assert_eq!(double(1.0), int(1));
        assert_eq!(double(-9_223_372_036_854_775_808.0), int(i64::MIN));
        assert_eq!(Number::from_f64(f64::NAN), None);
        assert_eq!(Number::from_f64(f64::NEG_INFINITY), None);
    }
}
