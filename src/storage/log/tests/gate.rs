//! A disk whose syncs take as long as the test wants: what happens meanwhile?

use std::ffi::OsString;
use std::io;
use std::sync::{Condvar, Mutex};

use super::*;
use crate::storage::fs::File;

#[derive(Clone, Default)]
struct SlowSyncs {
    disk: SimFs,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Whether syncs wait, and how many do.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn wait_for_a_sync(&self) {
        let mut state = self.state.lock().unwrap();
        while state.1 == 0 {
            state = self.changed.wait(state).unwrap();
        }
    }
}

struct SlowFile(Arc<dyn File>, Arc<Gate>);

impl Fs for SlowSyncs {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile(self.disk.create_new(path)?, self.gate.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile(self.disk.open(path)?, self.gate.clone())))
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

impl File for SlowFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.0.allocate(bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
    /// What is written while this waits is not covered, as on a disk.
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()?;
        self.1.pass();
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

fn create_slow() -> (SlowSyncs, FileLog) {
    let fs = SlowSyncs::default();
    let log = FileLog::create(Arc::new(fs.clone()), folder(), quiet()).unwrap();
    (fs, log)
}

fn enqueue(log: &FileLog, number: u64, durability: Durability) -> Completion {
    log.append(vec![numbered(number)], durability).unwrap()
}

#[test]
fn a_buffered_append_does_not_wait_for_a_sync_and_is_not_covered_by_it() {
    let (fs, log) = create_slow();
    fs.gate.set_closed(true);
    let durable = enqueue(&log, 1, Durability::Durable);
    fs.gate.wait_for_a_sync();
    enqueue(&log, 2, Durability::Buffered).wait().unwrap();
    assert!(!durable.is_ready());
    assert_eq!((log.last(), log.durable()), (Sequence(2), Sequence::ZERO));
    fs.gate.set_closed(false);
    durable.wait().unwrap();
    assert_eq!(log.durable(), Sequence(1));
}

#[test]
fn a_durable_append_that_is_written_during_a_sync_waits_for_the_next_one() {
    let (fs, log) = create_slow();
    fs.gate.set_closed(true);
    let first = enqueue(&log, 1, Durability::Durable);
    fs.gate.wait_for_a_sync();
    let second = enqueue(&log, 2, Durability::Durable);
    enqueue(&log, 3, Durability::Buffered).wait().unwrap(); // takes the second along
    assert!(!first.is_ready() && !second.is_ready());
    fs.gate.set_closed(false);
    first.wait().unwrap();
    second.wait().unwrap();
    for seed in 0..50 {
        assert!(replay(&fs.disk.crash(seed), quiet()).unwrap().0.len() >= 2, "seed {seed}");
    }
}

#[test]
fn durable_appends_gather_in_one_group_while_a_sync_runs() {
    let (fs, log) = create_slow();
    fs.gate.set_closed(true);
    let first = enqueue(&log, 1, Durability::Durable);
    fs.gate.wait_for_a_sync();
    let gathered: Vec<_> = (2..=20).map(|number| enqueue(&log, number, Durability::Durable)).collect();
    fs.gate.set_closed(false);
    first.wait().unwrap();
    for completion in gathered {
        completion.wait().unwrap();
    }
    let bytes = content(&fs.disk, &log_files(&fs.disk)[0]);
    let groups = bytes.chunks(4096).filter(|block| block.starts_with(b"VGRP")).count();
    assert_eq!(groups, 2);
}
