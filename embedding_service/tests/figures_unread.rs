//! Where nobody reads the figures, they take no more memory for it.
//!
//! One test, alone in its process, since it looks at the memory of all of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use vectron_embedding::port::Figures;

/// 128 MB, at 16 bytes each, while they are kept.
const NUMBERS: usize = 8_000_000;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn what_histograms_are_told_is_not_kept_for_ever() {
    let _figures = Figures::of_this_process().unwrap();
    let histogram = metrics::histogram!("vectron_embedding_test_seconds");
    let before = resident_bytes();
    let mut most = 0;
    for round in 0..3 {
        for number in 0..NUMBERS {
            histogram.record(number as f64);
        }
        most = most.max(resident_bytes() - before);
        if round < 2 {
            std::thread::sleep(Duration::from_secs(6));
        }
    }
    assert!(most < 2 * NUMBERS * 16, "{} MB", most / 1_000_000);
}
