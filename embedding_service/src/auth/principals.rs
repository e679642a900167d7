//! Who may come in: principals, each with scopes, keys and perhaps a password. As TOML:
//!
//! ```toml
//! [[principal]]
//! name = "search-frontend"
//! scopes = ["embed", "models:read"]
//! password = "$argon2id$v=19$…"         # optional
//!
//! [[principal.key]]
//! id = "0123456789abcdef"
//! sha256 = "…"                          # of the whole key
//! created = "2026-01-31T12:00:00Z"
//! expires = "2026-05-01T12:00:00Z"      # optional
//! revoked = "2026-02-03T09:00:00Z"      # optional
//! scopes = ["embed"]                    # optional: less than the principal's
//! ```
//!
//! Invariants: names and ids are unique. What is wrong is told with its line; the line itself is not repeated, for somebody
//! may have written a secret into it.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::api_key::{ApiKey, KeyDigest, KeyId, NoRandomness};
use super::password::PasswordHash;
use super::refusal::Refusal;
use super::scope::{Scope, Scopes};
use crate::told::line_of;

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;

/// How long a key may be good, unless it is good until it is revoked: 100 years.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Everybody who may come in.
#[derive(Debug, Default)]
pub struct Principals {
    all: Vec<Principal>,
    /// Where a key is in `all`: its principal, and which one of that one's.
    by_key: HashMap<KeyId, (usize, usize)>,
    /// Whether the file was read that says nothing of principals, not even that there is none.
    is_nobody_by_omission: bool,
}

/// One who may come in: a person, or a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// 1 to 64 bytes of `A-Z a-z 0-9 . _ @ -`.
    pub name: Name,
    /// What it may do.
    pub scopes: Scopes,
    /// The hash of its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordHash>,
    /// Its keys, also those that are no longer good.
    #[serde(default, rename = "key", skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Key>,
}

/// What is known of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its public part.
    pub id: KeyId,
    sha256: KeyDigest,
    /// When it was made.
    pub created: Time,
    /// Until when it is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// Since when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Time>,
    /// Less than the principal may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Scopes>,
}

/// The name of a principal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// A moment, in whole seconds; written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(SystemTime);

/// Why a key is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadKey {
    /// Nobody's, or with a wrong secret.
    Wrong,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

impl BadKey {
    /// What its sender is told, who has the whole key.
    pub(crate) fn of(self, id: &KeyId) -> Refusal {
        match self {
            Self::Wrong => Refusal::WrongKey,
            Self::Revoked => Refusal::KeyRevoked { id: id.clone() },
            Self::Expired => Refusal::KeyExpired { id: id.clone() },
        }
    }
}

/// Who has proved itself with a key.
#[derive(Clone, Debug)]
pub(crate) struct KeyHolder<'a> {
    /// The principal.
    pub name: &'a Name,
    /// What the key allows.
    pub scopes: Scopes,
    /// Until when it is good.
    pub expires: Option<Time>,
}

/// Why principals cannot be changed so.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A key without scopes is of no use.
    #[error("--scopes: expected one or more")]
    NoScopes,
    /// A key cannot do more than its principal.
    #[error("{name} may do `{has}`: a key cannot have `{asked}`; `auth set-scopes` lets the principal do more")]
    MoreScopes {
        /// Of whom.
        name: String,
        /// What it may do.
        has: Scopes,
        /// What was asked for.
        asked: Scopes,
    },
    /// The principal is there already, with other scopes.
    #[error("{name} is there already and may do `{has}`; `auth set-scopes` changes that")]
    IsThere {
        /// Of whom.
        name: String,
        /// What it may do.
        has: Scopes,
    },
    /// There is no such key.
    #[error("there is no key {id}; `auth list` shows all")]
    NoKey {
        /// The id.
        id: KeyId,
    },
    /// There is no such principal.
    #[error("there is no principal {name}; `auth list` shows all")]
    NoPrincipal {
        /// Its name.
        name: Name,
    },
    /// There is nothing to remove.
    #[error("{name} has no password")]
    NoPassword {
        /// Whose.
        name: Name,
    },
    /// It would outlive everybody.
    #[error("--expires: a key is good for at most 100 years; without --expires, until it is revoked")]
    TooLong,
    /// The key was revoked before.
    #[error("the key {id} was revoked at {at}")]
    RevokedBefore {
        /// The id.
        id: KeyId,
        /// When.
        at: Time,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "principal")]
    principals: Option<Vec<Principal>>,
}

