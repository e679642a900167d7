//! The key that an embedding service elsewhere asks for.

use std::{env, fmt};

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// The environment variable that holds the key.
pub(super) const KEY_VARIABLE: &str = "VECTRON_EMBEDDING_API_KEY";

/// A key or token, or none. Shown to the embedding service alone.
#[derive(Clone, Default)]
pub struct EmbeddingKey {
    /// As the header `authorization` has it; marked, so that what logs headers leaves it out.
    header: Option<AsciiMetadataValue>,
    /// It holds something that cannot be sent.
    is_malformed: bool,
}

/// Not what a key can be.
#[derive(Debug, thiserror::Error)]
#[error("{KEY_VARIABLE} holds characters that no key has: expected visible ASCII without spaces")]
pub struct MalformedKey;

impl EmbeddingKey {
    /// The key that `VECTRON_EMBEDDING_API_KEY` holds. An empty one is not set.
    pub fn from_environment() -> Self {
        match env::var_os(KEY_VARIABLE) {
            None => Self::default(),
            Some(held) => Self::new(&held.to_string_lossy()),
        }
    }

    fn new(key: &str) -> Self {
        let key = key.trim();
        if key.is_empty() {
            return Self::default();
        }
        let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        let header = AsciiMetadataValue::try_from(format!("Bearer {key}")).ok().filter(|_| is_visible);
        let is_malformed = header.is_none();
        let header = header.map(|mut header| {
            header.set_sensitive(true);
            header
        });
        Self { header, is_malformed }
    }

    /// The key, if it can be sent.
    pub(super) fn checked(self) -> Result<Self, MalformedKey> {
        if self.is_malformed { Err(MalformedKey) } else { Ok(self) }
    }
}

/// Puts the key on each call.
impl Interceptor for EmbeddingKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for EmbeddingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.header.is_some() { "EmbeddingKey(***)" } else { "EmbeddingKey(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_sent_and_not_shown() {
        let mut key = EmbeddingKey::new(" vek_1_2 \n").checked().unwrap();
        let sent = key.call(Request::new(())).unwrap();
        assert_eq!(sent.metadata().get("authorization").unwrap().to_str().unwrap(), "Bearer vek_1_2");
        assert!(!format!("{key:?} {sent:?}").contains("vek_1_2"));
        let mut none = EmbeddingKey::new("").checked().unwrap();
        assert!(none.call(Request::new(())).unwrap().metadata().is_empty());
        for wrong in ["a b", "schlüssel", "a\nb"] {
            assert!(EmbeddingKey::new(wrong).checked().is_err(), "{wrong:?}");
        }
    }
}
