use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use crate::filter::{Filter, FilterFault, MetadataIndex};
use crate::types::{Metadata, Value};

fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> BTreeMap<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn metadata(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Metadata {
    Metadata::new(object(fields)).unwrap()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn equals(field: &str, value: Value) -> Filter {
    Filter::equals(field, value).unwrap()
}

fn exists(field: &str) -> Filter {
    Filter::exists(field).unwrap()
}

fn at_least(field: &str, value: Value) -> Filter {
    Filter::range(field, Bound::Included(value), Bound::Unbounded).unwrap()
}

/// What the index selects, where it need be after a check of each row, is what matches; returns whether it was exact.
#[track_caller]
fn check(rows: &[Metadata], index: &MetadataIndex, filter: &Filter) -> bool {
    let matching: Vec<u32> = (0..).zip(rows).filter(|(_, row)| filter.matches(row)).map(|(number, _)| number).collect();
    let selection = index.select(filter);
    let selected: Vec<u32> = selection.rows.iter().collect();
    if selection.is_exact {
        assert_eq!(selected, matching, "{filter:?}");
    } else {
        assert!(matching.iter().all(|&row| selection.rows.contains(row)), "{filter:?}");
        assert!(selected.iter().all(|&row| (row as usize) < rows.len()), "{filter:?}");
    }
    let share = index.estimate(filter);
    assert!((0.0..=1.0).contains(&share), "{share} {filter:?}");
    selection.is_exact
}

#[track_caller]
fn assert_exact(rows: &[Metadata], filter: &Filter) {
    let index = MetadataIndex::build(rows.iter());
    assert!(check(rows, &index, filter), "{filter:?}");
    assert!(check(rows, &index, &Filter::not(filter.clone()).unwrap()), "{filter:?}");
    let matching = rows.iter().filter(|row| filter.matches(row)).count();
    let expected = matching as f64 / rows.len() as f64;
    assert!((index.estimate(filter) - expected).abs() < 1e-12, "{filter:?}");
}

#[test]
fn numbers_are_equal_exactly_whatever_their_kind() {
    let rows: Vec<Metadata> = [
        Value::Int(1),
        Value::Double(1.0),
        Value::Double(0.0),
        Value::Double(-0.0),
        Value::Int(9_007_199_254_740_992),
        Value::Double(9_007_199_254_740_992.0),
        Value::Int(9_007_199_254_740_993),
        Value::Int(i64::MAX),
        Value::Double(9_223_372_036_854_775_808.0),
        Value::Int(i64::MIN),
        Value::Double(-9_223_372_036_854_775_808.0),
        Value::Double(0.5),
        text("1"),
        Value::Bool(true),
    ]
    .map(|value| metadata([("n", value)]))
    .to_vec();
    let matching =
        |filter: &Filter| -> Vec<usize> { (0..rows.len()).filter(|&row| filter.matches(&rows[row])).collect() };
    for (value, expected) in [
        (Value::Double(1.0), vec![0, 1]),
        (Value::Int(0), vec![2, 3]),
        (Value::Double(-0.0), vec![2, 3]),
        (Value::Double(9_007_199_254_740_992.0), vec![4, 5]),
        (Value::Int(9_007_199_254_740_993), vec![6]),
        (Value::Int(i64::MAX), vec![7]),
        (Value::Double(9_223_372_036_854_775_808.0), vec![8]),
        (Value::Int(i64::MIN), vec![9, 10]),
        (text("1"), vec![12]),
    ] {
        let filter = equals("n", value);
        assert_eq!(matching(&filter), expected, "{filter:?}");
        assert_exact(&rows, &filter);
    }
    let above = Filter::range("n", Bound::Excluded(Value::Double(9_007_199_254_740_992.0)), Bound::Unbounded).unwrap();
    assert_eq!(matching(&above), [6, 7, 8]);
    assert_exact(&rows, &above);
    let up_to = Filter::range("n", Bound::Unbounded, Bound::Included(Value::Int(i64::MAX))).unwrap();
    assert_eq!(matching(&up_to), [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11]);
    assert_exact(&rows, &up_to);
    let crossed = Filter::range("n", Bound::Included(Value::Int(2)), Bound::Excluded(Value::Int(1))).unwrap();
    assert_eq!(matching(&crossed), [0; 0]);
    assert_exact(&rows, &crossed);
}

#[test]
fn a_dot_descends_into_objects_and_the_longest_name_wins() {
    let c = |value| Value::Object(object([("c", value)]));
    let rows = [
        metadata([("a", Value::Object(object([("b", c(Value::Int(1)))])))]),
        metadata([
            ("a.b.c", Value::Int(2)),
            ("a.b", c(Value::Int(3))),
            ("a", Value::Object(object([("b.c", Value::Int(4))]))),
        ]),
        metadata([("a.b", c(Value::Int(3))), ("a", Value::Object(object([("b.c", Value::Int(4))])))]),
        metadata([("a", Value::Object(object([("b.c", Value::Int(4)), ("b", c(Value::Int(1)))])))]),
        // The longer name leads nowhere; the shorter one does.
        metadata([("a.b", Value::Int(7)), ("a", Value::Object(object([("b", c(Value::Int(5)))])))]),
        metadata([("a", Value::List(vec![Value::Object(object([("b", c(Value::Int(6)))]))]))]),
        metadata([("", Value::Object(object([("x", Value::Int(8))])))]),
    ];
    let found = |row: usize, n| equals("a.b.c", Value::Int(n)).matches(&rows[row]);
    assert!(found(0, 1) && found(1, 2) && found(2, 3) && found(3, 4) && found(4, 5));
    assert!(!exists("a.b.c").matches(&rows[5]), "a dot does not descend into lists");
    assert!(equals("a.b", Value::Int(7)).matches(&rows[4]));
    assert!(equals(".x", Value::Int(8)).matches(&rows[6]));
    for n in 1..9 {
        for field in ["a.b.c", "a.b", "a", ".x"] {
            assert_exact(&rows, &equals(field, Value::Int(n)));
        }
    }
    for field in ["a", "a.b", "a.b.c", "a.b.c.d", "b", "c", ".", ".x", "a.", ".a"] {
        assert_exact(&rows, &exists(field));
    }
}

#[test]
fn null_lists_and_missing_fields_are_three_things() {
    let rows = [
        metadata([("f", Value::Null)]),
        metadata([]),
        metadata([(
            "f",
            Value::List(vec![Value::Null, Value::Int(1), text("x"), text("x"), Value::List(vec![text("y")])]),
        )]),
        metadata([("f", Value::Object(BTreeMap::new()))]),
        metadata([("f", Value::List(vec![]))]),
        metadata([("f", text("x"))]),
    ];
    let matching = |filter: Filter| -> Vec<usize> {
        assert_exact(&rows, &filter);
        (0..rows.len()).filter(|&row| filter.matches(&rows[row])).collect()
    };
    assert_eq!(matching(exists("f")), [0, 2, 3, 4, 5]);
    assert_eq!(matching(equals("f", Value::Null)), [0]);
    assert_eq!(matching(equals("f", text("x"))), [5]);
    assert_eq!(matching(Filter::not(equals("f", text("x"))).unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(matching(Filter::contains("f", text("x")).unwrap()), [2]);
    assert_eq!(matching(Filter::contains("f", Value::Double(1.0)).unwrap()), [2]);
    assert_eq!(matching(Filter::contains("f", Value::Null).unwrap()), [2]);
    assert_eq!(matching(Filter::contains("f", text("y")).unwrap()), [0; 0]);
    assert_eq!(matching(Filter::is_in("f", vec![Value::Null, text("x"), text("x")]).unwrap()), [0, 5]);
    assert_eq!(matching(Filter::all_of(vec![]).unwrap()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(matching(Filter::any_of(vec![]).unwrap()), [0; 0]);
    assert_eq!(matching(Filter::not(exists("missing")).unwrap()), [0, 1, 2, 3, 4, 5]);
    let index = MetadataIndex::build([].iter());
    assert!(check(&[], &index, &Filter::not(exists("f")).unwrap()));
}

#[test]
fn what_breaks_the_rules_is_refused_by_its_place() {
    let refused = |result: Result<Filter, crate::filter::InvalidFilter>| result.unwrap_err().to_string();
    let list = || Value::List(vec![]);
    let bound = |value| Filter::range("f", Bound::Unbounded, Bound::Excluded(value));
    for (message, expected) in [
        (refused(Filter::exists("")), "exists.field: the name of a field has 1 to 1024 bytes, but this one has 0"),
        (
            refused(Filter::exists(&"x".repeat(1025))),
            "exists.field: the name of a field has 1 to 1024 bytes, but this one has 1025",
        ),
        (
            refused(Filter::exists(&".".repeat(33))),
            "exists.field: the name of a field has at most 32 dots, but this one has 33",
        ),
        (
            refused(Filter::equals("f", list())),
            "equals.value: expected null, a bool, a number or a string, but got a list",
        ),
        (
            refused(Filter::contains("f", list())),
            "contains.value: expected null, a bool, a number or a string, but got a list",
        ),
        (refused(Filter::equals("f", Value::Double(f64::NAN))), "equals.value: expected a finite number, but got NaN"),
        (refused(Filter::is_in("f", vec![])), "in.values: expected 1 to 10000 values, but got 0"),
        (
            refused(Filter::is_in("f", vec![Value::Null; 10_001])),
            "in.values: expected 1 to 10000 values, but got 10001",
        ),
        (
            refused(Filter::is_in("f", vec![Value::Null, list()])),
            "in.values[1]: expected null, a bool, a number or a string, but got a list",
        ),
        (
            refused(Filter::range("f", Bound::Unbounded, Bound::Unbounded)),
            "range: a range has at least one bound, but this one has none",
        ),
        (refused(bound(text("1"))), "range.less_than: expected a number, but got a string"),
        (refused(bound(Value::Double(f64::INFINITY))), "range.less_than: expected a finite number, but got inf"),
    ] {
        assert_eq!(message, expected);
    }
    assert!(Filter::is_in("f", vec![Value::Null; 10_000]).is_ok());
    assert!(Filter::all_of(vec![exists("f"); 1023]).is_ok());
    let too_many = Filter::all_of(vec![exists("f"); 1024]).unwrap_err();
    assert_eq!((too_many.path.as_str(), too_many.fault), ("all_of", FilterFault::TooManyNodes { nodes: 1025 }));
    let deep = |levels| (1..levels).try_fold(exists("f"), |part, _| Filter::not(part));
    assert!(deep(16).is_ok());
    assert_eq!(deep(17).unwrap_err().fault, FilterFault::TooDeep);
}

/// Fields that end in every layout: few values, many, one for each row, long ones, numbers of both kinds.
fn layouts(count: usize) -> Vec<Metadata> {
    let row = |n: usize| {
        let number = if n.is_multiple_of(3) { Value::Int(n as i64) } else { Value::Double(n as f64 + 0.5) };
        metadata([
            ("unique", text(&format!("text of row {n}"))),
            ("long", text(&format!("{}{}", "x".repeat(300), n % 7))),
            ("some", text(&format!("{}", n % 400))),
            ("skewed", text(&format!("{}", if n.is_multiple_of(2) { 0 } else { n }))),
            ("few", text(["a", "b", "c"][n % 3])),
            ("small", Value::Int((n * 7 % 50) as i64)),
            ("number", number),
            (
                "tags",
                Value::List(vec![text(&format!("t{}", n % 11)), text(&format!("u{n}")), Value::Int((n % 5) as i64)]),
            ),
        ])
    };
    (0..count).map(row).collect()
}

#[test]
fn every_layout_selects_what_matches() {
    let rows = layouts(9_000);
    let index = MetadataIndex::build(rows.iter());
    let range = |field: &str, from: f64, to: f64| {
        Filter::range(field, Bound::Included(Value::Double(from)), Bound::Excluded(Value::Double(to))).unwrap()
    };
    let exact = [
        equals("few", text("b")),
        equals("few", text("d")),
        equals("some", text("17")),
        equals("skewed", text("0")),
        range("small", 3.0, 9.0),
        range("small", 3.0, 47.5),
        range("small", 49.0, 50.0),
        range("small", 60.0, 70.0),
        range("number", 100.0, 110.0),
        range("number", 100.0, 4000.0),
        range("number", 100.0, 8000.0),
        equals("number", Value::Double(300.0)),
        equals("number", Value::Double(301.5)),
        Filter::contains("tags", text("t3")).unwrap(),
        Filter::contains("tags", Value::Int(4)).unwrap(),
    ];
    for filter in &exact {
        assert!(check(&rows, &index, filter), "{filter:?}");
        let matching = rows.iter().filter(|row| filter.matches(row)).count();
        assert!((index.estimate(filter) - matching as f64 / 9_000.0).abs() < 1e-12, "{filter:?}");
    }
    let hashed = [
        equals("unique", text("text of row 8999")),
        equals("unique", text("text of row 0")),
        equals("long", text(&format!("{}3", "x".repeat(300)))),
        equals("skewed", text("8999")),
        Filter::contains("tags", text("u77")).unwrap(),
        Filter::is_in("unique", (0..500).map(|n| text(&format!("text of row {}", n * 3))).collect()).unwrap(),
        Filter::is_in("skewed", vec![text("0"), text("1")]).unwrap(),
    ];
    for filter in &hashed {
        assert!(!check(&rows, &index, filter), "{filter:?}");
        check(&rows, &index, &Filter::not(filter.clone()).unwrap());
        for other in &exact {
            check(&rows, &index, &Filter::all_of(vec![filter.clone(), other.clone()]).unwrap());
            let nor = Filter::not(Filter::any_of(vec![filter.clone(), other.clone()]).unwrap()).unwrap();
            check(&rows, &index, &nor);
        }
        let selected = index.select(filter).rows.len();
        let matching = rows.iter().filter(|row| filter.matches(row)).count() as u64;
        assert!(selected <= matching + 3, "{selected} {matching} {filter:?}");
    }
    assert!(check(&rows, &index, &equals("unique", text("nowhere"))), "no hash, no row");
}

#[test]
fn free_text_costs_little_more_than_its_postings() {
    let rows: Vec<Metadata> =
        (0..50_000).map(|n| metadata([("t", text(&format!("{n} {}", "long text ".repeat(20))))])).collect();
    let bytes = MetadataIndex::build(rows.iter()).bytes();
    assert!(bytes < 50_000 * 9 + 2_000, "{bytes}");
}

#[test]
fn fields_beyond_the_bound_are_unknown_and_never_wrong() {
    let rows: Vec<Metadata> = (0..3_000)
        .map(|n| {
            let fields = [("always".to_owned(), Value::Int(n % 2)), (format!("field {n}"), Value::Int(1))];
            Metadata::new(fields.into_iter().collect()).unwrap()
        })
        .collect();
    let index = MetadataIndex::build(rows.iter());
    let one = Value::Int(1);
    assert!(check(&rows, &index, &equals("always", one.clone())));
    assert!(check(&rows, &index, &equals("field 7", one.clone())));
    let unknown = equals("field 2999", one.clone());
    assert!(!check(&rows, &index, &unknown));
    assert!(!check(&rows, &index, &Filter::not(unknown.clone()).unwrap()));
    let known_too = Filter::all_of(vec![equals("field 7", one), unknown]).unwrap();
    check(&rows, &index, &known_too);
    assert_eq!(index.select(&known_too).rows.len(), 1);
}

/// Values that meet often, and differ by little.
fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-2_i64..3).prop_map(Value::Int),
        (-4_i64..5).prop_map(|halves| Value::Double(halves as f64 / 2.0)),
        (0_i64..3).prop_map(|n| Value::Int((1 << 53) + n)),
        (0_i64..2).prop_map(|n| Value::Double(((1_i64 << 53) + 2 * n) as f64)),
        prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Value::Int),
        prop_oneof![Just(-0.0), Just(i64::MIN as f64), Just(-(i64::MIN as f64)), Just(1e300)].prop_map(Value::Double),
        "[ab]{0,2}".prop_map(Value::String),
    ]
}

fn names() -> impl Strategy<Value = String> {
    "[ab](\\.[ab]){0,2}"
}

fn values() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(names(), inner, 0..4).prop_map(Value::Object),
        ]
    })
}