impl Principals {
    /// Reads TOML, or says what is wrong with it and where.
    pub fn read(text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| {
            // Not the error as a whole: it repeats the line.
            let line = line_of(text.as_bytes(), error.span().unwrap_or_default().start);
            format!("line {line}: {}", without_values(error.message()))
        })?;
        let is_nobody_by_omission = written.principals.is_none();
        Ok(Self { is_nobody_by_omission, ..Self::of(written.principals.unwrap_or_default())? })
    }

    fn of(all: Vec<Principal>) -> Result<Self, String> {
        let mut by_key = HashMap::new();
        for (index, principal) in all.iter().enumerate() {
            if all[..index].iter().any(|other| other.name == principal.name) {
                return Err(format!("the principal {} is there twice", principal.name));
            }
            for (key_index, key) in principal.keys.iter().enumerate() {
                if by_key.insert(key.id.clone(), (index, key_index)).is_some() {
                    return Err(format!("the key {} is there twice", key.id));
                }
            }
        }
        Ok(Self { all, by_key, is_nobody_by_omission: false })
    }

    /// As TOML.
    pub fn write(&self) -> Result<String, toml::ser::Error> {
        let text = toml::to_string(&Written { principals: Some(self.all.clone()) })?;
        Ok(format!(
            "# Who may use the embedding service. Changed by `vectron-embedding auth`, which does not keep comments,\n\
             # or by hand; a running service takes changes up by itself.\n\n{text}"
        ))
    }

    /// How many there are, for the log.
    pub(crate) fn summary(&self) -> String {
        let passwords = self.all.iter().filter(|principal| principal.password.is_some()).count();
        format!("{} principals, {} keys, {passwords} passwords", self.all.len(), self.by_key.len())
    }

    /// Whether there is nobody because the file says nothing: it may be empty, or cut off. `principal = []` says it.
    pub(crate) fn is_nobody_by_omission(&self) -> bool {
        self.is_nobody_by_omission
    }

    /// Everybody, in the order of the file.
    pub fn all(&self) -> &[Principal] {
        &self.all
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Principal> {
        self.all.iter().find(|principal| principal.name.0 == name)
    }

    /// Whose key it is, if it is good at `now`.
    pub(crate) fn check(&self, key: &ApiKey, now: SystemTime) -> Result<KeyHolder<'_>, BadKey> {
        let (_, known) = self.find(&key.id).ok_or(BadKey::Wrong)?;
        // Before anything is said of it: who has only seen the id learns nothing.
        if !known.sha256.is_of(key) {
            return Err(BadKey::Wrong);
        }
        self.holder(&key.id, now)
    }

    /// Whose key has this id, if it is good at `now`. For those who have proved themselves with it before.
    pub(crate) fn holder(&self, id: &KeyId, now: SystemTime) -> Result<KeyHolder<'_>, BadKey> {
        let (principal, key) = self.find(id).ok_or(BadKey::Wrong)?;
        if key.revoked.is_some() {
            return Err(BadKey::Revoked);
        }
        if key.expires.is_some_and(|expires| expires.0 <= now) {
            return Err(BadKey::Expired);
        }
        let scopes = key.scopes.map_or(principal.scopes, |scopes| scopes.and(principal.scopes));
        Ok(KeyHolder { name: &principal.name, scopes, expires: key.expires })
    }

    fn find(&self, id: &KeyId) -> Option<(&Principal, &Key)> {
        let (principal, key) = *self.by_key.get(id)?;
        Some((&self.all[principal], &self.all[principal].keys[key]))
    }

    /// Makes a key. Where there is no principal of this name yet, it is made with the scopes (default: `embed` and
    /// `models:read`); else they are those of the key alone.
    pub fn add_key(
        &mut self,
        name: Name,
        scopes: Option<Scopes>,
        lifetime: Option<Duration>,
        now: SystemTime,
    ) -> Result<ApiKey, ChangeError> {
        if scopes.is_some_and(Scopes::is_empty) {
            return Err(ChangeError::NoScopes);
        }
        if lifetime.is_some_and(|lifetime| lifetime > LIFETIME_MAX) {
            return Err(ChangeError::TooLong);
        }
        let index = match self.all.iter().position(|principal| principal.name == name) {
            Some(index) => {
                let (has, asked) = (self.all[index].scopes, scopes.unwrap_or_default());
                if !has.cover(asked) {
                    return Err(ChangeError::MoreScopes { name: name.0, has, asked });
                }
                index
            }
            None => {
                self.add(name, scopes);
                self.all.len() - 1
            }
        };
        let principal = &mut self.all[index];
        let secret = ApiKey::generate()?;
        let key = Key {
            id: secret.id.clone(),
            sha256: secret.digest(),
            created: now.into(),
            expires: lifetime.map(|lifetime| (now + lifetime).into()),
            revoked: None,
            // Also where they are the principal's own today: what was asked for does not grow with that.
            scopes,
        };
        self.by_key.insert(key.id.clone(), (index, principal.keys.len()));
        principal.keys.push(key);
        Ok(secret)
    }

    /// Ends a key, whose entry stays.
    pub fn revoke(&mut self, id: &KeyId, now: SystemTime) -> Result<(), ChangeError> {
        let (principal, key) = *self.by_key.get(id).ok_or_else(|| ChangeError::NoKey { id: id.clone() })?;
        let key = &mut self.all[principal].keys[key];
        if let Some(at) = key.revoked {
            return Err(ChangeError::RevokedBefore { id: id.clone(), at });
        }
        key.revoked = Some(now.into());
        Ok(())
    }

    /// Sets a password. Where there is no principal of this name yet, it is made with the scopes.
    pub fn set_password(&mut self, name: Name, hash: PasswordHash, scopes: Option<Scopes>) -> Result<(), ChangeError> {
        if scopes.is_some_and(Scopes::is_empty) {
            return Err(ChangeError::NoScopes);
        }
        let index = match self.all.iter().position(|principal| principal.name == name) {
            Some(index) => {
                let has = self.all[index].scopes;
                if scopes.is_some_and(|scopes| scopes != has) {
                    return Err(ChangeError::IsThere { name: name.0, has });
                }
                index
            }
            None => {
                self.add(name, scopes);
                self.all.len() - 1
            }
        };
        self.all[index].password = Some(hash);
        Ok(())
    }

    /// Takes a password away, and with it the tokens that were given for it.
    pub fn remove_password(&mut self, name: &Name) -> Result<(), ChangeError> {
        let index = self.index(name)?;
        match self.all[index].password.take() {
            Some(_) => Ok(()),
            None => Err(ChangeError::NoPassword { name: name.clone() }),
        }
    }

    /// Says what a principal may do from now on. Keys with scopes of their own get no more than those.
    pub fn set_scopes(&mut self, name: &Name, scopes: Scopes) -> Result<(), ChangeError> {
        if scopes.is_empty() {
            return Err(ChangeError::NoScopes);
        }
        let index = self.index(name)?;
        self.all[index].scopes = scopes;
        Ok(())
    }

    /// Removes a principal with its password and its keys, of which nothing stays.
    pub fn remove(&mut self, name: &Name) -> Result<(), ChangeError> {
        let gone = self.index(name)?;
        self.all.remove(gone);
        self.by_key.retain(|_, (principal, _)| *principal != gone);
        for (principal, _) in self.by_key.values_mut() {
            if *principal > gone {
                *principal -= 1;
            }
        }
        Ok(())
    }

    fn index(&self, name: &Name) -> Result<usize, ChangeError> {
        let index = self.all.iter().position(|principal| principal.name == *name);
        index.ok_or_else(|| ChangeError::NoPrincipal { name: name.clone() })
    }

    fn add(&mut self, name: Name, scopes: Option<Scopes>) {
        let scopes = scopes.unwrap_or_else(|| Scopes::from_iter([Scope::Embed, Scope::ModelsRead]));
        self.all.push(Principal { name, scopes, password: None, keys: Vec::new() });
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
            return Err(format!(
                "the name of a principal: expected 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ @ -, got {} bytes",
                name.len()
            ));
        }
        Ok(Self(name))
    }
}

