//! Scans are exact.

use super::*;

fn scan(built: &Built, query: &Queries, k: usize, certainty: Certainty, rows: Rows<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    built.graph.scan(query, k, certainty, rows, &mut Scratch::default(), &mut hits);
    built.originals(hits)
}

/// Panics unless the first `k` are as near as the true ones, one after another.
fn check(name: &str, hits: &[Hit], truth: &[Hit], k: usize, tolerance: f32) {
    assert!(hits.len() >= k.min(truth.len()), "{name}: {} hits", hits.len());
    for (place, (hit, truth)) in hits.iter().zip(truth).take(k).enumerate() {
        assert!((hit.0 - truth.0).abs() <= tolerance, "{name}: hit {place} is {hit:?}, but {truth:?} is there");
    }
}

fn samples() -> Vec<(String, Sample)> {
    let mut samples = Vec::new();
    for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
        for dimension in [3, 16, 70, 384] {
            samples.push((format!("{dimension}"), Kind::of(dimension).sample(metric, 600, 10, 31)));
        }
        for dimension in [16, 96] {
            for spread in [1e-2, 1e-4, 1e-6] {
                let kind = Kind { dimension, clusters: 10, spread };
                samples.push((format!("{dimension}, spread {spread:e}"), kind.sample(metric, 600, 10, 32)));
            }
            for length in [1e-20, 1e17] {
                let scale = |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x *= length);
                let sample = Kind::of(dimension).sample(metric, 600, 10, 33).map(scale);
                samples.push((format!("{dimension}, length {length:e}"), sample));
            }
            let lengths = |number: usize, row: &mut [f32]| {
                let length = [1.0, 0.01, 3.0, 100.0][number % 4];
                row.iter_mut().for_each(|x| *x *= length);
            };
            let sample = Kind::of(dimension).sample(metric, 600, 10, 34).map(lengths);
            samples.push((format!("{dimension}, many lengths"), sample));
        }
    }
    let offset = |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x += 1000.0);
    samples.push(("96, far offset".into(), Kind::of(96).sample(Metric::Euclidean, 600, 10, 35).map(offset)));
    samples
}

#[test]
fn a_sure_scan_finds_what_exact_search_finds() {
    for (name, sample) in samples() {
        let built = sample.build(&GraphOptions { rounds: 0, ..GraphOptions::default() });
        for number in 0..sample.queries.len() {
            let query = sample.query(number);
            let exact = sample.exact(&query);
            for k in [1, 10, 100] {
                let hits = scan(&built, &query, k, Certainty::Sure, Rows::All(&|_| true));
                let name = format!("{name}, {}, query {number}, k = {k}", sample.metric);
                check(&name, &hits, &exact, k, sample.tolerance(number));
            }
        }
    }
}

#[test]
fn a_sure_scan_of_these_rows_finds_the_nearest_of_them() {
    for (name, sample) in samples() {
        let built = sample.build(&GraphOptions { rounds: 0, ..GraphOptions::default() });
        let these: Vec<u32> = (0..600).filter(|row| row % 3 == 1).collect();
        let originals: HashSet<u32> = these.iter().map(|&row| built.order[row as usize]).collect();
        for number in 0..sample.queries.len() {
            let query = sample.query(number);
            let exact: Vec<Hit> = sample.exact(&query).into_iter().filter(|hit| originals.contains(&hit.1)).collect();
            for k in [1, 10, 500] {
                let hits = scan(&built, &query, k, Certainty::Sure, Rows::These(&these));
                assert!(hits.iter().all(|hit| originals.contains(&hit.1)), "{name}: these rows alone");
                let name = format!("{name}, {}, query {number}, k = {k}", sample.metric);
                check(&name, &hits, &exact, k, sample.tolerance(number));
                let counts = |row: u32| row % 3 == 1;
                let counted = scan(&built, &query, k, Certainty::Sure, Rows::All(&counts));
                check(&format!("{name}, as a condition"), &counted, &exact, k, sample.tolerance(number));
            }
        }
    }
}

#[test]
fn a_likely_scan_misses_next_to_nothing_and_compares_fewer() {
    let (mut found, mut wanted, mut sure, mut likely) = (0, 0, 0, 0);
    for (_, sample) in samples() {
        let built = sample.build(&GraphOptions { rounds: 0, ..GraphOptions::default() });
        for number in 0..sample.queries.len() {
            let query = sample.query(number);
            let hits = scan(&built, &query, 10, Certainty::Likely, Rows::All(&|_| true));
            likely += hits.len();
            sure += scan(&built, &query, 10, Certainty::Sure, Rows::All(&|_| true)).len();
            wanted += 10;
            found += right(&hits, &sample.exact(&query)[..10], sample.tolerance(number));
        }
    }
    assert!(found as f64 >= 0.9995 * f64::from(wanted), "{found} of {wanted}");
    assert!(likely < sure, "{likely} rows instead of {sure}");
}

#[test]
fn twins_count_each_for_itself() {
    let mut sample = Kind::of(70).sample(Metric::Euclidean, 400, 3, 36);
    (0..200).for_each(|row| sample.rows[row + 200] = sample.rows[row].clone());
    let built = sample.build(&GraphOptions::default());
    assert_eq!(built.graph.node_count(), 200);
    let these: Vec<u32> = (0..400).filter(|&row| built.order[row as usize] >= 200).collect();
    for number in 0..3 {
        let query = sample.query(number);
        let exact: Vec<Hit> = sample.exact(&query).into_iter().filter(|hit| hit.1 >= 200).collect();
        let hits = scan(&built, &query, 7, Certainty::Sure, Rows::These(&these));
        assert_eq!(hits[..7], exact[..7]);
        let counts = |row: u32| built.order[row as usize] >= 200;
        let hits = scan(&built, &query, 7, Certainty::Sure, Rows::All(&counts));
        assert_eq!(hits[..7], exact[..7]);
    }
}
