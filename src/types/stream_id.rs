use std::fmt;
use std::sync::Arc;

use super::limits::STREAM_ID_BYTES_MAX;

/// The client's name of a stream of writes: UTF-8, 1 to 64 bytes, kept verbatim.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamId(Arc<str>);

/// Why a text is no stream's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {STREAM_ID_BYTES_MAX} bytes, but got {bytes}")]
pub struct InvalidStreamId {
    bytes: usize,
}

impl StreamId {
    /// Takes the text as it is.
    pub fn new(id: &str) -> Result<Self, InvalidStreamId> {
        match id.len() {
            1..=STREAM_ID_BYTES_MAX => Ok(Self(id.into())),
            bytes => Err(InvalidStreamId { bytes }),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_limits() {
        assert!(StreamId::new("import 7").is_ok());
        assert!(StreamId::new("").is_err());
        assert!(StreamId::new(&"x".repeat(64)).is_ok());
        assert!(StreamId::new(&"x".repeat(65)).is_err());
    }
}
