//! Asking before something is gone for good.

use std::fmt::Display;
use std::io::{self, BufRead, IsTerminal};

use crate::cli::console::Console;
use crate::cli::exit::Failure;

/// Has a person type the name of what is deleted. Where nobody can be asked, `--yes` is to be said. `what` begins a sentence.
pub fn confirm(console: &Console, what: impl Display, name: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format_args!("{what}: to delete it, say --yes")));
    }
    console.complain(format_args!("{what}; type its name to delete it:"));
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed).map_err(|error| Failure::file("read", "standard input", &error))?;
    if typed.trim() == name { Ok(()) } else { Err(Failure::new("nothing was deleted")) }
}
