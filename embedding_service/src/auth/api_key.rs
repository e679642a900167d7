//! API keys: `vek_<id>_<secret>`, both in hexadecimal. The id is public, and names the key in files and logs; the secret is
//! 256 random bits, told once.
//!
//! Files hold SHA-256 of the whole key. A slow hash as for passwords would gain nothing: it makes each guess dear, and nobody
//! guesses 256 random bits; but it would have to run for every request.

use std::fmt;
use std::fmt::Write;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with.
pub(super) const PREFIX: &str = "vek_";
/// Bytes of an id.
const ID_BYTES: usize = 8;
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// The public part of a key: 16 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

/// SHA-256 of a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest([u8; 32]);

/// A key, as its owner has it. Its memory is wiped when it is dropped.
pub struct ApiKey {
    /// Its public part.
    pub id: KeyId,
    text: SecretString,
}

/// The operating system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandomness(getrandom::Error);

/// Fills an array with what nobody can guess.
pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], NoRandomness> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

impl ApiKey {
    /// A new one.
    pub fn generate() -> Result<Self, NoRandomness> {
        let id = KeyId(hex(&random::<ID_BYTES>()?));
        let text = format!("{PREFIX}{}_{}", id.0, hex(&random::<SECRET_BYTES>()?));
        Ok(Self { id, text: text.into() })
    }

    /// Reads one, or `None` where it has not the form of a key.
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        if secret.len() != 2 * SECRET_BYTES || !is_hex(secret) {
            return None;
        }
        let id = KeyId::try_from(id.to_owned()).ok()?;
        Some(Self { id, text: text.into() })
    }

    /// What a file holds of it.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.expose()).into())
    }

    /// The key itself, to be told to its owner.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl KeyDigest {
    /// Whether it is the digest of `key`; in a time that does not tell where they differ.
    pub fn is_of(&self, key: &ApiKey) -> bool {
        self.0.ct_eq(&key.digest().0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigest(***)")
    }
}

impl KeyId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyId {
    type Error = String;

    /// Does not repeat what it refuses: it may be a secret at the wrong place.
    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 2 * ID_BYTES && is_hex(&text) {
            return Ok(Self(text));
        }
        Err(format!("the id of a key: expected {} digits of 0-9 and a-f, got {} bytes", 2 * ID_BYTES, text.len()))
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("sha256 of a key: expected 64 digits of 0-9 and a-f, got {} bytes", text.len());
        if text.len() != 64 || !is_hex(&text) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        hex(&digest.0)
    }
}

/// Whether they are such digits.
pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Two lower-case digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_as_it_was_told_and_its_digest_knows_no_other() {
        let (key, other) = (ApiKey::generate().unwrap(), ApiKey::generate().unwrap());
        let told = key.expose().to_owned();
        assert_eq!(told.len(), 4 + 16 + 1 + 64);
        assert_ne!(key.id, other.id);
        let read = ApiKey::read(&told).unwrap();
        assert_eq!(read.id, key.id);
        let written = String::from(key.digest());
        let digest = KeyDigest::try_from(written.clone()).unwrap();
        assert!(digest.is_of(&read) && !digest.is_of(&other));
        // By the tool that everybody has: sha256sum of "abc".
        assert_eq!(hex(&Sha256::digest("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!format!("{key:?} {digest:?}").contains(&told[21..40]));
        assert!(!format!("{digest:?}").contains(&written[..8]));
    }

    #[test]
    fn what_is_not_whole_is_no_key() {
        let key = ApiKey::generate().unwrap();
        let told = key.expose();
        let upper = told.to_uppercase();
        for wrong in ["", "vek_", &told[1..], &told[..84], &format!("{told}0"), &told.replacen('_', "-", 2), &upper] {
            assert!(ApiKey::read(wrong).is_none(), "{wrong}");
        }
    }
}
