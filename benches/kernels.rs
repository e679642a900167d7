//! The kernels, each beside the others: `make bench`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vectron::distance::available;

/// Rows that do not fit the second-level cache, as in a search.
const ROWS: usize = 20_000;
const DIMENSION: usize = 384;

fn rows(criterion: &mut Criterion) {
    let rows: Vec<f32> = (0..ROWS * DIMENSION).map(|i| (i as f32).sin()).collect();
    let query: Vec<f32> = (0..DIMENSION).map(|i| (i as f32).cos()).collect();
    let mut group = criterion.benchmark_group(format!("{ROWS} rows of {DIMENSION}"));
    group.throughput(Throughput::Bytes((rows.len() * size_of::<f32>()) as u64));
    // The ceiling: reading the same bytes and doing next to nothing with them.
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let (lanes, _) = rows.as_chunks::<16>();
            let mut sums = [0_u32; 16];
            for lanes in black_box(lanes) {
                for (sum, number) in sums.iter_mut().zip(lanes) {
                    *sum ^= number.to_bits();
                }
            }
            sums
        });
    });
    for kernels in available() {
        for (name, kernel) in [("dot", kernels.dot), ("squared_euclidean", kernels.squared_euclidean)] {
            group.bench_function(format!("{name} {}", kernels.name), |bencher| {
                bencher.iter(|| rows.chunks(DIMENSION).map(|row| kernel(black_box(&query), row)).sum::<f32>());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
