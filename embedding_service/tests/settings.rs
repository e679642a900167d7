//! Settings of the real process: `.env`, variables that are empty, addresses to listen on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::process::{Process, binary};

const SECRET: &str = "sk-vErY-sEcReT";

fn run(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = binary(folder);
    command.args(arguments);
    command
}

/// The variables that `--help` of a command names.
fn variables(folder: &Path, command_words: &[&str]) -> BTreeSet<String> {
    let (code, help, _) = run(command(folder, &[command_words, &["--help"]].concat()));
    assert_eq!(code, 0);
    let named = help.split("[env: ").skip(1).map(|rest| rest.split(['=', ']']).next().unwrap().to_owned());
    named.collect()
}

#[test]
fn broken_line_of_env_is_told_by_number_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for (line, expected) in [
        (format!("OPENAI_API_KEY={SECRET} and more"), "expected NAME=value, and single quotes"),
        (format!("OPENAI_API_KEY: {SECRET}"), "expected NAME=value"),
        (format!("OPENAI_API_KEY=\"{SECRET}"), "expected NAME=value"),
        (format!("OPENAI_API_KEY=pa$word{SECRET}"), "expected single quotes round a value that has a `$`"),
        (format!("OPENAI_API_KEY=#{SECRET}"), "expected single quotes round a value that begins with `#`"),
    ] {
        fs::write(folder.path().join(".env"), format!("# mine\nRUST_LOG=info\n{line}\n")).unwrap();
        let (code, stdout, stderr) = run(command(folder.path(), &["models", "list"]));
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains(".env, line 3: ") && stderr.contains(expected), "{stderr}");
        assert!(!stderr.contains("ErY"), "{stderr}");
    }
}

#[test]
fn env_counts_where_the_environment_has_nothing_or_an_empty_variable() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "VECTRON_MODELS='my $models.toml'\n").unwrap();
    let list = |value: Option<&str>| {
        let mut command = command(folder.path(), &["models", "list"]);
        value.map(|value| command.env("VECTRON_MODELS", value));
        run(command).2
    };
    for value in [None, Some("")] {
        assert!(list(value).contains("cannot read my $models.toml"), "{value:?}");
    }
    assert!(list(Some("other.toml")).contains("cannot read other.toml"));
}

#[test]
fn empty_variables_are_as_good_as_none_for_every_option() {
    let folder = tempfile::tempdir().unwrap();
    let serve = variables(folder.path(), &["serve"]);
    for name in ["HF_ENDPOINT", "HF_HOME", "VECTRON_AUTH", "VECTRON_AUTH_FILE", "VECTRON_OFFLINE", "RUST_LOG"] {
        assert!(serve.contains(name), "{serve:?}");
    }
    let empty = |arguments: &[&str], variables: &BTreeSet<String>| {
        let mut command = command(folder.path(), arguments);
        command.envs(variables.iter().map(|name| (name, "")));
        command
    };
    // All that has a default is left out but what would reach beyond this test.
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--offline"];
    let log = Process::start(empty(&arguments, &serve)).stop();
    assert!(log.contains("nobody is asked for a key") && log.contains("model_cache/minilm"), "{log}");

    let models = variables(folder.path(), &["models", "list"]);
    let (code, stdout, stderr) = run(empty(&["models", "list"], &models));
    assert!(code == 0 && stdout.starts_with("minilm (default)"), "{stderr}");
    let (code, _, stderr) = run(empty(&["compare", "--models", "x", "--offline"], &serve));
    assert!(code != 0 && stderr.contains("there is no model `x`"), "{stderr}");
    // What must be there is missed.
    let (code, _, stderr) = run(empty(&["auth", "list"], &variables(folder.path(), &["auth", "list"])));
    assert!(code == 2 && stderr.contains("--auth-file <FILE>"), "{stderr}");
    let (_, help, _) = run(empty(&["--help"], &serve));
    assert!(serve.iter().all(|name| help.contains(&format!("[env: {name}"))), "{help}");
}

#[test]
fn address_that_is_none_is_answered_with_one() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["localhost:8000", ":8000", "8000"] {
        let (code, _, stderr) = run(command(folder.path(), &["--listen", address]));
        assert_eq!(code, 2);
        assert!(stderr.contains(address) && stderr.contains("such as 127.0.0.1:8000"), "{stderr}");
    }
}

#[test]
fn secrets_that_no_option_holds_are_told_by_help() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let (_, help, _) = run(command(folder.path(), arguments));
        assert!(["VECTRON_JWT_SECRET", "HF_TOKEN"].iter().all(|name| help.contains(name)), "{help}");
    }
}
