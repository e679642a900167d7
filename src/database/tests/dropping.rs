//! Dropping collections, and what is left of them or of others whose names are lost.

use std::ffi::OsString;
use std::io;
use std::sync::Condvar;
use std::time::{Duration, Instant};

use super::*;
use crate::database::repair::repair_on;
use crate::storage::fs::File;

const BLOCK: u64 = 4096;

#[test]
fn folders_of_dropped_collections_are_removed_and_others_are_left_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (database, _) = open(folder.path());
    database.create(&name("a"), Created::default(), None).unwrap();
    let collections = folder.path().join("collections");
    let a = fs::read_dir(&collections).unwrap().next().unwrap().unwrap().path();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(log_files(folder.path()).remove(0), other.join("some.log")).unwrap();
    database.drop_collection("a", None).unwrap();
    drop(database);
    // As where the process had ended before it was removed.
    fs::rename(&other, &a).unwrap();
    let unknown = collections.join(Uuid::new_v4().to_string());
    fs::create_dir_all(unknown.join("log")).unwrap();
    fs::create_dir_all(collections.join("lost+found")).unwrap();
    for _ in 0..2 {
        let (_database, report) = open(folder.path());
        assert!(!a.exists(), "the catalogue says that it was dropped");
        assert!(unknown.join("log").exists() && collections.join("lost+found").exists());
        assert_eq!(report.unknown, std::slice::from_ref(&unknown));
    }
}

/// The last record of a catalogue that had no time to write a mark behind it looks torn where a byte of it has changed.
#[test]
fn a_collection_whose_name_is_lost_with_the_end_of_the_catalogue_is_kept_and_gets_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let (database, _) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
    fill(&database.create(&name("a"), Created::default(), None).unwrap(), 3);
    let lost = database.create(&name("lost"), Created::default(), None).unwrap();
    fill(&lost, 5);
    let fs = fs.crash(1);
    drop((lost, database));
    let catalogue = fs.open(&folder.path().join("catalogue").join("00000000000000000001.log")).unwrap();
    catalogue.write_all_at(&[0xff; 8], 2 * BLOCK + 60).unwrap();
    catalogue.sync_data().unwrap();
    for torn in [1, 0] {
        let (database, report) = Database::open(folder.path(), on(Arc::new(fs.clone()))).unwrap();
        assert_eq!((report.torn.len(), report.collections, report.records), (torn, 1, 3));
        assert_eq!(report.unknown.len(), 1);
        assert!(fs.exists(&report.unknown[0].join("log")).unwrap(), "nothing of it is removed");
        assert!(database.close());
    }
    let options = |accept_loss| RepairOptions { collection: None, accept_loss, now_unix_s: 7 };
    let found = repair_on(Arc::new(fs.clone()), folder.path(), &options(false)).unwrap();
    assert!(found.iter().any(|log| matches!(log.owner, Owner::Unnamed(_)) && log.opens()), "{found:?}");
    let found = repair_on(Arc::new(fs.clone()), folder.path(), &options(true)).unwrap();
    let names: Vec<_> = found.iter().map(|log| format!("{:?}", log.owner)).collect();
    assert!(names.iter().any(|name| name.contains("recovered-")), "{names:?}");
    let (_database, report) = Database::open(folder.path(), on(Arc::new(fs))).unwrap();
    assert_eq!((report.collections, report.records, report.unknown.len()), (2, 8, 0));
}

/// A disk on which removing a folder takes as long as the test wants.
#[derive(Clone, Default)]
struct SlowRemoval {
    disk: SimFs,
    /// Whether removals wait, and how many do.
    gate: Arc<(Mutex<(bool, usize)>, Condvar)>,
}

impl Fs for SlowRemoval {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.create_new(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.disk.open(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(folder)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        let (state, changed) = &*self.gate;
        let mut state = state.lock().unwrap();
        state.1 += 1;
        changed.notify_all();
        while state.0 {
            state = changed.wait(state).unwrap();
        }
        drop(state);
        self.disk.remove_dir_all(folder)
    }
    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.disk.create_dir_all(folder)
    }
    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.disk.sync_dir(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        self.disk.free_bytes(folder)
    }
}

#[test]
fn while_a_dropped_collection_goes_others_are_made_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SlowRemoval::default();
    let (database, _) = Database::open(folder.path(), on(Arc::new(disk.clone()))).unwrap();
    database.create(&name("slow"), Created::default(), None).unwrap();
    let set_closed = |is_closed: bool| {
        disk.gate.0.lock().unwrap().0 = is_closed;
        disk.gate.1.notify_all();
    };
    set_closed(true);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let dropping = scope.spawn(|| database.drop_collection("slow", None).unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while disk.gate.0.lock().unwrap().1 == 0 {
            assert!(Instant::now() < until, "nothing is removed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let database = &database;
        scope.spawn(move || {
            database.create(&name("slow"), Created::default(), None).unwrap();
            sender.send(()).unwrap();
        });
        let made = receiver.recv_timeout(Duration::from_secs(10));
        let is_dropping = !dropping.is_finished();
        set_closed(false);
        assert!(made.is_ok() && is_dropping, "made meanwhile: {made:?}; still dropping: {is_dropping}");
    });
    assert_eq!(database.list(None, 10).len(), 1, "the new one of that name");
    assert_eq!(collection_folders(&disk, folder.path()).unwrap().len(), 1);
}
