//! Snapshots of a running database: one point of a history, damage, hostile archives, and power cuts at every call.

mod hostile;

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::collection::{
    Change, Collection, Content, Created, Operation, Outcome, RecordRemoved, RecordWritten, Seen, Upserted,
};
use crate::database::{DatabaseError, DatabaseOptions, collection_folders, raw_space};
use crate::storage::fs::{Call, RealFs, SimFs};
use crate::storage::log::Durability;
use crate::types::{Dimension, RecordId, Vector};

fn of(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn to(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

fn key(request_id: &str, content_hash: u64) -> RequestKey {
    RequestKey { request_id: request_id.to_owned(), content_hash }
}

fn on(fs: Arc<dyn Fs>) -> DatabaseOptions {
    DatabaseOptions { fs, ..DatabaseOptions::default() }
}

fn open(folder: &Path) -> Database {
    Database::open(folder, DatabaseOptions::default()).unwrap().0
}

/// Writes the same number to some records, as one operation.
fn number(collection: &Collection, count: usize, number: f32, key: Option<RequestKey>) -> Option<Outcome> {
    let space = raw_space(Dimension::new(2).unwrap());
    let record = |record: usize| RecordWritten {
        id: RecordId::new(&format!("r{record:03}")).unwrap(),
        space: space.name.clone(),
        vector: Vector::new(vec![1.0 + record as f32, number]).unwrap(),
        content: Arc::new(Content { text: Some(format!("{number}").into()), ..Content::default() }),
        if_version: None,
    };
    let records = (0..count).map(record).collect();
    let change = Change::Upserted(Upserted { spaces: vec![space.clone()], records, ..Default::default() });
    let operation = Operation { request_key: key, ..Operation::new(change) };
    collection.submit(operation, Durability::Durable).ok()?.blocking_recv().ok()?.ok()
}

fn everything(collection: &Collection) -> Vec<(String, u64, Vec<f32>)> {
    let view = collection.view();
    view.list(None).map(|(row, _)| (row.id.to_string(), row.version.0, row.components.to_vec())).collect()
}

fn archive_of(database: &Database, name: &str) -> Vec<u8> {
    let archive = database.open_snapshot(&of(name), true).unwrap();
    let mut bytes = Vec::new();
    archive.write(0, &mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, archive.bytes());
    bytes
}

fn receive(database: &Database, name: &str, archive: &[u8]) -> Result<SnapshotInfo, SnapshotError> {
    database.receive_snapshot(&of(name), Cursor::new(archive), archive.len() as u64)
}

/// A database with collection `c`, and a snapshot `s` of it.
fn with_snapshot(folder: &Path) -> Database {
    let database = open(folder);
    let collection = database.create(&to("c"), Created::default(), None).unwrap();
    number(&collection, 20, 1.0, Some(key("w", 1))).unwrap().unwrap();
    database.create_snapshot(&to("c"), &of("s"), 1_700_000_000_000_000, None).unwrap();
    database
}

#[test]
fn a_snapshot_is_one_point_of_a_history_that_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let collection = database.create(&to("c"), Created::default(), None).unwrap();
    let is_done = AtomicBool::new(false);
    let mut points = Vec::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut written = 0;
            while !is_done.load(Ordering::Relaxed) {
                number(&collection, 30, written as f32, None).unwrap().unwrap();
                written += 1;
            }
            written
        });
        for round in 0..10 {
            let name = format!("s{round}");
            let before = collection.view().sequence();
            let info = database.create_snapshot(&to("c"), &of(&name), round, None).unwrap();
            assert!(info.figures.sequence >= before, "what was visible before is in it");
            points.push(info.figures.sequence);
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(writing.join().unwrap() > 20);
    });
    points.dedup();
    assert!(points.len() > 5 && points.is_sorted(), "{points:?}");
    let listed: Vec<_> = database.snapshots().unwrap().into_iter().map(|listed| listed.name.to_string()).collect();
    assert_eq!(listed, ["s9", "s8", "s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"], "newest first");
    for name in listed {
        let restored = database.restore_snapshot(&of(&name), &to(&format!("of-{name}")), None).unwrap();
        let found = everything(&restored);
        let numbers: BTreeSet<u32> = found.iter().map(|(_, _, vector)| vector[1] as u32).collect();
        assert!(
            found.len().is_multiple_of(30) && numbers.len() <= 1,
            "{name}: a batch is there whole or not at all: {numbers:?}"
        );
    }
}