impl Name {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Time {
    /// The moment.
    pub fn get(self) -> SystemTime {
        self.0
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs()))
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let time = humantime::parse_rfc3339(&text)
            .map_err(|_| format!("expected a time such as 2026-01-31T12:00:00Z, got {} bytes", text.len()))?;
        Ok(time.into())
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        humantime::format_rfc3339_seconds(time.0).to_string()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.0).fmt(formatter)
    }
}

/// What is told of an error of the file. Our own messages repeat nothing of it; those of the parser do, and are replaced.
fn without_values(message: &str) -> String {
    const OURS: [&str; 2] = ["expected ", "the "];
    // These name fields of ours.
    const OF_FIELDS: [&str; 2] = ["missing field `", "duplicate field `"];
    // What serde has read stands before what it expected, which are words of ours: the last ones.
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| expected);
    match (message, expected) {
        _ if OURS.iter().chain(&OF_FIELDS).any(|start| message.starts_with(start)) => message.to_owned(),
        _ if message.starts_with("unknown field") => {
            format!("a field that there is not: expected {}", expected.unwrap_or("none"))
        }
        (_, Some(expected)) if message.starts_with("invalid ") => format!("a wrong value: expected {expected}"),
        _ => "not TOML, or not whole".to_owned(),
    }
}

#[cfg(test)]
mod tests;
