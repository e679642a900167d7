//! `vectron bench`, tiny: what it prints, that counts add up, and that it leaves nothing. Never times.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::{Server, Texts, data_folder, run_to_end, vectron};
use serde_json::{Value, json};
use vectron::pb::v1 as pb;

/// Runs `bench` with these arguments to its end; returns the lines that it printed.
fn bench(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = vectron(folder).arg("bench").args(arguments).stdout(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    assert_eq!(said, "", "nobody watches");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {line}"))
}

fn is_positive(line: &Value, names: &[&str]) {
    for name in names {
        assert!(number(line, name) > 0.0, "{name} in {line}");
    }
}

/// The ceiling's line, and the store's, which refers to it.
fn check_pair(echo: &Value, vectron: &Value, rate: &str, ceiling: &str) {
    assert_eq!((&echo["target"], &vectron["target"]), (&json!("echo"), &json!("vectron")));
    assert_eq!(vectron[ceiling], echo[rate]);
    assert!((number(vectron, "ratio") - number(vectron, rate) / number(echo, rate)).abs() < 0.001, "{vectron}");
    assert_eq!((&echo[ceiling], &echo["ratio"]), (&Value::Null, &Value::Null));
    for line in [echo, vectron] {
        is_positive(line, &[rate, "p50_ms", "seconds"]);
        assert!(number(line, "p99_ms") >= number(line, "p50_ms"), "{line}");
    }
}

fn nothing_is_left_in(folder: &Path) {
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn rpc_measures_each_mode_and_encoding_beside_its_ceiling() {
    let folder = data_folder();
    let data = folder.path().to_str().unwrap();
    let sizes = ["--records", "100", "--dimension", "16", "--queries", "500", "--repeat", "2", "--connections", "1,3"];
    let lines = bench(folder.path(), &[&["rpc", "--data", data, "--in-flight", "7"], &sizes[..]].concat());
    assert_eq!(lines.len(), 2 * 2 * 2 * 2, "modes, encodings, connections, targets");
    let mut combinations: Vec<String> = Vec::new();
    for pair in lines.chunks(2) {
        let (echo, vectron) = (&pair[0], &pair[1]);
        check_pair(echo, vectron, "queries_per_s", "ceiling_queries_per_s");
        assert_eq!((number(vectron, "recall"), &echo["recall"]), (1.0, &Value::Null));
        for line in pair {
            assert_eq!((&line["bench"], number(line, "runs")), (&json!("rpc"), 2.0));
            assert_eq!(number(line, "queries"), 1000.0, "each run answered 500: {line}");
            assert_eq!(
                [number(line, "records"), number(line, "dimension"), number(line, "top_k")],
                [100.0, 16.0, 10.0]
            );
            combinations.push(format!("{} {} {}", line["mode"], line["encoding"], line["connections"]));
        }
    }
    combinations.sort();
    combinations.dedup();
    assert_eq!(combinations.len(), 8, "{combinations:?}");
    nothing_is_left_in(folder.path());
}

#[test]
fn ingest_settles_and_counts_every_row() {
    let folder = data_folder();
    let data = folder.path().to_str().unwrap();
    // 667, 667 and 666 rows in frames of 100: seven frames for each stream.
    let sizes = ["--rows", "2000", "--dimension", "24", "--streams", "3", "--frame-records", "100"];
    let choices = ["--durability", "both", "--encoding", "both", "--repeat", "2"];
    let lines = bench(folder.path(), &[&["ingest", "--data", data], &sizes[..], &choices[..]].concat());
    assert_eq!(lines.len(), 2 * 2 * 2, "durabilities, encodings, targets");
    for pair in lines.chunks(2) {
        let (echo, vectron) = (&pair[0], &pair[1]);
        check_pair(echo, vectron, "rows_per_s", "ceiling_rows_per_s");
        assert_eq!((number(vectron, "count"), &echo["count"]), (2000.0, &Value::Null));
        is_positive(vectron, &["server_memory_idle_bytes", "server_memory_anonymous_peak_bytes"]);
        let (peak, beyond) = (number(vectron, "server_memory_peak_bytes"), "server_memory_beyond_data_bytes");
        assert_eq!(number(vectron, beyond), peak - (2000 * 24 * 4) as f64);
        for line in pair {
            assert_eq!((&line["bench"], number(line, "rows")), (&json!("ingest"), 2000.0));
            assert_eq!(number(line, "frames"), 2.0 * 3.0 * 7.0);
            is_positive(line, &["mb_per_s"]);
        }
    }
    let durabilities = lines.iter().map(|line| line["durability"].as_str().unwrap_or_default());
    assert_eq!(durabilities.collect::<Vec<_>>(), ["", "durable", "", "durable", "", "buffered", "", "buffered"]);
    nothing_is_left_in(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_keeps_what_it_had_and_nothing_else() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(server.post("/vector", json!({"id": "mine", "vector": [1, 2, 3]})).await.0, 200);
    let url = server.url("");
    let on_server = |arguments: &[&str]| bench(data.path(), &[arguments, &["--server", &url, "--no-ceiling"]].concat());

    let lines = on_server(&["rpc", "--records", "50", "--dimension", "8", "--queries", "60", "--repeat", "1"]);
    assert_eq!(lines.len(), 4);
    let lines = on_server(&["ingest", "--rows", "50", "--dimension", "8", "--frame-records", "10"]);
    assert_eq!((lines.len(), number(&lines[0], "count")), (1, 50.0));
    assert_eq!((&lines[0]["ratio"], &lines[0]["server_memory_peak_bytes"]), (&Value::Null, &Value::Null));
    // A collection that is there is only read.
    let lines = on_server(&["rpc", "--collection", "default", "--queries", "60", "--repeat", "1", "--mode", "unary"]);
    assert_eq!((&lines[0]["dimension"], &lines[0]["recall"]), (&json!(3), &Value::Null));

    let collections = server.collections().await.list_collections(pb::ListCollectionsRequest::default()).await.unwrap();
    let collections = collections.into_inner().collections;
    assert_eq!(collections.iter().map(|collection| collection.name.as_str()).collect::<Vec<_>>(), ["default"]);
    assert_eq!(server.get("/vectors").await.1, json!(["mine"]));
}

#[test]
fn what_cannot_be_measured_is_told() {
    let folder = data_folder();
    for (arguments, code, says) in [
        (&["rpc", "--server", common::AWAY][..], 1, "no server answers"),
        (&["rpc", "--server", "localhost:3000"], 1, "http://host:port"),
        (&["rpc", "--in-flight", "1025"], 2, "1..=1024"),
        (&["rpc", "--seconds", "0"], 2, "above 0"),
        (&["rpc", "--collection", "default"], 2, "--server"),
        (&["ingest", "--streams", "2", "--connections", "3"], 1, "2 streams cannot use 3 connections"),
        (&["ingest", "--rows", "3", "--streams", "4"], 1, "3 rows cannot be divided among 4 streams"),
    ] {
        let mut command = vectron(folder.path());
        command.arg("bench").args(arguments);
        let (status, said) = run_to_end(command);
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}

#[test]
fn help_teaches() {
    let folder = data_folder();
    for (arguments, parts) in [
        (&["bench", "--help"][..], &["rpc", "ingest"][..]),
        (&["bench", "rpc", "--help"], &["Examples:", "--in-flight", "ratio", "VECTRON_SERVER", "--data"]),
        (
            &["bench", "ingest", "--help"],
            &["Examples:", "--durability", "server_memory_beyond_data_bytes", "--streams"],
        ),
    ] {
        let help = vectron(folder.path()).args(arguments).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(help.stdout).unwrap();
        for part in parts {
            assert!(text.contains(part), "no {part} in {arguments:?}:\n{text}");
        }
        assert!(!text.contains("echo --") && !text.contains("bench echo"), "what is hidden stays so");
    }
}
