//! Which server and which collection a command speaks to.

use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Uri};

use crate::cli::console::Console;
use crate::cli::exit::{Failure, innermost};
use crate::pb::v1::collection_service_client::CollectionServiceClient;
use crate::pb::v1::vector_service_client::VectorServiceClient;
use crate::types::CollectionName;
use crate::types::limits::MESSAGE_BYTES_MAX;

/// From the first packet to an open connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection on which nothing moves is asked for a sign of life after this time, and given up after as much again.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// What the server may send ahead on one stream, in bytes: pages are megabytes.
const WINDOW_BYTES: u32 = 4 << 20;

/// Which server, and how much is said about it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// The server: `http://host:port`, or `host:port`.
    #[arg(long, env = "VECTRON_SERVER", default_value = "http://127.0.0.1:3000", value_name = "URL")]
    pub server: ServerUrl,

    /// Say nothing but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which collection.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct CollectionOption {
    /// The collection.
    #[arg(long, short, env = "VECTRON_COLLECTION", default_value = "default", value_name = "NAME", value_parser = read_name)]
    pub collection: String,
}

/// Checks the name of a collection, for clap.
pub fn read_name(name: &str) -> Result<String, String> {
    CollectionName::new(name).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

/// The address of a server.
#[derive(Clone, Debug)]
pub struct ServerUrl(Uri);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let expected = "expected http://host:port, or host:port";
        let uri = Uri::from_str(&url).map_err(|error| format!("{expected}, but this is no URL: {error}"))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) if !host.is_empty() => Ok(Self(uri)),
            (Some("https"), _) => Err(format!("{expected}; this version does not encrypt")),
            _ => Err(expected.to_owned()),
        }
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl ServerOptions {
    /// Where the command speaks.
    pub fn console(&self) -> Console {
        Console::new(self.quiet)
    }

    /// Connects, or says that nobody answers.
    pub async fn connect(&self) -> Result<Channel, Failure> {
        let endpoint = Endpoint::from(self.server.0.clone())
            .connect_timeout(CONNECT_TIME_MAX)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(4 * WINDOW_BYTES);
        endpoint.connect().await.map_err(|error| {
            Failure::unreachable(format_args!(
                "no server answers at {}: {}; start one with `vectron serve`, or name it with --server",
                self.server,
                innermost(&error)
            ))
        })
    }

    /// Connects to the service of records.
    pub async fn vectors(&self) -> Result<VectorServiceClient<Channel>, Failure> {
        Ok(vectors(self.connect().await?))
    }

    /// Connects to the service of collections.
    pub async fn collections(&self) -> Result<CollectionServiceClient<Channel>, Failure> {
        Ok(CollectionServiceClient::new(self.connect().await?))
    }
}

/// The service of records, which answers as much as the server sends.
pub fn vectors(channel: Channel) -> VectorServiceClient<Channel> {
    // The limit is for what is in a message; its frame takes some bytes more.
    VectorServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX + 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_or_host_and_port() {
        for text in ["http://127.0.0.1:3000", "127.0.0.1:3000", "http://127.0.0.1:3000/"] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), "http://127.0.0.1:3000");
        }
        assert_eq!("db:3000".parse::<ServerUrl>().unwrap().to_string(), "http://db:3000");
        assert_eq!("http://[::1]:3000".parse::<ServerUrl>().unwrap().to_string(), "http://[::1]:3000");
        for text in ["", "http://", "ftp://x:1", "https://x:1", "a b"] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text:?}");
        }
    }
}
