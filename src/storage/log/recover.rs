//! Opens the folder of a log: puts its files together, replays their records in order, and judges the first break.
//!
//! Nothing on disk is changed before the judgement, and nothing at all if it is damage. When [`recover`] returns, what
//! it replayed is durable: after the death of a process, records may be in the files that no sync has reached yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Header, LogFile};
use super::format::{BLOCK_BYTES, FileHeader, LogId};
use super::reader::{Found, GroupReader};
use super::torn::{Break, TornTail};
use super::{LogError, LogOptions, LogRecord, OpenError};
use crate::storage::fs::Fs;
use crate::types::Sequence;

/// What was found when a log was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// Records replayed.
    pub records: u64,
    /// The first sequence the log holds, or would hold if it held any.
    pub first: Sequence,
    /// The last sequence; one before `first` if there is none.
    pub last: Sequence,
    /// Files, after the repair of a torn tail.
    pub files: usize,
    /// What was cut off, if anything was.
    pub torn_tail: Option<TornTail>,
}

/// All the writer needs to go on.
pub(super) struct Recovered {
    pub log_id: LogId,
    /// In order; never empty.
    pub files: Vec<LogFile>,
    /// Where the next group goes in the last file.
    pub offset: u64,
    pub next: Sequence,
    pub chain: u32,
    pub marked: Sequence,
    pub fence: u64,
    pub report: OpenReport,
}

