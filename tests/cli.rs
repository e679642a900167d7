//! The command line as its users meet it: the real binary against a real server.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Server, Texts, data_folder, vectron};
use serde_json::{Value, json};

/// What a command did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

struct Cli {
    folder: tempfile::TempDir,
    address: String,
}

impl Cli {
    fn of(server: &Server) -> Self {
        Self { folder: data_folder(), address: server.address.clone() }
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = vectron(self.folder.path());
        command.env("VECTRON_SERVER", &self.address).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.spawn(arguments);
        // A command that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        ended(child)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs what must succeed, and returns its results.
    fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        ran.out
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn records(&self, collection: &str) -> u64 {
        let shown: Value = serde_json::from_str(&self.done(&["collections", "show", collection])).unwrap();
        shown["records"].as_u64().unwrap()
    }
}

fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Lines of vectors, and their ids.
fn vector_lines(count: usize, dimension: usize) -> String {
    let mut lines = String::new();
    for n in 0..count {
        let vector: Vec<f32> = (0..dimension).map(|d| ((n * 31 + d * 17) % 101) as f32 / 7.0 + 0.1).collect();
        lines.push_str(&json!({"id": format!("{n:06}"), "vector": vector, "n": n}).to_string());
        lines.push('\n');
    }
    lines
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "it does not come");
    }
}

