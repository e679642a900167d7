//! Passwords: hashed with Argon2id, so that each guess costs its maker 19 MiB and some hundredths of a second. It costs us
//! the same: verifying runs on a few threads of the blocking pool, little may wait for them, and of that little of one name.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::api_key::{hex, is_hex};
use super::attempts::Attempt;

/// Least characters of a password that is set here.
pub(super) const PASSWORD_CHARACTERS_MIN: usize = 8;
/// Memory that a hash in the file may ask for, in KiB: a slip of the pen shall not stop the machine.
const MEMORY_KIB_MAX: u32 = 256 << 10;
/// Passes and lanes, for the same reason: by its memory alone, a hash could still take minutes.
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
/// Bytes of a mark: two hashes of one principal are not alike by chance.
const MARK_BYTES: usize = 8;
/// Verifications that may wait for a thread. Beyond, callers are told to come back.
const WAITING_MAX: usize = 16;
/// Verifications for one name that may run or wait, right ones too: who logs in again and again leaves room for others.
const OF_NAME_MAX: usize = 4;

/// The hash of a password, in PHC string format: `$argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PasswordHash(String);

/// What tells a hash from others: 16 hexadecimal digits, of which nobody learns a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(String);

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
    pub fn mark(&self) -> Mark {
        Mark(hex(&Sha256::digest(&self.0)[..MARK_BYTES]))
    }
}

