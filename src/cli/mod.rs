//! The command line: `serve` runs the server, every other command is a client that speaks gRPC to one; but `repair`, which
//! reads the data folder itself.
//!
//! Results go to standard output, everything else to standard error (`console`). How a command ends is one table (`exit`).

pub mod bench;
mod collections;
mod completions;
mod confirm;
mod console;
mod delete;
mod exit;
mod export;
mod filter;
mod get;
mod id_list;
mod import;
mod npy;
mod record_json;
mod repair;
mod search;
mod serve;
mod server_options;
mod snapshot;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime;

use exit::{Ended, Exit, Failure};

pub use serve::Serve;

const ABOUT: &str = "\
Vectron, a text-native vector database: text goes in, ranked text comes out.

Without a command it serves: the store on port 3000 and the embedding service on port 8000, each gRPC and REST. The \
other commands speak to a server that runs (--server, or VECTRON_SERVER); `repair` needs one that does not. Every option with an [env: …] can be given as \
an environment variable, or in a file `.env`. `vectron help COMMAND` explains a command, with examples.";

const EXAMPLES: &str = "\
Examples:
  vectron                                        serve, with the data in ./data
  vectron import notes.jsonl -c notes            lines of {\"id\": …, \"text\": …}; embedded by the server
  vectron search -c notes \"a sleeping pet\"       the nearest records
  vectron get -c notes 17                        one record as JSON
  vectron export -c notes -o notes.jsonl.gz      everything, to be imported again
  vectron collections list                       what there is
  vectron snapshot create notes                  a copy of a collection, made while it is written to
  vectron repair                                 whether the data on disk are whole, without a server";

/// Vectron, a text-native vector database: text goes in, ranked text comes out.
#[derive(Parser)]
#[command(version, long_about = ABOUT, args_conflicts_with_subcommands = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}\n\n{}", exit::EXIT_CODES, vectron_embedding::command_line::SECRETS_HELP))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Option<Command>,
    /// What `serve` takes.
    #[command(flatten)]
    serve: Serve,
}

/// What to do.
#[derive(Subcommand)]
enum Command {
    /// Serve the store and the embedding service (the default)
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<Serve>),
    Import(Box<import::Import>),
    Export(export::Export),
    Search(search::Search),
    Get(get::Get),
    Delete(delete::Delete),
    Collections(collections::Collections),
    Snapshot(snapshot::Snapshot),
    Repair(repair::Repair),
    Completions(completions::Completions),
    /// Measure a server under load, beside the most that its transport can carry
    Bench(bench::BenchCommand),
}

/// What was asked for.
pub enum Task {
    /// To be a server.
    Serve(Box<Serve>),
    /// To speak to one.
    Client(Box<Client>),
}

/// A command that speaks to a server, or needs none.
pub struct Client(Command);

impl Cli {
    /// What was asked for.
    pub fn into_task(self) -> Task {
        match self.command {
            None => Task::Serve(Box::new(self.serve)),
            Some(Command::Serve(serve)) => Task::Serve(serve),
            Some(command) => Task::Client(Box::new(Client(command))),
        }
    }
}

impl Client {
    /// Runs the command to its end, and says what went wrong.
    pub fn run(self) -> ExitCode {
        let runtime = match self.runtime().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                console::tell_error(error);
                return Exit::Failed.code().into();
            }
        };
        let ended = runtime.block_on(run(self.0));
        // A thread that waits for standard input would wait for ever.
        runtime.shutdown_background();
        let exit = ended.unwrap_or_else(|failure| {
            if let Some(message) = failure.message {
                console::tell_error(message);
            }
            failure.exit
        });
        exit.code().into()
    }

    /// A client waits; only a load generator has work for several threads.
    fn runtime(&self) -> runtime::Builder {
        match self.0 {
            Command::Bench(_) => runtime::Builder::new_multi_thread(),
            _ => runtime::Builder::new_current_thread(),
        }
    }
}

async fn run(command: Command) -> Ended {
    match command {
        Command::Serve(_) => unreachable!("a server is no client"),
        Command::Import(options) => import::run(*options).await,
        Command::Export(options) => export::run(options).await,
        Command::Search(options) => search::run(options).await,
        Command::Get(options) => get::run(options).await,
        Command::Delete(options) => delete::run(options).await,
        Command::Collections(options) => collections::run(options).await,
        Command::Repair(options) => repair::run(options),
        Command::Snapshot(options) => snapshot::run(options).await,
        Command::Completions(options) => completions::run(&options),
        Command::Bench(options) => options.run().await.map(|()| Exit::Done).map_err(Failure::new),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The lines of a help that begin with `vectron`, without what a shell makes of them.
    fn examples(command: &clap::Command) -> Vec<Vec<String>> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().filter_map(|line| line.trim_start().strip_prefix("vectron").map(str::to_owned));
        let words = |line: String| {
            let line = line
                .split("  ")
                .next()
                .unwrap_or_default()
                .split(['|', '<', '>'])
                .next()
                .unwrap_or_default()
                .to_owned();
            let mut words = vec!["vectron".to_owned()];
            let mut rest = line.as_str();
            // What is in quotes, of whichever kind comes first, is one word; the other kind is a part of it.
            while let Some(start) = rest.find(['"', '\'']) {
                let (before, quoted) = rest.split_at(start);
                words.extend(before.split_whitespace().map(str::to_owned));
                let (word, after) = quoted[1..].split_once(&quoted[..1]).expect("a quote that was opened is closed");
                words.push(word.to_owned());
                rest = after;
            }
            words.extend(rest.split_whitespace().map(str::to_owned));
            words
        };
        lines.map(words).collect()
    }

    #[test]
    fn every_example_of_the_help_is_understood() {
        let mut command = Cli::command();
        command.build();
        let mut found = examples(&command);
        for inner in command.get_subcommands() {
            found.extend(examples(inner));
            found.extend(inner.get_subcommands().flat_map(examples));
        }
        assert!(found.len() > 30, "{found:?}");
        for words in found {
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{words:?}: {error}");
            }
        }
    }
}
