//! Numbers that look random and are the same for the same seed.

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of many sequences of a seed, each known by its number.
    pub fn numbered(seed: u64, number: u64) -> Self {
        // Mixed twice: sequences of neighbouring numbers must not run into one another.
        let start = Self(seed).next().wrapping_add(number);
        Self(Self(start).next())
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From -1 to 1, never 0: the step from 0 is wider than the rounding.
    pub fn centred(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0 + f32::EPSILON
    }

    /// From 0 up to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `count`, each as likely as the others.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }

    /// Two of a normal distribution with mean 0 and deviation 1 (Box and Muller).
    pub fn normal_pair(&mut self) -> [f64; 2] {
        let length = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * self.share()).sin_cos();
        [length * cosine, length * sine]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_as_they_should_be() {
        let mut random = Random::numbered(7, 1);
        let normal: Vec<f64> = (0..20_000).flat_map(|_| random.normal_pair()).collect();
        let mean = |of: fn(f64) -> f64| normal.iter().map(|&x| of(x)).sum::<f64>() / normal.len() as f64;
        assert!(mean(|x| x).abs() < 0.03 && (mean(|x| x * x) - 1.0).abs() < 0.05);
        assert!((mean(|x| f64::from(u8::from(x.abs() < 1.0))) - 0.683).abs() < 0.02);
        let mut counts = [0; 3];
        (0..3000).for_each(|_| counts[random.below(3) as usize] += 1);
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn numbered_sequences_differ_and_come_again() {
        let first = |seed, number| Random::numbered(seed, number).next();
        let mut all: Vec<u64> = (0..3).flat_map(|seed| (0..1000).map(move |number| first(seed, number))).collect();
        assert_eq!(first(2, 999), all[2999]);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3000);
    }
}
