//! Arguments → configuration → log → server, or → a client's command; nothing else.

use std::process::ExitCode;
use std::time::Duration;

use vectron::cli::{Cli, Serve, Task};
use vectron::server;
use vectron_embedding::{command_line, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(error) => return fail(&error.to_string()),
    };
    match cli.into_task() {
        Task::Client(client) => client.run(),
        Task::Serve(serve) => match run(*serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string()),
        },
    }
}

fn run(serve: Serve) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    telemetry::init(&serve.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(server::run(serve.config));
    // Every log is closed by now; a benchmark, or the replay of a log, is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

#[expect(clippy::print_stderr, reason = "the last words of a process are for the person who started it")]
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
