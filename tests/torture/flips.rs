//! Bytes that have changed since they were written: one flipped bit in each byte of a data folder, files that are cut short
//! and files that are gone. The folder is taken as a list of files, whatever they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::RngExt;
use tempfile::TempDir;
use vectron::storage::fs::{Fs, SimFs};

use crate::effort::{Effort, dice};
use crate::engine::{End, Fewer, Judged, Known, Run, open};
use crate::figures;
use crate::history::{self, Size, Step};

#[test]
fn one_flipped_bit_is_refused_by_name_or_changes_no_answer() {
    assert!(Scene::new(1, Ended::Closed).has_every_kind());
    one_bit_of_every_byte(&Effort::short(5));
}

#[test]
fn a_file_that_is_cut_or_gone_is_refused_by_name_or_costs_its_end_only() {
    cut_and_missing_files(&Effort::short(4));
}

/// Extensions, or the name where there is none.
const KINDS: [&str; 5] = ["log", "rows", "graph", "answers", "manifest"];

/// A folder of this size is swept to its last byte within a quarter of an hour.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// How the last process had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By a shutdown: everything was promised, and the marks say so.
    Closed,
    /// By kill -9: no mark covers the last writes.
    Killed,
}

/// How far a sweep goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sweep {
    /// To the last byte, however long it takes.
    Whole,
    /// As far as there is time.
    InTime,
}

/// A data folder's files by their paths within it, and what they hold.
struct Scene {
    name: String,
    known: Known,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// The files on a disk. The lock is on the real one, so whoever works beside others has a folder of his own.
struct Disk<'a> {
    scene: &'a Scene,
    folder: TempDir,
    fs: SimFs,
}

impl Scene {
    fn new(seed: u64, ended: Ended) -> Self {
        Self::of(seed, Size { steps: 50, collections: 2, ids: 30, batch: 6 }, ended)
    }

    /// A folder that was closed, of at most `WHOLE_BYTES_MAX` and with every kind of file, for a sweep that leaves no byte out.
    fn whole(seed: u64) -> Self {
        let size = Size { steps: 11, collections: 1, ids: 20, batch: 4 };
        (seed..seed + 1000)
            .map(|seed| Self::of(seed, size, Ended::Closed))
            .find(|scene| scene.bytes() <= WHOLE_BYTES_MAX && scene.has_every_kind())
            .expect("of a thousand histories some are like this")
    }

    fn bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn of(seed: u64, size: Size, ended: Ended) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut steps = history::random(seed, size);
        steps.retain(|step| !matches!(step, Step::Drop { .. }));
        // Whatever files a compaction makes are there too, and records that came after them.
        let (Step::Create { name, .. } | Step::CreateWith { name, .. }) = steps[0].clone() else {
            unreachable!("a history begins with a collection")
        };
        steps.insert(steps.len() * 2 / 3, Step::Compact { name });
        let fs = SimFs::new();
        let mut run = Run::new(&fs, folder.path(), 1);
        let name = format!("history {seed}, {ended:?}");
        assert_eq!(run.play(&steps, &name), End::Finished);
        if ended == Ended::Closed {
            run.checkpoint();
        }
        // What the operating system has survives a process that is killed.
        let killed = files(&fs, folder.path());
        run.close();
        let files = match ended {
            Ended::Killed => killed,
            Ended::Closed => files(&fs, folder.path()),
        };
        let scene = Self { name, known: run.known, files };
        assert_eq!(scene.disk().with(Path::new("x"), |_| (), Fewer::No), Ok(Judged::Equal), "unchanged files");
        scene
    }

    fn has_every_kind(&self) -> bool {
        let has = |kind: &str| {
            let is = |path: &PathBuf| path.extension().or(path.file_name()).is_some_and(|found| found == kind);
            self.files.iter().any(|(path, _)| is(path))
        };
        KINDS.iter().all(|kind| has(kind))
    }

    /// The files on a new disk, synced.
    fn disk(&self) -> Disk<'_> {
        let (folder, fs) = (tempfile::tempdir().unwrap(), SimFs::new());
        for (path, bytes) in &self.files {
            let path = folder.path().join(path);
            let parent = path.parent().expect("a file lies in a folder");
            fs.create_dir_all(parent).expect("the disk is new");
            let file = fs.create_new(&path).expect("the disk is new");
            file.write_all_at(bytes, 0).expect("the disk is new");
            file.sync_data().expect("the disk is new");
            parent.ancestors().for_each(|folder| fs.sync_dir(folder).expect("it was made"));
        }
        Disk { scene: self, folder, fs }
    }
}

impl Disk<'_> {
    /// Opens a copy of the folder after a change to one file, and judges what comes.
    fn with(&self, file: &Path, change: impl FnOnce(&SimFs), fewer: Fewer) -> Result<Judged, String> {
        let fs = self.fs.crash(0); // everything in it is synced: a copy
        change(&fs);
        let opened = catch_unwind(AssertUnwindSafe(|| match open(&fs, self.folder.path()) {
            Err(error) => Ok(Judged::Refused(error)),
            Ok((database, report)) => self.scene.known.judge(&database, &report, fewer),
        }));
        let judged = opened.unwrap_or_else(|panic| Err(format!("it panicked: {}", figures::text(&*panic))))?;
        if let Judged::Refused(reason) = &judged {
            // A missing file is told by its folder.
            let path = self.path(file);
            let folder = path.parent().expect("a file lies in a folder").to_string_lossy().into_owned();
            if !reason.contains(&folder) {
                return Err(format!("refused, but the file is not named: {reason}"));
            }
        }
        Ok(judged)
    }

    fn path(&self, file: &Path) -> PathBuf {
        self.folder.path().join(file)
    }
}

