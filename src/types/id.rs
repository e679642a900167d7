use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use super::limits::ID_BYTES_MAX;

/// The id of a record: UTF-8, 1 to 512 bytes, kept verbatim. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Arc<str>);

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It has no bytes.
    #[error("an id has 1 to {ID_BYTES_MAX} bytes, but this one is empty")]
    Empty,
    /// It has too many.
    #[error("an id has 1 to {ID_BYTES_MAX} bytes, but this one has {bytes}")]
    TooLong {
        /// The bytes that it has.
        bytes: usize,
    },
}

impl RecordId {
    /// Takes the text as it is.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        match id.len() {
            0 => Err(InvalidId::Empty),
            bytes if bytes > ID_BYTES_MAX => Err(InvalidId::TooLong { bytes }),
            _ => Ok(Self(id.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RecordId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_verbatim_within_their_limits() {
        assert_eq!(RecordId::new(" Grüße/1 \n").map(|id| id.to_string()), Ok(" Grüße/1 \n".to_owned()));
        assert_eq!(RecordId::new(""), Err(InvalidId::Empty));
        assert!(RecordId::new(&"x".repeat(512)).is_ok());
        assert_eq!(RecordId::new(&"x".repeat(513)), Err(InvalidId::TooLong { bytes: 513 }));
    }
}
