use std::borrow::Borrow;
use std::fmt;

use super::limits::NAME_BYTES_MAX;

/// The name of a collection: 1 to 128 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Box<str>);

/// The name of a space: 1 to 128 of `A-Z a-z 0-9 _ . -`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceName(Box<str>);

/// The name of a snapshot: 1 to 128 of `A-Z a-z 0-9 _ -`. It is the name of a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(Box<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a {what} has 1 to {NAME_BYTES_MAX} of the characters {allowed}, but this one is {name:?}")]
pub struct InvalidName {
    what: &'static str,
    allowed: &'static str,
    name: String,
}

impl CollectionName {
    /// Checks the characters and the length.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        check(name, "collection", "A-Z a-z 0-9 _ -", allowed).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SnapshotName {
    /// Checks the characters and the length.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        check(name, "snapshot", "A-Z a-z 0-9 _ -", allowed).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpaceName {
    /// Checks the characters and the length.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        check(name, "space", "A-Z a-z 0-9 _ . -", allowed).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(
    name: &str,
    what: &'static str,
    allowed: &'static str,
    is_allowed: impl Fn(u8) -> bool,
) -> Result<Box<str>, InvalidName> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed) {
        return Ok(name.into());
    }
    // A message is for reading: a name of megabytes is not repeated whole.
    Err(InvalidName { what, allowed, name: name.chars().take(NAME_BYTES_MAX + 1).collect() })
}

impl Borrow<str> for CollectionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_paths() {
        assert!(CollectionName::new("my-docs_2").is_ok());
        for name in ["", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(CollectionName::new(name).is_err(), "{name:?}");
            assert!(SnapshotName::new(name).is_err(), "{name:?}");
        }
        assert!(SnapshotName::new("notes-20261120T202546Z").is_ok() && SnapshotName::new("a.tmp").is_err());
        assert!(SpaceName::new("text-embedding-3.small").is_ok());
        assert!(SpaceName::new("a/b").is_err());
    }
}
