//! Follows a log while it is written. Owns its place and its file; shares nothing with the writer but what is written.
//!
//! Reads a group only after the writer has said that it is written: it never sees half of one.

use std::sync::Arc;

use super::commit::Shared;
use super::files::LogFile;
use super::format::LogId;
use super::reader::{Found, GroupReader};
use super::{LogError, LogRecord, LogTail};
use crate::storage::fs::Fs;
use crate::types::Sequence;

pub(super) struct FileTail {
    fs: Arc<dyn Fs>,
    shared: Arc<Shared>,
    log_id: LogId,
    /// The next sequence to return.
    next: Sequence,
    place: Option<Place>,
}

struct Place {
    reader: GroupReader,
    /// The first sequence of the file after which another one has to be opened.
    file_first: Sequence,
    /// All groups up to here were written before the reader last looked.
    written: Sequence,
    /// Of the last record before `group_next`; unknown where reading began in the middle of a file.
    chain: Option<u32>,
    /// One past the last group that was read.
    group_next: Sequence,
    /// Bytes of the group's records that were returned already.
    returned_bytes: usize,
}

impl FileTail {
    pub(super) fn new(fs: Arc<dyn Fs>, shared: Arc<Shared>, log_id: LogId, from: Sequence) -> Result<Self, LogError> {
        let tail = Self { fs, shared, log_id, next: from.max(Sequence::ZERO.next()), place: None };
        tail.file_of(tail.next)?;
        Ok(tail)
    }

    /// The file that holds a sequence or will hold it.
    fn file_of(&self, sequence: Sequence) -> Result<LogFile, LogError> {
        let state = self.shared.lock();
        let after = state.files.partition_point(|file| file.first <= sequence);
        match after.checked_sub(1) {
            Some(index) => Ok(state.files[index].clone()),
            None => Err(LogError::Truncated { asked: sequence, first: state.files[0].first }),
        }
    }

    /// Reads on until the group with `next` is in the reader.
    fn reach_group(&mut self, written: Sequence) -> Result<(), LogError> {
        let file = self.file_of(self.next)?;
        let place = match &mut self.place {
            Some(place) if place.file_first == file.first => place,
            place => {
                let reader = match GroupReader::open(self.fs.as_ref(), &file.path, self.log_id, file.number) {
                    Ok(reader) => reader,
                    Err(error) => {
                        // Was it dropped in between? Then that is what to say.
                        self.file_of(self.next)?;
                        return Err(error);
                    }
                };
                place.insert(Place {
                    reader,
                    file_first: file.first,
                    written,
                    chain: None,
                    group_next: file.first,
                    returned_bytes: 0,
                })
            }
        };
        if place.written < self.next {
            place.reader.refresh()?;
            place.written = written;
        }
        while place.group_next <= self.next {
            place.read_group(self.next)?;
        }
        Ok(())
    }
}

impl Place {
    /// Reads one group, or skips it if it ends before `wanted`.
    fn read_group(&mut self, wanted: Sequence) -> Result<(), LogError> {
        let offset = self.reader.offset();
        let found = match self.reader.read_header()? {
            Found::Group(header) if header.first == self.group_next && header.end() <= wanted => {
                self.reader.skip()?;
                self.chain = None;
                self.group_next = header.end();
                return Ok(());
            }
            Found::Group(_) => self.reader.read(self.group_next, &mut self.chain)?,
            other => other,
        };
        let reason = match found {
            Found::Group(header) => {
                self.group_next = header.end();
                self.returned_bytes = 0;
                return Ok(());
            }
            Found::End => "nothing more in this file".to_owned(),
            Found::Break(reason) => reason,
        };
        // It was written, by this process, and is not there any more.
        Err(LogError::Damaged { file: self.reader.path().to_owned(), offset, sequence: self.group_next, reason })
    }
}

impl LogTail for FileTail {
    fn next(&mut self) -> Result<Option<LogRecord<'_>>, LogError> {
        let written = self.shared.lock().written;
        if self.next > written {
            return Ok(None);
        }
        if self.place.as_ref().is_none_or(|place| place.group_next <= self.next) {
            self.reach_group(written)?;
        }
        let Some(place) = &mut self.place else { return Ok(None) };
        let record = place.reader.record_from(&mut place.returned_bytes, self.next);
        self.next = self.next.next();
        Ok(record)
    }
}