/// Every file below the folder.
fn files(fs: &SimFs, root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for name in fs.list(&folder).expect("it is a folder") {
            let path = folder.join(name);
            match fs.open(&path) {
                Ok(file) => {
                    let mut bytes = vec![0; file.len().expect("it is open") as usize];
                    file.read_exact_at(&mut bytes, 0).expect("it is that long");
                    found.push((path.strip_prefix(root).expect("it is below").to_owned(), bytes));
                }
                Err(_) => folders.push(path),
            }
        }
    }
    found.sort();
    found
}

pub fn one_bit_of_every_byte(effort: &Effort) {
    figures::watch_panics();
    if effort.is_long {
        flip(&Scene::whole(effort.seed), Ended::Closed, effort, Sweep::Whole);
    }
    for round in 0.. {
        for ended in [Ended::Closed, Ended::Killed] {
            if effort.has_time() || (round == 0 && !effort.is_long) {
                flip(&Scene::new(effort.seed + round, ended), ended, effort, Sweep::InTime);
            }
        }
        if !effort.has_time() {
            break;
        }
    }
    assert_eq!(figures::panics(), 0, "the engine panicked");
}

fn flip(scene: &Scene, ended: Ended, effort: &Effort, sweep: Sweep) {
    let mut places: Vec<(usize, usize)> = Vec::new();
    for (index, (_, bytes)) in scene.files.iter().enumerate() {
        places.extend((0..bytes.len()).map(|at| (index, at)));
    }
    let bytes = places.len();
    let mut dice = dice(effort.seed);
    if !effort.is_long {
        // Bytes that are not zero count, and some that are.
        places.retain(|&(index, at)| scene.files[index].1[at] != 0 || dice.random_range(0..200) == 0);
        let mut few = Vec::new();
        while few.len() < 500.min(places.len()) {
            few.push(places.swap_remove(dice.random_range(0..places.len())));
        }
        places = few;
    }
    let fewer = if ended == Ended::Killed { Fewer::Told } else { Fewer::No };
    // In no order, so that a run that ends early has seen something of everything.
    for at in (1..places.len()).rev() {
        places.swap(at, dice.random_range(0..=at));
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..if effort.is_long { 2 } else { 1 } {
            scope.spawn(|| {
                let disk = scene.disk();
                while let Some(&(index, at)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sweep == Sweep::InTime && effort.is_long && !effort.has_time() {
                        return;
                    }
                    let (path, bytes) = &scene.files[index];
                    let bit = (at * 5 + at / 8) % 8;
                    let change = |fs: &SimFs| {
                        let file = fs.open(&disk.path(path)).expect("it is on the disk");
                        file.write_all_at(&[bytes[at] ^ 1 << bit], at as u64).expect("the disk is on");
                    };
                    count(
                        disk.with(path, change, fewer),
                        [
                            "flipped bits that changed nothing",
                            "flipped bits that were refused by name",
                            "flipped bits in what no mark covers, told as torn",
                        ],
                        || format!("{}: bit {bit} of byte {at} of {}", scene.name, path.display()),
                    );
                }
            });
        }
    });
    let swept = if effort.is_long && next.into_inner() >= bytes {
        "bytes of folders swept wholly"
    } else {
        "bytes of folders swept in part"
    };
    figures::add(swept, bytes as u64);
}

fn count(judged: Result<Judged, String>, [equal, refused, fewer]: [&'static str; 3], place: impl Fn() -> String) {
    match judged {
        Ok(Judged::Equal) => figures::add(equal, 1),
        Ok(Judged::Refused(_)) => figures::add(refused, 1),
        Ok(Judged::Fewer) => figures::add(fewer, 1),
        Err(error) => panic!("{}: {error}", place()),
    }
}

pub fn cut_and_missing_files(effort: &Effort) {
    figures::watch_panics();
    for round in 0.. {
        for ended in [Ended::Closed, Ended::Killed] {
            let scene = Scene::new(effort.seed + round, ended);
            let disk = scene.disk();
            for (path, bytes) in &scene.files {
                cut(&disk, path, bytes, effort);
                let remove = |fs: &SimFs| fs.remove_file(&disk.path(path)).expect("it is on the disk");
                count(
                    disk.with(path, remove, fewer_where_it_ends(path)),
                    [
                        "missing files that cost nothing",
                        "missing files that were refused by name",
                        "missing files at the end",
                    ],
                    || format!("{}: without {}", scene.name, path.display()),
                );
            }
        }
        if !effort.has_time() {
            break;
        }
    }
    assert_eq!(figures::panics(), 0, "the engine panicked");
}

/// Where a log ends between two groups, or where its last mark is gone with them, nobody can know that there was more.
fn fewer_where_it_ends(path: &Path) -> Fewer {
    if path.extension().is_some_and(|extension| extension == "log") { Fewer::Quietly } else { Fewer::No }
}

/// Every length down from the end of what is written, as far as there is time.
fn cut(disk: &Disk<'_>, path: &Path, bytes: &[u8], effort: &Effort) {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let bytes_back = if effort.is_long { 64 << 10 } else { 150 };
    let blocks = (0..bytes.len()).step_by(4096);
    let lengths = (end.saturating_sub(bytes_back)..=(end + 8).min(bytes.len())).chain(blocks);
    for length in lengths {
        if !effort.has_time() {
            return;
        }
        let change = |fs: &SimFs| {
            let file = fs.open(&disk.path(path)).expect("it is on the disk");
            file.set_len(length as u64).expect("the disk is on");
        };
        count(
            disk.with(path, change, fewer_where_it_ends(path)),
            [
                "truncations that changed nothing",
                "truncations that were refused by name",
                "truncations that cost the end",
            ],
            || format!("{}: {} cut to {length} bytes", disk.scene.name, path.display()),
        );
    }
}