#[test]
fn a_restored_collection_is_equal_and_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_snapshot(folder.path());
    let (original, name) = (database.get("c").unwrap(), to("copy"));
    let restored = database.restore_snapshot(&of("s"), &name, Some(key("restore", 1))).unwrap();
    assert_eq!(everything(&restored), everything(&original));
    assert!(matches!(restored.seen(&key("w", 1)), Seen::Answered(_)), "request ids are in it");
    let again = database.restore_snapshot(&of("s"), &name, Some(key("restore", 1))).unwrap();
    assert!(Arc::ptr_eq(&again, &restored), "a retry is answered as the first call was");
    let taken = database.restore_snapshot(&of("s"), &name, None).err().unwrap();
    assert!(matches!(taken, SnapshotError::Database(DatabaseError::AlreadyExists { .. })), "{taken}");

    let sequence = restored.view().sequence();
    number(&restored, 5, 7.0, None).unwrap().unwrap();
    number(&original, 3, 8.0, None).unwrap().unwrap();
    let removed = RecordRemoved { id: RecordId::new("r019").unwrap(), if_version: None, observed_version: None };
    let operation = Operation::new(Change::Deleted(vec![removed]));
    restored.submit(operation, Durability::Durable).unwrap().blocking_recv().unwrap().unwrap().unwrap();
    assert_eq!(restored.view().sequence().0, sequence.0 + 2, "its log goes on after the snapshot");
    restored.checkpoint().unwrap();
    original.checkpoint().unwrap();
    let (a, b) = (everything(&original), everything(&restored));
    assert_ne!(a, b);
    database.drop_collection("c", None).unwrap();
    drop((database, original, restored, again));

    // Neither the original's end nor a restart takes anything away, and the snapshot is as it was.
    let database = open(folder.path());
    assert_eq!(everything(&database.get("copy").unwrap()), b);
    let third = database.restore_snapshot(&of("s"), &to("c"), None).unwrap();
    assert_eq!((third.view().record_count(), third.view().sequence()), (20, sequence));
    database.delete_snapshot(&of("s")).unwrap();
    let gone = database.restore_snapshot(&of("s"), &to("d"), None).err().unwrap().to_string();
    assert!(gone.contains("there is no snapshot \"s\"; there are none yet"), "{gone}");
    assert_eq!(everything(&database.get("c").unwrap()).len(), 20);
}

#[test]
fn a_retry_of_a_create_gets_the_same_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_snapshot(folder.path());
    let make = |name: &str, hash| database.create_snapshot(&to("c"), &of(name), 5, Some(key("r", hash)));
    let first = make("a", 1).unwrap();
    number(&database.get("c").unwrap(), 1, 2.0, None).unwrap().unwrap();
    assert_eq!(make("b", 1).unwrap(), first, "whatever name the server would choose now");
    assert!(matches!(make("b", 2), Err(SnapshotError::RequestIdReused { .. })));
    let taken = database.create_snapshot(&to("c"), &of("a"), 5, None).unwrap_err().to_string();
    assert!(taken.contains("there is a snapshot \"a\" already"), "{taken}");
    let nowhere = database.create_snapshot(&to("nowhere"), &of("x"), 5, None).unwrap_err().to_string();
    assert!(nowhere.contains("there is no collection \"nowhere\"; there are: c"), "{nowhere}");
    assert_eq!(database.snapshots().unwrap().len(), 2);
}

