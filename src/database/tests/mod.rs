//! The data folder: creating, dropping, restarts, damage, and earlier Vectron's file.

mod dropping;
mod repair;

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::collection::{Change, Content, Operation, RecordWritten, Upserted};
use crate::storage::fs::{Call, SimFs};
use crate::storage::log::Durability;
use crate::types::{Dimension, RecordId, Sequence, Vector};

fn name(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn key(request_id: &str, content_hash: u64) -> Option<RequestKey> {
    Some(RequestKey { request_id: request_id.to_owned(), content_hash })
}

fn on(fs: Arc<dyn Fs>) -> DatabaseOptions {
    DatabaseOptions { fs, ..DatabaseOptions::default() }
}

fn open(folder: &Path) -> (Database, OpenReport) {
    Database::open(folder, DatabaseOptions::default()).unwrap()
}

fn fill(collection: &Collection, count: usize) {
    (0..count).for_each(|number| fill_one(collection, number));
}

fn fill_one(collection: &Collection, number: usize) {
    let space = raw_space(Dimension::new(2).unwrap());
    let record = RecordWritten {
        id: RecordId::new(&number.to_string()).unwrap(),
        space: space.name.clone(),
        vector: Vector::new(vec![1.0, number as f32]).unwrap(),
        content: Arc::new(Content::default()),
        if_version: None,
    };
    let change =
        Change::Upserted(Upserted { spaces: vec![space.clone()], records: vec![record], ..Default::default() });
    let answer = collection.submit(Operation::new(change), Durability::Durable).unwrap();
    answer.blocking_recv().unwrap().unwrap().unwrap();
}

fn log_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("collections"))
        .unwrap()
        .flat_map(|entry| fs::read_dir(entry.unwrap().path().join("log")).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn collections_come_back_after_a_restart_and_dropped_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    fill(&database.create(&name("keep"), Created::default(), None).unwrap(), 3);
    fill(&database.create(&name("drop"), Created::default(), None).unwrap(), 2);
    assert_eq!(database.drop_collection("drop", None).unwrap(), 2);
    assert!(matches!(database.get("drop"), Err(DatabaseError::NotFound { .. })));
    drop(database);

    let (database, report) = open(folder.path());
    assert_eq!((report.collections, report.records), (1, 3));
    assert_eq!(database.get("keep").unwrap().view().record_count(), 3);
    assert_eq!(fs::read_dir(folder.path().join("collections")).unwrap().count(), 1);
    // A name can be used again, by another collection.
    assert_eq!(database.create(&name("drop"), Created::default(), None).unwrap().view().record_count(), 0);
}

#[test]
fn a_second_of_the_same_name_is_refused_and_a_retry_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    let first = database.create(&name("a"), Created::default(), key("r", 1)).unwrap();
    let retry = database.create(&name("a"), Created::default(), key("r", 1)).unwrap();
    assert!(Arc::ptr_eq(&first, &retry));
    assert!(matches!(database.create(&name("a"), Created::default(), None), Err(DatabaseError::AlreadyExists { .. })));
    let reused = database.create(&name("b"), Created::default(), key("r", 2));
    assert!(matches!(reused, Err(DatabaseError::RequestIdReused { .. })));
    assert_eq!(database.drop_collection("a", key("d", 1)).unwrap(), 0);
    assert_eq!(database.drop_collection("a", key("d", 1)).unwrap(), 0, "a retry of the drop");
    assert!(matches!(database.drop_collection("a", None), Err(DatabaseError::NotFound { .. })));
}

#[test]
fn a_second_process_is_refused_by_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let (_database, _) = open(folder.path());
    let Err(DatabaseError::Locked(error)) = Database::open(folder.path(), DatabaseOptions::default()) else {
        panic!("opened twice")
    };
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn a_missing_catalogue_does_not_cost_the_collections() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    fill(&database.create(&name("a"), Created::default(), None).unwrap(), 1);
    drop(database);
    fs::rename(folder.path().join("catalogue"), folder.path().join("elsewhere")).unwrap();
    let Err(error) = Database::open(folder.path(), DatabaseOptions::default()) else {
        panic!("opened without its catalogue")
    };
    assert!(error.to_string().contains("1 folders of collections"), "{error}");
    assert_eq!(log_files(folder.path()).len(), 1);
    fs::rename(folder.path().join("elsewhere"), folder.path().join("catalogue")).unwrap();
    assert_eq!(open(folder.path()).1.records, 1);
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("catalogue")).unwrap();
    assert_eq!(open(folder.path()).1.collections, 0);
}

#[test]
fn a_damaged_collection_is_named_and_the_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    fill(&database.create(&name("bad"), Created::default(), None).unwrap(), 20);
    let file = log_files(folder.path()).remove(0);
    fill(&database.create(&name("good"), Created::default(), None).unwrap(), 1);
    drop(database);
    let mut bytes = fs::read(&file).unwrap();
    bytes[3 * 4096 + 40] ^= 1;
    fs::write(&file, &bytes).unwrap();

    let (database, report) = open(folder.path());
    assert_eq!((report.collections, report.records), (1, 1));
    let Err(DatabaseError::Damaged { reason, .. }) = database.get("bad") else { panic!("served") };
    assert!(
        reason.contains(&*file.to_string_lossy()) && reason.contains("offset") && reason.contains("sequence"),
        "{reason}"
    );
    assert_eq!(database.get("good").unwrap().view().record_count(), 1);
    assert_eq!(fs::read(&file).unwrap(), bytes, "the damaged file is left as it is");
    database.drop_collection("bad", None).unwrap();
}

