//! The key of a provider: read from the environment, shown to nobody but the provider.

use std::{env, fmt};

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// What stands in the place of a key.
const HIDDEN: &str = "***";

/// A key, and where it comes from. Its memory is wiped when it is dropped.
pub(crate) struct Key {
    variable: String,
    secret: SecretString,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyProblem {
    #[error("the environment variable {variable} is not set; set it, or write it into .env, and start again")]
    NotSet { variable: String },
    #[error("the environment variable {variable} holds characters that no key has")]
    NoKey { variable: String },
}

impl Key {
    /// The key that the environment variable holds. One that is empty is not set.
    pub(super) fn from_environment(variable: &str) -> Result<Self, KeyProblem> {
        let held = env::var_os(variable).unwrap_or_default();
        match held.to_str().map(str::trim) {
            Some("") => Err(KeyProblem::NotSet { variable: variable.to_owned() }),
            Some(secret) if secret.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self::new(variable, secret)),
            _ => Err(KeyProblem::NoKey { variable: variable.to_owned() }),
        }
    }

    pub(super) fn new(variable: &str, secret: &str) -> Self {
        Self { variable: variable.to_owned(), secret: secret.into() }
    }

    /// Where it comes from.
    pub(super) fn variable(&self) -> &str {
        &self.variable
    }

    /// As the header `authorization` has it; marked, so that what logs headers leaves it out.
    pub(super) fn header(&self) -> HeaderValue {
        let header = format!("Bearer {}", self.secret.expose_secret());
        let mut header = HeaderValue::try_from(header).expect("a key has visible characters only");
        header.set_sensitive(true);
        header
    }

    /// The text without the key, should it repeat it.
    pub(super) fn hide_in(&self, text: &str) -> String {
        text.replace(self.secret.expose_secret(), HIDDEN)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("variable", &self.variable).field("secret", &HIDDEN).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_hidden_wherever_it_could_be_printed() {
        let key = Key::new("SOME_KEY", "sk-1234");
        assert_eq!(format!("{key:?}"), r#"Key { variable: "SOME_KEY", secret: "***" }"#);
        assert_eq!(format!("{:?}", key.header()), "Sensitive");
        assert_eq!(key.header().to_str().unwrap(), "Bearer sk-1234");
        assert_eq!(key.hide_in("no: sk-1234!"), "no: ***!");
    }

    #[test]
    fn variable_that_is_not_set_is_named() {
        let problem = Key::from_environment("VECTRON_NOBODY_SETS_THIS").unwrap_err();
        assert!(problem.to_string().contains("VECTRON_NOBODY_SETS_THIS is not set"), "{problem}");
    }
}
