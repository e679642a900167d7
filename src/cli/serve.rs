//! `vectron serve`, and `vectron` alone.

use vectron_embedding::telemetry::TelemetryOptions;

use crate::config::Config;

/// What `serve` takes.
#[derive(clap::Args)]
pub struct Serve {
    // First, since the headings of the configuration would hold for it too.
    /// What is logged.
    #[command(flatten)]
    pub telemetry: TelemetryOptions,
    /// How it runs.
    #[command(flatten)]
    pub config: Config,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  vectron serve                                  the store on 127.0.0.1:3000, embeddings on 127.0.0.1:8000
  vectron serve --listen 0.0.0.0:3000            for other machines too
  vectron serve --data /var/lib/vectron          keep the data elsewhere
  vectron serve --embedding-url http://gpu:8000  take embeddings from another machine";
