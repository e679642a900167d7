//! `vectron bench`, tiny: what it prints, that counts add up, and that it leaves nothing. Never times.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "bench/churn.rs"]
mod churn;
mod common;
#[path = "bench/filters.rs"]
mod filters;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
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
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
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

/// Writes a NumPy array of 32 bit numbers, as NumPy does.
fn write_array(folder: &Path, name: &str, descr: &str, columns: usize, numbers: &[u8]) -> PathBuf {
    let rows = numbers.len() / 4 / columns;
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    header.push_str(&" ".repeat(117 - header.len()));
    header.push('\n');
    let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    let path = folder.join(name);
    fs::write(&path, [&start, numbers].concat()).unwrap();
    path
}

/// Vectors with components from -1 to 1.
fn vectors(folder: &Path, name: &str, rows: usize, dimension: usize, seed: u32) -> PathBuf {
    let component = |i: usize| ((i as f32 + 1.0) * (seed as f32 + 0.618_034) * 12.9898).sin();
    let numbers: Vec<u8> = (0..rows * dimension).flat_map(|i| component(i).to_le_bytes()).collect();
    write_array(folder, name, "<f4", dimension, &numbers)
}

/// Vectors with components from -1 to 1 that have nothing to do with one another.
fn noise(folder: &Path, name: &str, rows: usize, dimension: usize, seed: u64) -> PathBuf {
    let component = |i: usize| {
        let mixed = (i as u64 + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let numbers: Vec<u8> = (0..rows * dimension).flat_map(|i| component(i).to_le_bytes()).collect();
    write_array(folder, name, "<f4", dimension, &numbers)
}

fn row_numbers(folder: &Path, name: &str, rows: &[&[i32]]) -> PathBuf {
    let numbers: Vec<u8> = rows.concat().into_iter().flat_map(i32::to_le_bytes).collect();
    write_array(folder, name, "<i4", rows[0].len(), &numbers)
}

/// The components of a file of 2 or 4 byte numbers, and the length of its rows.
fn read_array(path: &Path) -> (Vec<f32>, usize) {
    let bytes = fs::read(path).unwrap();
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
    let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
    let lengths: Vec<usize> = shape.split(", ").map(|length| length.parse().unwrap()).collect();
    let (rows, numbers) = (lengths[0], &bytes[10 + length..]);
    let numbers: Vec<f32> = match &header[..16] {
        "{'descr': '<f2'," => {
            numbers.chunks(2).map(|two| half::f16::from_le_bytes([two[0], two[1]]).to_f32()).collect()
        }
        "{'descr': '<f4'," => numbers.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
        "{'descr': '<i4'," => {
            numbers.chunks(4).map(|four| i32::from_le_bytes(four.try_into().unwrap()) as f32).collect()
        }
        other => panic!("{other}"),
    };
    assert_eq!(numbers.len(), rows * lengths[1]);
    (numbers, lengths[1])
}

#[test]
fn ann_measures_recall_and_rate_of_each_width_and_target() {
    let folder = data_folder();
    let (base, queries) = (vectors(folder.path(), "base.npy", 1000, 24, 1), vectors(folder.path(), "q.npy", 50, 24, 2));
    let scratch = folder.path().join("scratch");
    let files = ["ann", "--base", base.to_str().unwrap(), "--queries", queries.to_str().unwrap()];
    let ann = |arguments: &[&str]| {
        let lines = bench(folder.path(), &[&files[..], &["--data", scratch.to_str().unwrap()], arguments].concat());
        nothing_is_left_in(&scratch);
        lines
    };
    let lines = ann(&["--reach", "0,0.5,50", "--repeat", "2", "--threads", "2", "--build-threads", "1"]);
    assert_eq!(lines.len(), 3 + 3 + 1);
    let (points, end) = (&lines[..6], &lines[6]);
    assert_eq!([&points[0]["reach"], &points[1]["reach"]], [&json!(0.0), &json!(0.5)]);
    assert_eq!(number(&points[2], "recall"), 1.0, "a walk that goes everywhere: {}", points[2]);
    for (point, target) in points[3..].iter().zip([0.90, 0.95, 0.99]) {
        assert_eq!(number(point, "target_recall"), target);
    }
    for point in points {
        is_positive(point, &["queries_per_s", "distances"]);
        assert!(number(point, "hops") >= 0.0 && point["recall"].as_f64().unwrap() > 0.3, "{point}");
    }
    assert_eq!(
        [&end["rows"], &end["dimension"], &end["k"], &end["threads"]],
        [1000, 24, 10, 2].map(|n| json!(n)).each_ref()
    );
    is_positive(end, &["load_s", "resident_mb"]);
    is_positive(&end["bytes_per_row"], &["vectors", "other"]);
    for part in ["graph", "codes"] {
        assert!(number(&end["bytes_per_row"], part) >= 0.0);
    }
    assert!(end["at"].as_object().unwrap().keys().eq([".90", ".95", ".98", ".99"]), "{end}");
    assert!(number(&end["at"], ".99") > 0.0 && number(end, "build_s") >= 0.0 && end["cpu"].is_string(), "{end}");

    // A collection that lives, another metric, fewer rows.
    let lines =
        ann(&["--reach", "50", "--memtable", "25", "--deleted", "10", "--metric", "euclidean", "--limit-base", "400"]);
    let (point, end) = (&lines[0], &lines[4]);
    assert_eq!(number(point, "recall"), 1.0, "{point}");
    let rows = number(end, "rows");
    assert!((320.0..399.0).contains(&rows), "a tenth of 400 was deleted: {end}");
}

#[test]
fn ann_finds_as_much_where_rows_lie_beside_the_graph() {
    let folder = data_folder();
    let (base, queries) = (noise(folder.path(), "base.npy", 8000, 16, 1), noise(folder.path(), "q.npy", 200, 16, 2));
    let files = ["ann", "--base", base.to_str().unwrap(), "--queries", queries.to_str().unwrap(), "--repeat", "1"];
    for memtable in ["0", "20"] {
        let lines = bench(folder.path(), &[&files[..], &["--reach", "0", "--memtable", memtable]].concat());
        let point = lines.iter().find(|line| line["target_recall"] == 0.95).unwrap();
        assert!(number(point, "hops") > 0.0, "the graph is walked: {point}");
        assert!(number(point, "recall") > 0.93, "{memtable} percent in no graph: {point}");
    }
}

#[test]
fn ann_reads_the_truth_and_forgives_ties() {
    let folder = data_folder();
    let numbers = |rows: &[[f32; 2]]| rows.concat().into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    // Rows 1 and 2 are equally near to the query.
    let base = numbers(&[[1.0, 0.0], [1.0, 1.0], [2.0, 2.0], [-1.0, 0.0]]);
    let base = write_array(folder.path(), "base.npy", "<f4", 2, &base);
    let queries = write_array(folder.path(), "q.npy", "<f4", 2, &numbers(&[[1.0, 0.1]]));
    for (truth, recall) in [(&[0, 1, 2, 3][..], 1.0), (&[0, 2, 1, 3], 1.0), (&[3, 0], 0.5)] {
        let truth = row_numbers(folder.path(), "truth.npy", &[truth]);
        let files = [&base, &queries, &truth].map(|path| path.to_str().unwrap());
        let files = ["ann", "--base", files[0], "--queries", files[1], "--truth", files[2]];
        let lines = bench(folder.path(), &[&files[..], &["-k", "2", "--reach", "50"]].concat());
        assert_eq!(number(&lines[0], "recall"), recall, "{}", lines[0]);
    }
}

#[test]
fn ann_takes_turns_where_it_is_told_to() {
    let folder = data_folder();
    let base = vectors(folder.path(), "base.npy", 100, 8, 1);
    let mut command = vectron(folder.path());
    command.args(["bench", "ann", "--interactive", "--reach", "1", "--base"]).arg(&base).arg("--queries").arg(&base);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut lines = output.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["ready"]["rows"], 100);
    for _ in 0..2 {
        input.write_all(b"\n").unwrap();
        let turn: Vec<Value> = lines.by_ref().take(5).collect();
        assert!(turn[0]["reach"].is_number() && turn[3]["target_recall"].is_number() && turn[4]["at"].is_object());
    }
    drop(input);
    assert!(lines.next().is_none() && child.wait().unwrap().success());
}

#[test]
fn generate_makes_rows_and_their_truth_the_same_for_a_seed() {
    let folder = data_folder();
    let (base, queries) = (vectors(folder.path(), "base.npy", 40, 16, 1), vectors(folder.path(), "q.npy", 70, 16, 2));
    let path = |name: &str| folder.path().join(name);
    let generate = |arguments: &[&str]| {
        let all = ["generate", "--base", base.to_str().unwrap()];
        let lines = bench(folder.path(), &[&all[..], arguments].concat());
        assert!(lines.is_empty(), "it prints nothing");
    };
    let with_truth = |out: &Path, count: &str, seed: &str| {
        let truth = path("truth.npy");
        let (out, queries, truth) = (out.to_str().unwrap(), queries.to_str().unwrap(), truth.to_str().unwrap());
        let truth = ["--queries", queries, "--truth-out", truth, "-k", "7"];
        generate(&[&["--count", count, "--seed", seed, "--out", out], &truth[..]].concat());
    };
    with_truth(&path("big.npy"), "1500", "5");
    let (rows, dimension) = read_array(&path("big.npy"));
    assert_eq!((rows.len(), dimension), (1500 * 16, 16));
    for (made, given) in rows.iter().zip(read_array(&base).0) {
        assert!((made - given).abs() < 1e-3, "the first rows are those of the base");
    }
    let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    for row in rows.chunks(16).skip(40) {
        assert!((length(row) - 1.0).abs() < 1e-3);
    }

    let (truth, columns) = read_array(&path("truth.npy"));
    assert_eq!((truth.len(), columns), (70 * 7, 7));
    for (query, truth) in read_array(&queries).0.chunks(16).zip(truth.chunks(7)) {
        let cosine = |row: &[f32]| {
            row.iter().zip(query).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() / length(row) / length(query)
        };
        let mut all: Vec<f64> = rows.chunks(16).map(cosine).collect();
        let told: Vec<f64> = truth.iter().map(|&row| all[row as usize]).collect();
        all.sort_by(|a, b| b.total_cmp(a));
        assert!(told.iter().zip(&all).all(|(told, expected)| (told - expected).abs() < 1e-6), "{told:?}");
    }

    let bytes = |name: &str| fs::read(path(name)).unwrap();
    generate(&["--count", "1500", "--seed", "5", "--out", path("again.npy").to_str().unwrap()]);
    generate(&["--count", "1500", "--seed", "6", "--out", path("other.npy").to_str().unwrap()]);
    assert!(bytes("again.npy") == bytes("big.npy") && bytes("other.npy") != bytes("big.npy"));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "no part is left: {left:?}");
}

