//! The log through its public face, on the simulated disk and on the real one.

#![expect(clippy::print_stdout, reason = "counts and figures are part of what a test says")]

mod behaviour;
mod crash;
mod damage;
mod faults;
mod gate;
mod model;
mod repair;
mod torn;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::recover::recover;
use super::*;
use crate::storage::fs::{Fs, SimFs};

const FOLDER: &str = "/data/log";
const HOUR: Duration = Duration::from_secs(3600);

/// Nothing happens by itself: no mark, no delayed sync.
fn quiet() -> LogOptions {
    LogOptions {
        sync_delay: HOUR,
        mark_delay: HOUR,
        clock: Arc::new(|| 1_700_000_000_000_000),
        ..LogOptions::default()
    }
}

fn folder() -> &'static Path {
    Path::new(FOLDER)
}

fn create(fs: &SimFs, options: LogOptions) -> FileLog {
    FileLog::create(Arc::new(fs.clone()), folder(), options).unwrap()
}

/// Opens and returns what was replayed.
fn open(fs: &SimFs, options: LogOptions) -> (FileLog, Vec<Vec<u8>>, OpenReport) {
    let mut payloads = Vec::new();
    let (log, report) = FileLog::open(Arc::new(fs.clone()), folder(), options, collect(&mut payloads)).unwrap();
    (log, payloads, report)
}

/// What opening finds, without going on to write.
fn replay(fs: &SimFs, options: LogOptions) -> Result<(Vec<Vec<u8>>, OpenReport), LogError> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut payloads = Vec::new();
    match recover(&fs, folder(), &options, collect(&mut payloads)) {
        Ok(recovered) => Ok((payloads, recovered.report)),
        Err(OpenError::Log(error)) => Err(error),
        Err(OpenError::Replay { sequence, error }) => panic!("{sequence}: {error}"),
    }
}

/// Takes records and checks that their numbers have no gaps.
fn collect(payloads: &mut Vec<Vec<u8>>) -> impl FnMut(LogRecord<'_>) -> Result<(), String> {
    let mut last = None;
    move |record| {
        if last.is_some_and(|last: Sequence| last.next() != record.sequence) {
            return Err(format!("after {last:?} came {}", record.sequence));
        }
        last = Some(record.sequence);
        payloads.push(record.payload.to_vec());
        Ok(())
    }
}

fn append(log: &FileLog, payload: impl Into<Vec<u8>>, durability: Durability) -> Committed {
    log.append(vec![payload.into()], durability).unwrap().wait().unwrap()
}

/// `count` durable records of their own groups: "record 1", "record 2", …
fn append_numbered(log: &FileLog, count: u64) {
    for _ in 0..count {
        let payload = numbered(log.last().next().0);
        append(log, payload, Durability::Durable);
    }
}

fn numbered(number: u64) -> Vec<u8> {
    format!("record {number}").into_bytes()
}

fn numbered_up_to(last: u64) -> Vec<Vec<u8>> {
    (1..=last).map(numbered).collect()
}

fn log_files(fs: &SimFs) -> Vec<PathBuf> {
    files::list(fs, folder()).unwrap().0
}

fn content(fs: &SimFs, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// All log files with their bytes.
fn contents(fs: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    log_files(fs).into_iter().map(|path| (path.clone(), content(fs, &path))).collect()
}

/// A disk with just these files, all synced.
fn disk_with(files: &[(PathBuf, Vec<u8>)]) -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(folder()).unwrap();
    for (path, bytes) in files {
        let file = fs.create_new(path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
    }
    for parent in folder().ancestors() {
        fs.sync_dir(parent).unwrap();
    }
    fs
}

fn is_poisoned<T>(result: Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::Poisoned { .. }))
}
