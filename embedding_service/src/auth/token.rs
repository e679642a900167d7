//! Access tokens: JWTs (RFC 7519), signed with HS256, that say who holds them, what for, until when, and which credential
//! they were given for. Whether that one is still good is for `Auth` to look up: a token ends with its key.

use std::env;
use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};

use super::api_key::{KeyId, NoRandomness, random};
use super::hs256;
use super::password::Mark;
use super::scope::Scopes;

/// The environment variable that holds the secret.
pub(super) const SECRET_VARIABLE: &str = "VECTRON_JWT_SECRET";
/// Bytes of a secret: RFC 7518 §3.2 wants as many as the hash has.
pub(super) const SECRET_BYTES_MIN: usize = 32;
const ISSUER: &str = "vectron-embedding";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    /// Who made it.
    iss: String,
    /// The principal.
    pub sub: String,
    /// When it was made, in seconds since 1970.
    iat: u64,
    /// Until when it is good.
    exp: u64,
    /// What it was given for; written with spaces between.
    #[serde(rename = "scope", with = "spaced")]
    pub scopes: Scopes,
    /// The credential that it was given for.
    #[serde(rename = "credential")]
    pub given_for: GivenFor,
}

/// The credential that a token was given for. Written as `key:<id>`, or `password:<mark of its hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GivenFor {
    /// An API key.
    Key(KeyId),
    /// The password of this hash.
    Password(Mark),
}

impl Claims {
    /// Whether its time is over at `now`.
    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        self.exp < seconds(now)
    }
}

impl TryFrom<String> for GivenFor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("key", id)) => KeyId::try_from(id.to_owned()).map(Self::Key),
            Some(("password", mark)) => Mark::try_from(mark).map(Self::Password),
            _ => Err(format!("a credential: expected key:<id> or password:<mark>, got {} bytes", text.len())),
        }
    }
}

impl From<GivenFor> for String {
    fn from(given_for: GivenFor) -> Self {
        match given_for {
            GivenFor::Key(id) => format!("key:{id}"),
            GivenFor::Password(mark) => format!("password:{mark}"),
        }
    }
}

/// Scopes with spaces between, as OAuth writes them.
mod spaced {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Scopes;

    pub(super) fn serialize<S: Serializer>(scopes: &Scopes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(scopes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scopes, D::Error> {
        let names = String::deserialize(deserializer)?;
        Scopes::read(names.split_whitespace()).map_err(de::Error::custom)
    }
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It has not the form of one.
    Malformed,
    /// It is not signed by us with HS256, or says what ours do not.
    Wrong,
    /// Its time is over.
    Expired,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is too short.
    #[error(
        "{SECRET_VARIABLE} has {bytes} bytes: expected {SECRET_BYTES_MIN} or more; `openssl rand -hex 32` makes one, and \
         without it one is made at each start"
    )]
    TooShort {
        /// How many it has.
        bytes: usize,
    },
    /// None can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Makes and checks tokens.
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// Where the secret comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretOrigin {
    /// The environment: tokens outlive the process, and are good for all processes with this secret.
    Environment,
    /// Made for this process: tokens end with it.
    Random,
}

impl Tokens {
    /// With the secret of the environment, or one of this process's own.
    pub(super) fn from_environment() -> Result<(Self, SecretOrigin), SecretError> {
        match env::var_os(SECRET_VARIABLE) {
            Some(secret) if !secret.is_empty() => {
                let secret = SecretSlice::from(secret.into_encoded_bytes());
                Ok((Self::new(secret.expose_secret())?, SecretOrigin::Environment))
            }
            _ => Ok((Self::new(&random::<SECRET_BYTES_MIN>()?)?, SecretOrigin::Random)),
        }
    }

