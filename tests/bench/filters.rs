//! `vectron bench ann` with filters: what they select, and what is found.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::common::{data_folder, run_to_end, vectron};
use super::{bench, is_positive, number, row_numbers, vectors, write_array};

/// Records `row-0`, `row-1`, …, half of them of kind `a`, with their number.
fn records(folder: &Path, name: &str, count: usize) {
    let line = |row: usize| {
        let kind = if row.is_multiple_of(2) { "a" } else { "b" };
        json!({"id": format!("row-{row}"), "text": "a text", "metadata": {"kind": kind, "n": row}}).to_string() + "\n"
    };
    let lines: String = (0..count).map(line).collect();
    match name.ends_with(".gz") {
        true => {
            let mut file = GzEncoder::new(File::create(folder.join(name)).unwrap(), Compression::fast());
            file.write_all(lines.as_bytes()).unwrap();
            file.finish().unwrap();
        }
        false => fs::write(folder.join(name), lines).unwrap(),
    }
}

const KIND_A: &str = r#"{"equals": {"field": "kind", "value": "a"}}"#;
const KIND_B: &str = r#"{"equals": {"field": "kind", "value": "b"}}"#;
const FIRST_FIVE: &str = r#"{"range": {"field": "n", "less_than": 5}}"#;
const NONE: &str = r#"{"exists": {"field": "nothing"}}"#;

fn planned(line: &Value) -> f64 {
    ["graph", "filtered_scan", "flat"].map(|plan| number(&line["plan"], plan)).iter().sum()
}

#[test]
fn ann_measures_each_filter_against_its_own_truth() {
    let folder = data_folder();
    let at = folder.path();
    vectors(at, "base.npy", 1000, 24, 1);
    vectors(at, "q.npy", 50, 24, 2);
    records(at, "base.jsonl.gz", 1000);
    records(at, "q.jsonl", 50);
    let files = ["ann", "--base", "base.npy", "--queries", "q.npy", "--records", "base.jsonl.gz", "--repeat", "1"];
    let filters = ["--filter", KIND_A, "--filter", FIRST_FIVE, "--filter", NONE];

    let lines = bench(at, &[&files[..], &filters].concat());
    assert_eq!(lines.len(), 3 + 1);
    for (line, (filter, selectivity)) in lines.iter().zip([(KIND_A, 0.5), (FIRST_FIVE, 0.005), (NONE, 0.0)]) {
        assert_eq!(line["filter"], serde_json::from_str::<Value>(filter).unwrap());
        assert_eq!((number(line, "selectivity"), number(line, "target_recall")), (selectivity, 0.95), "{line}");
        assert_eq!((number(line, "queries"), planned(line)), (50.0, 50.0), "{line}");
        assert_eq!(number(line, "hits_missing"), 0.0, "fewer than -k is enough where there are no more: {line}");
        assert!((number(line, "selectivity_estimated") - selectivity).abs() < 0.2, "{line}");
        is_positive(line, &["recall", "queries_per_s"]);
    }
    assert_eq!([number(&lines[1], "recall"), number(&lines[2], "recall")], [1.0, 1.0], "few rows are all compared");
    assert_eq!((&lines[3]["rows"], &lines[3]["at"]), (&json!(1000), &Value::Null));

    // Queries of one kind, records of the other; several targets; a collection that lives.
    let other = ["--query-records", "q.jsonl", "--queries-where", KIND_A, "--filter", KIND_B];
    let lives = ["--target-recall", "0.8", "--target-recall", "0.9,1", "--memtable", "25", "--deleted", "10"];
    let lines = bench(at, &[&files[..], &other, &lives].concat());
    assert_eq!(lines.len(), 3 + 1);
    for (line, target) in lines.iter().zip([0.8, 0.9, 1.0]) {
        assert_eq!((number(line, "target_recall"), number(line, "queries"), planned(line)), (target, 25.0, 25.0));
        assert_eq!(line["queries_where"], serde_json::from_str::<Value>(KIND_A).unwrap());
        assert!((number(line, "selectivity") - 0.5).abs() < 0.1, "of those that are left: {line}");
    }
    assert_eq!(number(&lines[2], "recall"), 1.0, "all is exact: {}", lines[2]);
}