/// A server on a port of its own choice, which another one can take over.
fn server_at(address: &str, data: &Path) -> Server {
    let mut command = vectron(&std::env::temp_dir());
    command.args(["serve", "--listen", address, "--embedding-url", common::AWAY, "--data"]).arg(data);
    Server::run(command, Texts::Away)
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn every_format_is_imported_and_comes_back() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    cli.write("a.jsonl", "{\"id\": \"a\", \"vector\": [1, 2.5], \"big\": 9007199254740993}\n\n{\"id\": 7, \"vector\": [0.1, -1e-3], \"text\": \"seven\"}\n");
    cli.write("b.csv", "id,vector,zip,score\nb,1 2,01234,0.5\nc,\"[3, 4]\",5,x\n");
    cli.write("index.json", r#"[{"id": "d", "vector": [5, 6]}, {"id": "e", "vector": [7, 8]}]"#);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
    let numbers: Vec<u8> = [9.0_f32, 10.0, 11.0, 12.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let npy = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &numbers].concat();
    cli.write("v.npy", npy);
    cli.write("ids.txt", "f\ng\n");
    for arguments in [&["a.jsonl"][..], &["b.csv"], &["index.json"], &["v.npy", "--ids", "ids.txt"]] {
        let ran = cli.run(&[&["import"], arguments].concat());
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains("imported 2 records"), "{}", ran.err);
    }
    let exported = cli.done(&["export"]);
    let records: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let vector = |id: &str| records.iter().find(|record| record["id"] == id).unwrap()["vector"].clone();
    assert_eq!(records.len(), 8);
    assert_eq!(vector("7"), json!([0.1, -0.001]));
    assert_eq!((vector("b"), vector("c")), (json!([1.0, 2.0]), json!([3.0, 4.0])));
    assert_eq!((vector("e"), vector("g")), (json!([7.0, 8.0]), json!([11.0, 12.0])));
    assert!(exported.contains("\"big\":9007199254740993"), "{exported}");
    assert!(exported.contains(r#""metadata":{"score":0.5,"zip":"01234"}"#), "{exported}");

    // Packed, into a collection with the same spaces, and back: nothing has changed.
    cli.done(&["export", "-o", "all.jsonl.gz"]);
    assert!(!cli.folder.path().join("all.jsonl.gz.part").exists());
    cli.done(&["collections", "create", "copy", "--like", "default"]);
    cli.done(&["import", "all.jsonl.gz", "-c", "copy"]);
    assert_eq!(cli.done(&["export", "-c", "copy"]), exported);
    let index: Value = serde_json::from_str(&cli.done(&["export", "--format", "index-json"])).unwrap();
    assert_eq!(index.as_array().unwrap().len(), 8);
    assert_eq!(index[0], json!({"id": "7", "vector": [0.1, -0.001]}));
}

#[test]
fn bad_lines_are_told_left_out_and_set_aside() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    cli.write(
        "a.jsonl",
        "{\"id\": \"good\", \"vector\": [1, 2]}\n{\"id\": \"\", \"vector\": [1, 2]}\nno json\n\
         {\"id\": \"short\", \"vector\": [1]}\n{\"id\": \"zero\", \"vector\": [0, 0]}\n{\"id\": \"last\", \"vector\": [3, 4]}\n",
    );
    let ran = cli.run(&["import", "a.jsonl", "--rejects", "bad.jsonl", "--json"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    for expected in [
        "a.jsonl:2: an id has 1 to 512 bytes, but this one is empty",
        "a.jsonl:3: expected",
        "a.jsonl:4: the vector has 1 numbers, but the collection has raw-2 (2)",
        "a.jsonl:5: space \"raw-2\" compares by cosine",
        "4 bad lines, set aside in bad.jsonl",
    ] {
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    }
    let summary: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&summary["records"], &summary["bad_lines"]), (&json!(2), &json!(4)));
    assert_eq!(cli.read("bad.jsonl").lines().count(), 4);

    // Mended, the rest is imported.
    cli.write("bad.jsonl", cli.read("bad.jsonl").replace("no json", "{\"id\": \"mended\", \"vector\": [5, 6]}"));
    assert_eq!(cli.run(&["import", "bad.jsonl"]).code, 3);
    assert_eq!(cli.records("default"), 3);
    let ran = cli.run(&["import", "a.jsonl", "--bad-lines-max", "1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("a.jsonl:3: there are more than 1 bad lines"), "{}", ran.err);
    assert_eq!(cli.run(&["import", "a.jsonl", "--rejects", "a.jsonl"]).code, 2);
    assert_eq!(cli.read("a.jsonl").lines().count(), 6, "the file is as it was");
    let ran = cli.run(&["import", "a.jsonl", "--dry-run", "-c", "nowhere", "--quiet"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
}

#[test]
fn an_import_whose_process_is_killed_goes_on_where_it_was() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    let count = 60_000;
    cli.write("a.jsonl", vector_lines(count, 32));
    let arguments = ["import", "a.jsonl", "--batch-records", "50", "--json"];
    let mut was_cut = false;
    for _ in 0..3 {
        let mut child = cli.spawn(&arguments);
        let before = there(&cli);
        wait_until(|| there(&cli) >= before + 500 || child.try_wait().unwrap().is_some());
        child.kill().unwrap();
        was_cut |= child.wait().unwrap().code().is_none();
    }
    assert!(was_cut, "the import was faster than the test");
    let ran = cli.run(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let summary: Value = serde_json::from_str(&ran.out).unwrap();
    let (now, before) = (summary["records"].as_u64().unwrap(), summary["records_before"].as_u64().unwrap());
    assert_eq!((now + before, summary["collection_records"].as_u64().unwrap()), (count as u64, count as u64));
    assert!(ran.err.contains("resuming: "), "{}", ran.err);
    // What is finished is forgotten, and can be imported again.
    let again: Value = serde_json::from_str(&cli.run(&arguments).out).unwrap();
    assert_eq!(again["records"].as_u64().unwrap(), count as u64);
}

/// Records so far; none where there is no collection yet.
fn there(cli: &Cli) -> u64 {
    let ran = cli.run(&["collections", "list", "--json"]);
    ran.out.lines().next().map_or(0, |line| serde_json::from_str::<Value>(line).unwrap()["records"].as_u64().unwrap())
}

#[test]
fn an_import_outlives_a_server_that_is_killed() {
    let data = data_folder();
    let address = free_address();
    let server = server_at(&address, data.path());
    let cli = Cli { folder: data_folder(), address: address.clone() };
    let count = 60_000;
    cli.write("a.jsonl", vector_lines(count, 32));
    let child = cli.spawn(&["import", "a.jsonl", "--batch-records", "50", "--json"]);
    wait_until(|| there(&cli) >= 500);
    server.kill();
    let server = server_at(&address, data.path());
    let ran = ended(child);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let summary: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(summary["records"].as_u64().unwrap(), count as u64);
    assert_eq!(summary["collection_records"].as_u64().unwrap(), count as u64);
    assert!(ran.err.contains("trying again") && ran.err.contains("the server answers again"), "{}", ran.err);
    drop(server);
}

#[test]
fn of_a_frame_that_is_refused_the_good_records_are_written_and_the_last_line_wins() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    cli.done(&["collections", "create", "c", "--space", "a:2"]);
    let mut child = cli.spawn(&["import", "-", "--format", "jsonl", "-c", "c", "--batch-records", "4"]);
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert!(line.contains("importing standard input"), "{line}");
    // From here on a vector of two numbers is ambiguous, which the import cannot know.
    cli.done(&["collections", "add-space", "c", "--space", "b:2"]);

    let mut input = String::new();
    for n in 0..40 {
        // Every second one of the first half names no space. Each id comes twice, from another line.
        let (id, space) = (n % 20, if n < 20 && n % 2 == 1 { "" } else { ", \"space\": \"a\"" });
        input.push_str(&format!("{{\"id\": \"{id}\", \"vector\": [{n}, 1]{space}}}\n"));
    }
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(3), "{rest}");
    for number in [2, 4, 6, 20] {
        assert!(rest.contains(&format!("standard input:{number}: ")), "{number}: {rest}");
    }
    assert!(rest.contains("AMBIGUOUS_SPACE") && rest.contains("10 bad lines"), "{rest}");
    assert!(rest.contains("imported 30 records"), "{rest}");
    let exported = cli.done(&["export", "-c", "c"]);
    for id in 0..20 {
        let expected = format!("{{\"id\":\"{id}\",\"vector\":[{}.0,1.0],\"space\":\"a\"}}", id + 20);
        assert!(exported.contains(&expected), "{expected}: {exported}");
    }
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    let mut child = cli.spawn(&["import", "-", "--format", "jsonl", "--batch-records", "1"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(vector_lines(3, 2).as_bytes()).unwrap();
    stdin.flush().unwrap();
    wait_until(|| there(&cli) >= 3);
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ran = ended(child);
    assert_eq!(ran.code, 130, "{}", ran.err);
    assert!(ran.err.contains("interrupted: 3 records of the file are stored"), "{}", ran.err);
}

#[test]
fn a_server_that_is_not_there_and_arguments_that_make_no_sense_have_their_codes() {
    let cli = Cli { folder: data_folder(), address: free_address() };
    cli.write("a.jsonl", "{\"id\": \"1\", \"text\": \"t\"}\n");
    for arguments in [
        &["import", "a.jsonl"][..],
        &["export"],
        &["search", "x"],
        &["get", "1"],
        &["delete", "1"],
        &["collections", "list"],
    ] {
        let ran = cli.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (4, ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(&cli.address) && ran.err.contains("no server answers"), "{}", ran.err);
        assert_eq!(ran.err.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ran.err);
    }
    cli.write("data.txt", "x");
    for arguments in [
        &["import"][..],
        &["import", "-"],
        &["import", "data.txt"],
        &["import", "a.jsonl", "--row-ids"],
        &["import", "v.npy"],
        &["import", "a.jsonl", "--batch-records", "0"],
        &["import", "a.jsonl", "--server", "https://x:1"],
        &["search"],
        &["search", "x", "--vector", "[1]"],
        &["search", "--vector", "[]"],
        &["search", "x", "-k", "0"],
        &["export", "--format", "index-json", "--no-vectors"],
        &["collections", "create", "a b"],
        &["collections", "create", "a", "--space", "x:0"],
        &["completions", "dos"],
    ] {
        let ran = cli.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: "), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(cli.run(&["import", "missing.jsonl"]).code, 1);
    assert_eq!(cli.run(&["import", "a.jsonl", "--dry-run"]).code, 0, "nobody is asked");
    assert!(cli.done(&["completions", "bash"]).contains("vectron"));
}

#[test]
fn what_the_server_refuses_is_told_with_its_reason() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    for (arguments, expected) in [
        (&["get", "-c", "nowhere", "1"][..], "[COLLECTION_NOT_FOUND]"),
        (&["export", "-c", "nowhere"], "[COLLECTION_NOT_FOUND]"),
        (&["collections", "show", "nowhere"], "[COLLECTION_NOT_FOUND]"),
        (&["search", "-c", "nowhere", "--vector", "[1]"], "[COLLECTION_NOT_FOUND]"),
    ] {
        let ran = cli.run(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: ") && ran.err.contains(expected), "{}", ran.err);
    }
    cli.write("a.jsonl", "{\"id\": \"1\", \"vector\": [1]}\n");
    let ran = cli.run(&["import", "a.jsonl", "-c", "nowhere", "--no-create"]);
    assert!(ran.code == 1 && ran.err.contains("there is no collection \"nowhere\""), "{}", ran.err);
    let texts = cli.write("t.jsonl", "{\"id\": \"1\", \"text\": \"t\"}\n");
    let ran = cli.run(&["import", texts.to_str().unwrap(), "--retry-s", "1"]);
    assert_eq!(ran.code, 1, "the server is there: {}", ran.err);
    assert!(ran.err.contains("[EMBEDDING_UNAVAILABLE]") && ran.err.contains("gave up after 1 s"), "{}", ran.err);
}

#[test]
fn records_are_got_and_deleted_by_id() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    assert_eq!(cli.run_with(&["import", "-", "--format", "jsonl"], &vector_lines(5, 2)).code, 0);
    let record: Value = serde_json::from_str(&cli.done(&["get", "000001"])).unwrap();
    assert_eq!((&record["id"], &record["metadata"]), (&json!("000001"), &json!({"n": 1})));
    let ran = cli.run_with(&["get", "-", "--json", "--no-vectors"], "000002\nnone\n000003\n");
    assert_eq!((ran.code, ran.out.lines().count()), (3, 2), "{}", ran.err);
    assert!(ran.err.contains("there is no record \"none\"") && !ran.out.contains("vector"), "{}", ran.err);

    let ran = cli.run(&["delete", "000001", "none", "--dry-run"]);
    assert_eq!((ran.code, cli.records("default")), (3, 5));
    let ran = cli.run_with(&["delete", "-", "--json"], "000001\n000001\n000002\n");
    assert_eq!((ran.code, ran.out.as_str()), (0, "{\"deleted\":2,\"missing\":[]}\n"), "{}", ran.err);
    assert_eq!(cli.records("default"), 3);
}

#[test]
fn a_filter_narrows_search_export_and_delete() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    assert_eq!(cli.run_with(&["import", "-", "--format", "jsonl"], &vector_lines(50, 2)).code, 0);
    let filter = r#"{"range": {"field": "n", "at_least": 10, "less_than": 13}}"#;
    let found = cli.done(&["search", "--vector", "[1, 2]", "--filter", filter, "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let mut ids: Vec<&str> = found["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["000010", "000011", "000012"]);
    let exported = cli.done(&["export", "--filter", filter, "--no-vectors"]);
    assert_eq!(exported.lines().count(), 3, "{exported}");
    let ran = cli.run(&["delete", "--filter", filter, "--dry-run", "--json"]);
    assert_eq!((ran.out.as_str(), cli.records("default")), ("{\"deleted\":3,\"missing\":[]}\n", 50), "{}", ran.err);
    let ran = cli.run(&["delete", "--filter", filter, "--json"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "{\"deleted\":3,\"missing\":[]}\n"), "{}", ran.err);
    assert_eq!(cli.records("default"), 47);
    for arguments in [
        &["search", "x", "--filter", "{\"equal\": 1}"][..],
        &["export", "--filter", "{"],
        &["delete", "1", "--filter", filter],
        &["delete", "--filter", r#"{"in": {"field": "n", "values": []}}"#],
    ] {
        let ran = cli.run(arguments);
        assert!(ran.code == 2 && ran.err.starts_with("error: "), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn collections_are_created_listed_and_deleted() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    cli.done(&["collections", "create", "shapes", "--space", "pixels:3:euclidean", "--description", "what it is"]);
    let shown: Value = serde_json::from_str(&cli.done(&["collections", "show", "shapes"])).unwrap();
    assert_eq!(shown["spaces"][0], json!({"name": "pixels", "dimension": 3, "metric": "euclidean", "records": 0}));
    assert_eq!(shown["description"], "what it is");
    let table = cli.done(&["collections", "list"]);
    assert!(table.contains("NAME") && table.contains("pixels (3, euclidean)"), "{table}");
    assert_eq!(cli.done(&["collections", "list", "--json"]).lines().count(), 1);
    let ran = cli.run(&["collections", "delete", "shapes"]);
    assert!(ran.code == 2 && ran.err.contains("say --yes"), "{}", ran.err);
    cli.done(&["collections", "delete", "shapes", "--yes"]);
    assert_eq!(cli.done(&["collections", "list", "--json"]), "");
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli::of(&server);
    assert_eq!(cli.run_with(&["import", "-", "--format", "jsonl"], &vector_lines(20_000, 8)).code, 0);
    let mut child = cli.spawn(&["export"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let ran = ended(child);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn texts_are_imported_and_searched() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let cli = Cli::of(&server);
    cli.write(
        "a.jsonl",
        "{\"id\": \"1\", \"text\": \"The cat sat on the mat\", \"kind\": \"animal\"}\n\
         {\"id\": \"2\", \"text\": \"Stocks fell sharply on Monday\", \"n\": 9007199254740993}\n\
         {\"id\": \"3\", \"text\": \"A dog sleeps on the sofa\"}\n",
    );
    let ran = cli.run(&["import", "a.jsonl"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = cli.run(&["search", "a sleeping pet", "-k", "2"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("1  0.59") && lines[0].contains("A dog sleeps"), "{}", ran.out);
    assert!(lines[1].ends_with("kind=animal") && !ran.out.contains('\x1b'), "{}", ran.out);

    let answer = cli.done(&["search", "shares", "-k", "1", "--json", "--explain"]);
    assert!(answer.contains("\"n\":9007199254740993"), "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&answer["query"], &answer["hits"][0]["id"]), (&json!("shares"), &json!("2")));
    assert_eq!(answer["explain"]["distances"], 3);

    let queries = ["pets", "", "money", &"x ".repeat(600_000), "furniture"].join("\n");
    let ran = cli.run_with(&["search", "-", "--json", "-k", "1"], &queries);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let answered: Vec<String> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["query"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(answered, ["pets", "money", "furniture"]);
    assert!(ran.err.contains("line 3: ") && ran.err.contains("[INVALID_TEXT]"), "{}", ran.err);
    let by_vector: Value = serde_json::from_str(&cli.done(&["get", "3"])).unwrap();
    let vector = by_vector["vector"].to_string();
    let found = cli.done(&["search", "--vector", &vector, "-k", "1", "--json"]);
    assert!(found.contains("\"id\":\"3\"") && !found.contains("\"query\""), "{found}");
}
