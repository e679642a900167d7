//! Whether callers are asked for a key, and how that is configured.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::locality::is_this_machine;

/// Seconds that a token is good for, unless said otherwise.
const TOKEN_S: u32 = 3600;
/// Seconds that a token may be good for: 30 days.
const TOKEN_S_MAX: i64 = 30 * 86_400;

/// Who is asked for a key, and which keys there are.
#[derive(Debug, Clone, clap::Args)]
pub struct AuthOptions {
    /// Who may come in: principals with their keys and passwords, changed by `vectron-embedding auth`. With it every caller
    /// of the port needs a key or a token.
    #[arg(long, env = "VECTRON_AUTH_FILE", value_name = "FILE")]
    pub auth_file: Option<PathBuf>,

    /// Whether callers need a key. Never concerns a store in the same process.
    #[arg(long, env = "VECTRON_AUTH", value_enum, default_value_t, value_name = "WHEN")]
    pub auth: AuthMode,

    /// What needs no key all the same.
    #[arg(long, env = "VECTRON_AUTH_OPEN", value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub auth_open: Vec<Open>,

    /// Seconds that a token is good for.
    #[arg(
        long,
        env = "VECTRON_AUTH_TOKEN_S",
        default_value_t = TOKEN_S,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=TOKEN_S_MAX)
    )]
    pub auth_token_s: u32,
}

/// Whether callers need a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// With a file of principals they do. Without one the port must be out of other machines' reach.
    #[default]
    Auto,
    /// They do, and the file must be there.
    On,
    /// They do not, whoever can reach the port.
    Off,
}

/// What may be open to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Open {
    /// `GET /metrics`.
    Metrics,
    /// Reflection of the gRPC services.
    Reflection,
    /// `GET /openapi.json`, which the page `GET /docs` reads.
    Docs,
}

/// The port would be open to other machines without anybody having said so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unguarded {
    /// It listens for other machines.
    #[error(
        "{address} can be reached from other machines, and no key would be asked for: name the principals with --auth-file \
         (`vectron-embedding auth add-key NAME --auth-file FILE` makes one), or say --auth off"
    )]
    Reachable {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Keys are wanted, but there are none.
    #[error("--auth on: expected the principals' file too, --auth-file FILE")]
    NoFile,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self { auth_file: None, auth: AuthMode::Auto, auth_open: Vec::new(), auth_token_s: TOKEN_S }
    }
}

impl AuthOptions {
    /// Whether keys are asked for.
    pub fn is_on(&self) -> bool {
        self.auth != AuthMode::Off && self.auth_file.is_some()
    }

    /// Whether a port at `address` may be served.
    pub fn check(&self, address: SocketAddr) -> Result<(), Unguarded> {
        match self.auth {
            _ if self.is_on() => Ok(()),
            AuthMode::Off => Ok(()),
            AuthMode::On => Err(Unguarded::NoFile),
            AuthMode::Auto if is_this_machine(address.ip()) => Ok(()),
            AuthMode::Auto => Err(Unguarded::Reachable { address }),
        }
    }

    /// Says to the log that nobody is asked for a key at `address`, and why.
    pub(crate) fn announce_open(&self, address: SocketAddr) {
        let is_off = self.auth == AuthMode::Off;
        if is_off && !is_this_machine(address.ip()) {
            tracing::warn!("{address} can be reached from other machines, and nobody is asked for a key: --auth off");
        } else if is_off && self.auth_file.is_some() {
            tracing::info!("nobody is asked for a key at {address}: --auth off, whatever --auth-file names");
        } else {
            tracing::info!("nobody is asked for a key at {address}; --auth-file turns that on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_open_only_to_this_machine_unless_somebody_says_so() {
        let options = |auth, file: Option<&str>| AuthOptions {
            auth,
            auth_file: file.map(PathBuf::from),
            ..AuthOptions::default()
        };
        let addresses =
            ["127.0.0.1:8000", "[::1]:8000", "[::ffff:127.0.0.1]:8000", "0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000"];
        for (index, address) in addresses.iter().map(|address| address.parse().unwrap()).enumerate() {
            let is_local = index < 3;
            assert_eq!(options(AuthMode::Auto, None).check(address).is_ok(), is_local, "{address}");
            assert_eq!(options(AuthMode::On, None).check(address), Err(Unguarded::NoFile));
            assert!(options(AuthMode::Off, None).check(address).is_ok());
            assert!(options(AuthMode::Auto, Some("f")).check(address).is_ok());
        }
        assert!(options(AuthMode::Auto, Some("f")).is_on() && !options(AuthMode::Off, Some("f")).is_on());
    }
}
