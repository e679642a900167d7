//! `vectron-embedding auth`: principals, their keys and passwords. Changes the file alone; a service that runs takes it up.
//!
//! Secrets come from the terminal or standard input, and go to standard output: no argument holds one, for every user of the
//! machine can see those.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line speaks to a person")]

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use vectron_embedding::auth::{
    ChangeError, FileError, Key, KeyId, Name, PasswordHash, Principal, Principals, PrincipalsFile, Scope, Scopes,
};

use super::CommandResult;

pub(super) const EXAMPLES: &str = "\
Examples:
  export VECTRON_AUTH_FILE=principals.toml
  vectron-embedding auth add-key store --scopes embed       a key for a store, told once
  vectron-embedding auth add-key ann --expires 90d          another one, for three months
  vectron-embedding auth set-password ann                   asks for it
  vectron-embedding auth list
  vectron-embedding auth set-scopes ann embed,benchmark
  vectron-embedding auth revoke 0123456789abcdef
  vectron-embedding auth remove ann                         with all keys";

#[derive(Subcommand)]
pub(super) enum AuthCommand {
    /// Make an API key, and print it: it cannot be shown again. The principal is made where there is none of the name.
    AddKey(AddKey),
    /// End an API key, and the tokens that were given for it.
    Revoke(Revoke),
    /// Set a principal's password, and end the tokens that were given for the one before. Asks for it, or reads a line of
    /// standard input.
    SetPassword(SetPassword),
    /// Take a principal's password away, and end the tokens that were given for it.
    RemovePassword(Named),
    /// Say what a principal may do. Its keys without scopes of their own follow.
    SetScopes(SetScopes),
    /// Remove a principal with its password and all its keys, and end their tokens.
    Remove(Named),
    /// List principals and keys, one a line: name, scopes, `key` or `password`, id, made, expires, state.
    List(FileOption),
}

#[derive(Args)]
pub(super) struct FileOption {
    /// The file of principals.
    #[arg(long, env = "VECTRON_AUTH_FILE", value_name = "FILE")]
    auth_file: PathBuf,
}

#[derive(Args)]
pub(super) struct AddKey {
    /// Whose key.
    #[arg(value_parser = read_name)]
    name: Name,
    /// What it may do, of `embed`, `models:read`, `benchmark` and `admin` [default: what the principal may; `embed` and
    /// `models:read` for a new one].
    #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<Scope>>,
    /// How long it is good, such as `90d` or `12h` [default: until it is revoked].
    #[arg(long, value_name = "TIME", value_parser = read_lifetime)]
    expires: Option<Duration>,
    #[command(flatten)]
    file: FileOption,
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The id of the key: what stands between `vek_` and the next `_`.
    #[arg(value_parser = read_id)]
    key_id: KeyId,
    #[command(flatten)]
    file: FileOption,
}

#[derive(Args)]
pub(super) struct SetPassword {
    /// Whose password.
    #[arg(value_parser = read_name)]
    name: Name,
    /// What a new principal may do [default: `embed` and `models:read`].
    #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<Scope>>,
    #[command(flatten)]
    file: FileOption,
}

#[derive(Args)]
pub(super) struct Named {
    /// Whom.
    #[arg(value_parser = read_name)]
    name: Name,
    #[command(flatten)]
    file: FileOption,
}

#[derive(Args)]
pub(super) struct SetScopes {
    /// Who.
    #[arg(value_parser = read_name)]
    name: Name,
    /// What it may do, of `embed`, `models:read`, `benchmark` and `admin`.
    #[arg(value_delimiter = ',', required = true, value_name = "SCOPES")]
    scopes: Vec<Scope>,
    #[command(flatten)]
    file: FileOption,
}

fn read_name(text: &str) -> Result<Name, String> {
    Name::try_from(text.to_owned())
}

fn read_id(text: &str) -> Result<KeyId, String> {
    KeyId::try_from(text.to_owned())
}

fn read_lifetime(text: &str) -> Result<Duration, String> {
    let expected = "expected a time of a second or more, such as 90d, 12h or 1h30m";
    match humantime::parse_duration(text) {
        Ok(lifetime) if lifetime >= Duration::from_secs(1) => Ok(lifetime),
        Ok(_) => Err(expected.to_owned()),
        Err(error) => Err(format!("{expected}: {error}")),
    }
}

