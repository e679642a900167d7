//! What a graph is made of.

use super::*;
use crate::index::graph::layout::MISSING;
use crate::quantization::bits::GROUP_ROWS;

/// The neighbours of a node as its block has them.
fn places(graph: &Graph, node: u32) -> Vec<u32> {
    let block = graph.blocks.block(node);
    (0..graph.blocks.degree() / GROUP_ROWS).flat_map(|group| *block.neighbors(group)).collect()
}

/// Every bit that a walk may read, but for the vectors.
fn bits(built: &Built) -> Vec<u32> {
    let graph = &built.graph;
    let mut bits = [&graph.entries[..], &built.order].concat();
    for node in 0..graph.node_count {
        bits.extend(places(graph, node));
        for group in 0..graph.blocks.degree() / GROUP_ROWS {
            if !graph.transform.is_coded() {
                continue;
            }
            let neighborhood = graph.blocks.block(node).neighborhood(group);
            bits.extend(neighborhood.codes.iter().map(|&code| u32::from(code)));
            bits.extend(neighborhood.constants.iter().chain(neighborhood.slopes).map(|x| x.to_bits()));
        }
        let mut components = Vec::new();
        graph.points.components(node, &mut components);
        bits.extend(components.iter().map(|x| x.to_bits()));
    }
    bits
}

/// Panics unless blocks are whole, every node can be reached, and rows are those that came.
fn check(name: &str, sample: &Sample, built: &Built) {
    let graph = &built.graph;
    let mut reached: HashSet<u32> = graph.entries.iter().copied().collect();
    let mut next: Vec<u32> = graph.entries.clone();
    while let Some(node) = next.pop() {
        let places = places(graph, node);
        let neighbors: Vec<u32> = places.iter().copied().take_while(|&neighbor| neighbor != MISSING).collect();
        assert!(places[neighbors.len()..].iter().all(|&place| place == MISSING), "{name}: missing ones are last");
        assert!(neighbors.iter().all(|&neighbor| neighbor < graph.node_count && neighbor != node), "{name}: {node}");
        let distinct: HashSet<u32> = neighbors.iter().copied().collect();
        assert_eq!(distinct.len(), neighbors.len(), "{name}: a neighbour of {node} comes twice");
        next.extend(neighbors.iter().filter(|&&neighbor| reached.insert(neighbor)));
    }
    assert_eq!(reached.len(), graph.node_count(), "{name}: every node can be reached");
    let mut order = built.order.clone();
    order.sort_unstable();
    assert!(order.iter().copied().eq(0..sample.rows.len() as u32), "{name}: every row once");
    for (row, &original) in (0..).zip(&built.order) {
        let (got, expected) = (graph.vector(row), &sample.rows[original as usize]);
        assert!(got.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits())), "{name}: bit for bit");
    }
}

/// Panics unless a search for as many as there are finds every row, and every row is found first by itself or by one as near.
fn check_complete(name: &str, sample: &Sample, built: &Built) {
    let (count, mut scratch) = (sample.rows.len(), Scratch::default());
    for number in 0..sample.queries.len() {
        let query = sample.query(number);
        for k in [1, count, 2 * count] {
            let mut hits = Vec::new();
            built.graph.search(&query, &wanted(walk(k, 0.3), &[]), &mut scratch, |_| true, &mut hits);
            let hits = built.originals(hits);
            assert!(hits.len() >= k.min(count), "{name}: {} of {count} rows for k = {k}", hits.len());
            let exact = sample.exact(&query);
            assert_eq!(hits[0].0.to_bits(), exact[0].0.to_bits(), "{name}: the nearest, for k = {k}");
        }
    }
}

#[test]
fn few_rows_are_all_found() {
    for count in [1, 2, 3, 31, 32, 33, 64, 65] {
        for dimension in [1, 5, 70] {
            for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
                let sample = Kind::of(dimension).sample(metric, count, 3, count as u64);
                // One component says one of two directions only: all rows of a side are the same to the cosine.
                if dimension == 1 && metric == Metric::Cosine {
                    continue;
                }
                let built = sample.build(&GraphOptions::default());
                let name = format!("{count} rows of {dimension}, {metric}");
                check(&name, &sample, &built);
                check_complete(&name, &sample, &built);
            }
        }
    }
}

#[test]
fn every_node_can_be_reached_and_vectors_come_back_bit_for_bit() {
    let odd = [0.0, -0.0, 1e-45, -1e-39, f32::MIN_POSITIVE];
    let samples = [
        ("2 components", Kind::of(2).sample(Metric::Euclidean, 3000, 0, 1)),
        ("96 components", Kind::of(96).sample(Metric::DotProduct, 2500, 0, 2)),
        ("far clusters", Kind { dimension: 70, clusters: 200, spread: 1e-3 }.sample(Metric::Cosine, 2500, 0, 3)),
        ("one cluster", Kind { dimension: 70, clusters: 1, spread: 1e-6 }.sample(Metric::Euclidean, 2100, 0, 4)),
        (
            "odd numbers",
            Kind::of(64).sample(Metric::Euclidean, 200, 0, 5).map(|number, row| row[number % 64] = odd[number % 5]),
        ),
    ];
    for (name, sample) in samples {
        check(name, &sample, &sample.build(&GraphOptions::default()));
    }
}