impl TryFrom<&str> for Mark {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        if text.len() == 2 * MARK_BYTES && is_hex(text) {
            return Ok(Self(text.to_owned()));
        }
        let expected = 2 * MARK_BYTES;
        Err(format!(
            "the mark of a password's hash: expected {expected} digits of 0-9 and a-f, got {} bytes",
            text.len()
        ))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
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
        if params.t_cost() > PASSES_MAX || params.p_cost() > LANES_MAX {
            return Err(format!(
                "the hash of a password asks for {} passes and {} lanes: expected at most {PASSES_MAX} and {LANES_MAX}",
                params.t_cost(),
                params.p_cost()
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

/// Where passwords are verified: a few at once, for each takes a core and 19 MiB.
pub(super) struct Verifying {
    /// Verified where there is nobody of the name, so that the answer takes as long as for somebody.
    nobodys: PasswordHash,
    /// For those that run.
    running: Arc<Semaphore>,
    /// For those that run or wait.
    taken_in: Arc<Semaphore>,
    /// The names of those that run or wait, one for each: few, so a list. A lock, held to look through it.
    names: Arc<Mutex<Vec<String>>>,
}

/// As many passwords are being verified as may be: at all, or for this name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A place among those that run or wait.
struct Place {
    name: String,
    names: Arc<Mutex<Vec<String>>>,
    _taken_in: OwnedSemaphorePermit,
}

impl Verifying {
    /// Takes some hundredths of a second.
    pub(super) fn new() -> Result<Self, HashError> {
        // At most half of the cores: the others embed.
        let threads = (thread::available_parallelism().map_or(1, usize::from) / 2).clamp(1, 4);
        Ok(Self {
            nobodys: PasswordHash::of_any(&"nobody's".into())?,
            running: Arc::new(Semaphore::new(threads)),
            taken_in: Arc::new(Semaphore::new(threads + WAITING_MAX)),
            names: Arc::default(),
        })
    }

    /// Whether `password` has this hash. Where there is no hash it has not, after the same time. The attempts count where it
    /// has not, also if nobody waits for the answer any more.
    pub(super) async fn is_of(
        &self,
        name: &str,
        hash: Option<PasswordHash>,
        password: SecretString,
        attempts: Vec<Attempt>,
    ) -> Result<bool, Busy> {
        let place = self.place(name)?;
        let turn = self.running.clone().acquire_owned().await.map_err(|_| Busy)?;
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobodys.clone());
        let verify = move || {
            // Kept to the end of the work, not of the wait: a caller that leaves stops waiting alone.
            let _held = (place, turn);
            let is_right = hash.is_of(&password) && is_known;
            // Dropped, they are given back.
            let count = if is_right { drop } else { Attempt::wrong };
            attempts.into_iter().for_each(count);
            is_right
        };
        Ok(tokio::task::spawn_blocking(verify).await.unwrap_or(false))
    }

    fn place(&self, name: &str) -> Result<Place, Busy> {
        let taken_in = self.taken_in.clone().try_acquire_owned().map_err(|_| Busy)?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().filter(|other| *other == name).count() >= OF_NAME_MAX {
            return Err(Busy);
        }
        names.push(name.to_owned());
        Ok(Place { name: name.to_owned(), names: self.names.clone(), _taken_in: taken_in })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = names.iter().position(|name| *name == self.name) {
            names.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::attempts::{Attempts, Rate};
    use super::*;

    fn verifying() -> Arc<Verifying> {
        Arc::new(Verifying::new().unwrap())
    }

    #[tokio::test]
    async fn hash_knows_its_password_and_nobody_has_one() {
        let hash = PasswordHash::of(&"correct horse".into()).unwrap();
        let written = String::from(hash.clone());
        assert!(written.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{written}");
        let read = PasswordHash::try_from(written).unwrap();
        let verifying = verifying();
        assert_eq!(verifying.is_of("a", Some(read.clone()), "correct horse".into(), Vec::new()).await, Ok(true));
        assert_eq!(verifying.is_of("a", Some(read.clone()), "correct hors".into(), Vec::new()).await, Ok(false));
        assert_eq!(verifying.is_of("a", None, "nobody's".into(), Vec::new()).await, Ok(false));
        let again = PasswordHash::of(&"correct horse".into()).unwrap();
        assert_eq!(read.mark(), hash.mark());
        assert_ne!(again.mark(), hash.mark(), "each has its own salt");
        assert_eq!(format!("{hash:?}"), "PasswordHash(***)");
    }

    #[tokio::test]
    async fn more_than_may_wait_are_sent_away_and_of_one_name_before() {
        let verifying = verifying();
        let all = verifying.taken_in.available_permits();
        let busy = async |names: Vec<String>| {
            let calls = names.into_iter().map(|name| {
                let verifying = verifying.clone();
                tokio::spawn(async move { verifying.is_of(&name, None, "x".into(), Vec::new()).await })
            });
            let mut busy = 0;
            for call in calls.collect::<Vec<_>>() {
                busy += usize::from(call.await.unwrap() == Err(Busy));
            }
            busy
        };
        assert_eq!(busy((0..all + 3).map(|name| name.to_string()).collect()).await, 3);
        assert_eq!(busy(vec!["a".to_owned(); OF_NAME_MAX + 2]).await, 2);
        assert_eq!(verifying.taken_in.available_permits(), all);
        assert!(verifying.names.lock().unwrap().is_empty());
    }

    /// The least of some times: what else the machine does only adds to them.
    async fn time_of(verifying: &Verifying, hash: Option<&PasswordHash>) -> Duration {
        let mut least = Duration::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            assert_eq!(verifying.is_of("a", hash.cloned(), "wrong".into(), Vec::new()).await, Ok(false));
            least = least.min(start.elapsed());
        }
        least
    }

    #[tokio::test]
    async fn who_does_not_exist_is_answered_after_the_same_time() {
        let verifying = verifying();
        let hash = PasswordHash::of(&"correct horse".into()).unwrap();
        let (known, unknown) = (time_of(&verifying, Some(&hash)).await, time_of(&verifying, None).await);
        // Far apart, for a busy machine: without the work the answer takes microseconds.
        assert!(unknown > known / 5, "{known:?}, {unknown:?}");
    }

    #[tokio::test]
    async fn caller_that_leaves_is_charged_for_a_wrong_password_alone() {
        let verifying = verifying();
        let hash = PasswordHash::of(&"correct horse".into()).unwrap();
        let all = verifying.taken_in.available_permits();
        let start = Instant::now();
        let attempts = Attempts::new(Rate { burst: 2.0, period_s: 1e6 }, start);
        for (password, left) in [("correct horse", 2), ("correct hors", 1)] {
            let attempt = attempts.take("a", start).unwrap();
            let call = verifying.is_of("a", Some(hash.clone()), password.into(), vec![attempt]);
            // It has begun, and nobody waits for its end.
            tokio::time::timeout(Duration::from_millis(1), call).await.unwrap_err();
            while verifying.taken_in.available_permits() < all {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut there = Vec::new();
            while let Ok(attempt) = attempts.take("a", start) {
                there.push(attempt);
            }
            assert_eq!(there.len(), left, "{password}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_repeated() {
        for wrong in [
            "hunter2-in-clear",
            "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=2,p=1",
            "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=17,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=2,p=17$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo",
        ] {
            let error = PasswordHash::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains("expected") && !error.contains("hunter2"), "{error}");
        }
        assert!(matches!(PasswordHash::of(&"short".into()), Err(HashError::TooShort { characters: 5 })));
    }
}
