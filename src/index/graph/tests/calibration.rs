//! The promised recall is reached.

use super::*;

#[test]
fn the_promised_recall_is_reached_by_queries_of_the_same_kind() {
    for (dimension, metric) in [(16, Metric::Euclidean), (96, Metric::Cosine), (96, Metric::DotProduct)] {
        // Few clusters, wide: the nearest are not much nearer than others, and recall has a price.
        let sample = Kind { dimension, clusters: 4, spread: 1.0 }.sample(metric, 4000, 150, 41);
        let built = sample.build(&GraphOptions { threads: 2, ..GraphOptions::default() });
        for k in [1, 10, 30, 100] {
            // One hit for each of 150 queries: chance alone is some .02.
            let mut before = (0.0, 0.0);
            for target in [0.8, 0.9, 0.95, 0.99] {
                let reach = built.graph.reach(k, target).unwrap();
                let expected_hops = built.graph.hops(k, reach);
                let (recall, hops) = sample.recall(&built, k, reach);
                let name = format!("{metric}, k = {k}: recall {recall:.4} at {reach:.3}, where {target} was promised");
                assert!(recall >= target - 0.02 - if k == 1 { 0.02 } else { 0.0 }, "{name}");
                assert!(reach >= before.0 && expected_hops >= before.1, "{name}: more recall, farther walks");
                // Between two that were measured, hops are those of the farther one.
                assert!(expected_hops > 0.7 * hops && expected_hops < 2.0 * hops, "{name}: {hops} of {expected_hops}");
                before = (reach, expected_hops);
            }
        }
    }
}

#[test]
fn a_graph_too_small_to_measure_has_a_far_reach() {
    let sample = Kind::of(70).sample(Metric::Cosine, 500, 20, 42);
    let built = sample.build(&GraphOptions::default());
    let (recall, _) = sample.recall(&built, 10, built.graph.reach(10, 0.95).unwrap());
    assert!(recall >= 0.95, "recall {recall}");
}
