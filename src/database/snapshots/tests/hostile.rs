//! Snapshots whose checksums hold, from somebody who means harm.

use super::*;
use crate::storage::forge::rewrite_section;

/// Sections of the files: see `docs/data_format.md`.
const VECTORS: u32 = 1;
const INVERSE_NORMS: u32 = 5;

/// A database, and snapshot `t` of a collection with a segment: its folder, its rows and its graph.
fn with_a_segment(folder: &Path) -> (Database, PathBuf, PathBuf) {
    let database = with_snapshot(folder);
    let collection = database.get("c").unwrap();
    number(&collection, 3000, 2.0, None).unwrap().unwrap();
    collection.compact(&mut |_, _| {});
    database.create_snapshot(&to("c"), &of("t"), 1, None).unwrap();
    let all = files(&folder.join("snapshots/t"));
    let graph = all.iter().find(|file| file.extension().is_some_and(|suffix| suffix == "graph")).unwrap();
    (database, graph.with_extension("rows"), graph.clone())
}

fn assert_refused(database: &Database, file: &Path, expected: &str) {
    let name = file.file_name().unwrap().to_str().unwrap();
    let archive = database.open_snapshot(&of("t"), false).unwrap();
    let mut bytes = Vec::new();
    archive.write(0, &mut bytes).unwrap();
    let refusals = [
        database.verify_snapshot(&of("t")).unwrap_err(),
        database.restore_snapshot(&of("t"), &to("d"), None).err().unwrap(),
        receive(database, "u", &bytes).unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, SnapshotError::Damaged { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(name) && text.contains(expected), "expected {name} and {expected:?}: {text}");
    }
    assert_eq!(database.list(None, 10).len(), 1);
}

#[test]
fn components_that_are_no_numbers_and_norms_of_other_vectors_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (database, rows, graph) = with_a_segment(folder.path());
    database.verify_snapshot(&of("t")).unwrap();
    let set = |file: &Path, tag: u32, place: usize, value: f32| {
        let mut before = 0.0;
        rewrite_section(file, tag, |bytes| {
            let at = &mut bytes[4 * place..4 * place + 4];
            before = f32::from_le_bytes((&*at).try_into().unwrap());
            at.copy_from_slice(&value.to_le_bytes());
        });
        before
    };
    // Component 1 of vector 1,500.
    for (value, expected) in [
        (f32::NAN, "vector 1500: every component of a vector is a finite number, but component 1 is NaN"),
        (f32::NEG_INFINITY, "but component 1 is -inf"),
        (3e38, "vector 1500: the length of a vector is at most"),
    ] {
        let before = set(&rows, VECTORS, 3001, value);
        assert_refused(&database, &rows, expected);
        set(&rows, VECTORS, 3001, before);
    }
    for value in [f32::NAN, f32::INFINITY, 0.0, -1.0, 0.7] {
        let before = set(&graph, INVERSE_NORMS, 7, value);
        assert_refused(&database, &graph, "vector 7: its stored norm is");
        set(&graph, INVERSE_NORMS, 7, before);
    }
    // A vector of another length, but a vector.
    let before = set(&rows, VECTORS, 3001, 1e6);
    assert_refused(&database, &graph, "vector 1500: its stored norm is");
    set(&rows, VECTORS, 3001, before);
    database.restore_snapshot(&of("t"), &to("d"), None).unwrap();
}

#[test]
fn a_vector_without_a_direction_is_refused_where_it_needs_one() {
    let folder = tempfile::tempdir().unwrap();
    let (database, rows, _) = with_a_segment(folder.path());
    rewrite_section(&rows, VECTORS, |bytes| bytes[16..24].fill(0));
    assert_refused(&database, &rows, "vector 2: it has no direction");
}
