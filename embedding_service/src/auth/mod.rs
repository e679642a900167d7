//! Who may use the service, and for what. Knows keys, passwords and tokens; nothing of gRPC or HTTP.
//!
//! - `scope`: what one may do;
//! - `api_key`, `password`, `token`: the three things one proves oneself with;
//! - `principals`, `file`, `live`: who there is, where that is written, and how changes are taken up;
//! - `attempts`: how often one may try;
//! - `options`: whether anybody is asked.
//!
//! Invariants: no secret is in a log, an error or a `Debug`; secrets are compared in constant time; a token is good no longer
//! than the credential that it was given for, and allows no more; who is refused a token is not told why.

mod api_key;
mod attempts;
mod file;
mod hs256;
mod live;
mod options;
mod password;
mod principals;
mod scope;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use crate::shutdown::Hangups;
use api_key::PREFIX;
pub use api_key::{ApiKey, KeyId};
use attempts::Attempts;
pub use file::{FileError, PrincipalsFile};
use live::Live;
pub use options::{AuthMode, AuthOptions, Open, Unguarded, is_local};
use password::{Busy, Verifying};
pub use password::{HashError, PasswordHash};
use principals::{BadKey, KeyHolder};
pub use principals::{ChangeError, Key, Name, Principal, Principals, Time};
pub use scope::{Scope, Scopes, UnknownScope};
use token::{BadToken, SecretOrigin, Tokens};
pub use token::{SECRET_VARIABLE, SecretError};

/// After which time a queue of passwords is worth another try.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Checks callers, and gives out tokens.
pub struct Auth {
    live: Arc<Live>,
    tokens: Tokens,
    secret_origin: SecretOrigin,
    token_lifetime: Duration,
    open: Vec<Open>,
    verifying: Verifying,
    /// Apart, so that who guesses passwords keeps nobody from changing a key for a token.
    password_attempts: Attempts,
    key_attempts: Attempts,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal's name.
    pub name: String,
    /// What the credential allows.
    pub scopes: Scopes,
}