#[test]
fn readers_of_a_snapshot_do_not_meet_who_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_snapshot(folder.path());
    let readers = [Use::Read, Use::Read].map(|wanted| database.reserve(&of("s"), wanted).unwrap());
    let restored = database.restore_snapshot(&of("s"), &to("d"), None);
    assert!(restored.is_ok(), "a restore is a reader like any other");
    for reader in readers {
        assert!(matches!(database.delete_snapshot(&of("s")), Err(SnapshotError::Busy { .. })));
        drop(reader);
    }
    let changing = database.reserve(&of("s"), Use::Change).unwrap();
    assert!(matches!(database.open_snapshot(&of("s"), true), Err(SnapshotError::Busy { .. })));
    assert!(matches!(database.delete_snapshot(&of("s")), Err(SnapshotError::Busy { .. })));
    drop(changing);
    // What is open can be sent, though it is gone.
    let (expected, open) = (archive_of(&database, "s"), database.open_snapshot(&of("s"), true).unwrap());
    database.delete_snapshot(&of("s")).unwrap();
    let mut sent = Vec::new();
    open.write(0, &mut sent).unwrap();
    assert!(sent == expected);
}

/// Every file of a folder, and what is in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Replaces a file with one of its own, so that its other names keep theirs.
fn replace(file: &Path, content: &[u8]) {
    fs::remove_file(file).unwrap();
    fs::write(file, content).unwrap();
}

#[test]
fn damage_of_any_file_is_refused_by_name_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_snapshot(folder.path());
    let collection = database.get("c").unwrap();
    number(&collection, 3000, 2.0, None).unwrap().unwrap();
    collection.compact(&mut |_, _| {});
    // One checkpoint more: the one that the snapshot needs has the graph.
    number(&collection, 1, 3.0, None).unwrap().unwrap();
    database.create_snapshot(&to("c"), &of("t"), 1, None).unwrap();
    let snapshot = folder.path().join("snapshots/t");
    let all = files(&snapshot);
    let suffixes: BTreeSet<_> = all.iter().map(|file| file.extension().unwrap_or_default().to_owned()).collect();
    assert_eq!(suffixes.len(), 4, "info and manifest, rows, a graph, answers: {all:?}");
    for file in &all {
        let whole = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut flipped = whole.clone();
        // The first byte of a message, or of the first section.
        flipped[if whole.len() > 4096 { 4096 } else { whole.len() - 1 }] ^= 4;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
            replace(file, damaged);
            let refused = database.restore_snapshot(&of("t"), &to("d"), None).err().unwrap();
            assert!(matches!(refused, SnapshotError::Damaged { .. }), "{name}: {refused}");
            assert!(refused.to_string().contains(name), "{name}: {refused}");
            assert!(database.open_snapshot(&of("t"), true).is_err(), "{name}");
            // As it is, in an archive.
            if let Ok(archive) = database.open_snapshot(&of("t"), false) {
                let mut bytes = Vec::new();
                archive.write(0, &mut bytes).unwrap();
                let refused = receive(&database, "u", &bytes).unwrap_err();
                assert!(matches!(refused, SnapshotError::Damaged { .. }), "{name}: {refused}");
                assert!(refused.to_string().contains(name), "{name}: {refused}");
            }
        }
        fs::remove_file(file).unwrap();
        if name != info::FILE_NAME {
            let refused = database.restore_snapshot(&of("t"), &to("d"), None).err().unwrap();
            assert!(matches!(refused, SnapshotError::Damaged { .. }), "{name}: {refused}");
        }
        fs::write(file, whole).unwrap();
    }
    let damaged = database.snapshots().unwrap().into_iter().filter(|listed| listed.info.is_err()).count();
    assert_eq!((damaged, database.list(None, 10).len()), (0, 1));
    assert_eq!(fs::read_dir(folder.path().join("collections")).unwrap().count(), 1, "no folder is left");
    assert_eq!(fs::read_dir(folder.path().join("snapshots")).unwrap().count(), 2);
    database.restore_snapshot(&of("t"), &to("d"), None).unwrap();
    replace(&snapshot.join("info"), b"damaged");
    assert!(database.snapshots().unwrap().last().unwrap().info.is_err(), "it is listed with its damage");
    database.delete_snapshot(&of("t")).unwrap();
    assert!(!snapshot.exists());
}

