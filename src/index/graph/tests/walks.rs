//! What a walk is told, and what it tells.

use super::*;

fn search(built: &Built, query: &Queries, walk: Walk, known: &[f32], counts: impl Fn(u32) -> bool) -> Vec<Hit> {
    let mut hits = Vec::new();
    built.graph.search(query, &wanted(walk, known), &mut Scratch::default(), counts, &mut hits);
    built.originals(hits)
}

#[test]
fn only_rows_that_count_are_found_and_as_well_as_others() {
    for dimension in [16, 96] {
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            let sample = Kind::of(dimension).sample(metric, 2500, 30, 21);
            let built = sample.build(&GraphOptions::default());
            let counts = |row: u32| built.order[row as usize].is_multiple_of(50);
            let mut found = 0;
            for number in 0..30 {
                let query = sample.query(number);
                let hits = search(&built, &query, walk(10, 0.2), &[], counts);
                assert!(hits.len() >= 10, "query {number}: {} hits", hits.len());
                assert!(hits.iter().all(|hit| hit.1.is_multiple_of(50)), "query {number}: a row that does not count");
                let truth: Vec<Hit> = sample.exact(&query).into_iter().filter(|hit| hit.1 % 50 == 0).collect();
                found += right(&hits, &truth[..10], sample.tolerance(number));
            }
            let recall = f64::from(found as u32) / 300.0;
            assert!(recall >= 0.99, "{dimension} components, {metric}: recall {recall}");
        }
    }
}

#[test]
fn nothing_counts_and_nothing_is_found() {
    let sample = Kind::of(70).sample(Metric::Cosine, 300, 1, 22);
    let built = sample.build(&GraphOptions::default());
    assert!(search(&built, &sample.query(0), walk(5, 0.1), &[], |_| false).is_empty());
}

#[test]
fn what_is_known_shortens_a_walk_and_loses_no_hit_that_is_nearer() {
    for (dimension, metric) in [(16, Metric::Euclidean), (96, Metric::Cosine), (96, Metric::DotProduct)] {
        let sample = Kind::of(dimension).sample(metric, 2500, 40, 23);
        let built = sample.build(&GraphOptions { threads: 2, ..GraphOptions::default() });
        for nearer in [1, 6] {
            let (mut expected, mut found, mut hops_alone, mut hops) = (0, 0, 0, 0);
            for number in 0..40 {
                let query = sample.query(number);
                let exact = sample.exact(&query);
                // As if another segment had hits that are farther than one here, or six, and nearer than all others.
                let known = [(exact[nearer - 1].0 + exact[nearer].0) / 2.0; 10];
                let (mut hits, mut scratch) = (Vec::new(), Scratch::default());
                hops_alone +=
                    built.graph.search(&query, &wanted(walk(10, 0.3), &[]), &mut scratch, |_| true, &mut hits).hops;
                hits.clear();
                hops +=
                    built.graph.search(&query, &wanted(walk(10, 0.3), &known), &mut scratch, |_| true, &mut hits).hops;
                let hits = built.originals(hits);
                let nearer: Vec<Hit> = exact.into_iter().filter(|hit| hit.0 < known[9]).collect();
                expected += nearer.len();
                found += nearer.iter().filter(|hit| hits.contains(hit)).count();
            }
            let name =
                format!("{dimension} components, {metric}, {nearer} nearer: {found} of {expected} in {hops} hops");
            assert!(expected > 20 && found as f64 >= 0.97 * expected as f64, "{name}");
            assert!(hops < hops_alone, "{name} instead of {hops_alone}");
        }
    }
}

#[test]
fn nothing_here_is_near_what_is_known() {
    let sample = Kind::of(96).sample(Metric::Euclidean, 2500, 5, 24);
    let built = sample.build(&GraphOptions::default());
    for number in 0..5 {
        let (query, mut hits) = (sample.query(number), Vec::new());
        let stats =
            built.graph.search(&query, &wanted(walk(3, 0.1), &[0.0; 3]), &mut Scratch::default(), |_| true, &mut hits);
        assert!(stats.hops <= 100, "{} hops", stats.hops);
    }
}

#[test]
fn a_walk_that_is_cut_says_so() {
    let sample = Kind::of(96).sample(Metric::Cosine, 1500, 10, 25);
    let built = sample.build(&GraphOptions::default());
    for number in 0..10 {
        let (query, mut scratch, mut hits) = (sample.query(number), Scratch::default(), Vec::new());
        let whole = built.graph.search(&query, &wanted(walk(10, 0.1), &[]), &mut scratch, |_| true, &mut hits);
        assert!(!whole.is_cut && whole.hops > 12, "{whole:?}");
        assert!(whole.distances >= 32 * whole.hops, "{whole:?}");
        for hops_max in [0, 1, 12, whole.hops - 1] {
            hits.clear();
            let walk = Walk { hops_max, ..walk(10, 0.1) };
            let cut = built.graph.search(&query, &wanted(walk, &[]), &mut scratch, |_| true, &mut hits);
            assert!(cut.is_cut && cut.hops == hops_max && hits.len() <= hops_max, "{cut:?} of {whole:?}");
        }
        let walk = Walk { hops_max: whole.hops, ..walk(10, 0.1) };
        assert_eq!(built.graph.search(&query, &wanted(walk, &[]), &mut scratch, |_| true, &mut hits), whole);
    }
}

#[test]
fn a_scratch_serves_graphs_of_any_size_one_after_another() {
    let (small, large) = (
        Kind::of(70).sample(Metric::Cosine, 100, 4, 26),
        Kind { dimension: 96, ..Kind::of(96) }.sample(Metric::Euclidean, 1500, 4, 27),
    );
    let (built_small, built_large) = (small.build(&GraphOptions::default()), large.build(&GraphOptions::default()));
    let mut scratch = Scratch::default();
    for number in 0..4 {
        for (sample, built) in [(&small, &built_small), (&large, &built_large), (&small, &built_small)] {
            let (query, mut hits) = (sample.query(number), Vec::new());
            built.graph.search(&query, &wanted(walk(10, 0.1), &[]), &mut scratch, |_| true, &mut hits);
            assert_eq!(built.originals(hits), search(built, &query, walk(10, 0.1), &[], |_| true));
        }
    }
}

/// Far from everything: distances hardly differ, and may be too large for a number.
#[test]
fn a_query_far_from_all_rows_finds_as_many_as_are_wanted() {
    for dimension in [16, 96] {
        for (row_length, query_length) in [(1.0, 1e6), (1e-6, 1e12), (1e-20, 1e17)] {
            let mut sample = Kind::of(dimension).sample(Metric::Euclidean, 300, 3, 28);
            sample.rows.iter_mut().flatten().for_each(|x| *x *= row_length);
            sample.queries.iter_mut().flatten().for_each(|x| *x *= query_length);
            let built = sample.build(&GraphOptions::default());
            for number in 0..3 {
                let query = sample.query(number);
                let count = search(&built, &query, walk(10, 0.1), &[], |_| true).len();
                // Beyond what a number can be, a walk has no way to go; whoever asks has all rows compared then.
                let is_finite = query_length < 1e18 * row_length;
                let name = format!("{dimension} components, {query_length:e} from {row_length:e}");
                assert!(count >= 10 || !is_finite, "{name}: {count} hits");
                let mut hits = Vec::new();
                let rows = Rows::All(&|_| true);
                built.graph.scan(&query, 10, Certainty::Sure, rows, &mut Scratch::default(), &mut hits);
                assert!(hits.len() >= 10, "{name}: a scan has {} hits", hits.len());
            }
        }
    }
}
