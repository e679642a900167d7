//! Arguments → configuration → log → server; nothing else.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::Runtime;
use vectron::cli::{Cli, Command, Serve};
use vectron::server;
use vectron_embedding::telemetry;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    let command = Cli::parse().into_command();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = match command {
        Command::Serve(serve) => run_server(&runtime, serve),
        Command::Bench(bench) => runtime.block_on(bench.run()),
    };
    // Every log is closed by now; a benchmark, or the replay of a log, is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn run_server(runtime: &Runtime, serve: Serve) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    telemetry::init(&serve.telemetry)?;
    runtime.block_on(server::run(serve.config))
}

#[expect(clippy::print_stderr, reason = "the last words of a process are for the person who started it")]
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
