//! How long a part runs, and the seed that repeats it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::test_runner::{RngAlgorithm, TestRng};

/// Random numbers that a seed repeats.
pub type Dice = TestRng;

pub fn dice(seed: u64) -> Dice {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// How much a part is to do.
#[derive(Clone, Debug)]
pub struct Effort {
    pub seed: u64,
    pub is_long: bool,
    until: Instant,
}

impl Effort {
    /// For `cargo test`: the same every time.
    pub fn short(seconds: u64) -> Self {
        Self { seed: seed().unwrap_or(1), is_long: false, until: Instant::now() + Duration::from_secs(seconds) }
    }

    /// For `make torture`: something new every time.
    pub fn long(time: Duration) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let seed = seed().unwrap_or(now * 1000);
        println!("  TORTURE_SEED={seed}");
        Self { seed, is_long: true, until: Instant::now() + time }
    }

    pub fn has_time(&self) -> bool {
        Instant::now() < self.until
    }
}

fn seed() -> Option<u64> {
    std::env::var("TORTURE_SEED").ok().map(|seed| seed.parse().expect("TORTURE_SEED is a number"))
}
