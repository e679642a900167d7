//! Repair of a data folder with damaged logs.

use super::*;
use crate::database::repair::repair_on;

const BLOCK: usize = 4096;

fn options(accept_loss: bool) -> RepairOptions {
    RepairOptions { collection: None, accept_loss, now_unix_s: 7 }
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// Every file below a folder, with its bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else if !path.ends_with("LOCK") {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Collections `a` with 20 records and `b` with 1, closed; and the folder of `a`.
fn two_collections(folder: &Path) -> PathBuf {
    let (database, _) = open(folder);
    fill(&database.create(&name("a"), Created::default(), None).unwrap(), 20);
    let a = log_files(folder).remove(0);
    fill(&database.create(&name("b"), Created::default(), None).unwrap(), 1);
    a
}

fn state<'a>(found: &'a [LogFound], owner: &Owner) -> &'a LogState {
    &found.iter().find(|log| log.owner == *owner).unwrap().state
}

fn mending<'a>(found: &'a [LogFound], owner: &Owner) -> &'a Mending {
    match state(found, owner) {
        LogState::Damaged { mending, .. } => mending,
        other => panic!("not damaged: {other:?}"),
    }
}

#[test]
fn a_damaged_collection_is_told_and_nothing_is_changed_until_the_loss_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let log = two_collections(folder.path());
    flip(&log, 12 * BLOCK + 60); // the eleventh record after the one that creates it
    let before = tree(folder.path());
    let a = Owner::Collection(name("a"));

    let found = repair(folder.path(), &options(false)).unwrap();
    assert_eq!(tree(folder.path()), before);
    assert_eq!(found.len(), 3);
    assert_eq!(found.iter().filter(|log| !log.state.opens()).count(), 1);
    let LogState::Damaged { records: 11, damage, mending: Mending::NotAsked } = state(&found, &a) else {
        panic!("{:?}", state(&found, &a))
    };
    assert_eq!((&damage.file, damage.offset, damage.sequence), (&log, 12 * BLOCK as u64, Sequence(12)));
    assert_eq!(damage.records_lost(), 10);

    // Of one collection alone.
    let one = |name| RepairOptions { collection: Some(name), ..options(true) };
    let found = repair(folder.path(), &one(name("b"))).unwrap();
    assert!(found.len() == 1 && found[0].state.opens());
    assert_eq!(tree(folder.path()), before);
    let missing = repair(folder.path(), &one(name("nothing"))).unwrap_err();
    assert!(missing.to_string().contains("there are: a, b"), "{missing}");

    let found = repair(folder.path(), &options(true)).unwrap();
    let Mending::Done { aside, .. } = mending(&found, &a) else { panic!("not mended") };
    assert_eq!(aside, &log.parent().unwrap().parent().unwrap().join("damaged-7"));
    assert_eq!(fs::read(aside.join(log.file_name().unwrap())).unwrap(), before[&log]);
    assert!(repair(folder.path(), &options(true)).unwrap().iter().all(|log| log.state.opens()));

    let (database, report) = open(folder.path());
    assert_eq!((report.damaged.len(), report.torn.len()), (0, 0));
    assert_eq!(database.get("b").unwrap().view().record_count(), 1);
    let collection = database.get("a").unwrap();
    assert_eq!(collection.view().record_count(), 10);
    fill(&collection, 20);
    assert!(matches!(repair(folder.path(), &options(true)), Err(DatabaseError::Locked(_))), "while it is served");
    drop((collection, database));
    assert_eq!(open(folder.path()).1.records, 21);
}

#[test]
fn a_collection_whose_first_record_is_lost_is_left_as_it_is() {
    for at in [20, BLOCK + 60] {
        let folder = tempfile::tempdir().unwrap();
        let log = two_collections(folder.path());
        flip(&log, at);
        let before = tree(folder.path());
        let found = repair(folder.path(), &options(true)).unwrap();
        assert_eq!(mending(&found, &Owner::Collection(name("a"))), &Mending::Hopeless, "byte {at}");
        assert_eq!(tree(folder.path()), before);
        let (database, _) = open(folder.path());
        database.drop_collection("a", None).unwrap();
    }
}

#[test]
fn a_collection_is_empty_where_only_the_record_that_creates_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let log = two_collections(folder.path());
    flip(&log, 2 * BLOCK + 60);
    repair(folder.path(), &options(true)).unwrap();
    let (database, report) = open(folder.path());
    assert!(report.damaged.is_empty());
    assert_eq!(database.get("a").unwrap().view().record_count(), 0);
}

#[test]
fn a_damaged_catalogue_is_written_anew_and_no_collection_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    two_collections(folder.path());
    let catalogue = folder.path().join("catalogue").join("00000000000000000001.log");
    flip(&catalogue, 2 * BLOCK + 60); // the creation of `b`
    let before = tree(folder.path());
    assert!(matches!(Database::open(folder.path(), DatabaseOptions::default()), Err(DatabaseError::Catalogue(_))));

    let found = repair(folder.path(), &options(false)).unwrap();
    assert_eq!(tree(folder.path()), before);
    assert!(matches!(found[0].state, LogState::Damaged { records: 1, .. }), "{:?}", found[0]);
    assert!(found.iter().any(|log| matches!(log.owner, Owner::Unnamed(_)) && log.state.opens()));

    let found = repair(folder.path(), &options(true)).unwrap();
    let Mending::Done { aside, named_anew } = mending(&found, &Owner::Catalogue) else { panic!("not mended") };
    assert_eq!(fs::read(aside.join("00000000000000000001.log")).unwrap(), before[&catalogue]);
    let [recovered] = &named_anew[..] else { panic!("{named_anew:?}") };
    let (database, report) = open(folder.path());
    assert_eq!((report.collections, report.records), (2, 21));
    assert_eq!(database.get("a").unwrap().view().record_count(), 20);
    assert_eq!(database.get(recovered.as_str()).unwrap().view().record_count(), 1);
}