#[test]
fn the_file_of_earlier_vectron_is_taken_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("index.json");
    fs::write(&file, r#"[{"id":"a","vector":[1,2,3]},{"id":"b","vector":[1.5,2]},{"id":"a","vector":[4,5,6]}]"#)
        .unwrap();
    let (database, report) = open(folder.path());
    assert_eq!(report.imported, Some(2));
    let collection = database.get("default").unwrap();
    assert_eq!(collection.view().get("a").unwrap().0.components, [4.0, 5.0, 6.0]);
    assert_eq!(collection.view().get("b").unwrap().1.name.as_str(), "raw-2");
    database.drop_collection("default", None).unwrap();
    drop((collection, database));
    let (database, report) = open(folder.path());
    assert_eq!((report.imported, report.collections), (None, 0), "what was dropped does not come back");
    assert!(file.exists());
    drop(database);
}

#[test]
fn a_file_of_earlier_vectron_that_is_wrong_is_refused_whole() {
    for (json, expected) in [
        (r#"[{"id":"a","vector":[1]},{"id":"","vector":[1]}]"#, "entry 1"),
        (r#"[{"id":"a","vector":[0,0]}]"#, "zero vector"),
        (r#"[{"id":"a","vector":[]}]"#, "entry 0"),
        (r#"{"a":[1]}"#, "expected"),
        (r#"[{"id":"a","vector":[1e99]}]"#, "out of range"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.json"), json).unwrap();
        let Err(DatabaseError::Legacy(error)) = Database::open(folder.path(), DatabaseOptions::default()) else {
            panic!("{json} was taken in")
        };
        assert!(error.to_string().contains(expected), "{error}");
        // Mended, it is taken in at the next start.
        fs::write(folder.path().join("index.json"), r#"[{"id":"a","vector":[1]}]"#).unwrap();
        assert_eq!(open(folder.path()).1.imported, Some(1));
    }
}

#[test]
fn the_benchmark_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (_database, _) = open(folder.path());
    let parameters = benchmark::Parameters {
        vector_count: 250,
        dimension: Dimension::new(8).unwrap(),
        search_count: 5,
        test_persistence: true,
    };
    let report = benchmark::run(folder.path(), parameters).unwrap();
    assert_eq!(report.insert_batch.calls.len(), 3);
    assert_eq!(report.insert_single_durable.items, 100);
    let persistence = report.persistence.unwrap();
    assert!(persistence.verified && persistence.record_count == 250);
    assert!(!folder.path().join("benchmark_temp").exists());
}

/// A file system with a catalogue and one collection, whose next sync fails.
fn with_a_failing_sync(folder: &Path) -> (SimFs, Database) {
    let fs = SimFs::new();
    let (database, _) = Database::open(folder, on(Arc::new(fs.clone()))).unwrap();
    fill(&database.create(&name("keep"), Created::default(), None).unwrap(), 3);
    fs.fail_next(Call::SyncData, std::io::ErrorKind::Other);
    (fs, database)
}

#[test]
fn after_a_drop_that_failed_nothing_more_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (_fs, database) = with_a_failing_sync(folder.path());
    let before = database.get("keep").unwrap();
    database.drop_collection("keep", None).unwrap_err();
    let Err(DatabaseError::Damaged { reason, .. }) = database.get("keep") else { panic!("still served") };
    assert!(reason.contains("the next start tells"), "{reason}");
    let change = Change::Deleted(Vec::new());
    assert!(before.submit(Operation::new(change), Durability::Durable).is_err());
}

#[test]
fn after_a_create_that_failed_the_folder_is_left_to_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (fs, database) = with_a_failing_sync(folder.path());
    // The sync that fails is the new collection's own: it is surely not in the catalogue.
    assert!(database.create(&name("new"), Created::default(), None).is_err());
    let count = |fs: &SimFs| collection_folders(fs, folder.path()).unwrap().len();
    assert_eq!(count(&fs), 1);
    assert!(matches!(database.get("new"), Err(DatabaseError::NotFound { .. })));
    assert!(database.close(), "the logs that are served are whole");
}

#[test]
fn with_little_room_on_the_disk_no_collection_is_made_and_a_retry_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
    database.create(&name("before"), Created::default(), key("r", 1)).unwrap();
    fs.set_free_bytes(999);
    database.keep_free(1_000);
    let refused = database.create(&name("new"), Created::default(), None);
    assert!(matches!(refused, Err(DatabaseError::LowSpace(LowSpace { free_bytes: 999, .. }))));
    database.create(&name("before"), Created::default(), key("r", 1)).unwrap();
    fill(&database.get("before").unwrap(), 1);
    database.drop_collection("before", None).unwrap();
}

#[test]
fn a_log_that_takes_no_writes_is_named_until_its_collection_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
    database.create(&name("good"), Created::default(), None).unwrap();
    let bad = database.create(&name("bad"), Created::default(), None).unwrap();
    database.health().unwrap();
    fs.fail_next(Call::Write, std::io::ErrorKind::Other);
    let answer = bad.submit(Operation::new(Change::Deleted(Vec::new())), Durability::Durable).unwrap();
    answer.blocking_recv().unwrap().unwrap_err();
    let error = database.health().unwrap_err().to_string();
    assert!(error.starts_with("collection bad takes no writes: ") && error.contains("cannot write"), "{error}");
    database.drop_collection("bad", None).unwrap();
    database.health().unwrap();
}
