//! What the command lines of both binaries share: arguments that fall back to the environment, which falls back to `.env`.
//!
//! An option whose variable is empty has not been set: `${HF_HOME:-}` in a file of Docker Compose makes such variables, and
//! nobody typed them.

mod env_file;

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;

use clap::builder::{Resettable, StyledStr};
use clap::{Arg, Command, Parser};

pub use env_file::EnvFileError;

/// What no argument holds, for the end of `--help`.
pub const SECRETS_HELP: &str = "\
From the environment or .env alone, for other users of the machine see arguments:
  VECTRON_JWT_SECRET         signs tokens of the embedding service, 32 bytes or more; without it they end with the process
  VECTRON_EMBEDDING_API_KEY  the key that an embedding service elsewhere is shown
  HF_TOKEN                   the token that the model hub is shown, for repositories that ask for one
  OPENAI_API_KEY, COHERE_API_KEY, HF_TOKEN
                             keys of providers, as the registry's `key_env` names them";

/// The arguments of this process. Ends it where they are wrong, and where they ask for help. To be called once, before there
/// are threads: what `.env` says becomes part of the environment.
pub fn parse<C: Parser>() -> Result<C, EnvFileError> {
    env_file::load()?;
    Ok(parse_from(env::args_os()))
}

/// The same of these arguments, the first of them the program's name; `.env` is not read again.
pub fn parse_from<C: Parser>(arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>) -> C {
    let mut command = without_empty_variables(C::command());
    let parsed = command
        .try_get_matches_from_mut(arguments)
        .and_then(|mut matches| C::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command)));
    parsed.unwrap_or_else(|error| error.exit())
}

/// The command, with no option that takes what an empty variable holds.
fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|argument| {
        let is_empty = argument.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { forget_variable(argument) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

/// `--help` goes on telling which variable it is.
fn forget_variable(argument: Arg) -> Arg {
    let variable = argument.get_env().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
    let noted = |help: &StyledStr| StyledStr::from(format!("{help} [env: {variable}=]"));
    let short = Resettable::from(argument.get_help().map(noted));
    let long = Resettable::from(argument.get_long_help().map(noted));
    argument.env(None::<&str>).help(short).long_help(long)
}

/// Reads the value of an option that says where to listen, for clap.
pub fn read_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, such as 127.0.0.1:8000 for this machine, 0.0.0.0:8000 for others too, or \
         [::1]:8000; names of hosts are not looked up"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_without_a_host_or_port_is_told_what_one_looks_like() {
        assert_eq!(read_listen("[::1]:80").unwrap().port(), 80);
        for text in ["localhost:8000", ":8000", "8000", "127.0.0.1", ""] {
            let error = read_listen(text).unwrap_err();
            assert!(error.contains("expected an IP address and a port, such as 127.0.0.1:8000"), "{error}");
        }
    }
}