pub(super) fn run(command: AuthCommand) -> CommandResult {
    match command {
        AuthCommand::AddKey(arguments) => add_key(arguments),
        AuthCommand::Revoke(arguments) => revoke(arguments),
        AuthCommand::SetPassword(arguments) => set_password(arguments),
        AuthCommand::RemovePassword(arguments) => remove_password(arguments),
        AuthCommand::SetScopes(arguments) => set_scopes(arguments),
        AuthCommand::Remove(arguments) => remove(arguments),
        AuthCommand::List(arguments) => list(arguments),
    }
}

fn add_key(AddKey { name, scopes, expires, file }: AddKey) -> CommandResult {
    let scopes = scopes.map(Scopes::from_iter);
    let key = file.open().change(|all| all.add_key(name.clone(), scopes, expires, SystemTime::now()))?;
    println!("{}", key.expose());
    eprintln!("the key {} of {name}; keep it well: it is not shown again", key.id);
    Ok(())
}

fn revoke(Revoke { key_id, file }: Revoke) -> CommandResult {
    file.change(|all| all.revoke(&key_id, SystemTime::now()))?;
    eprintln!("revoked {key_id}; a running service refuses it within a second or two");
    Ok(())
}

fn set_password(SetPassword { name, scopes, file }: SetPassword) -> CommandResult {
    let hash = PasswordHash::of(&read_password(&name)?)?;
    let scopes = scopes.map(Scopes::from_iter);
    file.open().change(|all| all.set_password(name.clone(), hash, scopes))?;
    eprintln!("the password of {name} is set");
    Ok(())
}

fn remove_password(Named { name, file }: Named) -> CommandResult {
    file.change(|all| all.remove_password(&name))?;
    eprintln!("{name} has no password any more");
    Ok(())
}

fn set_scopes(SetScopes { name, scopes, file }: SetScopes) -> CommandResult {
    let scopes = Scopes::from_iter(scopes);
    file.change(|all| all.set_scopes(&name, scopes))?;
    eprintln!("{name} may do `{scopes}`");
    Ok(())
}

fn remove(Named { name, file }: Named) -> CommandResult {
    file.change(|all| all.remove(&name))?;
    eprintln!("removed {name}; a running service refuses its keys within a second or two");
    Ok(())
}

/// Twice from a terminal, which does not show it; once from elsewhere.
fn read_password(name: &Name) -> Result<SecretString, Box<dyn std::error::Error>> {
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        return Ok(line.trim_end_matches(['\r', '\n']).into());
    }
    let first = SecretString::from(rpassword::prompt_password(format!("password of {name}: "))?);
    let second = SecretString::from(rpassword::prompt_password("the same again: ")?);
    if first.expose_secret() != second.expose_secret() {
        return Err("the two are not the same; nothing was changed".into());
    }
    Ok(first)
}

fn list(file: FileOption) -> CommandResult {
    let (principals, _) = file.open().read()?;
    for principal in principals.all() {
        let Principal { name, scopes, password, keys } = principal;
        if password.is_some() || keys.is_empty() {
            let what = if password.is_some() { "password" } else { "-" };
            println!("{name}\t{scopes}\t{what}\t-\t-\t-\t-");
        }
        for key in keys {
            let Key { id, created, expires, .. } = key;
            let scopes = key.scopes.map_or(*scopes, |own| own.and(*scopes));
            let told = expires.map_or_else(|| "never".to_owned(), |expires| expires.to_string());
            let state = match (key.revoked, expires) {
                (Some(at), _) => format!("revoked at {at}"),
                (None, Some(expires)) if expires.get() <= SystemTime::now() => "expired".to_owned(),
                (None, _) => "good".to_owned(),
            };
            println!("{name}\t{scopes}\tkey\t{id}\t{created}\t{told}\t{state}");
        }
    }
    Ok(())
}

impl FileOption {
    fn open(&self) -> PrincipalsFile {
        PrincipalsFile::new(self.auth_file.clone())
    }

    /// Changes a file that is there. Where there is none, nothing of it can be changed, and none is made.
    fn change(&self, change: impl FnOnce(&mut Principals) -> Result<(), ChangeError>) -> Result<(), FileError> {
        let file = self.open();
        file.stamp()?;
        file.change(change)
    }
}
