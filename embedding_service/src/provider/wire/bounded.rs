//! JSON that is read only as far as an answer may go: lists stop at their length, and what is not asked for is passed over.
//!
//! An answer is bounded in bytes, but what is made of it could have many times as many: an empty list is three bytes of JSON,
//! and 24 in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// How much an answer may have.
#[derive(Debug, Clone, Copy)]
pub(in crate::provider) struct Bounds {
    /// Embeddings.
    pub(in crate::provider) count: usize,
    /// Components of each.
    pub(in crate::provider) dimension: usize,
}

/// A list of at most `max` items, as `seed` reads each.
#[derive(Clone, Copy)]
pub(super) struct List<S> {
    pub(super) seed: S,
    pub(super) max: usize,
    /// What its items are called.
    pub(super) items: &'static str,
}

/// An object's field `first`, which it must have, and `second`, which it may have.
#[derive(Clone, Copy)]
pub(super) struct Fields<A, B> {
    pub(super) first: (&'static str, A),
    pub(super) second: (&'static str, B),
}

impl Bounds {
    /// The components of one embedding.
    pub(super) fn row(self) -> List<PhantomData<f32>> {
        List { seed: PhantomData, max: self.dimension, items: "components in an embedding" }
    }

    /// An embedding for each text.
    pub(super) fn rows(self) -> List<List<PhantomData<f32>>> {
        List { seed: self.row(), max: self.count, items: "embeddings" }
    }
}

/// What `seed` reads from all of `body`.
pub(super) fn read<'de, S: DeserializeSeed<'de>>(body: &'de [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = seed.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for List<S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {} {}", self.max, self.items)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while all.len() < self.max {
            let Some(one) = list.next_element_seed(self.seed)? else { return Ok(all) };
            all.push(one);
        }
        let mut count = all.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        if count > self.max {
            return Err(A::Error::custom(format!("{count} {}: expected at most {}", self.items, self.max)));
        }
        Ok(all)
    }
}

impl<'de, A: DeserializeSeed<'de> + Copy, B: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Fields<A, B> {
    type Value = (A::Value, Option<B::Value>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, A: DeserializeSeed<'de> + Copy, B: DeserializeSeed<'de> + Copy> Visitor<'de> for Fields<A, B> {
    type Value = (A::Value, Option<B::Value>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object with the field `{}`", self.first.0)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let (mut first, mut second) = (None, None);
        while let Some(name) = map.next_key::<Name>()? {
            match name.0.as_str() {
                name if name == self.first.0 && first.is_none() => first = Some(map.next_value_seed(self.first.1)?),
                name if name == self.second.0 && second.is_none() => second = Some(map.next_value_seed(self.second.1)?),
                name if name == self.first.0 || name == self.second.0 => {
                    return Err(M::Error::custom(format!("duplicate field `{name}`")));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let first = first.ok_or_else(|| M::Error::missing_field(self.first.0))?;
        Ok((first, second))
    }
}

/// The name of a field.
#[derive(serde::Deserialize)]
struct Name(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stop_where_they_may_not_go_on() {
        let rows = Bounds { count: 2, dimension: 3 }.rows();
        assert_eq!(read(b"[[1, 2, 3], [4]]", rows).unwrap(), [vec![1.0, 2.0, 3.0], vec![4.0]]);
        let told = |body: &[u8]| read(body, rows).unwrap_err().to_string();
        assert!(told(b"[[],[],[],[]]").starts_with("4 embeddings: expected at most 2"), "{}", told(b"[[],[],[],[]]"));
        // What follows is not looked at.
        assert!(told(b"[[1,2,3,4,5] no").starts_with("5 components in an embedding: expected at most 3"));
        assert!(told(b"[] []").starts_with("trailing characters"));
    }

    #[test]
    fn fields_are_found_among_others() {
        let fields = Fields { first: ("a", PhantomData::<u8>), second: ("b", PhantomData::<u8>) };
        assert_eq!(read(br#"{"x": [{}], "b": 2, "a": 1}"#, fields).unwrap(), (1, Some(2)));
        assert_eq!(read(br#"{"a": 1}"#, fields).unwrap(), (1, None));
        let told = |body: &[u8]| read(body, fields).unwrap_err().to_string();
        assert!(told(br#"{"b": 1}"#).starts_with("missing field `a`"));
        assert!(told(br#"{"a": 1, "a": 2}"#).starts_with("duplicate field `a`"));
        assert!(told(b"[1]").starts_with("invalid type: sequence, expected an object with the field `a`"));
    }
}