#[test]
fn ann_asks_for_the_recall_that_it_is_told_and_knows_records_by_their_ids() {
    let folder = data_folder();
    let at = folder.path();
    let numbers = |rows: &[[f32; 2]]| rows.concat().into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    write_array(at, "base.npy", "<f4", 2, &numbers(&[[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]));
    write_array(at, "q.npy", "<f4", 2, &numbers(&[[1.0, 0.1], [1.0, 0.0]]));
    row_numbers(at, "truth.npy", &[&[0, 1], &[0, 2]]);
    records(at, "base.jsonl", 3);
    records(at, "q.jsonl", 2);
    let files = ["ann", "--base", "base.npy", "--queries", "q.npy", "--records", "base.jsonl", "--truth", "truth.npy"];
    let asked = ["-k", "2", "--reach", "50", "--target-recall", "0.5,0.6"];
    let lines = bench(at, &[&files[..], &asked].concat());
    assert_eq!(lines.len(), 1 + 2 + 1);
    assert_eq!(number(&lines[0], "recall"), 0.75, "row 2 is not among the nearest: {}", lines[0]);
    assert_eq!([number(&lines[1], "target_recall"), number(&lines[2], "target_recall")], [0.5, 0.6]);

    let first = ["--query-records", "q.jsonl", "--queries-where", KIND_A];
    let lines = bench(at, &[&files[..], &asked, &first].concat());
    assert_eq!((number(&lines[0], "recall"), number(&lines[3], "queries")), (1.0, 1.0), "{lines:?}");
}

#[test]
fn records_that_do_not_fit_are_told() {
    let folder = data_folder();
    let at = folder.path();
    vectors(at, "base.npy", 20, 4, 1);
    vectors(at, "q.npy", 2, 4, 2);
    records(at, "records.jsonl", 20);
    records(at, "few.jsonl", 19);
    records(at, "two.jsonl", 2);
    fs::write(at.join("same.jsonl"), "{\"id\": \"x\"}\n".repeat(20)).unwrap();
    fs::write(at.join("broken.jsonl"), "{\"id\": \"x\"}\n{\"id\":\n").unwrap();
    let records = ["--records", "records.jsonl"];
    let of_kind_a = ["--queries-where", KIND_A, "--query-records"];
    for (arguments, code, says) in [
        (
            &["--records", "few.jsonl"][..],
            1,
            "few.jsonl: expected a record for each of 20 rows of the base, but there are 19",
        ),
        (&["--records", "same.jsonl"], 1, "same.jsonl: row 1 has the id of row 0: \"x\""),
        (&["--records", "broken.jsonl"], 1, "broken.jsonl:2: "),
        (&["--records", "none.jsonl"], 1, "none.jsonl: No such file"),
        (&["--filter", KIND_A], 2, "--records"),
        (&[&records[..], &["--filter", "{}"]].concat(), 2, "expected one of `all_of`"),
        (&[&records[..], &["--filter", KIND_A, "--reach", "1"]].concat(), 2, "cannot be used with"),
        (&[&records[..], &["--queries-where", KIND_A]].concat(), 2, "--query-records"),
        (
            &[&of_kind_a[..], &["few.jsonl"]].concat(),
            1,
            "few.jsonl: expected a record for each of 2 queries, but there are 19",
        ),
        (
            &["--queries-where", NONE, "--query-records", "two.jsonl"],
            1,
            "two.jsonl: none of 2 queries fulfils --queries-where",
        ),
        (&["--target-recall", "0"], 2, "above 0, and at most 1"),
    ] {
        let mut command = vectron(at);
        command.args(["bench", "ann", "--base", "base.npy", "--queries", "q.npy"]).args(arguments);
        let (status, said) = run_to_end(command);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
