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

#[test]
fn every_kernel_equals_its_definition_at_every_length() {
    for kernels in available() {
        for length in (0..=200).chain([384, 768, 1536, 4096]) {
            let (a, b) = (numbers(length as u64, length), numbers(!(length as u64), length));
            let tolerance = 1e-6 * (1.0 + length as f64);
            let dot = exact(&a, &b, |x, y| x * y);
            let squared = exact(&a, &b, |x, y| (x - y) * (x - y));
            assert!((f64::from((kernels.dot)(&a, &b)) - dot).abs() <= tolerance, "{} dot {length}", kernels.name);
            assert!(
                (f64::from((kernels.squared_euclidean)(&a, &b)) - squared).abs() <= tolerance,
                "{} squared_euclidean {length}",
                kernels.name
            );
        }
    }
}

#[test]
fn zeros_denormals_and_large_numbers_are_no_exception() {
    for kernels in available() {
        let tiny = [f32::MIN_POSITIVE / 4.0; 67];
        assert_eq!((kernels.dot)(&[0.0; 67], &tiny), 0.0, "{}", kernels.name);
        assert_eq!((kernels.squared_euclidean)(&tiny, &tiny), 0.0, "{}", kernels.name);
        assert!((kernels.dot)(&[1e30; 67], &[1e30; 67]).is_infinite(), "{}", kernels.name);
    }
}

#[test]
#[should_panic(expected = "different spaces")]
fn different_lengths_are_our_own_mistake() {
    (kernels().dot)(&[1.0], &[1.0, 2.0]);
}

#[test]
fn kernels_are_chosen_by_name_where_the_processor_has_them() {
    for kernels in available() {
        assert_eq!(choose(Some(kernels.name)).name, kernels.name);
    }
    assert_eq!(choose(Some("abacus")).name, choose(None).name);
}
