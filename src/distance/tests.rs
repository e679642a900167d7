use super::*;

/// Numbers from -1 to 1, the same for the same seed (SplitMix64).
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as f32 / u64::MAX as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn exact(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| term(x.into(), y.into())).sum()
}

fn pair(kernel: Kernel, a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    kernel(Block { queries: a, rows: b, dimension: a.len() }, &mut out);
    out[0]
}

#[test]
fn every_kernel_equals_its_definition_at_every_length() {
    for kernels in available() {
        for length in (1..=200).chain([384, 768, 1536, 4096]) {
            let (a, b) = (numbers(length as u64, length), numbers(!(length as u64), length));
            let tolerance = 1e-6 * (1.0 + length as f64);
            let dot = exact(&a, &b, |x, y| x * y);
            let squared = exact(&a, &b, |x, y| (x - y) * (x - y));
            let name = kernels.name;
            assert!((f64::from(pair(kernels.dot, &a, &b)) - dot).abs() <= tolerance, "{name} dot {length}");
            let difference = f64::from(pair(kernels.squared_euclidean, &a, &b)) - squared;
            assert!(difference.abs() <= tolerance, "{name} squared_euclidean {length}");
        }
    }
}

#[test]
fn a_pair_has_the_same_result_bit_for_bit_alone_and_among_others() {
    for kernels in available() {
        for (kernel, dimension) in
            [(kernels.dot, 384), (kernels.squared_euclidean, 384), (kernels.dot, 37), (kernels.dot, 3)]
        {
            for (query_count, row_count) in [(1, 1), (1, 64), (2, 5), (3, 7), (4, 4), (5, 64), (9, 3), (64, 2)] {
                let (queries, rows) = (numbers(1, query_count * dimension), numbers(2, row_count * dimension));
                let mut out = vec![0.0; query_count * row_count];
                kernel(Block { queries: &queries, rows: &rows, dimension }, &mut out);
                for (q, query) in queries.chunks(dimension).enumerate() {
                    for (r, row) in rows.chunks(dimension).enumerate() {
                        let alone = pair(kernel, query, row);
                        let among = out[q * row_count + r];
                        assert_eq!(alone.to_bits(), among.to_bits(), "{} {query_count} {row_count}", kernels.name);
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_to_compare_is_no_exception() {
    for kernels in available() {
        (kernels.dot)(Block { queries: &[], rows: &[1.0, 2.0], dimension: 2 }, &mut []);
        (kernels.dot)(Block { queries: &[1.0, 2.0], rows: &[], dimension: 2 }, &mut []);
    }
}

#[test]
fn zeros_denormals_and_large_numbers_are_no_exception() {
    for kernels in available() {
        let tiny = [f32::MIN_POSITIVE / 4.0; 67];
        assert_eq!(pair(kernels.dot, &[0.0; 67], &tiny), 0.0, "{}", kernels.name);
        assert_eq!(pair(kernels.squared_euclidean, &tiny, &tiny), 0.0, "{}", kernels.name);
        assert!(pair(kernels.dot, &[1e30; 67], &[1e30; 67]).is_infinite(), "{}", kernels.name);
    }
}

#[test]
#[should_panic(expected = "different spaces")]
fn different_lengths_are_our_own_mistake() {
    pair(kernels().dot, &[1.0, 2.0], &[1.0, 2.0, 3.0]);
}

#[test]
fn kernels_are_chosen_by_name_where_the_processor_has_them() {
    for kernels in available() {
        assert_eq!(choose(Some(kernels.name)).name, kernels.name);
    }
    assert_eq!(choose(Some("abacus")).name, choose(None).name);
}
