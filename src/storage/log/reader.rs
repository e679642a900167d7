//! Verifies the groups of one log file, in order.
//!
//! Takes any bytes: lengths are checked against the file before anything is allocated, and what does not hold is
//! reported, not interpreted. What a break *means* is not decided here: see [`super::recover`].

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{self, BLOCK_BYTES, Defect, FileHeader, GROUP_HEADER_BYTES, GroupHeader, LogId, Place, padded};
use super::{LogError, LogRecord};
use crate::storage::fs::{File, Fs};
use crate::types::Sequence;

/// Small groups are read many at a time.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// What is at a place where a group may be.
pub(super) enum Found {
    /// A group that holds; its records are [`GroupReader::records`].
    Group(GroupHeader),
    /// Nothing but zeros to the end of the file, or nothing at all.
    End,
    /// Something else.
    Break(String),
}

/// What the group headers behind a break say, those that verify at their place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ahead {
    /// The highest durable mark.
    pub durable: Sequence,
    /// The last record of any group.
    pub last: Sequence,
}

/// The header of a file alone.
pub(super) fn read_file_header(file: &dyn File, path: &Path) -> Result<Result<FileHeader, Defect>, LogError> {
    let bytes = file.len().map_err(LogError::io("read the length of", path))?.min(BLOCK_BYTES);
    let mut block = vec![0; bytes as usize];
    file.read_exact_at(&mut block, 0).map_err(LogError::io("read", path))?;
    Ok(FileHeader::decode(&block))
}

pub(super) struct GroupReader {
    path: PathBuf,
    log_id: LogId,
    file_number: u64,
    window: Window,
    /// Where the next group starts.
    offset: u64,
    /// Where in the window the records of the last group are.
    records: Range<u64>,
}

impl GroupReader {
    pub(super) fn open(fs: &dyn Fs, path: &Path, log_id: LogId, file_number: u64) -> Result<Self, LogError> {
        let file = fs.open(path).map_err(LogError::io("open", path))?;
        let file_bytes = file.len().map_err(LogError::io("read the length of", path))?;
        let window = Window { file, file_bytes, start: 0, bytes: Vec::new() };
        Ok(Self { path: path.to_owned(), log_id, file_number, window, offset: BLOCK_BYTES, records: 0..0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes to where a group may start.
    pub(super) fn move_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Forgets what was read: the file may have grown, and zeros become groups.
    pub(super) fn refresh(&mut self) -> Result<(), LogError> {
        self.window.bytes.clear();
        self.window.file_bytes = self.window.file.len().map_err(LogError::io("read the length of", &self.path))?;
        Ok(())
    }

    /// Reads and verifies the next group and moves behind it; stays where it is at the end and at a break.
    ///
    /// The group has to begin with `next`, and its first record to continue `chain`, which moves to its last one;
    /// a chain that is not known yet is taken from the group.
    pub(super) fn read(&mut self, next: Sequence, chain: &mut Option<u32>) -> Result<Found, LogError> {
        let header = match self.read_header()? {
            Found::Group(header) => header,
            other => return Ok(other),
        };
        if header.first != next {
            return Ok(Found::Break(format!("a group that begins at sequence {}", header.first)));
        }
        let start = self.offset + GROUP_HEADER_BYTES as u64;
        let records = start..start + header.records_bytes;
        let bytes = self.window.get(records.clone()).map_err(LogError::io("read", &self.path))?;
        match verify_records(bytes, &header, *chain) {
            Ok(last_checksum) => *chain = last_checksum.or(*chain),
            Err(Defect::NewerFormat(found)) => return Err(newer_format(&self.path, found)),
            Err(Defect::Broken(reason)) => return Ok(Found::Break(reason)),
        }
        self.offset = padded(records.end);
        self.records = records;
        Ok(Found::Group(header))
    }

    /// Moves behind the next group without verifying its records.
    pub(super) fn skip(&mut self) -> Result<(), LogError> {
        if let Found::Group(header) = self.read_header()? {
            self.offset = padded(self.offset + GROUP_HEADER_BYTES as u64 + header.records_bytes);
        }
        Ok(())
    }

    /// The header of the next group, which fits into the file.
    pub(super) fn read_header(&mut self) -> Result<Found, LogError> {
        let left = self.window.file_bytes.saturating_sub(self.offset);
        let place = Place { log_id: self.log_id, file_number: self.file_number, offset: self.offset };
        let end = self.offset + left.min(GROUP_HEADER_BYTES as u64);
        let bytes = self.window.get(self.offset..end).map_err(LogError::io("read", &self.path))?;
        if bytes.iter().all(|&byte| byte == 0) {
            let content_end = self.content_end()?;
            return Ok(if content_end <= self.offset {
                Found::End
            } else {
                Found::Break(format!("zeros, and other bytes up to offset {content_end}"))
            });
        }
        match GroupHeader::decode(bytes, place) {
            Ok(header) if header.bytes().is_none_or(|bytes| bytes > left) => Ok(Found::Break(format!(
                "a group with {} bytes of records, but the file ends {left} bytes after its start",
                header.records_bytes
            ))),
            Ok(header) => Ok(Found::Group(header)),
            Err(Defect::NewerFormat(found)) => Err(newer_format(&self.path, found)),
            Err(Defect::Broken(reason)) => Ok(Found::Break(reason)),
        }
    }

    /// The records of the group that was read last.
    pub(super) fn records(&self) -> impl Iterator<Item = LogRecord<'_>> {
        let mut rest = self.window.cached(&self.records);
        std::iter::from_fn(move || {
            let decoded = format::parse_record(rest).ok()?;
            rest = &rest[decoded.bytes..];
            Some(decoded.record)
        })
    }

    /// One record of the group that was read last, found `returned_bytes` into its records; moves behind it.
    /// Records before `wanted` are passed over.
    pub(super) fn record_from(&self, returned_bytes: &mut usize, wanted: Sequence) -> Option<LogRecord<'_>> {
        let records = self.window.cached(&self.records);
        loop {
            let decoded = format::parse_record(&records[*returned_bytes..]).ok()?;
            *returned_bytes += decoded.bytes;
            if decoded.record.sequence >= wanted {
                return Some(decoded.record);
            }
        }
    }

    /// Looks at every place behind a break where a group may begin.
    pub(super) fn look_ahead(&mut self) -> Result<Ahead, LogError> {
        let mut ahead = Ahead::default();
        let mut offset = self.offset;
        while offset + GROUP_HEADER_BYTES as u64 <= self.window.file_bytes {
            let header = self.window.get(offset..offset + GROUP_HEADER_BYTES as u64);
            let header = header.map_err(LogError::io("read", &self.path))?;
            let place = Place { log_id: self.log_id, file_number: self.file_number, offset };
            match GroupHeader::decode(header, place) {
                Ok(group) => {
                    ahead.durable = ahead.durable.max(group.durable);
                    ahead.last = ahead.last.max(Sequence(group.end().0.saturating_sub(1)));
                }
                Err(Defect::NewerFormat(found)) => return Err(newer_format(&self.path, found)),
                Err(Defect::Broken(_)) => {}
            }
            offset += BLOCK_BYTES;
        }
        Ok(ahead)
    }

    /// Where the last byte that is not zero ends, from the next group on; at least where the next group starts.
    pub(super) fn content_end(&mut self) -> Result<u64, LogError> {
        let mut content_end = self.offset;
        let mut start = self.offset;
        while start < self.window.file_bytes {
            let end = self.window.file_bytes.min(start + WINDOW_BYTES);
            let bytes = self.window.get(start..end).map_err(LogError::io("read", &self.path))?;
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                content_end = start + last as u64 + 1;
            }
            start = end;
        }
        Ok(content_end)
    }
}

