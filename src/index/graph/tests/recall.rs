//! How much of the truth walks find.

use super::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::DotProduct, Metric::Euclidean];

/// Recall at several reaches, farther ones first: each at least as asked.
fn check(name: &str, sample: &Sample, expected: &[(f32, f64)]) {
    let built = sample.build(&GraphOptions { threads: 2, ..GraphOptions::default() });
    let mut before = f64::INFINITY;
    for &(reach, least) in expected {
        let (recall, hops) = sample.recall(&built, 10, reach);
        assert!(recall >= least, "{name} {}: recall {recall} at reach {reach}, expected {least}", sample.metric);
        assert!(hops <= before, "{name} {}: a shorter reach has more hops", sample.metric);
        before = hops;
    }
}

#[test]
fn walks_find_the_nearest_in_every_dimension_by_every_metric() {
    for dimension in [2, 3, 16, 63, 64, 100, 384] {
        for metric in METRICS {
            let rows = if dimension > 100 { 1200 } else { 2500 };
            let sample = Kind::of(dimension).sample(metric, rows, 50, dimension as u64);
            check(&format!("{dimension} components"), &sample, &[(0.4, 0.995), (0.1, 0.97), (0.0, 0.94)]);
        }
    }
}

#[test]
fn walks_find_the_nearest_among_few_rows_of_many_components() {
    for dimension in [1536, 4096] {
        for metric in METRICS {
            let sample = Kind::of(dimension).sample(metric, 300, 20, 5);
            check(&format!("{dimension} components"), &sample, &[(0.3, 0.995)]);
        }
    }
}

#[test]
fn lengths_and_offsets_do_not_matter() {
    for dimension in [16, 96] {
        let sample = |metric| Kind::of(dimension).sample(metric, 1500, 50, 11);
        let scaled = |factor: f32| move |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x *= factor);
        let expected = [(0.3, 0.995), (0.1, 0.96)];
        for metric in METRICS {
            check("tiny", &sample(metric).map(scaled(1e-20)), &expected);
            check("huge", &sample(metric).map(scaled(1e17)), &expected);
        }
        let offset = sample(Metric::Euclidean).map(|_, row| row.iter_mut().for_each(|x| *x += 1000.0));
        check("far offset", &offset, &expected);
        let lengths = |number: usize, row: &mut [f32]| scaled([1.0, 0.01, 3.0, 100.0][number % 4])(number, row);
        check("different lengths", &sample(Metric::DotProduct).map(lengths), &expected);
        check("different lengths", &sample(Metric::Cosine).map(lengths), &expected);
    }
}

#[test]
fn the_length_of_a_query_does_not_matter_to_dot_products() {
    for dimension in [16, 96] {
        let mut sample = Kind::of(dimension).sample(Metric::DotProduct, 2000, 50, 12);
        let built = sample.build(&GraphOptions::default());
        let queries = sample.queries.clone();
        let (_, hops) = sample.recall(&built, 10, 0.2);
        for factor in [1e-15, 1e-3, 1e3, 1e15] {
            sample.queries = queries.clone();
            sample.queries.iter_mut().flatten().for_each(|x| *x *= factor);
            let (recall, scaled) = sample.recall(&built, 10, 0.2);
            assert!(recall >= 0.99, "{dimension} components times {factor:e}: recall {recall}");
            assert!((scaled / hops - 1.0).abs() < 0.02, "times {factor:e}: {scaled} hops instead of {hops}");
        }
    }
}

/// Nearer than codes can tell apart, in 96 components: the hits are not the nearest ten of 500, but near all the same.
#[test]
fn heavy_clusters_are_no_exception() {
    for (dimension, metric, spread) in
        [(16, Metric::Euclidean, 1e-5), (96, Metric::Euclidean, 1e-2), (96, Metric::Euclidean, 1e-4)]
    {
        let sample = Kind { dimension, clusters: 10, spread }.sample(metric, 5000, 40, 13);
        let built = sample.build(&GraphOptions { threads: 2, ..GraphOptions::default() });
        for number in 0..sample.queries.len() {
            let (query, mut hits) = (sample.query(number), Vec::new());
            built.graph.search(&query, &wanted(walk(10, 0.2), &[]), &mut Scratch::default(), |_| true, &mut hits);
            let (hits, exact) = (built.originals(hits), sample.exact(&query));
            let ratio = (hits[9].0 / exact[9].0).sqrt();
            assert!(ratio < 1.5, "{dimension} components, spread {spread:e}, query {number}: {ratio} times as far");
        }
        let (recall, _) = sample.recall(&built, 10, 0.2);
        assert!(recall >= 0.97 || dimension >= 64, "{dimension} components: recall {recall}");
    }
}
