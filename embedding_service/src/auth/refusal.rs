//! Why somebody is not let in, and what is told of it to whoever runs the service.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::api_key::KeyId;
use super::attempts::{Bucket, Rate};
use super::scope::{Scope, Scopes, UnknownScope};

/// Lines of the log: enough to see who it is, not enough to fill a disk with.
const LINES: Rate = Rate { burst: 20.0, period_s: 1.0 };

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nothing was sent.
    #[error("expected a key or a token, as `authorization: Bearer …` or `x-api-key: …`, but neither came")]
    Missing,
    /// What was sent has not the form of a key or a token.
    #[error("{what}")]
    Malformed {
        /// What was expected and what came.
        what: &'static str,
    },
    /// Nobody's key.
    #[error("there is no such API key")]
    WrongKey,
    /// A key that was good once.
    #[error("the API key {id} was revoked")]
    KeyRevoked {
        /// Which one.
        id: KeyId,
    },
    /// A key that was good once.
    #[error("the API key {id} has expired")]
    KeyExpired {
        /// Which one.
        id: KeyId,
    },
    /// No token of this service.
    #[error("the token is none of this service: its signature, or what it says, is wrong")]
    WrongToken,
    /// A token that was good once.
    #[error("the token has expired; get a new one from POST /auth/token")]
    TokenExpired,
    /// The credential of a token is good no more.
    #[error("the token has ended with the key or the password that it was given for")]
    TokenRevoked,
    /// Let in, but not for this.
    #[error("{what} needs the scope `{}`, and the credential has `{has}`", needed.name())]
    NotAllowed {
        /// What was called.
        what: String,
        /// What it needs.
        needed: Scope,
        /// What the credential has.
        has: Scopes,
    },
    /// No token: one message for all causes.
    #[error("expected a good API key, or a user name with its password")]
    WrongCredential,
    /// No token for these scopes.
    #[error("scopes: the credential allows `{has}`, and more was asked for: `{asked}`")]
    MoreScopes {
        /// What there may be.
        has: Scopes,
        /// What was asked for.
        asked: Scopes,
    },
    /// No token for what is no scope.
    #[error("scopes: {0}")]
    UnknownScope(#[from] UnknownScope),
    /// Too many have tried.
    #[error("too many attempts; try again in {} s", retry_after.as_secs_f64().ceil())]
    TooManyAttempts {
        /// When.
        retry_after: Duration,
    },
    /// There are no tokens here.
    #[error("this port asks nobody for a key, so there are no tokens to be had; --auth-file would turn that on")]
    Off,
    /// Our own mistake.
    #[error("the service made a mistake: no token could be made; its log has more")]
    Internal,
}

/// Lines about refusals, as many as may be.
pub(super) struct RefusalLog {
    /// What is left, and how many were kept back since the last line. A lock, held for some arithmetic.
    lines: Mutex<(Bucket, u64)>,
}

impl RefusalLog {
    pub(super) fn new(now: Instant) -> Self {
        Self { lines: Mutex::new((Bucket::full(LINES, now), 0)) }
    }

    /// Whether there may be another line at `now`, and then how many there were not before it.
    pub(super) fn next_line(&self, now: Instant) -> Option<u64> {
        let (bucket, kept_back) = &mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(LINES, now).is_err() {
            *kept_back += 1;
            return None;
        }
        Some(std::mem::take(kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_and_tell_how_many_there_were_not() {
        let start = Instant::now();
        let log = RefusalLog::new(start);
        let lines: Vec<Option<u64>> = (0..50).map(|_| log.next_line(start)).collect();
        assert!(lines[..20].iter().all(|line| *line == Some(0)) && lines[20..].iter().all(Option::is_none));
        assert_eq!(log.next_line(start + Duration::from_secs(1)), Some(30));
    }
}
