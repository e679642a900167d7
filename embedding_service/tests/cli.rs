//! The binary as its users meet it: its exit codes, what it prints, and how it stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn binary(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vectron-embedding"));
    // Its own folder, where no `.env` lies.
    command.args(arguments).current_dir(cache).env_remove("RUST_LOG").env("HF_HOME", cache).env("VECTRON_OFFLINE", "1");
    command.env("VECTRON_MODEL_CACHE", cache);
    command
}

fn run(cache: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = binary(cache, arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Waits for the line that says where it listens.
fn start(cache: &Path, arguments: &[&str]) -> (Child, String) {
    let mut child = binary(cache, arguments).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut listening = lines.skip_while(|line| !line.contains("listens on"));
    let line = listening.next().unwrap();
    // Read to the end, so that the child never waits for us.
    std::thread::spawn(move || listening.for_each(drop));
    let url = line.split_once("http://").unwrap().1.split(' ').next().unwrap().to_owned();
    (child, url)
}

#[test]
fn it_serves_without_a_command_and_stops_at_sigterm() {
    let cache = common::cache_with_weights();
    for arguments in [&["--listen", "127.0.0.1:0"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let (mut child, address) = start(cache.path(), arguments);
        std::net::TcpStream::connect(&address).unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let started = Instant::now();
        assert!(child.wait().unwrap().success());
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
}

#[test]
fn port_that_is_taken_ends_it_with_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(cache.path(), &["--listen", &address]);
    assert_eq!(code, 1);
    assert_eq!(stderr, format!("error: cannot listen on {address}: address in use; choose another with --listen\n"));
}

#[test]
fn models_are_listed_verified_and_missed() {
    let cache = common::cache_with_weights();
    let (code, stdout, _) = run(cache.path(), &["models", "list"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("minilm (default)\tlocal\tsentence-transformers/all-MiniLM-L6-v2\t384\t"), "{stdout}");
    let (code, stdout, _) = run(cache.path(), &["models", "verify", "minilm"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("verified"), "{stdout}");

    let empty = tempfile::tempdir().unwrap();
    let (code, stdout, _) = run(empty.path(), &["models", "verify"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("minilm\tno weights on disk\n"), "{stdout}");
    assert!(stdout.contains("openai-small\tis run by a provider\n"), "{stdout}");
    let (code, _, stderr) = run(empty.path(), &["models", "pull"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("nothing is fetched with --offline"), "{stderr}");
    let (code, _, stderr) = run(empty.path(), &["models", "pull", "gpt"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: there is no model `gpt`; the models are minilm, bge-small, "), "{stderr}");
}

#[test]
fn help_of_models_has_what_they_take() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["list", "pull", "verify"] {
        let (_, help, _) = run(folder.path(), &["models", command, "--help"]);
        for option in ["--model-cache", "--models", "--offline", "--hub-endpoint", "--hub-cache", "HF_TOKEN"] {
            assert!(help.contains(option), "{help}");
        }
        for option in ["--embedding-threads", "--embedding-queue-bytes", "--auth", "--cache-bytes-max", "--precision"] {
            assert!(!help.contains(option), "{help}");
        }
    }
}

#[test]
fn damaged_weights_fail_verification() {
    let cache = common::cache_with_weights();
    let file = cache.path().join("minilm/config.json");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "{}").unwrap();
    let (code, _, stderr) = run(cache.path(), &["models", "verify"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("is damaged or of another revision"), "{stderr}");
}

#[test]
fn mistakes_in_settings_are_named() {
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("models.toml"), "default = \"x\"\ncolour = 3\n").unwrap();
    let (code, _, stderr) = run(cache.path(), &["--listen", "127.0.0.1:0", "--models", "models.toml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("models.toml") && stderr.contains("line 2") && stderr.contains("`colour`"), "{stderr}");
    let (code, _, stderr) = run(cache.path(), &["--log", "info,=="]);
    assert_eq!(code, 1);
    assert!(stderr.contains("--log `info,==`"), "{stderr}");
    let (code, _, stderr) = run(cache.path(), &["--embedding-queue-bytes", "0"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("--embedding-queue-bytes") && stderr.contains("expected 1 or more"), "{stderr}");
}
