//! Owns the file that grows: lays out groups, allocates space ahead, begins new files. Used by the append thread alone.
//!
//! Invariants: a group is one positioned write into space that was allocated before; no group shares a block with
//! another, so that a torn write never touches what was synced; after [`WriteError::Refused`] the log is as before.
//! Groups are never synced here: that is the sync thread's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, LogFile};
use super::format::{
    self, BLOCK_BYTES, FileHeader, GROUP_HEADER_BYTES, GroupHeader, LogId, Place, RECORD_HEADER_BYTES, padded,
};
use super::recover::Recovered;
use super::state::Batch;
use super::{Committed, LogError, LogRecord};
use crate::storage::fs::{File, Fs};
use crate::types::Sequence;

const ALLOCATION_BYTES_MIN: u64 = 64 * 1024;
const ALLOCATION_STEP_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A buffer that one large group has blown up is given back.
const BUFFER_BYTES_KEPT: usize = 32 * 1024 * 1024;

/// Why a group is not in the log.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Nothing of it was written; the log can go on.
    Refused(LogError),
    /// Unknown what was written; the log cannot go on.
    Failed(LogError),
}

/// What all the records of a group have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupContext {
    pub epoch: u64,
    pub time_us: i64,
    pub durable: Sequence,
    pub fence: u64,
}

/// A group that the operating system has.
pub(super) struct Written {
    /// One for each batch, in order.
    pub committed: Vec<Committed>,
    pub last: Sequence,
    /// What has to be synced.
    pub file: Arc<OpenFile>,
}

/// A file with the name that errors give it.
pub(super) struct OpenFile {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
}

/// Where the records of a group will be, once it is written.
struct Layout {
    committed: Vec<Committed>,
    next: Sequence,
    chain: u32,
    records_bytes: u64,
}

pub(super) struct Writer {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    segment_bytes_max: u64,
    log_id: LogId,
    current: Current,
    next: Sequence,
    chain: u32,
    begun: Option<LogFile>,
    /// Reused from group to group.
    group: Vec<u8>,
}

struct Current {
    open: Arc<OpenFile>,
    number: u64,
    first: Sequence,
    /// Where the next group goes.
    offset: u64,
    /// Length, with what is allocated.
    bytes: u64,
}

/// Begins a log: its first file, durable when this returns. What came before `first` is durable elsewhere.
pub(super) fn create_first_file(fs: &dyn Fs, folder: &Path, first: Sequence) -> Result<(), LogError> {
    assert!(first > Sequence::ZERO, "sequences begin at 1");
    let log_id = LogId::random();
    let durable = Sequence(first.0 - 1);
    let header = FileHeader { log_id, number: 1, first, durable, fence: 0, chain: log_id.first_chain() };
    create_file(fs, folder, &header).map(|_| ()).map_err(|error| match error {
        WriteError::Refused(error) | WriteError::Failed(error) => error,
    })
}

/// Creates a file that has its header from the moment it is visible.
fn create_file(fs: &dyn Fs, folder: &Path, header: &FileHeader) -> Result<(Arc<dyn File>, LogFile), WriteError> {
    let temporary = folder.join(files::temporary_name(header.first));
    let path = folder.join(files::name(header.first));
    let prepared = fs.create_new(&temporary).and_then(|file| {
        file.write_all_at(&header.encode(), 0)?;
        Ok(file)
    });
    let file = match prepared {
        Ok(file) => file,
        Err(error) if is_full(&error) => {
            // The next attempt needs the name. If it cannot be freed, that attempt fails and says so.
            let _ = fs.remove_file(&temporary);
            return Err(WriteError::Refused(LogError::NoSpace { file: path, bytes: BLOCK_BYTES }));
        }
        Err(error) => return Err(WriteError::Failed(LogError::io("create", &temporary)(error))),
    };
    file.sync_data().map_err(|error| WriteError::Failed(LogError::io("sync", &temporary)(error)))?;
    fs.rename(&temporary, &path).map_err(|error| WriteError::Failed(LogError::io("rename", &temporary)(error)))?;
    fs.sync_dir(folder).map_err(|error| WriteError::Failed(LogError::io("sync", folder)(error)))?;
    Ok((file, LogFile { path, number: header.number, first: header.first, bytes: BLOCK_BYTES }))
}

impl Writer {
    pub(super) fn new(
        fs: Arc<dyn Fs>,
        folder: &Path,
        segment_bytes_max: u64,
        recovered: &Recovered,
    ) -> Result<Self, LogError> {
        let file = recovered.files.last().expect("a log has at least one file");
        let current = Current {
            open: Arc::new(OpenFile {
                file: fs.open(&file.path).map_err(LogError::io("open", &file.path))?,
                path: file.path.clone(),
            }),
            number: file.number,
            first: file.first,
            offset: recovered.offset,
            bytes: file.bytes,
        };
        Ok(Self {
            fs,
            folder: folder.to_owned(),
            segment_bytes_max,
            log_id: recovered.log_id,
            current,
            next: recovered.next,
            chain: recovered.chain,
            begun: None,
            group: Vec::new(),
        })
    }

