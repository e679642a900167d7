//! `vectron bench churn`: what it writes, and that it sees it settle.

use serde_json::{Value, json};

use super::common::{data_folder, run_to_end, vectron};
use super::{bench, is_positive, noise, nothing_is_left_in, number, vectors};

const PHASES: [&str; 5] = ["insert", "update", "delete", "settle", "idle"];

#[test]
fn churn_writes_searches_and_settles() {
    let folder = data_folder();
    let at = folder.path();
    noise(at, "base.npy", 3000, 8, 1);
    noise(at, "q.npy", 40, 8, 2);
    let scratch = at.join("scratch");
    let files = ["churn", "--base", "base.npy", "--queries", "q.npy", "--data", scratch.to_str().unwrap()];
    let choices = ["--updates", "20", "--deletes", "10", "--search-threads", "2", "--idle", "0.5", "-k", "5"];
    let lines = bench(at, &[&files[..], &choices].concat());
    nothing_is_left_in(&scratch);
    assert_eq!(lines.len(), PHASES.len() + 1);
    let (phases, end) = (&lines[..5], &lines[5]);
    assert_eq!(phases.iter().map(|line| line["phase"].as_str().unwrap()).collect::<Vec<_>>(), PHASES);
    assert_eq!([0, 1, 2, 3, 4].map(|at| number(&phases[at], "rows_written")), [3000.0, 600.0, 300.0, 0.0, 0.0]);
    assert_eq!([0, 1, 2, 4].map(|at| number(&phases[at], "rows")), [3000.0, 3000.0, 2700.0, 2700.0]);
    for line in phases {
        let (p50, p99, max) = (&line["p50_us"], &line["p99_us"], &line["max_us"]);
        assert!(p50.as_f64() <= p99.as_f64() && p99.as_f64() <= max.as_f64(), "{line}");
        assert!(line["recall"].as_f64().is_none_or(|recall| recall > 0.5 && recall <= 1.0), "{line}");
    }
    let idle = &phases[4];
    is_positive(idle, &["searches", "p50_us", "recall", "recall_samples", "resident_mb", "segments"]);
    // All were built at rest: 2,700 of 3,600 written at least.
    assert!(number(end, "rows_built") >= 2048.0 && number(end, "table_rows") < 2048.0, "{end}");
    let built_per_written = number(end, "rows_built") / 3600.0;
    assert!((number(end, "built_per_written") - built_per_written).abs() < 0.001, "{end}");
    assert_eq!([&end["rows"], &end["k"], &end["search_threads"]], [&json!(2700), &json!(5), &json!(2)]);
    is_positive(end, &["p99_idle_us", "builds", "seconds", "engine_build_s", "recall"]);
}

#[test]
fn churn_writes_no_faster_than_it_is_told_and_leaves_phases_empty() {
    let folder = data_folder();
    let at = folder.path();
    vectors(at, "base.npy", 1000, 8, 1);
    let files = ["churn", "--base", "base.npy", "--queries", "base.npy", "--limit-base", "400", "--rows-per-s", "2000"];
    let lines = bench(at, &[&files[..], &["--updates", "0", "--deletes", "0", "--idle", "0"]].concat());
    assert_eq!([0, 1, 2].map(|at| number(&lines[at], "rows_written")), [400.0, 0.0, 0.0]);
    assert!(number(&lines[0], "rows_per_s") <= 2000.0, "{}", lines[0]);
    assert_eq!((&lines[5]["builds"], &lines[5]["p99_ratio"]), (&json!(0), &Value::Null), "too few to build");
}

#[test]
fn churn_tells_what_does_not_fit() {
    let folder = data_folder();
    let at = folder.path();
    vectors(at, "base.npy", 100, 8, 1);
    vectors(at, "wide.npy", 2, 9, 2);
    for (arguments, code, says) in [
        (&["--queries", "wide.npy"][..], 1, "base.npy have 8 components, but those of wide.npy 9"),
        (&["--queries", "base.npy", "--updates", "100"], 2, "from 0 up to, but not, 100"),
        (&["--queries", "base.npy", "--target-recall", "2"], 2, "above 0, and at most 1"),
        (&["--queries", "base.npy", "--idle=-1"], 2, "a number of seconds"),
    ] {
        let mut command = vectron(at);
        command.args(["bench", "churn", "--base", "base.npy"]).args(arguments);
        let (status, said) = run_to_end(command);
        assert_eq!(status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