/// Reads a log from its first record to its last.
pub(super) fn recover<E>(
    fs: &Arc<dyn Fs>,
    folder: &Path,
    options: &LogOptions,
    replay: impl FnMut(LogRecord<'_>) -> Result<(), E>,
) -> Result<Recovered, OpenError<E>> {
    let fs = fs.as_ref();
    if !fs.exists(folder).map_err(LogError::io("find", folder))? {
        return Err(LogError::Missing { folder: folder.to_owned() }.into());
    }
    let (paths, temporary) = files::list(fs, folder)?;
    if paths.is_empty() {
        return Err(LogError::Missing { folder: folder.to_owned() }.into());
    }
    let (headers, broken_header) = files::read_headers(fs, &paths)?;
    if let Some(error) = broken_header {
        return Err(error.into());
    }
    let (first_path, first) = &headers[0];
    if options.first_needed != Sequence::ZERO && options.first_needed < first.first {
        let reason = format!("the log begins at sequence {}, earlier files are missing", first.first);
        return Err(LogError::damaged(first_path, 0, options.first_needed, reason).into());
    }

    let mut scan = Scan::new(first, replay);
    let (offset, broken_at) = scan.read_files(fs, &headers)?;

    let mut kept = headers.len();
    let mut torn_tail = None;
    match broken_at {
        Some(Stop { index, reason }) => {
            let torn = Break { folder, headers: &headers, index, offset, sequence: scan.next };
            torn.judge(fs, options, reason)?;
            torn_tail = Some(torn.cut_off(fs)?);
            kept = index + 1;
        }
        None if scan.last() < options.known_durable => {
            let path = &headers[kept - 1].0;
            let reason = format!("the log ends here, but {} is known to have been durable", options.known_durable);
            return Err(LogError::damaged(path, offset, scan.next, reason).into());
        }
        None => {}
    }

    files::remove_temporary(fs, folder, &temporary)?;
    make_durable(fs, folder, &scan.unsynced, scan.marked)?;
    let files = files::measure(fs, &headers[..kept])?;
    let report =
        OpenReport { records: scan.records, first: first.first, last: scan.last(), files: files.len(), torn_tail };
    Ok(Recovered {
        log_id: first.log_id,
        files,
        offset,
        next: scan.next,
        chain: scan.chain.unwrap_or(first.chain),
        marked: scan.marked,
        fence: scan.fence,
        report,
    })
}

/// Where reading ended before the end of the log.
pub(super) struct Stop {
    /// The file.
    pub index: usize,
    /// What was found.
    pub reason: String,
}

/// The state of reading: what should come next, and what was learnt.
pub(super) struct Scan<R> {
    pub next: Sequence,
    chain: Option<u32>,
    marked: Sequence,
    fence: u64,
    pub records: u64,
    /// Files with the last sequence each of them holds.
    unsynced: Vec<(PathBuf, Sequence)>,
    replay: R,
}

impl<R> Scan<R> {
    pub(super) fn new(first: &FileHeader, replay: R) -> Self {
        Self {
            next: first.first,
            chain: Some(first.chain),
            marked: Sequence::ZERO,
            fence: 0,
            records: 0,
            unsynced: Vec::new(),
            replay,
        }
    }

    /// Replays files that follow each other; also returns where the next group would be in the last one that was read.
    pub(super) fn read_files<E>(&mut self, fs: &dyn Fs, headers: &[Header]) -> Result<(u64, Option<Stop>), OpenError<E>>
    where
        R: FnMut(LogRecord<'_>) -> Result<(), E>,
    {
        let mut offset = BLOCK_BYTES;
        for (index, (path, header)) in headers.iter().enumerate() {
            if let Some(reason) = self.begin_file(path, header)? {
                // The file before ended too early, at an end that looked like the end of the log.
                return Ok((offset, Some(Stop { index: index - 1, reason })));
            }
            let mut reader = GroupReader::open(fs, path, header.log_id, header.number)?;
            let broken = self.read_file(&mut reader)?;
            offset = reader.offset();
            if let Some(reason) = broken {
                return Ok((offset, Some(Stop { index, reason })));
            }
        }
        Ok((offset, None))
    }

    pub(super) fn last(&self) -> Sequence {
        Sequence(self.next.0 - 1) // sequences begin at 1, which read_headers has checked
    }

    /// Whether a file joins what was read before; a reason if something in between is missing.
    fn begin_file(&mut self, path: &Path, header: &FileHeader) -> Result<Option<String>, LogError> {
        if header.first > self.next {
            return Ok(Some(format!("the end of the file, but the next file begins at sequence {}", header.first)));
        }
        if header.first < self.next {
            let reason = format!("the file before reaches to sequence {}", self.last());
            return Err(LogError::damaged(path, 0, header.first, reason));
        }
        if let Some(chain) = self.chain.filter(|&chain| chain != header.chain) {
            let found = header.chain;
            let reason = format!("it continues a record with checksum {found:08x}, the one before has {chain:08x}");
            return Err(LogError::damaged(path, 0, header.first, reason));
        }
        self.learn(header.durable, header.fence);
        Ok(None)
    }

    /// Replays a file; the reason if it breaks.
    fn read_file<E>(&mut self, reader: &mut GroupReader) -> Result<Option<String>, OpenError<E>>
    where
        R: FnMut(LogRecord<'_>) -> Result<(), E>,
    {
        let broken = loop {
            match reader.read(self.next, &mut self.chain)? {
                Found::Group(header) => {
                    for record in reader.records() {
                        let sequence = record.sequence;
                        (self.replay)(record).map_err(|error| OpenError::Replay { sequence, error })?;
                        self.records += 1;
                    }
                    self.next = header.end();
                    self.learn(header.durable, header.fence);
                }
                Found::End => break None,
                Found::Break(reason) => break Some(reason),
            }
        };
        self.unsynced.push((reader.path().to_owned(), self.last()));
        Ok(broken)
    }

    fn learn(&mut self, durable: Sequence, fence: u64) {
        self.marked = self.marked.max(durable);
        self.fence = self.fence.max(fence);
    }
}

/// Syncs the files that hold records beyond the marks, and the folder: its names may not have been synced either.
fn make_durable(fs: &dyn Fs, folder: &Path, files: &[(PathBuf, Sequence)], marked: Sequence) -> Result<(), LogError> {
    for (path, last) in files {
        if *last > marked {
            let file = fs.open(path).map_err(LogError::io("open", path))?;
            file.sync_data().map_err(LogError::io("sync", path))?;
        }
    }
    fs.sync_dir(folder).map_err(LogError::io("sync", folder))
}