type Entry = (tar::Header, Vec<u8>);

fn entries(archive: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        (entry.header().clone(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (header, content) in entries {
        let mut header = header.clone();
        header.set_cksum();
        archive.append(&header, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

/// With a name that no well-behaved program would write.
fn called(name: &str, (mut header, content): Entry) -> Entry {
    header.as_mut_bytes()[..100].fill(0);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    (header, content)
}

fn of_type(kind: tar::EntryType, link: &str, (mut header, _): Entry) -> Entry {
    header.set_entry_type(kind);
    header.set_size(0);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    (header, Vec::new())
}

#[test]
fn an_archive_can_be_sent_again_from_any_byte_and_read_by_other_tools() {
    let folder = tempfile::tempdir().unwrap();
    let database = with_snapshot(folder.path());
    let whole = archive_of(&database, "s");
    assert_eq!(archive_of(&database, "s"), whole);
    for offset in [1, 511, 512, 5000, whole.len() - 1, whole.len()] {
        let mut rest = Vec::new();
        database.open_snapshot(&of("s"), false).unwrap().write(offset as u64, &mut rest).unwrap();
        assert!(rest == whole[offset..], "{offset}");
    }
    let names: Vec<_> =
        entries(&whole).iter().map(|(header, _)| header.path().unwrap().display().to_string()).collect();
    assert_eq!(names[..2], ["info", "manifest"]);
    assert!(names[2..].iter().all(|name| name.starts_with("parts/")) && names.len() == 4, "{names:?}");

    let info = receive(&database, "u", &whole).unwrap();
    assert_eq!((info.name, info.collection, info.figures.record_count), (of("u"), to("c"), 20));
    let restored = database.restore_snapshot(&of("u"), &to("d"), None).unwrap();
    assert_eq!(everything(&restored), everything(&database.get("c").unwrap()));
    assert!(matches!(receive(&database, "u", &whole), Err(SnapshotError::AlreadyExists { .. })));
}

#[test]
fn an_archive_that_is_not_ours_leaves_nothing_inside_and_nothing_outside() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    let database = with_snapshot(&folder);
    let whole = archive_of(&database, "s");
    let good = entries(&whole);
    let outside = outer.path().join("evil");
    let with = |at: usize, entry: Entry| {
        let mut entries = good.clone();
        entries[at] = entry;
        pack(&entries)
    };
    // What was done to it, the archive, and what is said about it.
    let mut cases: Vec<(String, Vec<u8>, &str)> = Vec::new();
    for name in
        ["../evil", "../../evil", "parts/../../../../evil", outside.to_str().unwrap(), "parts/x", "notes", "./info"]
    {
        for (at, entry) in good.iter().enumerate() {
            cases.push((format!("{name} at {at}"), with(at, called(name, entry.clone())), name));
        }
        let extra: Vec<Entry> = good.iter().cloned().chain([called(name, good[0].clone())]).collect();
        cases.push((format!("{name} at the end"), pack(&extra), name));
    }
    use tar::EntryType;
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo] {
        for (at, entry) in good.iter().enumerate() {
            cases.push((
                format!("{kind:?} at {at}"),
                with(at, of_type(kind, "/etc/passwd", entry.clone())),
                "to be a file",
            ));
        }
    }
    for kind in [EntryType::Directory, EntryType::GNUSparse, EntryType::GNULongName, EntryType::XHeader] {
        cases.push((format!("{kind:?}"), with(2, of_type(kind, "", good[2].clone())), "to be a file"));
    }
    for at in 0..good.len() {
        for size in [u64::MAX, 1 << 40, good[at].1.len() as u64 + 1] {
            let mut header = good[at].0.clone();
            header.set_size(size);
            header.set_cksum();
            // Written by hand: as much is not there.
            let mut bytes = pack(&good[..at]);
            bytes.truncate(bytes.len() - 1024);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&good[at].1);
            let says = if size == 1 << 40 { "more than the" } else { "" };
            cases.push((format!("{size} bytes at {at}"), bytes, says));
        }
        cases.push((format!("{at} is missing"), pack(&[&good[..at], &good[at + 1..]].concat()), ""));
        cases.push((format!("{at} comes twice"), pack(&[&good[..=at], &good[at..]].concat()), ""));
    }
    cases.push(("nothing".to_owned(), Vec::new(), ""));
    cases.push(("zeros".to_owned(), vec![0; 4096], "empty"));
    cases.push(("text".to_owned(), b"no archive ".repeat(1000), ""));
    for cut in [100, 512, 600, whole.len() / 2, whole.len() - 1025] {
        cases.push((format!("cut to {cut}"), whole[..cut].to_vec(), "nothing of it was kept"));
    }
    let before = files(outer.path());
    for (what, archive, says) in &cases {
        let refused = receive(&database, "u", archive).expect_err(what);
        let is_told = matches!(
            refused,
            SnapshotError::Archive { .. } | SnapshotError::BrokenOff { .. } | SnapshotError::Damaged { .. }
        );
        assert!(is_told && refused.to_string().contains(says), "{what}: {refused}");
        assert_eq!(files(outer.path()), before, "{what}");
    }
    assert!(cases.len() > 60 && !outside.exists());
    // More and less than was declared.
    for declared in [whole.len() as u64 - 1, whole.len() as u64 + 1, 1, u64::MAX] {
        let refused = database.receive_snapshot(&of("u"), Cursor::new(&whole), declared).unwrap_err().to_string();
        assert!(refused.contains("declared"), "{refused}");
        assert_eq!(files(outer.path()), before, "{declared}");
    }
    receive(&database, "u", &whole).unwrap();
}

#[test]
fn a_full_disk_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
    let collection = database.create(&to("c"), Created::default(), None).unwrap();
    number(&collection, 20, 1.0, None).unwrap().unwrap();
    database.create_snapshot(&to("c"), &of("s"), 1, None).unwrap();
    let archive = archive_of(&database, "s");
    for call in [Call::CreateNew, Call::Write] {
        fs.fail_next(call, std::io::ErrorKind::StorageFull);
        let refused = receive(&database, "u", &archive).unwrap_err();
        assert!(matches!(refused, SnapshotError::NoSpace { .. }), "{call:?}: {refused}");
    }
    fs.fail_next(Call::Link, std::io::ErrorKind::StorageFull);
    let refused = database.create_snapshot(&to("c"), &of("t"), 1, None).unwrap_err();
    assert!(matches!(refused, SnapshotError::NoSpace { .. }), "{refused}");
    fs.fail_next(Call::Link, std::io::ErrorKind::StorageFull);
    assert!(database.restore_snapshot(&of("s"), &to("d"), None).is_err());
    assert_eq!(fs.list(&folder.path().join("snapshots")).unwrap(), ["s"]);
    assert_eq!(collection_folders(&fs, folder.path()).unwrap().len(), 1);
    // Where there are no links, files are copied.
    for _ in 0..2 {
        fs.fail_next(Call::Link, std::io::ErrorKind::Unsupported);
    }
    database.create_snapshot(&to("c"), &of("t"), 1, None).unwrap();
    let restored = database.restore_snapshot(&of("t"), &to("d"), None).unwrap();
    assert_eq!(everything(&restored), everything(&collection));
}

#[test]
fn what_was_not_finished_goes_at_the_start_and_foreign_names_stay() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_snapshot(folder.path()));
    let snapshots = folder.path().join("snapshots");
    for name in ["half.tmp", "notes.txt.tmp", "no info", ".hidden"] {
        fs::create_dir(snapshots.join(name)).unwrap();
        fs::write(snapshots.join(name).join("info"), "not a snapshot").unwrap();
    }
    fs::create_dir(snapshots.join("empty")).unwrap();
    fs::write(snapshots.join("readme"), "of somebody").unwrap();
    let database = open(folder.path());
    let listed: Vec<_> = database.snapshots().unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(listed, [of("s")]);
    let mut left = RealFs.list(&snapshots).unwrap();
    left.sort();
    assert_eq!(left, [".hidden", "empty", "no info", "notes.txt.tmp", "readme", "s"]);
    assert!(matches!(database.delete_snapshot(&of("empty")), Err(SnapshotError::NotFound { .. })));
    assert!(matches!(
        database.create_snapshot(&to("c"), &of("empty"), 1, None),
        Err(SnapshotError::AlreadyExists { .. })
    ));
}