/// What a token is asked for with.
pub enum Credential {
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
pub struct Issued {
    /// To be sent as `authorization: Bearer …`.
    pub token: String,
    /// Seconds until its end.
    pub expires_in_s: u32,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
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

/// Why authentication cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The principals.
    #[error("--auth-file: {0}")]
    File(#[from] FileError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Auth {
    /// Reads the file of principals and the secret. `None` where nobody is asked for a key.
    pub fn start(options: &AuthOptions) -> Result<Option<Arc<Self>>, AuthError> {
        let Some(path) = options.auth_file.as_ref().filter(|_| options.is_on()) else { return Ok(None) };
        let live = Live::open(PrincipalsFile::new(path.clone()))?;
        let (tokens, secret_origin) = Tokens::from_environment()?;
        let attempts = || Attempts::new(attempts::OF_ONE, attempts::OF_ALL, Instant::now());
        Ok(Some(Arc::new(Self {
            live: Arc::new(live),
            tokens,
            secret_origin,
            token_lifetime: Duration::from_secs(options.auth_token_s.into()),
            open: options.auth_open.clone(),
            verifying: Verifying::new(),
            password_attempts: attempts(),
            key_attempts: attempts(),
        })))
    }

    /// Says to the log who may come in, and how long tokens live.
    pub fn announce(&self) {
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
    pub async fn follow_file(&self, hangups: Hangups) {
        self.live.clone().follow(hangups).await;
    }

    /// Whether nothing is asked for there.
    pub fn is_open(&self, what: Open) -> bool {
        self.open.contains(&what)
    }

    /// Who sends this key or token.
    pub fn caller(&self, credential: &str) -> Result<Caller, Refusal> {
        let now = SystemTime::now();
        if credential.starts_with(PREFIX) {
            let malformed =
                Refusal::Malformed { what: "the API key is not whole: expected vek_, an id, _, and 64 digits" };
            let key = ApiKey::read(credential).ok_or(malformed)?;
            let principals = self.live.now();
            return principals.check(&key, now).map(Caller::from).map_err(|bad| match bad {
                BadKey::Wrong => Refusal::WrongKey,
                BadKey::Revoked => Refusal::KeyRevoked { id: key.id },
                BadKey::Expired => Refusal::KeyExpired { id: key.id },
            });
        }
        self.holder_of_token(credential, now)
    }

    fn holder_of_token(&self, token: &str, now: SystemTime) -> Result<Caller, Refusal> {
        let claims = self.tokens.check(token).map_err(|bad| match bad {
            BadToken::Malformed => {
                Refusal::Malformed { what: "expected an API key (vek_…) or a token, but it is neither" }
            }
            BadToken::Wrong => Refusal::WrongToken,
            BadToken::Expired => Refusal::TokenExpired,
        })?;
        let principals = self.live.now();
        let granted = Scopes::read(claims.scope.split_whitespace()).map_err(|_| Refusal::WrongToken)?;
        let allowed = match claims.credential.split_once(':') {
            Some(("key", id)) => {
                let id = KeyId::try_from(id.to_owned()).map_err(|_| Refusal::WrongToken)?;
                let holder = principals.holder(&id, now).map_err(|_| Refusal::TokenRevoked)?;
                // A key may have gone over to somebody else.
                if holder.name.as_str() != claims.sub {
                    return Err(Refusal::TokenRevoked);
                }
                holder.scopes
            }
            Some(("password", mark)) => {
                let principal = principals.get(&claims.sub).ok_or(Refusal::TokenRevoked)?;
                if principal.password.as_ref().is_none_or(|hash| hash.mark() != mark) {
                    return Err(Refusal::TokenRevoked);
                }
                principal.scopes
            }
            _ => return Err(Refusal::WrongToken),
        };
        Ok(Caller { name: claims.sub, scopes: granted.and(allowed) })
    }

    /// A token for the scopes that are `asked` for (none: all that the credential allows).
    pub async fn issue(&self, credential: Credential, asked: Scopes) -> Result<Issued, Refusal> {
        match credential {
            Credential::Key(key) => self.issue_for_key(&key, asked),
            Credential::Password { username, password } => self.issue_for_password(&username, password, asked).await,
        }
    }

    fn issue_for_key(&self, key: &SecretString, asked: Scopes) -> Result<Issued, Refusal> {
        let key = ApiKey::read(key.expose_secret());
        let name = key.as_ref().map_or("", |key| key.id.as_str());
        take(&self.key_attempts, name)?;
        let now = SystemTime::now();
        let principals = self.live.now();
        let (Some(key), Some(Ok(holder))) = (&key, key.as_ref().map(|key| principals.check(key, now))) else {
            return Err(Refusal::WrongCredential);
        };
        self.key_attempts.give_back(name);
        let left = holder.expires.map(|expires| expires.get().duration_since(now).unwrap_or_default());
        let lifetime = left.map_or(self.token_lifetime, |left| left.min(self.token_lifetime));
        self.make(Caller::from(holder), asked, format!("key:{}", key.id), lifetime, now)
    }

    async fn issue_for_password(
        &self,
        username: &str,
        password: SecretString,
        asked: Scopes,
    ) -> Result<Issued, Refusal> {
        take(&self.password_attempts, username)?;
        let principals = self.live.now();
        let principal = principals.get(username);
        let hash = principal.and_then(|principal| principal.password.clone());
        let is_right = match self.verifying.is_of(hash.clone(), password).await {
            Ok(is_right) => is_right,
            Err(Busy) => {
                // It was not tried.
                self.password_attempts.give_back(username);
                return Err(Refusal::TooManyAttempts { retry_after: BUSY_RETRY });
            }
        };
        let (Some(principal), Some(hash), true) = (principal, hash, is_right) else {
            return Err(Refusal::WrongCredential);
        };
        self.password_attempts.give_back(username);
        let caller = Caller { name: principal.name.as_str().to_owned(), scopes: principal.scopes };
        self.make(caller, asked, format!("password:{}", hash.mark()), self.token_lifetime, SystemTime::now())
    }

    fn make(
        &self,
        caller: Caller,
        asked: Scopes,
        credential: String,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, Refusal> {
        let Caller { name, scopes: has } = caller;
        if !has.cover(asked) {
            return Err(Refusal::MoreScopes { has, asked });
        }
        let granted = if asked.is_empty() { has } else { asked };
        let token = self.tokens.make(&name, granted.to_string(), credential, now, lifetime).map_err(|error| {
            tracing::error!("no token could be made for {name}: {error}");
            Refusal::Internal
        })?;
        tracing::debug!("{name} was given a token for `{granted}`");
        Ok(Issued { token, expires_in_s: u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX) })
    }
}

fn take(attempts: &Attempts, name: &str) -> Result<(), Refusal> {
    attempts.take(name, Instant::now()).map_err(|retry_after| Refusal::TooManyAttempts { retry_after })
}

impl From<KeyHolder<'_>> for Caller {
    fn from(holder: KeyHolder<'_>) -> Self {
        Self { name: holder.name.as_str().to_owned(), scopes: holder.scopes }
    }
}
