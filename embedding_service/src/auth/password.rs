//! Passwords: hashed with Argon2id, so that each guess costs its maker 19 MiB and some hundredths of a second. It costs us
//! the same: verifying runs on a few threads of the blocking pool, and little may wait for them.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::thread;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::api_key::hex;

/// Least characters of a password that is set here.
pub const PASSWORD_CHARACTERS_MIN: usize = 8;
/// Memory that a hash in the file may ask for, in KiB: a slip of the pen shall not stop the machine.
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// Verifications that may wait for a thread. Beyond, callers are told to come back.
const WAITING_MAX: usize = 16;

/// The hash of a password, in PHC string format: `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

/// A password cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It is too short.
    #[error("expected a password of {PASSWORD_CHARACTERS_MIN} or more characters, got {characters}")]
    TooShort {
        /// How many it has.
        characters: usize,
    },
    /// Argon2, or its source of salt, has failed.
    #[error("the password cannot be hashed: {0}")]
    Failed(argon2::password_hash::Error),
}

/// The cost that OWASP's password storage cheat sheet names first for Argon2id: 19 MiB, 2 passes, 1 lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

impl PasswordHash {
    /// Hashes a password with a new salt. Takes some hundredths of a second.
    pub fn of(password: &SecretString) -> Result<Self, HashError> {
        let characters = password.expose_secret().chars().count();
        if characters < PASSWORD_CHARACTERS_MIN {
            return Err(HashError::TooShort { characters });
        }
        Self::of_any(password)
    }

    fn of_any(password: &SecretString) -> Result<Self, HashError> {
        let hash: phc::PasswordHash =
            argon2().hash_password(password.expose_secret().as_bytes()).map_err(HashError::Failed)?;
        Ok(Self(hash.to_string()))
    }

    /// Whether it is the hash of `password`. Takes some hundredths of a second.
    fn is_of(&self, password: &SecretString) -> bool {
        let parsed = phc::PasswordHash::new(&self.0);
        parsed.is_ok_and(|hash| argon2().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
    }

    /// Tells this hash from others, in tokens: they end with the password that they were given for.
    pub fn mark(&self) -> String {
        hex(&Sha256::digest(&self.0)[..8])
    }
}

impl TryFrom<String> for PasswordHash {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let expected =
            "expected the hash of a password as `vectron-embedding auth set-password` writes it, `$argon2id$…`";
        let hash = phc::PasswordHash::new(&text).map_err(|_| expected.to_owned())?;
        if hash.algorithm.as_str() != "argon2id" || hash.salt.is_none() || hash.hash.is_none() {
            return Err(expected.to_owned());
        }
        let params = Params::try_from(&hash).map_err(|_| expected.to_owned())?;
        if params.m_cost() > MEMORY_KIB_MAX {
            return Err(format!(
                "the hash of a password asks for {} KiB: expected at most {MEMORY_KIB_MAX}",
                params.m_cost()
            ));
        }
        Ok(Self(text))
    }
}

impl From<PasswordHash> for String {
    fn from(hash: PasswordHash) -> Self {
        hash.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(***)")
    }
}

/// Verified where there is nobody of the name, so that the answer takes as long as for somebody.
static NOBODYS: LazyLock<Option<PasswordHash>> = LazyLock::new(|| PasswordHash::of_any(&"nobody's".into()).ok());

/// Where passwords are verified: a few at once, for each takes a core and 19 MiB.
pub struct Verifying {
    /// For those that run.
    running: Arc<Semaphore>,
    /// For those that run or wait.
    taken_in: Arc<Semaphore>,
}

/// As many passwords are being verified as may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Verifying {
    pub fn new() -> Self {
        // At most half of the cores: the others embed.
        let threads = (thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 4);
        // Made now, not by the first who is nobody and would wait for twice as long.
        LazyLock::force(&NOBODYS);
        Self { running: Arc::new(Semaphore::new(threads)), taken_in: Arc::new(Semaphore::new(threads + WAITING_MAX)) }
    }

    /// Whether `password` has this hash. Where there is no hash it has not, after the same time.
    pub async fn is_of(&self, hash: Option<PasswordHash>, password: SecretString) -> Result<bool, Busy> {
        let place = self.taken_in.clone().try_acquire_owned().map_err(|_| Busy)?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
        let verify = move || {
            // Kept to the end of the work, not of the wait: a caller that leaves stops waiting alone.
            let _held = (place, turn);
            let known = hash.is_some();
            hash.or_else(|| NOBODYS.clone()).is_some_and(|hash| hash.is_of(&password)) && known
        };
        Ok(tokio::task::spawn_blocking(verify).await.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hash_knows_its_password_and_nobody_has_one() {
        let hash = PasswordHash::of(&"correct horse".into()).unwrap();
        let written = String::from(hash.clone());
        assert!(written.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{written}");
        let read = PasswordHash::try_from(written).unwrap();
        let verifying = Verifying::new();
        assert_eq!(verifying.is_of(Some(read.clone()), "correct horse".into()).await, Ok(true));
        assert_eq!(verifying.is_of(Some(read.clone()), "correct hors".into()).await, Ok(false));
        assert_eq!(verifying.is_of(None, "nobody's".into()).await, Ok(false));
        let again = PasswordHash::of(&"correct horse".into()).unwrap();
        assert_eq!(read.mark(), hash.mark());
        assert_ne!(again.mark(), hash.mark(), "each has its own salt");
        assert_eq!(format!("{hash:?}"), "PasswordHash(***)");
    }

    #[tokio::test]
    async fn more_than_may_wait_are_sent_away() {
        let verifying = Arc::new(Verifying::new());
        let all = verifying.taken_in.available_permits();
        let calls = (0..all + 3).map(|_| {
            let verifying = verifying.clone();
            tokio::spawn(async move { verifying.is_of(None, "x".into()).await })
        });
        let mut busy = 0;
        for call in calls.collect::<Vec<_>>() {
            busy += usize::from(call.await.unwrap() == Err(Busy));
        }
        assert_eq!(busy, 3);
        assert_eq!(verifying.taken_in.available_permits(), all);
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        for wrong in [
            "hunter2-in-clear",
            "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
        ] {
            let error = PasswordHash::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains("expected") && !error.contains("hunter2"), "{error}");
        }
        assert!(matches!(PasswordHash::of(&"short".into()), Err(HashError::TooShort { characters: 5 })));
    }
}
