//! Settings of the real process: `.env`, variables that are empty, addresses to listen on.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeSet;
use std::fs;

use clap::CommandFactory;
use common::{Server, Texts, data_folder, run_to_end, vectron};
use vectron::cli::Cli;

/// The variables of the command's options, and of the commands below it.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|name| name.to_str().unwrap().to_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

#[test]
fn broken_line_of_env_is_told_by_number_and_not_repeated() {
    let folder = data_folder();
    fs::write(folder.path().join(".env"), "\nOPENAI_API_KEY=sk-s3cret and more\n").unwrap();
    let (status, said) = run_to_end(vectron(folder.path()));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(".env, line 2: expected NAME=value") && !said.contains("s3cret"), "{said}");
}

#[test]
fn empty_variables_are_as_good_as_none_for_every_option() {
    let all = variables(&Cli::command());
    for name in ["VECTRON_DATA", "VECTRON_MEMORY_BYTES_MAX", "VECTRON_SERVER", "VECTRON_COLLECTION", "HF_ENDPOINT"] {
        assert!(all.contains(name), "{all:?}");
    }
    let folder = data_folder();
    let mut command = vectron(folder.path());
    command.envs(all.iter().map(|name| (name, "")));
    command.args(["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0", "--offline"]);
    let server = Server::run(command, Texts::Away);
    assert!(folder.path().join("data").is_dir(), "the default is used");
    // Clients find the collection and what else has a default; here the server, which is not at its default.
    let server_url = server.address.clone();
    for arguments in [&["get", "x"][..], &["search", "--vector", "[1]"], &["collections", "list"], &["export"]] {
        let mut command = vectron(folder.path());
        command.envs(all.iter().map(|name| (name, ""))).args(arguments).args(["--server", &server_url]);
        let (status, said) = run_to_end(command);
        assert_ne!(status.code(), Some(2), "{arguments:?}: {said}");
        assert_ne!(status.code(), Some(4), "{arguments:?}: {said}");
    }
}

#[test]
fn address_that_is_none_is_answered_with_one() {
    let folder = data_folder();
    for option in ["--listen", "--embedding-listen"] {
        for address in ["localhost:8000", ":8000", "8000"] {
            let mut command = vectron(folder.path());
            command.args([option, address]);
            let (status, said) = run_to_end(command);
            assert_eq!(status.code(), Some(2), "{said}");
            assert!(said.contains(option) && said.contains("such as 127.0.0.1:8000"), "{said}");
        }
    }
}