fn metadatas() -> impl Strategy<Value = Metadata> {
    prop::collection::btree_map(names(), values(), 0..5).prop_map(|fields| Metadata::new(fields).unwrap())
}

fn filters() -> impl Strategy<Value = Filter> {
    let numbers = || {
        scalars()
            .prop_filter("a number", |value| matches!(value, Value::Int(_) | Value::Double(_)))
            .prop_flat_map(|value| prop_oneof![Just(Bound::Included(value.clone())), Just(Bound::Excluded(value))])
    };
    let leaf = prop_oneof![
        (names(), scalars()).prop_map(|(field, value)| Filter::equals(&field, value).unwrap()),
        (names(), prop::collection::vec(scalars(), 1..5))
            .prop_map(|(field, values)| Filter::is_in(&field, values).unwrap()),
        (names(), scalars()).prop_map(|(field, value)| Filter::contains(&field, value).unwrap()),
        names().prop_map(|field| Filter::exists(&field).unwrap()),
        (names(), numbers(), numbers()).prop_map(|(field, lower, upper)| Filter::range(&field, lower, upper).unwrap()),
        (names(), numbers()).prop_map(|(field, lower)| Filter::range(&field, lower, Bound::Unbounded).unwrap()),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| Filter::all_of(parts).unwrap()),
            prop::collection::vec(inner.clone(), 0..4).prop_map(|parts| Filter::any_of(parts).unwrap()),
            inner.prop_map(|part| Filter::not(part).unwrap()),
        ]
    })
}

