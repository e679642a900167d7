//! Arguments → configuration → log → server; nothing else.

use std::process::ExitCode;

use clap::Parser;
use vectron::cli::Cli;
use vectron::server;
use vectron_embedding::telemetry;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn run() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Before the arguments are read: they fall back to the environment.
    match dotenvy::dotenv() {
        Err(error) if !error.not_found() => return Err(format!(".env: {error}").into()),
        _ => {}
    }
    let serve = Cli::parse().into_serve();
    telemetry::init(&serve.telemetry)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server::run(serve.config))
}

#[expect(clippy::print_stderr, reason = "the last words of a process are for the person who started it")]
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
