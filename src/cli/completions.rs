//! `vectron completions`: what a shell needs to complete our commands.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::cli::console::results;
use crate::cli::exit::{Ended, Exit};

const EXAMPLES: &str = "\
Examples:
  vectron completions bash > ~/.local/share/bash-completion/completions/vectron
  vectron completions zsh > ~/.zfunc/_vectron
  vectron completions fish > ~/.config/fish/completions/vectron.fish";

/// Print the completions of a shell
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(options: &Completions) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "vectron", &mut script);
    let mut out = results();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Exit::Done)
}