#[test]
fn degrees_are_multiples_of_a_group() {
    let sample = Kind::of(80).sample(Metric::Cosine, 700, 10, 6);
    for degree in [64, 96] {
        let built = sample.build(&GraphOptions { degree, ..GraphOptions::default() });
        check(&format!("degree {degree}"), &sample, &built);
        let (recall, _) = sample.recall(&built, 10, 0.2);
        assert!(recall > 0.98, "degree {degree}: recall {recall}");
    }
}

#[test]
fn threads_do_not_change_the_graph_and_the_seed_does() {
    for (dimension, rows) in [(96, 2500), (8, 2500), (96, 300)] {
        let sample = Kind::of(dimension).sample(Metric::Cosine, rows, 0, 7);
        let build = |threads, seed| sample.build(&GraphOptions { threads, seed, ..GraphOptions::default() });
        let one = build(1, 0);
        for threads in [2, 3] {
            let other = build(threads, 0);
            assert!(bits(&one) == bits(&other), "{rows} rows of {dimension} with {threads} threads");
            let reaches =
                |built: &Built| [0.5, 0.9, 0.99].map(|recall| built.graph.reach(10, recall).map(f32::to_bits));
            assert_eq!(reaches(&one), reaches(&other), "calibrated alike with {threads} threads");
        }
        assert!(bits(&one) != bits(&build(1, 1)), "{rows} rows of {dimension}: another seed");
    }
}

#[test]
fn identical_rows_share_a_node_and_are_all_found() {
    for dimension in [3, 80] {
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            let distinct = Kind::of(dimension).sample(metric, 300, 3, 8);
            let copies = |of: &[usize]| Sample {
                metric,
                rows: of.iter().map(|&row| distinct.rows[row].clone()).collect(),
                queries: distinct.queries.clone(),
            };
            let all_same = copies(&[0; 300]);
            let half_same = copies(&(0..300).map(|row| if row % 2 == 0 { 0 } else { row }).collect::<Vec<_>>());
            let pairs = copies(&(0..300).map(|row| row / 2).collect::<Vec<_>>());
            let many = copies(&(0..1300).map(|row| if row % 13 < 10 { 7 } else { row % 300 }).collect::<Vec<_>>());
            for (name, sample) in [("all", all_same), ("half", half_same), ("pairs", pairs), ("1,000", many)] {
                let name = format!("{name} the same of {dimension}, {metric}");
                let built = sample.build(&GraphOptions::default());
                let nodes: HashSet<Vec<u32>> =
                    sample.rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect();
                assert_eq!(built.graph.node_count(), nodes.len(), "{name}");
                check(&name, &sample, &built);
                check_complete(&name, &sample, &built);
            }
        }
    }
}

#[test]
fn every_copy_of_a_vector_can_be_a_hit() {
    let mut sample = Kind::of(70).sample(Metric::Cosine, 2000, 0, 9);
    let copy = sample.rows[0].clone();
    (0..1000).for_each(|place| sample.rows[2 * place] = copy.clone());
    sample.queries = vec![copy];
    let built = sample.build(&GraphOptions::default());
    let query = sample.query(0);
    for k in [1, 10, 999, 1000, 1100] {
        let mut hits = Vec::new();
        built.graph.search(&query, &wanted(walk(k, 0.2), &[]), &mut Scratch::default(), |_| true, &mut hits);
        let hits = built.originals(hits);
        let copies = hits.iter().filter(|hit| hit.1 % 2 == 0).count();
        assert!(copies == 1000 && hits.len() >= k, "k = {k}: {copies} copies among {} hits", hits.len());
        // One copy alone counts.
        let only = built.order.iter().position(|&row| row == 998).unwrap() as u32;
        let mut hits = Vec::new();
        built.graph.search(&query, &wanted(walk(k, 0.2), &[]), &mut Scratch::default(), |row| row == only, &mut hits);
        assert_eq!(hits.iter().map(|hit| hit.1).collect::<Vec<_>>(), [only]);
    }
}

#[test]
fn zeros_are_vectors_too() {
    for dimension in [4, 70] {
        for metric in [Metric::DotProduct, Metric::Euclidean] {
            for zeros in [1, 20, 100] {
                let mut sample = Kind::of(dimension).sample(metric, 100, 3, 10);
                sample.rows[..zeros].iter_mut().for_each(|row| row.fill(0.0));
                sample.queries[0].fill(0.0);
                let built = sample.build(&GraphOptions::default());
                let name = format!("{zeros} zeros of {dimension}, {metric}");
                check(&name, &sample, &built);
                check_complete(&name, &sample, &built);
            }
        }
    }
}

#[test]
fn a_build_stops_when_it_is_told() {
    let sample = Kind::of(70).sample(Metric::Cosine, 1500, 0, 14);
    for after in [0, 1000, 5000] {
        let task = Task::default();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let row = |row: usize| {
            if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == after {
                task.stop();
            }
            &sample.rows[row][..]
        };
        let built = Graph::build(Metric::Cosine, 70, 1500, row, &GraphOptions::default(), &task);
        assert_eq!(built.err(), Some(Stopped), "after {after} rows");
    }
}
