//! The embedding service on its own: `vectron-embedding serve` and the commands around its models.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
