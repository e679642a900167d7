//! The metadata index of a segment: what selecting and estimating cost, beside asking each row.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::ops::Bound;

use criterion::{Criterion, criterion_group, criterion_main};
use vectron::filter::{Filter, MetadataIndex};
use vectron::types::{Metadata, Value};

/// As many as WordNet has glosses, with metadata of that kind.
const ROWS: usize = 115_659;

fn row(n: usize) -> Metadata {
    // Spread, so that neighbours differ.
    let spread = n.wrapping_mul(2_654_435_761) >> 8;
    let fields = [
        ("topic", Value::String(format!("noun.{}", spread % 45))),
        ("words", Value::Int((spread % 50) as i64)),
        ("year", Value::Double(1900.0 + (spread % 100_003) as f64 / 1000.0)),
        ("key", Value::String(format!("synset-{n:08}"))),
        ("rare", Value::Bool(n.is_multiple_of(1000))),
        ("tags", Value::List((0..n % 4).map(|tag| Value::String(format!("t{}", (spread + tag) % 30))).collect())),
    ];
    Metadata::new(fields.map(|(name, value)| (name.to_owned(), value)).into()).expect("valid metadata")
}

fn cases() -> Vec<(&'static str, Filter)> {
    let text = |text: &str| Value::String(text.to_owned());
    let words = |from, to| Filter::range("words", Bound::Included(Value::Int(from)), Bound::Excluded(Value::Int(to)));
    let year = |from, to| Filter::range("year", Bound::Included(Value::Int(from)), Bound::Excluded(Value::Int(to)));
    let keys = (0..10_000).map(|n| text(&format!("synset-{:08}", n * 11))).collect();
    let both = || vec![Filter::equals("topic", text("noun.7")).expect("valid"), words(10, 40).expect("valid")];
    [
        ("equals, 1 of 45", Filter::equals("topic", text("noun.7"))),
        ("equals, hashed", Filter::equals("key", text("synset-00077777"))),
        ("in, 10,000 hashed", Filter::is_in("key", keys)),
        ("range, 3 of 50", words(10, 13)),
        ("range, 25 of 50", words(10, 35)),
        ("range, 45 of 50", words(2, 47)),
        ("range, 1% of a run", year(1950, 1951)),
        ("range, half of a run", year(1930, 1980)),
        ("range, 90% of a run", year(1905, 1995)),
        ("contains", Filter::contains("tags", text("t3"))),
        ("all of two", Filter::all_of(both())),
        ("not all of two", Filter::all_of(both()).and_then(Filter::not)),
    ]
    .map(|(name, filter)| (name, filter.expect("valid")))
    .into()
}

fn filter(criterion: &mut Criterion) {
    let rows: Vec<Metadata> = (0..ROWS).map(row).collect();
    let index = MetadataIndex::build(rows.iter());
    let mut group = criterion.benchmark_group(format!("{ROWS} rows, index of {} bytes", index.bytes()));
    group.sample_size(20);
    group.bench_function("build", |bencher| bencher.iter(|| MetadataIndex::build(black_box(&rows).iter())));
    for (name, filter) in cases() {
        group.bench_function(format!("select: {name}"), |bencher| bencher.iter(|| index.select(black_box(&filter))));
        group
            .bench_function(format!("estimate: {name}"), |bencher| bencher.iter(|| index.estimate(black_box(&filter))));
        group.bench_function(format!("each row: {name}"), |bencher| {
            bencher.iter(|| black_box(&rows).iter().filter(|row| filter.matches(row)).count());
        });
    }
    group.finish();
}

criterion_group!(benches, filter);
criterion_main!(benches);
