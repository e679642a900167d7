//! The rows: each a function of the base, the seed and its number.

use std::ops::Range;
use std::path::Path;
use std::thread;

use half::f16;

use crate::cli::bench::BenchError;
use crate::cli::bench::array::Array;
use crate::cli::bench::random::Random;
use crate::cli::npy::Number;
use crate::types::norm;

/// How far a row goes from its first towards its second row of the base, at the most.
const STEP_MAX: f64 = 0.3;
/// Length of what is added beside, about.
const NOISE_LENGTH: f64 = 0.1;

/// Makes rows of a base, which it keeps with 16 bits for each number.
pub struct Generator {
    dimension: usize,
    base: Vec<f16>,
    inverse_norms: Vec<f64>,
    seed: u64,
}

/// Rows that follow one another, rounded to 16 bits.
pub struct Chunk {
    dimension: usize,
    components: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl Generator {
    /// Reads the base.
    pub fn read(path: &Path, seed: u64) -> Result<Self, BenchError> {
        let mut array = Array::open(path, Number::FLOATS)?;
        let mut generator =
            Self { dimension: array.header().columns, base: Vec::new(), inverse_norms: Vec::new(), seed };
        while let Some(components) = array.next_components()? {
            let (path, row) = (path.display(), generator.inverse_norms.len());
            generator.add(&components).map_err(|problem| format!("{path}: row {row} {problem}"))?;
        }
        match generator.inverse_norms.is_empty() {
            true => Err(format!("{}: expected at least one vector, but there is none", path.display()).into()),
            false => Ok(generator),
        }
    }

    fn add(&mut self, components: &[f32]) -> Result<(), &'static str> {
        let rounded: Vec<f16> = components.iter().map(|&component| f16::from_f32(component)).collect();
        let norm = norm(&rounded.iter().map(|component| component.to_f32()).collect::<Vec<_>>());
        if !norm.is_finite() {
            return Err("has a number that is none of 16 bits: expected finite ones, at most 65504");
        }
        if norm == 0.0 {
            return Err("is a zero vector in 16 bits, which has no direction");
        }
        self.base.extend(rounded);
        self.inverse_norms.push(1.0 / norm);
        Ok(())
    }

    /// Components of a row.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Makes these rows, on all cores.
    pub fn fill(&self, rows: Range<u64>, chunk: &mut Chunk) {
        let row_count = (rows.end - rows.start) as usize;
        chunk.components.resize(row_count * self.dimension, 0.0);
        chunk.inverse_norms.resize(row_count, 0.0);
        let share = row_count.div_ceil(core_count());
        let components = chunk.components.chunks_mut(share * self.dimension);
        let shares = components.zip(chunk.inverse_norms.chunks_mut(share));
        thread::scope(|scope| {
            for (first, (components, inverse_norms)) in (rows.start..).step_by(share).zip(shares) {
                scope.spawn(move || {
                    let made = components.chunks_exact_mut(self.dimension).zip(inverse_norms);
                    for (row, (components, inverse_norm)) in (first..).zip(made) {
                        self.make(row, components);
                        *inverse_norm = (1.0 / norm(components)) as f32;
                    }
                });
            }
        });
    }

    /// Row `row`, as `bench generate --help` defines it.
    fn make(&self, row: u64, out: &mut [f32]) {
        let base_rows = self.inverse_norms.len() as u64;
        if row < base_rows {
            let components = &self.base[row as usize * self.dimension..][..self.dimension];
            out.iter_mut().zip(components).for_each(|(out, component)| *out = component.to_f32());
            return;
        }
        let mut random = Random::numbered(self.seed, row);
        let (a, b) = (random.below(base_rows) as usize, random.below(base_rows) as usize);
        let step = STEP_MAX * random.share();
        let deviation = NOISE_LENGTH / (self.dimension as f64).sqrt();
        let of_row = |row: usize| {
            let components = &self.base[row * self.dimension..][..self.dimension];
            components.iter().map(move |component| f64::from(component.to_f32()) * self.inverse_norms[row])
        };
        let mut noise = std::iter::repeat_with(|| random.normal_pair()).flatten();
        let sums = of_row(a).zip(of_row(b)).map(|(a, b)| (1.0 - step) * a + step * b);
        let sums: Vec<f64> = sums.map(|sum| sum + deviation * noise.next().unwrap_or_default()).collect();
        let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = f16::from_f64(sum / length).to_f32();
        }
    }
}

impl Chunk {
    /// No rows.
    pub fn new(dimension: usize) -> Self {
        Self { dimension, components: Vec::new(), inverse_norms: Vec::new() }
    }

    /// Rows.
    pub fn row_count(&self) -> usize {
        self.inverse_norms.len()
    }

    /// All components, row after row.
    pub fn components(&self) -> &[f32] {
        &self.components
    }

    /// Blocks of at most `rows` rows: their components, and one over the length of each.
    pub fn blocks(&self, rows: usize) -> impl Iterator<Item = (&[f32], &[f32])> {
        self.components.chunks(rows * self.dimension).zip(self.inverse_norms.chunks(rows))
    }
}

/// Cores of this machine.
pub fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(seed: u64) -> Generator {
        let mut generator = Generator { dimension: 16, base: Vec::new(), inverse_norms: Vec::new(), seed };
        let mut random = Random::new(3);
        for _ in 0..10 {
            generator.add(&(0..16).map(|_| random.centred()).collect::<Vec<_>>()).unwrap();
        }
        generator
    }

    fn rows(generator: &Generator, rows: Range<u64>) -> Vec<f32> {
        let mut chunk = Chunk::new(16);
        generator.fill(rows, &mut chunk);
        chunk.components().to_vec()
    }

    #[test]
    fn a_row_depends_on_its_number_and_the_seed_alone() {
        let (one, two) = (generator(1), generator(2));
        let all = rows(&one, 0..100);
        assert_eq!(rows(&one, 37..38), all[37 * 16..38 * 16]);
        assert_eq!(rows(&one, 0..20), all[..20 * 16]);
        assert_eq!(rows(&two, 0..10), all[..10 * 16], "the base, whatever the seed");
        assert_ne!(rows(&two, 10..11), all[10 * 16..11 * 16]);
    }

    #[test]
    fn rows_have_unit_length_and_lie_near_a_row_of_the_base() {
        let generator = generator(1);
        let all = rows(&generator, 0..1000);
        let (base, made) = all.split_at(10 * 16);
        for row in made.chunks(16) {
            assert!((norm(row) - 1.0).abs() < 1e-3);
            let cosine = |base: &[f32]| row.iter().zip(base).map(|(x, y)| x * y).sum::<f32>() / norm(base) as f32;
            let nearest = base.chunks(16).map(cosine).fold(-1.0, f32::max);
            assert!(nearest > 0.75, "{nearest}");
        }
    }

    #[test]
    fn a_base_that_has_no_place_in_16_bits_is_refused() {
        let mut generator = generator(1);
        assert!(generator.add(&[1e5; 16]).unwrap_err().contains("at most 65504"));
        assert!(generator.add(&[1e-9; 16]).unwrap_err().contains("zero vector"));
    }
}
