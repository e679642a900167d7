use super::bits::{BitQuery, Estimates, GROUP_ROWS, GroupMut, Neighborhood, Residual, group_bytes};
use super::codes::{self, CodedQuery};
use super::*;

/// Random numbers, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// From -1 to 1.
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// Of length 1.
    fn unit(&mut self, width: usize) -> Vec<f32> {
        let mut vector = self.numbers(width);
        let length = length(&vector);
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        vector
    }
}

/// Widths of rotated vectors: 64, odd multiples of it, and such that 16-bit sums would overflow.
const WIDTHS: [usize; 8] = [64, 128, 384, 448, 1024, 1088, 4096, 4160];

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn length(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

/// The sets of kernels that are compared with the definition.
fn others() -> impl Iterator<Item = Kernels> {
    available().into_iter().skip(1)
}

fn definition() -> Kernels {
    available()[0]
}

fn is_near(a: f32, b: f32, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (f64::from(a) - f64::from(b)).abs() <= tolerance
}

#[test]
fn kernels_are_chosen_by_name_as_those_of_distances() {
    let names: Vec<&str> = available().iter().map(|kernels| kernels.name).collect();
    assert_eq!(names[0], "scalar");
    assert!(names.contains(&kernels().name));
}

#[test]
fn dot_products_of_codes_are_whole_numbers_at_every_length() {
    for kernels in available() {
        for width in (1..=200).chain([255, 256, 257, 384, 1000, 4096, 4160]) {
            let mut random = Random(width as u64);
            let (query, row) = (random.bytes(width), random.bytes(width));
            let query: Vec<i8> = query.iter().map(|&code| code as i8).collect();
            let expected: i64 = query.iter().zip(&row).map(|(&q, &r)| i64::from(q) * (i64::from(r) - 128)).sum();
            let mut out = [0];
            (kernels.dot_codes)(&query, &row, width, &mut out);
            assert_eq!(i64::from(out[0]), expected, "{}, width {width}", kernels.name);
        }
    }
}

#[test]
fn dot_products_of_extreme_codes_do_not_overflow() {
    for kernels in available() {
        for width in [1, 15, 16, 17, 63, 64, 65, 4160] {
            for query in [-128_i8, -127, 0, 127] {
                for row in [0_u8, 1, 128, 255] {
                    let mut out = [0];
                    (kernels.dot_codes)(&vec![query; width], &vec![row; width], width, &mut out);
                    let expected = i32::from(query) * (i32::from(row) - 128) * width as i32;
                    assert_eq!(out[0], expected, "{}: {query} times {row}, width {width}", kernels.name);
                }
            }
        }
    }
}

#[test]
fn every_tile_of_queries_and_rows_is_put_in_its_place() {
    for kernels in available() {
        for width in [7, 64, 100, 192] {
            for query_count in 1..=9 {
                for row_count in 0..=9 {
                    let mut random = Random((query_count * 10 + row_count) as u64);
                    let queries: Vec<i8> = random.bytes(query_count * width).iter().map(|&code| code as i8).collect();
                    let rows = random.bytes(row_count * width);
                    let mut out = vec![i32::MIN; query_count * row_count];
                    (kernels.dot_codes)(&queries, &rows, width, &mut out);
                    for (q, query) in queries.chunks_exact(width).enumerate() {
                        for (r, row) in rows.chunks_exact(width).enumerate() {
                            let terms = query.iter().zip(row).map(|(&q, &r)| i32::from(q) * (i32::from(r) - 128));
                            let name = format!("{}: {q} of {query_count}, {r} of {row_count}", kernels.name);
                            assert_eq!(out[q * row_count + r], terms.sum::<i32>(), "{name}, width {width}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "codes of one space")]
fn codes_of_different_widths_are_our_own_mistake() {
    (kernels().dot_codes)(&[0; 64], &[0; 65], 64, &mut [0]);
}

#[test]
fn codes_are_the_same_by_every_kernel_at_every_length() {
    for kernels in others() {
        for width in (1..=70).chain([384, 4160]) {
            let mut random = Random(width as u64);
            for scale in [1.0, 1e-30, 1e30] {
                let mut vector = random.numbers(width);
                // Halves of steps, which are rounded to even.
                vector.iter_mut().enumerate().step_by(3).for_each(|(i, x)| *x = (i % 255) as f32 / 254.0 - 0.5);
                vector.iter_mut().for_each(|x| *x *= scale);
                let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                let (mut codes, mut expected) = (vec![0; width], vec![0; width]);
                (kernels.encode)(&vector, 127.0 / largest, &mut codes);
                (definition().encode)(&vector, 127.0 / largest, &mut expected);
                assert_eq!(codes, expected, "{}, width {width}, scale {scale:e}", kernels.name);
            }
        }
    }
}

#[test]
fn codes_lose_what_their_scale_says_and_bound_a_dot_product() {
    let mut random = Random(3);
    for width in [1, 5, 64, 100, 384, 1088] {
        for scale in [1.0, 1e-15, 1e15] {
            for _ in 0..50 {
                let [x, y] = [(); 2].map(|()| random.numbers(width).iter().map(|x| x * scale).collect::<Vec<f32>>());
                let (mut codes, mut decoded) = (vec![0; width], vec![0.0; width]);
                let of_x = codes::encode(&x, &mut codes);
                assert!(codes.iter().all(|&code| code >= 1), "codes are 1 to 255");
                codes::decode(&codes, of_x.step, &mut decoded);
                let lost: Vec<f32> = x.iter().zip(&decoded).map(|(x, y)| x - y).collect();
                let difference = (length(&lost) - f64::from(of_x.error)).abs();
                assert!(difference <= 1e-4 * length(&lost) + 1e-6 * length(&x), "width {width}: {difference}");
                assert!(lost.iter().all(|lost| lost.abs() <= 0.5001 * of_x.step), "half a step at most");

                let mut query = CodedQuery::default();
                query.set(&y);
                let whole: i64 =
                    query.codes.iter().zip(&codes).map(|(&q, &r)| i64::from(q) * (i64::from(r) - 128)).sum();
                let estimate = whole as f64 * f64::from(query.scale.step) * f64::from(of_x.step);
                let (of_x, of_y) = (f64::from(of_x.error), f64::from(query.scale.error));
                let bound = of_x * length(&y) + length(&decoded) * of_y;
                let rounding = 1e-6 * length(&x) * length(&y);
                assert!(
                    (estimate - dot(&x, &y)).abs() <= bound * (1.0 + 1e-4) + rounding,
                    "width {width}, scale {scale:e}"
                );
            }
        }
    }
}

#[test]
fn of_zeros_and_of_what_has_no_steps_no_code_is_left() {
    for vector in [vec![0.0; 67], vec![-0.0; 67], vec![1e-40; 67], vec![f32::from_bits(1); 67]] {
        let mut codes = vec![0; 67];
        let scale = codes::encode(&vector, &mut codes);
        assert_eq!((scale.step, &codes), (0.0, &vec![128; 67]), "{}", vector[0]);
        assert!(f64::from(scale.error) >= 0.999 * length(&vector) || vector[0] < 1e-20, "{}", vector[0]);
    }
}

#[test]
fn the_largest_component_has_the_outermost_code() {
    let mut codes = [0; 4];
    for vector in [[3e38, -3e38, 0.0, 1.5e38], [1e-30, -1e-30, 0.0, 5e-31], [127.0, -127.0, 0.2, 63.5]] {
        codes::encode(&vector, &mut codes);
        assert_eq!(codes[..3], [255, 1, 128], "{vector:?}");
        assert!(codes[3] == 191 || codes[3] == 192, "{vector:?}: {codes:?}");
    }
}

/// Tables and codes of a group, and the numbers beside them.
fn group(random: &mut Random, width: usize) -> (Vec<u8>, Vec<u8>, [f32; GROUP_ROWS], [f32; GROUP_ROWS]) {
    let (table, codes) = (random.bytes(group_bytes(width)), random.bytes(group_bytes(width)));
    let constants = random.numbers(GROUP_ROWS).try_into().unwrap();
    (table, codes, constants, random.numbers(GROUP_ROWS).try_into().unwrap())
}

#[test]
fn estimates_are_the_same_by_every_kernel_at_every_width() {
    for kernels in others() {
        for width in WIDTHS {
            let mut random = Random(width as u64);
            for round in 0..20 {
                let (mut table, codes, mut constants, mut slopes) = group(&mut random, width);
                match round {
                    0 => table.fill(255),
                    1 => table.fill(0),
                    // Missing neighbours.
                    2 => (constants, slopes) = ([f32::INFINITY; GROUP_ROWS], [0.0; GROUP_ROWS]),
                    3 => (constants[round], slopes[round]) = (f32::INFINITY, 0.0),
                    _ => {}
                }
                let neighborhood = Neighborhood { codes: &codes, constants: &constants, slopes: &slopes };
                let query = Estimates { table: &table, step: 0.01, base: -1.5, center: 0.7 };
                let (mut estimates, mut expected) = ([0.0; GROUP_ROWS], [0.0; GROUP_ROWS]);
                (kernels.estimate)(&query, &neighborhood, &mut estimates);
                (definition().estimate)(&query, &neighborhood, &mut expected);
                for (place, (&got, &expected)) in estimates.iter().zip(&expected).enumerate() {
                    let name = format!("{}, width {width}, round {round}, place {place}", kernels.name);
                    assert!(is_near(got, expected, 1e-6 * 0.01 * 64.0 * width as f64), "{name}: {got}, {expected}");
                }
            }
        }
    }
}

#[test]
fn sums_of_the_largest_entries_do_not_overflow() {
    for kernels in available() {
        for width in WIDTHS {
            let (table, codes) = (vec![255; group_bytes(width)], Random(1).bytes(group_bytes(width)));
            let neighborhood = Neighborhood { codes: &codes, constants: &[0.0; 32], slopes: &[1.0; 32] };
            let mut estimates = [0.0; GROUP_ROWS];
            let query = Estimates { table: &table, step: 1.0, base: 0.0, center: 0.0 };
            (kernels.estimate)(&query, &neighborhood, &mut estimates);
            assert_eq!(estimates, [(255 * width / 4) as f32; GROUP_ROWS], "{}, width {width}", kernels.name);
        }
    }
}

/// One vector alone has a sum, so that no two places can be exchanged.
#[test]
fn every_vector_of_a_group_has_its_own_bits() {
    for kernels in available() {
        for place in 0..GROUP_ROWS {
            let width = 128;
            let mut codes = vec![0; group_bytes(width)];
            let (mut constants, mut slopes) = ([0.0; GROUP_ROWS], [0.0; GROUP_ROWS]);
            let mut group = GroupMut { codes: &mut codes, constants: &mut constants, slopes: &mut slopes };
            let vector: Vec<f32> = (0..width).map(|i| if i % 3 == 0 { 1.0 } else { -1.0 }).collect();
            group.set(place, &vec![0.0; width], &vector, &mut Vec::new());
            // Entries count the bits that are set.
            let table: Vec<u8> = (0..group_bytes(width)).map(|entry| (entry % 16).count_ones() as u8).collect();
            let neighborhood = Neighborhood { codes: &codes, constants: &[0.0; 32], slopes: &[1.0; 32] };
            let query = Estimates { table: &table, step: 1.0, base: 0.0, center: 0.0 };
            let mut estimates = [0.0; GROUP_ROWS];
            (kernels.estimate)(&query, &neighborhood, &mut estimates);
            let mut expected = [0.0; GROUP_ROWS];
            expected[place] = 43.0;
            assert_eq!(estimates, expected, "{}, place {place}", kernels.name);
        }
    }
}

#[test]
fn tables_are_the_same_by_every_kernel_up_to_the_rounding_of_a_half() {
    for kernels in others() {
        for width in WIDTHS {
            let mut random = Random(width as u64);
            for scale in [0.0, 1e-40, 1e-20, 1.0, 1e20] {
                let query: Vec<f32> = random.numbers(width).iter().map(|x| x * scale).collect();
                let widest = query.chunks(4).map(|four| four.iter().map(|x| x.abs()).sum::<f32>()).fold(0.0, f32::max);
                let inverse = if widest > 1e-30 { 255.0 / (2.0 * widest) } else { 0.0 };
                let (mut table, mut expected) = (vec![7; group_bytes(width)], vec![9; group_bytes(width)]);
                (kernels.tabulate)(&query, inverse, &mut table);
                (definition().tabulate)(&query, inverse, &mut expected);
                let differing = table.iter().zip(&expected).filter(|(a, b)| a != b).count();
                let name = format!("{}, width {width}, scale {scale:e}", kernels.name);
                assert!(table.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{name}");
                assert!(differing <= table.len() / 200, "{name}: {differing} of {} differ", table.len());
            }
        }
    }
}

#[test]
fn residuals_are_the_same_by_every_kernel() {
    for kernels in others() {
        for width in WIDTHS {
            let mut random = Random(width as u64);
            for scale in [0.0, 1e-40, 1e-20, 1.0, 1e15] {
                let mut number = || random.numbers(width).iter().map(|x| x * scale).collect::<Vec<f32>>();
                let (center, mut vector) = (number(), number());
                // Some components are equal: the residual is zero, and counts as not negative.
                vector.iter_mut().zip(&center).step_by(5).for_each(|(x, c)| *x = *c);
                for (center, vector) in [(&center, &vector), (&vector, &vector)] {
                    let (mut signs, mut expected_signs) = (vec![0; width / 8], vec![0; width / 8]);
                    let got = (kernels.residual)(center, vector, &mut signs);
                    let expected = (definition().residual)(center, vector, &mut expected_signs);
                    let name = format!("{}, width {width}, scale {scale:e}: {got:?}, {expected:?}", kernels.name);
                    assert_eq!(signs, expected_signs, "{name}");
                    let size = width as f64 * f64::from(scale);
                    assert!(is_near(got.square, expected.square, 1e-6 * size * f64::from(scale)), "{name}");
                    assert!(is_near(got.absolute, expected.absolute, 1e-6 * size), "{name}");
                    assert!(is_near(got.center, expected.center, 1e-6 * size), "{name}");
                    if center == vector {
                        assert_eq!((got.square, got.absolute), (0.0, 0.0), "{name}");
                        assert!(signs.iter().all(|&eight| eight == 255), "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_residual_is_what_its_definition_says() {
    let (mut center, mut vector) = (vec![0.0; 64], vec![0.0; 64]);
    (center[0], vector[0]) = (2.0, 5.0);
    (center[1], vector[1]) = (1.0, -3.0);
    (center[9], vector[9]) = (-7.0, -7.5);
    for kernels in available() {
        let mut signs = vec![0; 8];
        let residual = (kernels.residual)(&center, &vector, &mut signs);
        assert_eq!(residual, Residual { square: 25.25, absolute: 7.5, center: 2.0 - 1.0 + 7.0 }, "{}", kernels.name);
        assert_eq!(signs, [0b1111_1101, 0b1111_1101, 255, 255, 255, 255, 255, 255], "{}", kernels.name);
    }
}

#[test]
fn transforms_are_the_same_by_every_kernel_and_undo_themselves() {
    for kernels in available() {
        for width in [64, 128, 256, 512, 1024, 4096] {
            for scale in [0.0, 1e-42, 1.0, 1e30] {
                let vector: Vec<f32> = Random(width as u64).numbers(width).iter().map(|x| x * scale).collect();
                let factor = 1.0 / (width as f32).sqrt();
                let (mut once, mut expected) = (vector.clone(), vector.clone());
                (kernels.transform)(&mut once, factor);
                (definition().transform)(&mut expected, factor);
                let tolerance = f64::from(scale) * 1e-5 + 1e-43;
                let name = format!("{}, width {width}, scale {scale:e}", kernels.name);
                assert!(once.iter().zip(&expected).all(|(&a, &b)| is_near(a, b, tolerance)), "{name}");
                (kernels.transform)(&mut once, factor);
                assert!(once.iter().zip(&vector).all(|(&a, &b)| is_near(a, b, tolerance + 1e-42)), "{name}: twice");
            }
        }
    }
}

fn rotated(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
    let mut rotated = vector.to_vec();
    rotated.resize(rotation.width(), 0.0);
    rotation.apply(&mut rotated);
    rotated
}

#[test]
fn a_rotation_keeps_lengths_and_dot_products() {
    for dimension in [1, 3, 64, 65, 100, 384, 768, 1000, 1536, 4096, 4097] {
        let rotation = Rotation::new(dimension, 5);
        assert_eq!((rotation.dimension(), rotation.width()), (dimension, dimension.div_ceil(64) * 64));
        let mut random = Random(dimension as u64);
        for _ in 0..10 {
            let (x, y) = (random.unit(dimension), random.unit(dimension));
            let (turned_x, turned_y) = (rotated(&rotation, &x), rotated(&rotation, &y));
            assert!((length(&turned_x) - 1.0).abs() < 1e-4, "dimension {dimension}");
            assert!((dot(&turned_x, &turned_y) - dot(&x, &y)).abs() < 1e-4, "dimension {dimension}");
        }
    }
}

#[test]
fn a_rotation_is_the_same_for_the_same_seed_only() {
    for dimension in [64, 100, 384] {
        let vector = Random(9).unit(dimension);
        let turn = |seed| rotated(&Rotation::new(dimension, seed), &vector);
        assert_eq!(turn(1), turn(1));
        assert!(dot(&turn(1), &turn(2)).abs() < 0.5, "dimension {dimension}: another seed, another direction");
    }
}

#[test]
fn a_rotation_spreads_a_vector_over_all_components() {
    for dimension in [64, 65, 128, 384, 1000, 4096] {
        for component in [0, dimension / 2, dimension - 1] {
            let mut vector = vec![0.0; dimension];
            vector[component] = 1.0;
            let rotation = Rotation::new(dimension, 7);
            let turned = rotated(&rotation, &vector);
            let largest = turned.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let even = 1.0 / (rotation.width() as f32).sqrt();
            assert!(largest < 6.0 * even, "dimension {dimension}, component {component}: {largest}");
            let small = turned.iter().filter(|x| x.abs() < 0.01 * even).count();
            // Sums of few signs, which cancel out here and there.
            assert!(small < turned.len() / 4, "dimension {dimension}, component {component}: {small} are nearly zero");
        }
    }
}

/// A group around a centre: 32 vectors that lie about it, as unit vectors lie about each other.
struct Around {
    center: Vec<f32>,
    vectors: Vec<Vec<f32>>,
    codes: Vec<u8>,
    constants: [f32; GROUP_ROWS],
    slopes: [f32; GROUP_ROWS],
}

fn around(random: &mut Random, width: usize) -> Around {
    let center = random.unit(width);
    let (mut codes, mut constants, mut slopes) = (vec![0; group_bytes(width)], [0.0; GROUP_ROWS], [0.0; GROUP_ROWS]);
    let mut group = GroupMut { codes: &mut codes, constants: &mut constants, slopes: &mut slopes };
    group.clear();
    let mut vectors = Vec::new();
    for place in 0..GROUP_ROWS {
        let vector: Vec<f32> = random.unit(width).iter().zip(&center).map(|(x, c)| c + 0.5 * x).collect();
        group.set(place, &center, &vector, &mut Vec::new());
        vectors.push(vector);
    }
    Around { center, vectors, codes, constants, slopes }
}

impl Around {
    fn estimates(&self, query: &[f32]) -> [f32; GROUP_ROWS] {
        let (mut bits, mut out) = (BitQuery::default(), [0.0; GROUP_ROWS]);
        bits.set(query);
        let neighborhood = Neighborhood { codes: &self.codes, constants: &self.constants, slopes: &self.slopes };
        bits.at(squared(query, &self.center) as f32).of(&neighborhood, &mut out);
        out
    }
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum()
}

#[test]
fn estimates_are_what_the_formula_says_up_to_the_steps_of_the_table() {
    for width in [64, 128, 384, 1088] {
        let mut random = Random(width as u64);
        for round in 0..20 {
            let group = around(&mut random, width);
            let query = random.unit(width);
            let widest = query.chunks(4).map(|four| four.iter().map(|x| x.abs()).sum::<f32>()).fold(0.0, f32::max);
            // Each look-up is half a step off at most; together they are off as far as a random walk goes.
            let off = f64::from(2.0 * widest / 255.0) * 0.5 * (width as f64 / 4.0).sqrt() * 3.0;
            for (place, (&got, x)) in group.estimates(&query).iter().zip(&group.vectors).enumerate() {
                let residual: Vec<f32> = x.iter().zip(&group.center).map(|(x, c)| x - c).collect();
                let signs: Vec<f32> = residual.iter().map(|&r| if r < 0.0 { -1.0 } else { 1.0 }).collect();
                let absolute: f64 = residual.iter().map(|r| f64::from(r.abs())).sum();
                let factor = 2.0 * dot(&residual, &residual) / absolute;
                let constant = dot(&residual, &residual) + factor * dot(&signs, &group.center);
                let expected = squared(&query, &group.center) + constant - factor * dot(&signs, &query);
                let difference = (f64::from(got) - expected).abs();
                assert!(difference < factor * off + 1e-5, "width {width}, round {round}, place {place}: {difference}");
            }
        }
    }
}

#[test]
fn estimates_are_right_in_the_mean_and_rarely_far_off() {
    for width in [128, 384, 1088] {
        let mut random = Random(width as u64);
        let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
        for _ in 0..100 {
            let group = around(&mut random, width);
            let query: Vec<f32> = random.unit(width).iter().zip(&group.center).map(|(x, c)| c + 0.5 * x).collect();
            for (&got, x) in group.estimates(&query).iter().zip(&group.vectors) {
                let error = f64::from(got) - squared(&query, x);
                (sum, squares, count) = (sum + error, squares + error * error, count + 1.0);
            }
        }
        // Of a bit a component is known the direction up to an angle: the error is some 0.75 / sqrt(width) of both lengths.
        let expected = 2.0 * 0.25 * 0.75 / (width as f64).sqrt();
        let (mean, deviation) = (sum / count, f64::sqrt(squares / count));
        assert!(mean.abs() < 0.1 * expected, "width {width}: off by {mean} in the mean, {deviation} each");
        assert!((deviation / expected - 1.0).abs() < 0.25, "width {width}: {deviation} instead of {expected}");
    }
}

#[test]
fn a_vector_at_the_centre_is_estimated_exactly_and_a_missing_one_infinitely_far() {
    for width in [64, 384] {
        let mut random = Random(width as u64);
        let (center, query) = (random.unit(width), random.unit(width));
        let (mut codes, mut constants, mut slopes) = (vec![1; group_bytes(width)], [7.0; 32], [7.0; 32]);
        let mut group = GroupMut { codes: &mut codes, constants: &mut constants, slopes: &mut slopes };
        group.clear();
        group.set(17, &center, &center, &mut Vec::new());
        let group = Around { center, vectors: Vec::new(), codes, constants, slopes };
        let estimates = group.estimates(&query);
        for (place, &estimate) in estimates.iter().enumerate() {
            let expected = if place == 17 { squared(&query, &group.center) as f32 } else { f32::INFINITY };
            assert_eq!(estimate, expected, "place {place}");
        }
    }
}

#[test]
fn a_query_of_zeros_or_of_next_to_nothing_has_a_table() {
    for number in [0.0, -0.0, 1e-45, 1e-38, 1e30] {
        let mut bits = BitQuery::default();
        bits.set(&[number; 64]);
        let estimates = bits.at(1.0);
        let constants = [0.5; GROUP_ROWS];
        let neighborhood = Neighborhood { codes: &[0xFF; 256], constants: &constants, slopes: &[-1e-3; GROUP_ROWS] };
        let mut out = [0.0; GROUP_ROWS];
        estimates.of(&neighborhood, &mut out);
        let expected = 1.5 - 1e-3 * 64.0 * f64::from(number);
        assert!(out.iter().all(|&out| is_near(out, expected as f32, 1e-5 * expected.abs())), "{number}: {out:?}");
    }
}
