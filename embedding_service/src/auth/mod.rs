//! Who may use the service, and for what. Knows keys, passwords and tokens; nothing of gRPC or HTTP.
//!
//! - `scope`: what one may do;
//! - `api_key`, `password`, `token`: the three things one proves oneself with;
//! - `principals`, `file`, `live`: who there is, where that is written, and how changes are taken up;
//! - `attempts`: how often one may try;
//! - `refusal`: why somebody is not let in, and what is logged of it;
//! - `options`: whether anybody is asked.
//!
//! Invariants: no secret is in a log, an error or a `Debug`; secrets are compared in constant time; a token is good no longer
//! than the credential that it was given for, and allows no more; nothing is read from a stream whose credential is good no
//! more; who is refused a token is not told why; what strangers send keeps no right key and no right token out.

mod api_key;
mod attempts;
mod file;
mod hs256;
mod live;
mod options;
mod password;
mod principals;
mod refusal;
mod scope;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use crate::shutdown::Hangups;
use api_key::PREFIX;
pub use api_key::{ApiKey, KeyId};
use attempts::{Attempts, peer_of};
pub use file::{FileError, PrincipalsFile, Stamp};
use live::Live;
pub use options::{AuthMode, AuthOptions, Open, Unguarded};
use password::{Busy, Verifying};
pub use password::{HashError, PasswordHash};
use principals::KeyHolder;
pub use principals::{ChangeError, Key, Name, Principal, Principals, Time};
pub(crate) use refusal::Refusal;
use refusal::RefusalLog;
pub use scope::{Scope, Scopes, UnknownScope};
pub use token::SecretError;
use token::{BadToken, Claims, GivenFor, SECRET_VARIABLE, SecretOrigin, Tokens};

/// After which time a queue of passwords is worth another try.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Checks callers, and gives out tokens.
pub(crate) struct Auth {
    live: Arc<Live>,
    tokens: Tokens,
    secret_origin: SecretOrigin,
    token_lifetime: Duration,
    open: Vec<Open>,
    verifying: Verifying,
    /// Of passwords alone: nobody guesses a key, so whoever has one is never kept waiting.
    attempts_at_name: Arc<Attempts>,
    attempts_of_peer: Arc<Attempts>,
    refusals: RefusalLog,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The principal's name.
    pub name: String,
    /// What the credential allows.
    pub scopes: Scopes,
}

/// What somebody was let in with. To be looked at again where a call goes on for long.
#[derive(Clone)]
pub(crate) struct Pass {
    auth: Arc<Auth>,
    /// Who was let in.
    pub caller: Caller,
    proof: Proof,
}

/// A credential that was looked at, without its secret.
#[derive(Clone)]
enum Proof {
    Key { id: KeyId, name: String },
    Token(Claims),
}

/// Whose credential was refused, for the log.
pub(crate) enum Whose<'a> {
    /// What was sent, of which the log gets the public part at most.
    Credential(&'a str),
    /// A name that was sent, or is known.
    Name(&'a str),
}

impl Pass {
    /// Whether the credential is still good, and still allows that.
    pub(crate) fn check(&self, needed: Scope, what: &str) -> Result<(), Refusal> {
        let Caller { scopes, .. } = self.auth.holder(&self.proof, SystemTime::now())?;
        if scopes.allow(needed) {
            return Ok(());
        }
        Err(Refusal::NotAllowed { what: what.to_owned(), needed, has: scopes })
    }

    /// Who gave it.
    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }
}

/// What a token is asked for with.
#[derive(Clone)]
pub(crate) enum Credential {
    /// An API key.
    Key(SecretString),
    /// A user name and its password.
    Password {
        /// The principal's name.
        username: String,
        /// Its password.
        password: SecretString,
    },
}

/// A token.
pub(crate) struct Issued {
    /// To be sent as `authorization: Bearer …`.
    pub token: String,
    /// Seconds until its end.
    pub expires_in_s: u32,
    /// What it allows.
    pub scopes: Scopes,
}