#[test]
fn files_that_do_not_fit_together_are_told_apart() {
    let folder = data_folder();
    let at = folder.path();
    vectors(at, "base.npy", 100, 8, 1);
    vectors(at, "queries.npy", 2, 8, 2);
    vectors(at, "wide.npy", 2, 9, 2);
    write_array(at, "zero.npy", "<f4", 8, &[0; 32]);
    row_numbers(at, "few.npy", &[&[1, 2, 3], &[1, 2, 3]]);
    row_numbers(at, "far.npy", &[&[1, 2, 3], &[1, 100, 3]]);
    row_numbers(at, "short.npy", &[&[1, 2, 3]]);
    fs::write(at.join("cut.npy"), &fs::read(at.join("base.npy")).unwrap()[..2000]).unwrap();
    let ann = ["ann", "--base", "base.npy", "--queries"];
    let generate = ["generate", "--base", "base.npy", "--out", "out.npy", "--count"];
    for (command, arguments, code, says) in [
        (&ann[..], &["wide.npy"][..], 1, "base.npy have 8 components, but those of wide.npy 9"),
        (&ann, &["zero.npy"], 1, "zero.npy: row 0 is a zero vector, which has no cosine"),
        (&ann, &["none.npy"], 1, "none.npy: No such file"),
        (&ann, &["cut.npy"], 1, "cut.npy: the file ends too early"),
        (&ann, &["few.npy"], 1, "'<f2', '<f4' or '<f8', but got '<i4'"),
        (&ann, &["queries.npy", "--truth", "few.npy"], 1, "it has the 3 nearest of each query, too few for -k 10"),
        (&ann, &["queries.npy", "--truth", "few.npy", "-k", "4"], 1, "the 3 nearest of each query, too few for -k 4"),
        (&ann, &["queries.npy", "--truth", "far.npy", "-k", "3"], 1, "query 1 has row 100 among its nearest"),
        (&ann, &["queries.npy", "--truth", "short.npy", "-k", "3"], 1, "a row for each of 2 queries, but there are 1"),
        (&ann, &["queries.npy", "--truth", "base.npy"], 1, "'<i4' or '<i8', but got '<f4'"),
        (&ann, &["queries.npy", "--memtable", "100"], 2, "from 0 up to, but not, 100"),
        (&ann, &["queries.npy", "--reach=-1"], 2, "expected a number from 0"),
        (&ann, &["queries.npy", "-k", "0"], 2, "1..=10000"),
        (
            &generate,
            &["200", "--queries", "wide.npy", "--truth-out", "t.npy"],
            1,
            "components, but those of wide.npy 9",
        ),
        (&generate, &["50", "--queries", "queries.npy", "--truth-out", "t.npy"], 1, "-k 100 asks for more rows"),
        (&generate, &["50", "--queries", "queries.npy"], 2, "--truth-out"),
        (&generate, &["0"], 2, "1.."),
    ] {
        let mut process = vectron(at);
        process.arg("bench").args(command).args(arguments).current_dir(at);
        let (status, said) = run_to_end(process);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(!at.join("out.npy").exists() && !at.join("out.npy.part").exists(), "{arguments:?}");
    }
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
        (&["bench", "--help"][..], &["rpc", "ingest", "ann", "churn", "generate"][..]),
        (&["bench", "ann", "--help"], &["Examples:", "--truth", "--memtable", "resident_mb", "null where"]),
        (&["bench", "ann", "--help"], &["--filter", "--queries-where", "hits_missing", "{\"field\": \"kind\""]),
        (&["bench", "churn", "--help"], &["Examples:", "--rows-per-s", "built_per_written", "p99_ratio"]),
        (&["bench", "generate", "--help"], &["Examples:", "normalize((1 - t) a + t b + noise)", "--truth-out"]),
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
        assert!(!text.contains("--interactive"), "{text}");
    }
}