/// The power goes during each call of the repair; nothing that was there may be missing after the next one.
#[test]
fn a_repair_of_the_catalogue_can_be_cut_short_at_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let catalogue = folder.path().join("catalogue").join("00000000000000000001.log");
    let damaged = || {
        let fs = SimFs::new();
        let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
        for collection in ["a", "b", "c"] {
            fill(&database.create(&name(collection), Created::default(), None).unwrap(), 2);
        }
        drop(database);
        let file = fs.open(&catalogue).unwrap();
        file.write_all_at(&[0xff; 8], 2 * BLOCK as u64 + 60).unwrap();
        file.sync_data().unwrap();
        fs
    };
    let fs = damaged();
    let before = fs.calls_total();
    repair_on(Arc::new(fs.clone()), folder.path(), &options(true)).unwrap();
    let calls = fs.calls_total() - before;
    assert!(calls > 5);
    for call in 1..=calls {
        let fs = damaged();
        fs.stop_at(fs.calls_total() + call);
        let _ = repair_on(Arc::new(fs.clone()), folder.path(), &options(true));
        for seed in 0..4 {
            let fs = fs.crash(seed);
            repair_on(Arc::new(fs.clone()), folder.path(), &options(true)).unwrap();
            let (database, report) = Database::open(folder.path(), on(Arc::new(fs))).unwrap();
            assert_eq!((report.collections, report.records), (3, 6), "call {call}, seed {seed}");
            assert_eq!(database.get("a").unwrap().view().record_count(), 2);
        }
    }
}

#[test]
fn a_folder_without_data_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let refused = repair(folder.path(), &options(true)).unwrap_err();
    assert!(refused.to_string().contains("no data of Vectron"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Collection `a` with 20 records in parts and 5 more in its log, closed; and its folder.
fn a_collection_with_parts(folder: &Path) -> PathBuf {
    let (database, _) = open(folder);
    let collection = database.create(&name("a"), Created::default(), None).unwrap();
    fill(&collection, 20);
    collection.checkpoint().unwrap();
    for number in 20..25 {
        fill_one(&collection, number);
    }
    log_files(folder).remove(0).parent().unwrap().parent().unwrap().to_owned()
}

fn part_file(collection: &Path, suffix: &str) -> PathBuf {
    let files = fs::read_dir(collection.join("parts")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == suffix)).max().unwrap()
}

fn records(folder: &Path) -> Option<usize> {
    open(folder).0.get("a").ok().map(|collection| collection.view().record_count())
}

#[test]
fn damaged_rows_come_back_from_a_log_that_has_them_still() {
    let folder = tempfile::tempdir().unwrap();
    let rows = part_file(&a_collection_with_parts(folder.path()), "rows");
    let whole = fs::read(&rows).unwrap();
    flip(&rows, BLOCK + 3);
    let before = tree(folder.path());
    assert_eq!(records(folder.path()), None, "refused by name");
    let found = repair(folder.path(), &options(false)).unwrap();
    let log = found.iter().find(|log| log.owner == Owner::Collection(name("a"))).unwrap();
    assert!(log.state.opens() && !log.opens());
    assert_eq!(log.damaged_files[0].lost, crate::collection::FileLoss::Records(0), "nothing is lost");
    assert!(log.damaged_files[0].reason.contains("is damaged at offset 4096"), "{}", log.damaged_files[0].reason);
    assert_eq!(tree(folder.path()), before);

    let found = repair(folder.path(), &options(true)).unwrap();
    assert!(found.iter().all(LogFound::opens));
    assert_eq!(records(folder.path()), Some(25));
    let kept = tree(folder.path());
    assert!(
        kept.iter().any(|(file, bytes)| file.to_string_lossy().contains("damaged-7") && bytes.len() == whole.len())
    );
    assert!(repair(folder.path(), &options(false)).unwrap().iter().all(LogFound::opens));
}

#[test]
fn damage_to_what_parts_have_costs_what_came_after_the_checkpoint_alone() {
    let folder = tempfile::tempdir().unwrap();
    a_collection_with_parts(folder.path());
    let log = log_files(folder.path()).remove(0);
    flip(&log, 5 * BLOCK + 60);
    assert_eq!(records(folder.path()), None, "nobody cuts a log without being asked");
    let found = repair(folder.path(), &options(false)).unwrap();
    assert_eq!(*mending(&found, &Owner::Collection(name("a"))), Mending::NotAsked);
    assert!(repair(folder.path(), &options(true)).unwrap().iter().all(LogFound::opens));
    assert_eq!(records(folder.path()), Some(20));
    // It takes writes again, and keeps them.
    fill_one(&open(folder.path()).0.get("a").unwrap(), 77);
    assert_eq!(records(folder.path()), Some(21));
}

#[test]
fn without_its_manifest_a_collection_is_what_its_log_says_if_that_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let collection = a_collection_with_parts(folder.path());
    flip(&collection.join("manifest"), 30);
    assert_eq!(records(folder.path()), None);
    assert!(!repair(folder.path(), &options(false)).unwrap().iter().all(LogFound::opens));
    assert!(repair(folder.path(), &options(true)).unwrap().iter().all(LogFound::opens));
    assert_eq!(records(folder.path()), Some(25), "the log had everything");
}
