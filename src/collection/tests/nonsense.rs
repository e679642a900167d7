//! Files whose checksums hold, and that say what cannot be.

use super::kept::everything;
use super::*;
use crate::collection::disk::parts_folder;
use crate::storage::forge::rewrite_section;

/// Sections of rows and graphs: see `docs/data_format.md`.
const VECTORS: u32 = 1;
const HEAD: u32 = 1;
const MEAN: u32 = 2;
const INVERSE_NORMS: u32 = 5;
const SCALES: u32 = 7;
const BLOCKS: u32 = 8;

const DIMENSION: usize = 64;

fn components(number: usize) -> Vec<f32> {
    (0..DIMENSION).map(|at| ((number * 7919 + at * 104_729) as f32 * 0.1).sin()).collect()
}

/// So many records on disk alone: in a table, or in a segment.
fn on_disk(path: &Path, metric: Metric, count: usize, is_built: bool) {
    let collection = create(path, vec![space("a", DIMENSION, metric)]);
    run(
        &collection,
        upsert((0..count).map(|number| record(&format!("r{number}"), "a", &components(number), None)).collect()),
    )
    .unwrap();
    if is_built {
        collection.compact(&mut |_, _| {});
    }
    collection.checkpoint().unwrap();
    assert_eq!(collection.statistics().segment_count, usize::from(is_built));
}

fn file(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(parts_folder(path)).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.extension().is_some_and(|extension| extension == suffix)).unwrap()
}

fn set(file: &Path, section: u32, place: usize, values: &[f32]) {
    rewrite_section(file, section, |bytes| {
        for (place, value) in (place..).zip(values) {
            bytes[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes());
        }
    });
}

#[test]
fn a_start_refuses_rows_that_are_no_vectors_of_their_space() {
    let tiny = [1e-39; DIMENSION];
    for (metric, values, expected) in [
        (Metric::Euclidean, &[f32::NAN][..], "every component of a vector is a finite number, but component 2 is NaN"),
        (Metric::DotProduct, &[f32::NEG_INFINITY], "but component 2 is -inf"),
        (Metric::Cosine, &[-2e19], "the length of a vector is at most"),
        (Metric::Cosine, &tiny, "it has no direction"),
    ] {
        for is_built in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("c");
            on_disk(&path, metric, 200, is_built);
            let rows = file(&path, "rows");
            let first = if values.len() == 1 { 2 } else { 0 };
            set(&rows, VECTORS, 57 * DIMENSION + first, values);
            for vectors in [Residence::Resident, Residence::Mapped] {
                let options = CollectionOptions { vectors, ..CollectionOptions::default() };
                let refused = Collection::open(Arc::new(RealFs), &path, options).err().unwrap().to_string();
                let named = rows.display().to_string();
                assert!(
                    refused.contains(&named) && refused.contains("57: ") && refused.contains(expected),
                    "{metric} {is_built} {vectors:?}: {refused}"
                );
            }
        }
    }
}

#[test]
fn a_long_and_a_short_vector_within_the_limits_are_read() {
    for (metric, component) in [(Metric::Euclidean, 1e18), (Metric::Cosine, 1e-37), (Metric::DotProduct, 0.0)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let collection = create(&path, vec![space("a", DIMENSION, metric)]);
        let records = (0..200).map(|number| record(&format!("r{number}"), "a", &components(number), None));
        let unusual = record("unusual", "a", &[component; DIMENSION], None);
        run(&collection, upsert(records.chain([unusual]).collect())).unwrap();
        collection.compact(&mut |_, _| {});
        collection.checkpoint().unwrap();
        let (before, found) = (everything(&collection), search(&collection, "a", &components(7), 300));
        drop(collection);
        let collection = reopen(&path);
        assert_eq!(collection.statistics().segment_count, 1, "{metric}: the graph was read");
        assert_eq!(
            (everything(&collection), search(&collection, "a", &components(7), 300)),
            (before, found),
            "{metric}"
        );
    }
}

/// Changes the graph of a segment, and looks that it is built again rather than walked.
fn assert_built_again(what: &str, count: usize, change: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    on_disk(&path, Metric::Cosine, count, true);
    let before = reopen(&path);
    let searches = |collection: &Collection| -> Vec<_> {
        (0..5).map(|number| search(collection, "a", &components(number * 31 + 1), 20)).collect()
    };
    assert_eq!(before.statistics().segment_count, 1);
    let (all, found) = (everything(&before), searches(&before));
    drop(before);
    change(&file(&path, "graph"));
    let collection = reopen(&path);
    assert_eq!(collection.statistics().segment_count, 0, "{what}: the graph was read");
    assert_eq!((everything(&collection), searches(&collection)), (all, found), "{what}");
}

#[test]
fn a_graph_whose_numbers_are_none_is_built_again() {
    for (what, section, place) in
        [("norms", INVERSE_NORMS, 7), ("the mean", MEAN, 3), ("a step", SCALES, 8), ("a square", SCALES, 9)]
    {
        assert_built_again(what, 200, |graph| set(graph, section, place, &[f32::NAN]));
        assert_built_again(what, 200, |graph| set(graph, section, place, &[f32::NEG_INFINITY]));
    }
    for (what, place, value) in [("the scale", 10, 0.0), ("the scale", 10, f32::NAN), ("the error", 11, -1.0)] {
        assert_built_again(what, 200, |graph| set(graph, HEAD, place, &[value]));
    }
    assert_built_again("the length", 200, |graph| {
        rewrite_section(graph, HEAD, |bytes| bytes[32..40].copy_from_slice(&f64::NAN.to_le_bytes()));
    });
}

#[test]
fn a_graph_that_has_walks_visit_a_neighbour_that_is_missing_is_built_again() {
    // Fewer than the degree: every node has room.
    assert_built_again("a missing neighbour", 20, |graph| {
        let mut degree = 0;
        rewrite_section(graph, HEAD, |head| degree = u32::from_le_bytes(head[12..16].try_into().unwrap()) as usize);
        rewrite_section(graph, BLOCKS, |blocks| {
            // Numbers of neighbours; for each 32 of them constants, slopes and bits.
            let missing = (0..degree).find(|place| blocks[4 * place..][..4] == [0xFF; 4]).expect("a node with room");
            let group_bytes = 4 * 2 * 32 + DIMENSION / 4 * 16;
            let constant = 4 * degree + missing / 32 * group_bytes + missing % 32 * 4;
            assert_eq!(blocks[constant..][..4], f32::INFINITY.to_le_bytes());
            blocks[constant..][..4].fill(0);
        });
    });
}