/// Create, restore, receive and delete, cut at every call that changes the disk.
#[test]
fn a_power_cut_at_any_call_leaves_the_old_state_or_the_new_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (snapshots, archive) = (folder.path().join("snapshots"), {
        let other = tempfile::tempdir().unwrap();
        archive_of(&with_snapshot(other.path()), "s")
    });
    let mut nth = 1;
    loop {
        let fs = SimFs::new();
        fs.create_dir_all(folder.path()).unwrap();
        folder.path().ancestors().for_each(|ancestor| fs.sync_dir(ancestor).unwrap());
        let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
        let collection = database.create(&to("c"), Created::default(), None).unwrap();
        number(&collection, 20, 1.0, None).unwrap().unwrap();
        let expected = everything(&collection);
        fs.stop_at(fs.calls_total() + nth);
        let steps: [&dyn Fn() -> bool; 4] = [
            &|| database.create_snapshot(&to("c"), &of("s"), 1, None).is_ok(),
            &|| database.restore_snapshot(&of("s"), &to("r"), None).is_ok(),
            &|| receive(&database, "u", &archive).is_ok(),
            &|| database.delete_snapshot(&of("s")).is_ok(),
        ];
        let done = steps.iter().take_while(|step| step()).count();
        let after = [fs.crash(nth), fs.crash(nth + 1000)];
        drop(collection);
        drop(database);
        for fs in after {
            let (database, report) = Database::open(folder.path(), on(Arc::new(fs.clone())))
                .unwrap_or_else(|error| panic!("cut at call {nth}: {error}"));
            assert!(report.damaged.is_empty(), "cut at call {nth}: {:?}", report.damaged);
            assert_eq!(everything(&database.get("c").unwrap()), expected, "cut at call {nth}");
            match database.get("r") {
                Ok(restored) => assert_eq!(everything(&restored), expected, "cut at call {nth}"),
                Err(_) => assert!(done < 2, "cut at call {nth}: the restored collection is gone"),
            }
            let is_there = |name: &str| match database.verify_snapshot(&of(name)) {
                Ok(_) => true,
                Err(SnapshotError::NotFound { .. }) => false,
                Err(error) => panic!("cut at call {nth}: {error}"),
            };
            let (s, u) = (is_there("s"), is_there("u"));
            // In the fourth step it may be gone or not.
            assert!(s || !(1..=2).contains(&done), "cut at call {nth}: s is gone after {done} steps");
            assert!(u || done < 3, "cut at call {nth}: u is gone");
            assert!(!s || done < 4, "cut at call {nth}: s was deleted");
            let names = if fs.exists(&snapshots).unwrap() { fs.list(&snapshots).unwrap() } else { Vec::new() };
            assert_eq!(names.len(), usize::from(s) + usize::from(u), "cut at call {nth}: {names:?}");
            let folders = collection_folders(&fs, folder.path()).unwrap().len();
            // Of a restore that was cut short nobody can say that it was never finished.
            assert_eq!(folders, database.list(None, 10).len() + report.unknown.len(), "cut at call {nth}");
            assert!(report.unknown.len() <= 1, "cut at call {nth}: {:?}", report.unknown);
        }
        if done == 4 {
            assert!(nth > 60, "the steps make some hundred calls, not {nth}");
            break;
        }
        nth += 1;
    }
}
