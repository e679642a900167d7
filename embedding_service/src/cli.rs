//! The command line: arguments → telemetry → the service, or a look at its models, or a change of who may use it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line speaks to a person")]

mod auth;
mod compare;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Arg, Args, Parser, Subcommand};
use vectron_embedding::model::{ModelSpec, Registry, Runs, WeightsSource};
use vectron_embedding::telemetry::{self, TelemetryOptions};
use vectron_embedding::{EmbeddingService, Listener, Options, command_line, shutdown};

type CommandResult = Result<(), Box<dyn Error>>;

/// The arguments make no sense, or what they name cannot be used: told before anything runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WrongUsage(String);

impl fmt::Display for WrongUsage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for WrongUsage {}

impl WrongUsage {
    fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// As clap ends where arguments are wrong.
const WRONG_USAGE: u8 = 2;

/// Text embedding over gRPC and REST on one port, with models that run on this machine's CPU.
///
/// Without a command it serves. Every option of `serve` can be given as an environment variable, or in a file `.env`.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = format!("{EXAMPLES}\n\n{}", command_line::SECRETS_HELP))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

const EXAMPLES: &str = "\
Examples:
  vectron-embedding                                   serve on 127.0.0.1:8000
  vectron-embedding auth add-key ann --auth-file principals.toml
                                                      make a key, and a file of who may come in
  vectron-embedding --listen 0.0.0.0:8000 --auth-file principals.toml
                                                      serve for other machines too, for those with a key
  vectron-embedding models pull minilm                fetch a model's weights, and verify them
  vectron-embedding compare --local                   compare the models that run here
  curl localhost:8000/embed -H 'content-type: application/json' -d '{\"text\": \"hello\"}'
  grpcurl -plaintext -d '{\"texts\": [\"hello\"]}' localhost:8000 vectron.embedding.v1.EmbeddingService/Embed";

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC and REST (the default).
    #[command(after_help = command_line::SECRETS_HELP)]
    Serve(Serve),
    /// List, fetch and verify models.
    Models {
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Compare models: speed, contrast of topics, retrieval.
    Compare(Box<compare::Arguments>),
    /// Say who may use the service: principals, their API keys and passwords.
    #[command(after_help = auth::EXAMPLES)]
    Auth {
        #[command(subcommand)]
        command: auth::AuthCommand,
    },
}

#[derive(Args)]
struct Serve {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, env = "VECTRON_EMBEDDING_LISTEN", default_value = "127.0.0.1:8000", value_name = "ADDRESS", value_parser = command_line::read_listen)]
    listen: SocketAddr,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    telemetry: TelemetryOptions,
}

#[derive(Subcommand)]
enum ModelsCommand {
    /// List the models of the registry, and where their weights are.
    #[command(mut_args(hide_what_does_nothing))]
    List(ModelsArguments),
    /// Fetch weights that are not on disk yet, and verify them.
    #[command(mut_args(hide_what_does_nothing), after_help = PULL_HELP)]
    Pull(ModelsArguments),
    /// Verify the weights that are on disk; a model without weights is no error.
    #[command(mut_args(hide_what_does_nothing))]
    Verify(ModelsArguments),
}

const PULL_HELP: &str = "Where a repository asks for a token, set HF_TOKEN, in the environment or in .env.";

/// The options of a service have more than its models ask for.
fn hide_what_does_nothing(argument: Arg) -> Arg {
    let used =
        ["ids", "model_cache", "models_file", "offline", "hub_offline", "hub_endpoint", "hub_home", "hub_cache", "log"];
    let is_used = used.contains(&argument.get_id().as_str());
    argument.hide(!is_used)
}

#[derive(Args)]
struct ModelsArguments {
    /// Models' ids [default: all of the registry].
    ids: Vec<String>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    telemetry: TelemetryOptions,
}

pub fn run() -> ExitCode {
    let cli: Cli = match command_line::parse() {
        Ok(cli) => cli,
        Err(error) => return fail(&error.to_string()),
    };
    let result = match cli.command {
        Some(Command::Auth { command }) => auth::run(command),
        None => serve(&cli.serve),
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Models { command: ModelsCommand::List(arguments) }) => each(&arguments, list),
        Some(Command::Models { command: ModelsCommand::Pull(arguments) }) => each(&arguments, pull),
        Some(Command::Models { command: ModelsCommand::Verify(arguments) }) => each(&arguments, verify),
        Some(Command::Compare(arguments)) => compare::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let ended = fail(&error.to_string());
            if error.is::<WrongUsage>() { WRONG_USAGE.into() } else { ended }
        }
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}

fn serve(arguments: &Serve) -> CommandResult {
    telemetry::init(&arguments.telemetry)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // First of all: a port that is taken shall not wait for a model.
        let listener = Listener::bind(arguments.listen, "--listen", &arguments.options.auth).await?;
        let shutdown = shutdown::signal();
        let service = EmbeddingService::start(&arguments.options)?;
        tracing::info!("vectron-embedding listens on http://{} (gRPC and REST)", listener.address());
        service.serve_tcp(listener, shutdown).await?;
        tokio::task::spawn_blocking(move || service.shutdown()).await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Runs `command` for the models that were named. All are run; the first error is returned, the others are printed.
fn each(
    arguments: &ModelsArguments,
    command: fn(&ModelSpec, &Registry, &WeightsSource) -> CommandResult,
) -> CommandResult {
    telemetry::init(&arguments.telemetry)?;
    let registry = arguments.options.registry()?;
    let source = arguments.options.weights_source()?;
    for id in &arguments.ids {
        if registry.get(id).is_none() {
            return Err(format!("there is no model `{id}`; the models are {}", registry.ids().join(", ")).into());
        }
    }
    let mut result = Ok(());
    for model in registry.models() {
        if !arguments.ids.is_empty() && !arguments.ids.contains(&model.id) {
            continue;
        }
        if let Err(error) = command(model, &registry, &source)
            && let Err(earlier) = std::mem::replace(&mut result, Err(error))
        {
            eprintln!("error: {earlier}");
        }
    }
    result
}

fn list(model: &ModelSpec, registry: &Registry, source: &WeightsSource) -> CommandResult {
    let place = match &model.runs {
        Runs::Here(local) => {
            source.find(local).map_or_else(|| "no weights on disk".to_owned(), |folder| folder.display().to_string())
        }
        Runs::There(remote) => remote.base_url.clone(),
    };
    let note = if model.id == registry.default_id() { " (default)" } else { "" };
    let (id, provider, name, dimension) = (&model.id, model.provider_name(), &model.model_name, model.dimension);
    println!("{id}{note}\t{provider}\t{name}\t{dimension}\t{place}");
    Ok(())
}

fn pull(model: &ModelSpec, _: &Registry, source: &WeightsSource) -> CommandResult {
    let Some(local) = model.local() else {
        println!("{}\tis run by a provider", model.id);
        return Ok(());
    };
    let files = source.obtain(local)?;
    let (id, folder) = (&model.id, files.folder.display());
    if files.is_pinned {
        println!("{id}\tverified in {folder}");
    } else {
        println!("{id}\tin {folder}, verified by nothing: models.toml has no hashes, and it was never loaded");
    }
    Ok(())
}

fn verify(model: &ModelSpec, registry: &Registry, source: &WeightsSource) -> CommandResult {
    if model.local().is_some_and(|local| source.find(local).is_none()) {
        println!("{}\tno weights on disk", model.id);
        return Ok(());
    }
    let on_disk = WeightsSource { hub: None, ..source.clone() };
    pull(model, registry, &on_disk)
}
