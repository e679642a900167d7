use super::kernels::kernels;

/// Turns vectors at random and keeps their lengths and angles.
///
/// Rounds of random signs and a fast Walsh-Hadamard transform, over the front and the back of the vector in turn where its
/// width is no power of two (the construction of fast Johnson-Lindenstrauss transforms; Ailon and Chazelle, 2009). A vector
/// is filled up with zeros to the next multiple of 64.
#[derive(Clone, Debug)]
pub struct Rotation {
    dimension: usize,
    width: usize,
    window: usize,
    /// For each round a sign bit for every component.
    signs: Vec<Vec<u32>>,
}

/// Components are rotated in multiples of this: what a 512-bit register holds of bytes.
const WIDTH_STEP: usize = 64;
const SIGN_BIT: u32 = 1 << 31;

impl Rotation {
    /// The rotation of that seed, for vectors of that dimension.
    pub fn new(dimension: usize, seed: u64) -> Self {
        assert!(dimension > 0, "a vector has components");
        let width = dimension.next_multiple_of(WIDTH_STEP);
        let window = if width.is_power_of_two() { width } else { width.next_power_of_two() / 2 };
        let rounds = if window == width { 2 } else { 4 };
        let mut random = SplitMix(seed);
        let signs = (0..rounds).map(|_| (0..width).map(|_| random.next() as u32 & SIGN_BIT).collect()).collect();
        Self { dimension, width, window, signs }
    }

    /// Components before.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Components after: a multiple of 64.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rotates in place: the vector, followed by zeros up to the width.
    pub fn apply(&self, vector: &mut [f32]) {
        assert_eq!(vector.len(), self.width, "a vector of this space, filled up");
        let scale = 1.0 / (self.window as f32).sqrt();
        for (round, signs) in self.signs.iter().enumerate() {
            for (x, sign) in vector.iter_mut().zip(signs) {
                *x = f32::from_bits(x.to_bits() ^ sign);
            }
            let first = if round % 2 == 0 { 0 } else { self.width - self.window };
            let window = &mut vector[first..][..self.window];
            (kernels().transform)(window, scale);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): as good as needed for signs, and the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