    /// Writes batches as one group; with no records at all it is a mark.
    pub(super) fn write(&mut self, batches: &[Batch], context: GroupContext) -> Result<Written, WriteError> {
        let layout = self.encode(batches, context);
        let group_bytes = self.group.len() as u64;
        let is_mark = layout.next == self.next;
        let holds_records = self.current.first < self.next;
        if !is_mark && holds_records && self.current.offset + group_bytes > self.segment_bytes_max {
            self.begin_file(context)?;
        }
        self.allocate(self.current.offset + group_bytes).map_err(|error| {
            if is_full(&error) {
                WriteError::Refused(LogError::NoSpace { file: self.current.open.path.clone(), bytes: group_bytes })
            } else {
                WriteError::Failed(LogError::io("allocate", &self.current.open.path)(error))
            }
        })?;
        self.seal_header(&layout, context);
        // From here on a failure leaves an unknown part of the group behind, even if the disk is merely full.
        let written = self.current.open.file.write_all_at(&self.group, self.current.offset);
        written.map_err(|error| WriteError::Failed(LogError::io("write", &self.current.open.path)(error)))?;

        self.current.offset += group_bytes;
        self.next = layout.next;
        self.chain = layout.chain;
        if self.group.capacity() > BUFFER_BYTES_KEPT {
            self.group = Vec::new();
        }
        let last = Sequence(self.next.0 - 1);
        Ok(Written { committed: layout.committed, last, file: self.current.open.clone() })
    }

    /// The file that was begun since the last call, if one was. It stays even if its first group is refused.
    pub(super) fn take_begun(&mut self) -> Option<LogFile> {
        self.begun.take()
    }

    /// Length of the current file, with what is allocated.
    pub(super) fn file_bytes(&self) -> u64 {
        self.current.bytes
    }

    /// Puts header space, records and padding into the buffer; changes nothing else.
    fn encode(&mut self, batches: &[Batch], context: GroupContext) -> Layout {
        let GroupContext { epoch, time_us, .. } = context;
        let payloads = batches.iter().flat_map(|batch| &batch.payloads);
        let records_bytes: usize = payloads.map(|payload| RECORD_HEADER_BYTES + payload.len()).sum();
        let group_bytes = padded((GROUP_HEADER_BYTES + records_bytes) as u64) as usize;
        let (mut next, mut chain) = (self.next, self.chain);
        let mut committed = Vec::with_capacity(batches.len());
        self.group.clear();
        self.group.reserve(group_bytes);
        self.group.resize(GROUP_HEADER_BYTES, 0);
        for batch in batches {
            let first = next;
            for payload in &batch.payloads {
                let record = LogRecord { sequence: next, epoch, time_us, payload };
                chain = format::encode_record(&mut self.group, &record, chain);
                next = next.next();
            }
            committed.push(Committed { first, last: Sequence(next.0 - 1), time_us });
        }
        assert_eq!(self.group.len(), GROUP_HEADER_BYTES + records_bytes, "the records fill their length exactly");
        self.group.resize(group_bytes, 0);
        Layout { committed, next, chain, records_bytes: records_bytes as u64 }
    }

    /// The header goes in last: its checksum covers the place, which is known only now.
    fn seal_header(&mut self, layout: &Layout, context: GroupContext) {
        assert!(context.durable < self.next, "nothing that is not written yet can be durable");
        let records = u32::try_from(layout.next.0 - self.next.0).expect("append bounds the number of payloads");
        let header = GroupHeader {
            records,
            records_bytes: layout.records_bytes,
            first: self.next,
            durable: context.durable,
            fence: context.fence,
        };
        let place = Place { log_id: self.log_id, file_number: self.current.number, offset: self.current.offset };
        self.group[..GROUP_HEADER_BYTES].copy_from_slice(&header.encode(place));
    }

    /// Goes on in a new file. The old one need not be synced yet: the sync thread still has it.
    fn begin_file(&mut self, context: GroupContext) -> Result<(), WriteError> {
        let header = FileHeader {
            log_id: self.log_id,
            number: self.current.number + 1,
            first: self.next,
            durable: context.durable,
            fence: context.fence,
            chain: self.chain,
        };
        let (file, begun) = create_file(self.fs.as_ref(), &self.folder, &header)?;
        self.current = Current {
            open: Arc::new(OpenFile { file, path: begun.path.clone() }),
            number: begun.number,
            first: begun.first,
            offset: BLOCK_BYTES,
            bytes: begun.bytes,
        };
        self.begun = Some(begun);
        Ok(())
    }

    /// Makes room up to `end`, and ahead of it: each growth costs a change of metadata that the next sync has to write.
    fn allocate(&mut self, end: u64) -> io::Result<()> {
        if end <= self.current.bytes {
            return Ok(());
        }
        let doubled = self.current.bytes.max(ALLOCATION_BYTES_MIN / 2) * 2;
        let step_end = doubled.min(self.current.bytes + ALLOCATION_STEP_BYTES_MAX);
        let ahead = step_end.min(padded(self.segment_bytes_max)).max(end);
        let allocated = match self.current.open.file.allocate(ahead) {
            // The last bytes of a disk are good enough.
            Err(error) if is_full(&error) && ahead > end => self.current.open.file.allocate(end).map(|()| end)?,
            result => result.map(|()| ahead)?,
        };
        self.current.bytes = allocated;
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