/// Why authentication cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The principals.
    #[error("--auth-file: {0}")]
    File(#[from] FileError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The hash that passwords of nobody are compared with.
    #[error(transparent)]
    Hash(#[from] HashError),
}

impl Auth {
    /// Reads the file of principals and the secret. `None` where nobody is asked for a key.
    pub(crate) fn start(options: &AuthOptions) -> Result<Option<Arc<Self>>, AuthError> {
        let Some(path) = options.auth_file.as_ref().filter(|_| options.is_on()) else { return Ok(None) };
        let live = Live::open(PrincipalsFile::new(path.clone()))?;
        let (tokens, secret_origin) = Tokens::from_environment()?;
        let now = Instant::now();
        Ok(Some(Arc::new(Self {
            live: Arc::new(live),
            tokens,
            secret_origin,
            token_lifetime: Duration::from_secs(options.auth_token_s.into()),
            open: options.auth_open.clone(),
            verifying: Verifying::new()?,
            attempts_at_name: Attempts::new(attempts::OF_NAME, now),
            attempts_of_peer: Attempts::new(attempts::OF_PEER, now),
            refusals: RefusalLog::new(now),
        })))
    }

    /// Says to the log who may come in, and how long tokens live.
    pub(crate) fn announce(&self) {
        let (file, principals) = (self.live.file().path().display(), self.live.now());
        tracing::info!("callers need a key or a token: {file} has {}", principals.summary());
        match self.secret_origin {
            SecretOrigin::Environment => tracing::info!("tokens are signed with {SECRET_VARIABLE}"),
            SecretOrigin::Random => {
                tracing::info!(
                    "tokens are signed with a secret of this process and end with it; {SECRET_VARIABLE} is not set"
                );
            }
        }
        if principals.all().is_empty() {
            tracing::warn!("there is no principal, so nobody can come in: `vectron-embedding auth add-key NAME`");
        }
    }

    /// Takes changes of the file up. Never returns. Needs a runtime.
    pub(crate) async fn follow_file(&self, hangups: Hangups) {
        self.live.clone().follow(hangups).await;
    }

    /// Whether the file cannot be taken up, so that changes of it, revoked keys too, have no effect.
    pub(crate) fn is_stale(&self) -> bool {
        self.live.is_stale()
    }

    /// Whether nothing is asked for there.
    pub(crate) fn is_open(&self, what: Open) -> bool {
        self.open.contains(&what)
    }

    /// Who sends this key or token.
    pub(crate) fn pass(self: &Arc<Self>, credential: &str) -> Result<Pass, Refusal> {
        let now = SystemTime::now();
        let proof = if credential.starts_with(PREFIX) {
            let malformed =
                Refusal::Malformed { what: "the API key is not whole: expected vek_, an id, _, and 64 digits" };
            let key = ApiKey::read(credential).ok_or(malformed)?;
            let principals = self.live.now();
            let holder = principals.check(&key, now).map_err(|bad| bad.of(&key.id))?;
            Proof::Key { id: key.id, name: holder.name.as_str().to_owned() }
        } else {
            Proof::Token(self.tokens.check(credential).map_err(|bad| match bad {
                BadToken::Malformed => {
                    Refusal::Malformed { what: "expected an API key (vek_…) or a token, but it is neither" }
                }
                BadToken::Wrong => Refusal::WrongToken,
                BadToken::Expired => Refusal::TokenExpired,
            })?)
        };
        let caller = self.holder(&proof, now)?;
        Ok(Pass { auth: self.clone(), caller, proof })
    }

    /// Who holds what was proved, if it is good at `now`.
    fn holder(&self, proof: &Proof, now: SystemTime) -> Result<Caller, Refusal> {
        let principals = self.live.now();
        let claims = match proof {
            Proof::Key { id, name } => {
                let holder = principals.holder(id, now).map_err(|bad| bad.of(id))?;
                // A key may have gone over to somebody else.
                return if holder.name.as_str() == name { Ok(holder.into()) } else { Err(Refusal::WrongKey) };
            }
            Proof::Token(claims) => claims,
        };
        if claims.has_ended(now) {
            return Err(Refusal::TokenExpired);
        }
        let allowed = match &claims.given_for {
            GivenFor::Key(id) => {
                let holder = principals.holder(id, now).map_err(|_| Refusal::TokenRevoked)?;
                if holder.name.as_str() != claims.sub {
                    return Err(Refusal::TokenRevoked);
                }
                holder.scopes
            }
            GivenFor::Password(mark) => {
                let principal = principals.get(&claims.sub).ok_or(Refusal::TokenRevoked)?;
                if principal.password.as_ref().is_none_or(|hash| hash.mark() != *mark) {
                    return Err(Refusal::TokenRevoked);
                }
                principal.scopes
            }
        };
        Ok(Caller { name: claims.sub.clone(), scopes: claims.scopes.and(allowed) })
    }

    /// Tells that somebody was refused: a line of the log, unless there were many of late. `reason`: the refusal's code.
    pub(crate) fn tell_refused(&self, reason: &'static str, whose: &Whose<'_>, peer: Option<IpAddr>) {
        let Some(kept_back) = self.refusals.next_line(Instant::now()) else { return };
        let whose = match whose {
            Whose::Credential(text) => match ApiKey::read(text) {
                Some(key) => format!("the key {}", key.id),
                None if text.is_empty() => "no credential".to_owned(),
                None => "a key or token".to_owned(),
            },
            // A name that nobody has may be a password at the wrong place.
            Whose::Name(name) if self.live.now().get(name).is_some() => format!("the principal {name}"),
            Whose::Name(_) => "a name that no principal has".to_owned(),
        };
        let from = peer.map_or_else(|| "an address that is not known".to_owned(), |address| address.to_string());
        let more = if kept_back == 0 { String::new() } else { format!("; {kept_back} before it were not logged") };
        tracing::warn!("refused {whose} from {from}: {reason}{more}");
    }

    /// A token for the scopes that are `asked` for (none: all that the credential allows). `peer`: who asks, where that is
    /// known.
    pub(crate) async fn issue(
        &self,
        credential: Credential,
        asked: Scopes,
        peer: Option<IpAddr>,
    ) -> Result<Issued, Refusal> {
        match credential {
            Credential::Key(key) => self.issue_for_key(&key, asked),
            Credential::Password { username, password } => {
                self.issue_for_password(&username, password, asked, peer).await
            }
        }
    }

    /// Without a limit of attempts: checking costs less than refusing, and 256 random bits are not guessed.
    fn issue_for_key(&self, key: &SecretString, asked: Scopes) -> Result<Issued, Refusal> {
        let key = ApiKey::read(key.expose_secret()).ok_or(Refusal::WrongCredential)?;
        let now = SystemTime::now();
        let principals = self.live.now();
        let holder = principals.check(&key, now).map_err(|_| Refusal::WrongCredential)?;
        let left = holder.expires.map(|expires| expires.get().duration_since(now).unwrap_or_default());
        let lifetime = left.map_or(self.token_lifetime, |left| left.min(self.token_lifetime));
        self.make(Caller::from(holder), asked, GivenFor::Key(key.id), lifetime, now)
    }

    async fn issue_for_password(
        &self,
        username: &str,
        password: SecretString,
        asked: Scopes,
        peer: Option<IpAddr>,
    ) -> Result<Issued, Refusal> {
        let now = Instant::now();
        let limited = |retry_after| Refusal::TooManyAttempts { retry_after };
        let mut attempts = vec![self.attempts_at_name.take(username, now).map_err(limited)?];
        if let Some(peer) = peer.and_then(peer_of) {
            attempts.push(self.attempts_of_peer.take(peer, now).map_err(limited)?);
        }
        let principals = self.live.now();
        let principal = principals.get(username);
        let hash = principal.and_then(|principal| principal.password.clone());
        let verified = self.verifying.is_of(username, hash.clone(), password, attempts).await;
        let is_right = verified.map_err(|Busy| limited(BUSY_RETRY))?;
        let (Some(principal), Some(hash), true) = (principal, hash, is_right) else {
            return Err(Refusal::WrongCredential);
        };
        let caller = Caller { name: principal.name.as_str().to_owned(), scopes: principal.scopes };
        self.make(caller, asked, GivenFor::Password(hash.mark()), self.token_lifetime, SystemTime::now())
    }

    fn make(
        &self,
        caller: Caller,
        asked: Scopes,
        given_for: GivenFor,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        let Caller { name, scopes: has } = caller;
        if !has.cover(asked) {
            return Err(Refusal::MoreScopes { has, asked });
        }
        let granted = if asked.is_empty() { has } else { asked };
        let token = self.tokens.make(&name, granted, given_for, now, lifetime).map_err(|error| {
            tracing::error!("no token could be made for {name}: {error}");
            Refusal::Internal
        })?;
        tracing::debug!("{name} was given a token for `{granted}`, good for {} s", lifetime.as_secs());
        Ok(Issued { token, expires_in_s: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX), scopes: granted })
    }
}

impl From<KeyHolder<'_>> for Caller {
    fn from(holder: KeyHolder<'_>) -> Self {
        Self { name: holder.name.as_str().to_owned(), scopes: holder.scopes }
    }
}