    fn new(secret: &[u8]) -> Result<Self, SecretError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(SecretError::TooShort { bytes: secret.len() });
        }
        hs256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // None: it would let expired tokens in, and what makes them checks them.
        validation.leeway = 0;
        validation.validate_aud = false;
        let (encoding, decoding) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Ok(Self { encoding, decoding, validation })
    }

    /// A token, good from `now` for `lifetime`.
    pub(super) fn make(
        &self,
        subject: &str,
        scopes: Scopes,
        given_for: GivenFor,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = seconds(now);
        let exp = iat + lifetime.as_secs();
        let claims = Claims { iss: ISSUER.to_owned(), sub: subject.to_owned(), iat, exp, scopes, given_for };
        encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    /// What a token says, if it is ours and its time is not over.
    pub(super) fn check(&self, token: &str) -> Result<Claims, BadToken> {
        // The signature is looked at before the time: of a forged token nothing is said but that it is wrong.
        decode::<Claims>(token, &self.decoding, &self.validation).map(|token| token.claims).map_err(|error| match error
            .kind()
        {
            ErrorKind::ExpiredSignature => BadToken::Expired,
            ErrorKind::InvalidToken => BadToken::Malformed,
            _ => BadToken::Wrong,
        })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn key() -> GivenFor {
        GivenFor::try_from("key:0123456789abcdef".to_owned()).unwrap()
    }

    fn scopes(names: &str) -> Scopes {
        Scopes::read(names.split_whitespace()).unwrap()
    }

    fn make(tokens: &Tokens, now: SystemTime) -> String {
        tokens.make("a", scopes("embed models:read"), key(), now, HOUR).unwrap()
    }

    #[test]
    fn token_says_what_it_was_made_with_until_its_end() {
        let tokens = Tokens::new(&[7; 32]).unwrap();
        let now = SystemTime::now();
        let claims = tokens.check(&make(&tokens, now)).unwrap();
        assert_eq!((claims.sub.as_str(), claims.scopes, &claims.given_for), ("a", scopes("embed models:read"), &key()));
        assert_eq!(claims.exp - claims.iat, 3600);
        assert_eq!(tokens.check(&make(&tokens, now - 2 * HOUR)), Err(BadToken::Expired));
    }

    #[test]
    fn token_of_another_secret_or_changed_is_wrong() {
        let (ours, theirs) = (Tokens::new(&[7; 32]).unwrap(), Tokens::new(&[8; 32]).unwrap());
        let now = SystemTime::now();
        assert_eq!(ours.check(&make(&theirs, now)), Err(BadToken::Wrong));
        // Not told that it is expired either.
        assert_eq!(ours.check(&make(&theirs, now - 2 * HOUR)), Err(BadToken::Wrong));
        assert_eq!(ours.check("abc"), Err(BadToken::Malformed));
        let token = make(&ours, now);
        let parts: Vec<&str> = token.split('.').collect();
        let other = make(&ours, now + HOUR);
        let other: Vec<&str> = other.split('.').collect();
        assert_eq!(ours.check(&[parts[0], other[1], parts[2]].join(".")), Err(BadToken::Wrong));
    }

    /// Tokens outlive the process: those that were given out before have to be understood.
    #[test]
    fn claims_are_written_as_strings_and_nonsense_in_them_is_wrong() {
        let tokens = Tokens::new(&[7; 32]).unwrap();
        let now = SystemTime::now();
        let written = |token: &str| -> serde_json::Value {
            let claims = decode::<serde_json::Value>(token, &tokens.decoding, &tokens.validation);
            claims.unwrap().claims
        };
        let good = written(&make(&tokens, now));
        assert_eq!(
            (&good["scope"], &good["credential"]),
            (&"embed models:read".into(), &"key:0123456789abcdef".into())
        );
        let mark = GivenFor::try_from("password:0123456789abcdef".to_owned()).unwrap();
        let token = tokens.make("a", scopes("admin"), mark.clone(), now, HOUR).unwrap();
        assert_eq!(written(&token)["credential"], "password:0123456789abcdef");
        assert_eq!(tokens.check(&token).unwrap().given_for, mark);
        for (claim, nonsense) in [
            ("scope", "embed everything"),
            ("credential", "key:0"),
            ("credential", "password:"),
            ("credential", "certificate:0123456789abcdef"),
            ("credential", "0123456789abcdef"),
        ] {
            let mut claims = good.clone();
            claims[claim] = nonsense.into();
            let token = encode(&Header::new(Algorithm::HS256), &claims, &tokens.encoding).unwrap();
            assert_eq!(tokens.check(&token), Err(BadToken::Wrong), "{nonsense}");
        }
    }

    #[test]
    fn secret_is_long_enough() {
        assert!(matches!(Tokens::new(&[7; 31]), Err(SecretError::TooShort { bytes: 31 })));
    }
}
