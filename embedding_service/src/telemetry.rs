//! The log: one line per event to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// What is logged.
#[derive(Debug, Clone, clap::Args)]
pub struct TelemetryOptions {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or per module, such as `info,tower_http=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("--log `{filter}`: {reason}; expected for example `info` or `info,tower_http=debug`")]
pub struct TelemetryError {
    filter: String,
    reason: String,
}

/// Sets the log up. To be called once, before anything is logged.
pub fn init(options: &TelemetryOptions) -> Result<(), TelemetryError> {
    let refused = |reason: String| TelemetryError { filter: options.log.clone(), reason };
    let filter = EnvFilter::builder().parse(&options.log).map_err(|error| refused(error.to_string()))?;
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|error| refused(error.to_string()))
}
