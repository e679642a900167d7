//! How far walks of a fixed graph go, and what they find: an algorithm that changes shows as a change of the committed file.
//!
//! Rows and queries are whole numbers over powers of two, and the scalar kernels round alike on every machine, so the numbers
//! are compared exactly. `UPDATE_BASELINES=1 cargo test --release --lib baseline` writes the file anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::{Value, json};

use super::*;

const TEST: &str = "index::graph::tests::baseline::walks_go_as_far_as_the_baseline_says";
const K: usize = 10;
const QUERIES: usize = 200;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/baselines/graph.json")
}

fn measure(metric: Metric) -> Value {
    let sample = Kind { dimension: 96, clusters: 4, spread: 1.0 }.sample(metric, 3000, QUERIES, 2026);
    let built = sample.build(&GraphOptions { threads: 2, ..GraphOptions::default() });
    let walks = [0.0, 0.05, 0.1, 0.2].map(|reach| {
        let (mut hops, mut distances, mut found) = (0, 0, 0);
        for number in 0..QUERIES {
            let (query, mut hits) = (sample.query(number), Vec::new());
            let stats =
                built.graph.search(&query, &wanted(walk(K, reach), &[]), &mut Scratch::default(), |_| true, &mut hits);
            hops += stats.hops;
            distances += stats.distances;
            found += right(&built.originals(hits), &sample.exact(&query)[..K], sample.tolerance(number));
        }
        json!({ "reach": reach.to_string(), "found": found, "hops": hops, "distances": distances })
    });
    json!({
        "metric": metric.to_string(), "rows": 3000, "components": 96, "queries": QUERIES, "k": K,
        "of": K * QUERIES, "walks": walks,
    })
}

#[test]
fn walks_go_as_far_as_the_baseline_says() {
    // The kernels are chosen once for the process: where others are, another process does it.
    if kernels_in_use() != ["scalar"; 2] {
        let mut scalar = Command::new(env::current_exe().unwrap());
        let output = scalar.env("VECTRON_CPU", "scalar").args([TEST, "--exact", "--nocapture"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let measured = json!([Metric::Cosine, Metric::Euclidean, Metric::DotProduct].map(measure));
    if env::var_os("UPDATE_BASELINES").is_some() {
        fs::create_dir_all(file().parent().unwrap()).unwrap();
        fs::write(file(), serde_json::to_string_pretty(&measured).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_str(&fs::read_to_string(file()).unwrap()).unwrap();
    let renew = "UPDATE_BASELINES=1 cargo test --release --lib baseline";
    assert!(
        measured == expected,
        "not what {} says. If that is meant: {renew}\nmeasured: {measured:#}",
        file().display()
    );
}

fn kernels_in_use() -> [&'static str; 2] {
    [crate::distance::kernels().name, crate::quantization::kernels().name]
}