proptest! {
    #[test]
    fn an_index_selects_what_matches(rows in prop::collection::vec(metadatas(), 0..40), filters in prop::collection::vec(filters(), 1..8)) {
        let index = MetadataIndex::build(rows.iter());
        for filter in &filters {
            // So few strings are all kept: everything is exact.
            prop_assert!(check(&rows, &index, filter));
        }
    }

    #[test]
    fn bounds_hold_where_values_are_hashed(rows in prop::collection::vec(metadatas(), 0..20), filter in filters()) {
        // So many other strings come first that those of the rows are known by their hashes alone.
        let other = |n: i64| {
            let mut fields: BTreeMap<String, Value> = ["a", "b", "a.a", "a.b", "b.a", "b.b", "a.a.a", "a.b.a", "b.a.b"]
                .map(|name| (name.to_owned(), text(&format!("other {n}")))).into();
            fields.insert("list".to_owned(), Value::Int(n));
            Metadata::new(fields).unwrap()
        };
        let rows: Vec<Metadata> = (0..300).map(other).chain(rows).collect();
        let index = MetadataIndex::build(rows.iter());
        check(&rows, &index, &filter);
        check(&rows, &index, &Filter::not(filter).unwrap());
    }
}

proptest! {
    #[test]
    fn a_leafs_estimate_is_its_share(rows in prop::collection::vec(metadatas(), 1..40), field in names(), value in scalars()) {
        for filter in [equals(&field, value.clone()), Filter::contains(&field, value).unwrap(), exists(&field), at_least(&field, Value::Int(0))] {
            let index = MetadataIndex::build(rows.iter());
            let share = rows.iter().filter(|row| filter.matches(row)).count() as f64 / rows.len() as f64;
            prop_assert!((index.estimate(&filter) - share).abs() < 1e-12);
        }
    }
}