/// Returns the checksum of the last record, if there is one.
fn verify_records(bytes: &[u8], header: &GroupHeader, chain: Option<u32>) -> Result<Option<u32>, Defect> {
    let mut rest = bytes;
    let mut chain = chain;
    let mut last_checksum = None;
    for number in 0..u64::from(header.records) {
        let expected = Sequence(header.first.0.saturating_add(number));
        let decoded = format::decode_record(rest)?;
        if decoded.record.sequence != expected {
            let found = decoded.record.sequence;
            return Err(Defect::Broken(format!("a record with sequence {found} where {expected} should be")));
        }
        if let Some(chain) = chain.filter(|&chain| chain != decoded.chain) {
            let found = decoded.chain;
            return Err(Defect::Broken(format!(
                "record {expected} continues one with checksum {found:08x}, but the one before it has {chain:08x}"
            )));
        }
        (chain, last_checksum) = (Some(decoded.checksum), Some(decoded.checksum));
        rest = &rest[decoded.bytes..];
    }
    if !rest.is_empty() {
        return Err(Defect::Broken(format!("{} bytes behind the last of {} records", rest.len(), header.records)));
    }
    Ok(last_checksum)
}

pub(super) fn newer_format(path: &Path, found: u32) -> LogError {
    LogError::NewerFormat { file: path.to_owned(), found, supported: format::FORMAT }
}

/// A part of the file in memory. The buffer is reused and never larger than the file.
struct Window {
    file: Arc<dyn File>,
    file_bytes: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `range` lies within the file.
    fn get(&mut self, range: Range<u64>) -> std::io::Result<&[u8]> {
        if range.is_empty() {
            return Ok(&[]);
        }
        if range.start < self.start || range.end > self.start + self.bytes.len() as u64 {
            let wanted = (range.end - range.start).max(WINDOW_BYTES).min(self.file_bytes - range.start);
            self.bytes.resize(wanted as usize, 0);
            self.start = range.start;
            if let Err(error) = self.file.read_exact_at(&mut self.bytes, range.start) {
                self.bytes.clear();
                return Err(error);
            }
        }
        Ok(self.cached(&range))
    }

    /// A range that the last `get` asked for.
    fn cached(&self, range: &Range<u64>) -> &[u8] {
        if range.is_empty() {
            return &[];
        }
        &self.bytes[(range.start - self.start) as usize..(range.end - self.start) as usize]
    }
}
