//! The kernels, each beside the others: `make bench`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vectron::distance::{Block, available};
use vectron::quantization;
use vectron::quantization::bits::{Estimates, GROUP_ROWS, Neighborhood, group_bytes};

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

/// 8-bit codes of a block of rows, for one query and for many.
fn codes(criterion: &mut Criterion) {
    let codes = |count: usize| (0..count * DIMENSION).map(|i| (i * 37 % 255 + 1) as u8);
    let rows: Vec<u8> = codes(BLOCK_ROWS).collect();
    let vector: Vec<f32> = (0..DIMENSION).map(|i| (i as f32).sin()).collect();
    for kernels in quantization::available() {
        let mut group = criterion.benchmark_group(format!("codes of {DIMENSION}, {}", kernels.name));
        for count in [1, 16] {
            let queries: Vec<i8> = codes(count).map(|code| (code ^ 0x80) as i8).collect();
            let mut out = vec![0; count * BLOCK_ROWS];
            group.throughput(Throughput::Elements((count * BLOCK_ROWS) as u64));
            group.bench_function(format!("dot_codes {count} x {BLOCK_ROWS}"), |bencher| {
                bencher.iter(|| {
                    (kernels.dot_codes)(black_box(&queries), black_box(&rows), DIMENSION, &mut out);
                    out[0]
                });
            });
        }
        let mut out = vec![0; DIMENSION];
        group.throughput(Throughput::Elements(1));
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                (kernels.encode)(black_box(&vector), black_box(127.0), &mut out);
                out[0]
            });
        });
        group.finish();
    }
}

/// One bit a component: what a hop of a walk costs, and what a query and a build cost before.
fn bits(criterion: &mut Criterion) {
    let vector: Vec<f32> = (0..DIMENSION).map(|i| (i as f32).sin()).collect();
    let center: Vec<f32> = (0..DIMENSION).map(|i| (i as f32).cos()).collect();
    let bytes: Vec<u8> = (0..group_bytes(DIMENSION)).map(|i| (i * 37 % 256) as u8).collect();
    let (constants, slopes) = ([1.0; GROUP_ROWS], [-0.1; GROUP_ROWS]);
    for kernels in quantization::available() {
        let mut group = criterion.benchmark_group(format!("bits of {DIMENSION}, {}", kernels.name));
        let neighborhood = Neighborhood { codes: &bytes, constants: &constants, slopes: &slopes };
        let mut estimates = [0.0; GROUP_ROWS];
        group.throughput(Throughput::Elements(GROUP_ROWS as u64));
        group.bench_function("estimate", |bencher| {
            bencher.iter(|| {
                let query = Estimates { table: black_box(&bytes), step: 0.01, base: -1.0, center: 0.5 };
                (kernels.estimate)(&query, black_box(&neighborhood), &mut estimates);
                estimates[0]
            });
        });
        group.throughput(Throughput::Elements(1));
        let mut table = vec![0; group_bytes(DIMENSION)];
        group.bench_function("tabulate", |bencher| {
            bencher.iter(|| {
                (kernels.tabulate)(black_box(&vector), black_box(50.0), &mut table);
                table[0]
            });
        });
        let mut signs = vec![0; DIMENSION / 8];
        group.bench_function("residual", |bencher| {
            bencher.iter(|| {
                // The definition adds bits to what is there.
                signs.fill(0);
                (kernels.residual)(black_box(&center), black_box(&vector), &mut signs)
            });
        });
        // The part of 384 components that is turned at once.
        let mut window: Vec<f32> = vector[..256].to_vec();
        group.bench_function("transform of 256", |bencher| {
            bencher.iter(|| {
                (kernels.transform)(black_box(&mut window), black_box(1.0 / 16.0));
                window[0]
            });
        });
        group.finish();
    }
}

criterion_group!(benches, rows, queries, codes, bits);
criterion_main!(benches);
