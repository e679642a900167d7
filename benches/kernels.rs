//! The kernels, each beside the others: `make bench`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vectron::distance::{Block, available};

/// Rows that do not fit the second-level cache, as in a search.
const ROWS: usize = 20_032;
/// A collection that is small beside the cost of a call.
const SMALL_ROWS: usize = 1_024;
/// Rows that a search of many queries compares at one go.
const BLOCK_ROWS: usize = 64;
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
            let mut out = vec![0.0; BLOCK_ROWS];
            group.bench_function(format!("{name} {}", kernels.name), |bencher| {
                bencher.iter(|| {
                    for rows in rows.chunks_exact(BLOCK_ROWS * DIMENSION) {
                        kernel(Block { queries: black_box(&query), rows, dimension: DIMENSION }, &mut out);
                    }
                    out[0]
                });
            });
        }
    }
    group.finish();
}

/// Many queries at once: the work is the same for each, but the rows are read once for all.
fn queries(criterion: &mut Criterion) {
    let rows: Vec<f32> = (0..SMALL_ROWS * DIMENSION).map(|i| (i as f32).sin()).collect();
    for kernels in available() {
        let mut group = criterion.benchmark_group(format!("{SMALL_ROWS} rows of {DIMENSION}, {}", kernels.name));
        for count in [1, 4, 16] {
            let queries: Vec<f32> = (0..count * DIMENSION).map(|i| (i as f32).cos()).collect();
            let mut out = vec![0.0; count * BLOCK_ROWS];
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(format!("{count} queries"), |bencher| {
                bencher.iter(|| {
                    for rows in rows.chunks_exact(BLOCK_ROWS * DIMENSION) {
                        (kernels.dot)(Block { queries: black_box(&queries), rows, dimension: DIMENSION }, &mut out);
                    }
                    out[0]
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, rows, queries);
criterion_main!(benches);
