//! An embedding service elsewhere: its URL, the key that it may ask for, and the connection. For `vectron` and `compare`.
//!
//! Invariants: neither the key nor what an URL holds of a password is in an error, a log or a `Debug`; https is encrypted, or
//! does not connect.

use std::time::Duration;
use std::{env, fmt};

use http::Uri;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::api::MESSAGE_BYTES_MAX;
use crate::locality::names_this_machine;
use crate::pb::v1::embedding_service_client::EmbeddingServiceClient;

pub use crate::told::innermost;

/// The environment variable that holds the key.
pub const KEY_VARIABLE: &str = "VECTRON_EMBEDDING_API_KEY";
/// A connection on which nothing moves is asked for a sign of life after this time: a call may take minutes, and a machine that
/// is gone says nothing.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What calls go through: a channel, and the key on each of them.
pub type KeyedChannel = InterceptedService<Channel, EmbeddingKey>;

/// A service elsewhere, which is not connected to yet.
#[derive(Debug)]
pub struct Remote {
    endpoint: Endpoint,
    key: EmbeddingKey,
}

/// A key or token, or none. Shown to the embedding service alone.
#[derive(Clone, Default)]
pub struct EmbeddingKey {
    /// As the header `authorization` has it; marked, so that what logs headers leaves it out.
    header: Option<AsciiMetadataValue>,
    /// It holds something that cannot be sent.
    is_malformed: bool,
}

/// Why no service can be asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not where one can be.
    #[error(
        "{url:?} is not the URL of an embedding service: expected http://host:port or https://host:port, for example \
         http://127.0.0.1:8000"
    )]
    InvalidUrl {
        /// What was given, without user and password.
        url: String,
    },
    /// Somebody's password would be in all messages, and the service would not take it.
    #[error(
        "the URL of the embedding service has a user or a password: expected none; a key is set with {KEY_VARIABLE}"
    )]
    UserInUrl,
    /// Not what it can be shown.
    #[error("{KEY_VARIABLE} holds characters that no key has: expected visible ASCII without spaces")]
    MalformedKey,
    /// What https needs is not there.
    #[error("no https to {host}: {reason}; the system's certificates are used, or those of the file SSL_CERT_FILE")]
    Tls {
        /// Of the URL.
        host: String,
        /// Why.
        reason: String,
    },
}

impl Remote {
    /// The service at `url`, which is shown `key`. A service that accepts no connection, or ends no TLS handshake,
    /// within `connect_timeout` is away.
    pub fn new(url: &str, key: EmbeddingKey, connect_timeout: Duration) -> Result<Self, RemoteError> {
        if key.is_malformed {
            return Err(RemoteError::MalformedKey);
        }
        // What stands before an `@`, or in a query, may be a secret, also where the whole is no URL.
        let shown = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
        let shown = shown.split_once(['?', '#']).map_or(shown, |(before, _)| before);
        let invalid = || RemoteError::InvalidUrl { url: shown.to_owned() };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid()),
        };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(RemoteError::UserInUrl);
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(invalid());
        }
        let mut endpoint = Endpoint::from(uri.clone());
        if is_https {
            let failed =
                |error: tonic::transport::Error| RemoteError::Tls { host: host.to_owned(), reason: innermost(&error) };
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots().timeout(connect_timeout))
                .map_err(failed)?;
        }
        let endpoint = endpoint
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_while_idle(true);
        Ok(Self { endpoint, key })
    }

    /// What whoever runs this should know: the key would cross a network as it is.
    pub fn warning(&self) -> Option<String> {
        let uri = self.endpoint.uri();
        let host = uri.host().unwrap_or_default();
        let is_exposed = uri.scheme_str() == Some("http") && self.key.header.is_some() && !names_this_machine(host);
        is_exposed
            .then(|| format!("{KEY_VARIABLE} goes to {host} as it is, for whoever can listen: https would hide it"))
    }

    /// Connects at the first call, and again after a broken connection. Needs a runtime.
    pub fn connect_lazy(self) -> KeyedChannel {
        InterceptedService::new(self.endpoint.connect_lazy(), self.key)
    }

    /// Connects now, or says what the system or the other side said.
    pub async fn connect(self) -> Result<KeyedChannel, String> {
        match self.endpoint.connect().await {
            Ok(channel) => Ok(InterceptedService::new(channel, self.key)),
            Err(error) => Err(innermost(&error)),
        }
    }
}

/// The typed client over `channel`, with its limits raised to those of the service.
pub fn keyed_client(channel: KeyedChannel) -> EmbeddingServiceClient<KeyedChannel> {
    EmbeddingServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

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

    const PATIENCE: Duration = Duration::from_secs(1);

    #[test]
    fn key_is_sent_and_not_shown() {
        let mut key = EmbeddingKey::new(" vek_1_2 \n");
        let sent = key.call(Request::new(())).unwrap();
        assert_eq!(sent.metadata().get("authorization").unwrap().to_str().unwrap(), "Bearer vek_1_2");
        assert!(!format!("{key:?} {sent:?}").contains("vek_1_2"));
        assert!(EmbeddingKey::new("").call(Request::new(())).unwrap().metadata().is_empty());
        for wrong in ["a b", "schlüssel", "a\nb"] {
            let error = Remote::new("http://localhost:1", EmbeddingKey::new(wrong), PATIENCE).unwrap_err();
            assert!(matches!(error, RemoteError::MalformedKey), "{error}");
        }
    }

    #[test]
    fn url_is_one_of_a_service_and_no_password_is_repeated() {
        for url in [
            "localhost:8000",
            "ftp://a:1",
            "http://a/v1",
            "http://a?b=c",
            "http://",
            "http://user:pa ss@a:1",
            "http://a?token=pa ss",
        ] {
            let error = Remote::new(url, EmbeddingKey::default(), PATIENCE).unwrap_err().to_string();
            assert!(error.contains("expected http://host:port or https://host:port"), "{error}");
            assert!(!error.contains("pa ss"), "{error}");
        }
        for url in ["http://user:secret@localhost:8000", "https://secret@a"] {
            let error = Remote::new(url, EmbeddingKey::default(), PATIENCE).unwrap_err();
            assert!(matches!(error, RemoteError::UserInUrl) && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn service_that_accepts_and_says_nothing_is_away() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let remote = Remote::new(&url, EmbeddingKey::default(), PATIENCE).unwrap();
        let connected = tokio::time::timeout(Duration::from_secs(30), remote.connect()).await;
        assert!(connected.expect("the handshake has an end").is_err());
    }

    #[test]
    fn key_that_others_could_read_is_told() {
        let warning = |url: &str, key: &str| Remote::new(url, EmbeddingKey::new(key), PATIENCE).unwrap().warning();
        let told = warning("http://gpu:8000", "vek_1_2").unwrap();
        assert!(told.contains("gpu") && !told.contains("vek_1_2"), "{told}");
        for local in ["http://127.0.0.1:8000", "http://[::1]:8000", "http://LOCALHOST:8000"] {
            assert_eq!(warning(local, "vek_1_2"), None, "{local}");
        }
        assert_eq!(warning("http://gpu:8000", ""), None);
    }
}
