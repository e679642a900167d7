//! A disk for tests that can fail, stop and lose power.
//!
//! It keeps what was synced and what was not apart, for content and for names. [`SimFs::crash`] gives the disk as it
//! may be found after a power cut: of everything that was not synced each part survived or did not, as a seed decides;
//! writes are torn at 512 bytes, names survive in order or out of order. The same seed gives the same disk.
//!
//! Deliberately absent: permissions, times, renaming from one folder to another.

mod disk;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::disk::{Disk, NodeId};
use super::{File, Fs};

/// The calls that change a disk, or what is known of it to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    CreateNew,
    Rename,
    Link,
    RemoveFile,
    RemoveDirAll,
    CreateDirAll,
    SyncDir,
    Write,
    Allocate,
    SetLen,
    SyncData,
}

/// A simulated file system, for tests. Clones share the disk.
#[derive(Clone, Default)]
pub struct SimFs {
    /// One lock for all of it: calls take effect one after the other.
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    disk: Disk,
    calls: BTreeMap<Call, u64>,
    calls_total: u64,
    stop_at: Option<u64>,
    stopped: bool,
    failures: Vec<(Call, io::ErrorKind)>,
    /// Each with the number of the call of its kind.
    failures_at: Vec<(Call, u64, io::ErrorKind)>,
    /// What the disk says is free; more than anybody writes where nobody has set it.
    free_bytes: Option<u64>,
}

/// What a call that has begun should do.
enum Turn {
    Run,
    /// The power goes during this call: an effect may be found later, an answer is never given.
    Stop,
}

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the power go during the `nth` changing call (the first is 1) counted from the disk's beginning: that call
    /// and every call after it, reading ones too, answer with an error.
    pub fn stop_at(&self, nth: u64) {
        self.lock().stop_at = Some(nth);
    }

    /// Lets the next call of a kind fail without any effect. Several failures of one kind are taken one by one.
    pub fn fail_next(&self, call: Call, error: io::ErrorKind) {
        self.lock().failures.push((call, error));
    }

    /// What the disk says is free from now on. It stores more all the same: see [`SimFs::fail_next`] for one that is full.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.lock().free_bytes = Some(bytes);
    }

    /// Lets the `nth` call of a kind from now on (the first is 1) fail without any effect.
    pub fn fail_nth(&self, call: Call, nth: u64, error: io::ErrorKind) {
        let mut state = self.lock();
        let number = state.calls.get(&call).copied().unwrap_or_default() + nth;
        state.failures_at.push((call, number, error));
    }

    /// How many calls of a kind were made, failed ones included.
    pub fn calls(&self, call: Call) -> u64 {
        self.lock().calls.get(&call).copied().unwrap_or_default()
    }

    /// How many changing calls were made, failed ones included.
    pub fn calls_total(&self) -> u64 {
        self.lock().calls_total
    }

    /// The disk after a power cut at this moment. This one is left as it is, so that one moment can be cut with many
    /// seeds.
    pub fn crash(&self, seed: u64) -> Self {
        let disk = self.lock().disk.crash(seed);
        Self { state: Arc::new(Mutex::new(State { disk, ..State::default() })) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, read: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let state = self.lock();
        if state.stopped {
            return Err(power_is_off());
        }
        read(&state.disk)
    }

    fn change<T>(&self, call: Call, change: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        match state.begin(call)? {
            Turn::Run => change(&mut state.disk),
            Turn::Stop => {
                // What is synced during the cut is as good as not synced; other effects stay for `crash` to decide.
                if !matches!(call, Call::SyncData | Call::SyncDir) {
                    let _ = change(&mut state.disk);
                }
                Err(power_is_off())
            }
        }
    }

    fn file(&self, node: NodeId) -> Arc<dyn File> {
        Arc::new(SimFile { fs: self.clone(), node })
    }
}

impl State {
    fn begin(&mut self, call: Call) -> io::Result<Turn> {
        if self.stopped {
            return Err(power_is_off());
        }
        self.calls_total += 1;
        *self.calls.entry(call).or_default() += 1;
        if let Some(at) = self.failures.iter().position(|(failing, _)| *failing == call) {
            return Err(io::Error::new(self.failures.remove(at).1, "injected"));
        }
        let number = self.calls[&call];
        if let Some(failing) = self.failures_at.iter().find(|failing| (failing.0, failing.1) == (call, number)) {
            return Err(io::Error::new(failing.2, "injected"));
        }
        if self.stop_at.is_some_and(|nth| self.calls_total >= nth) {
            self.stopped = true;
            return Ok(Turn::Stop);
        }
        Ok(Turn::Run)
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").field("calls_total", &self.calls_total()).finish_non_exhaustive()
    }
}

impl Fs for SimFs {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.change(Call::CreateNew, |disk| disk.create_new(path)).map(|node| self.file(node))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.read(|disk| disk.file_at(path)).map(|node| self.file(node))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.read(|disk| disk.list(folder))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.read(|disk| Ok(disk.exists(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(Call::Rename, |disk| disk.rename(from, to))
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.change(Call::Link, |disk| disk.link(file, name))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(Call::RemoveFile, |disk| disk.remove_file(path))
    }

    fn remove_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.change(Call::RemoveDirAll, |disk| disk.remove_folder(folder))
    }

    fn create_dir_all(&self, folder: &Path) -> io::Result<()> {
        self.change(Call::CreateDirAll, |disk| disk.create_folders(folder))
    }

    fn sync_dir(&self, folder: &Path) -> io::Result<()> {
        self.change(Call::SyncDir, |disk| disk.sync_folder(folder))
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        self.read(|_| Ok(()))?;
        Ok(self.lock().free_bytes.unwrap_or(1 << 50))
    }
}

struct SimFile {
    fs: SimFs,
    node: NodeId,
}

impl File for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.fs.read(|disk| disk.read(self.node, buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.change(Call::Write, |disk| disk.write(self.node, bytes, offset))
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.fs.change(Call::Allocate, |disk| disk.grow(self.node, bytes))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.fs.change(Call::SetLen, |disk| disk.set_len(self.node, bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.change(Call::SyncData, |disk| disk.sync_file(self.node))
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.read(|disk| disk.len(self.node))
    }
}
