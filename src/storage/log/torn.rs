//! Judges a break: a torn tail is cut off, damage is refused. `docs/data_format.md` has the reasoning.

use std::path::{Path, PathBuf};

use super::files::Header;
use super::reader::GroupReader;
use super::{LogError, LogOptions};
use crate::storage::fs::Fs;
use crate::types::Sequence;

/// What a power cut left at the end of a log, and is gone now. None of it was known to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file that was cut.
    pub file: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// Bytes that were there behind it and not just zeros, with those of later files, which were removed.
    pub bytes_dropped: u64,
    /// The last sequence that was kept.
    pub after_sequence: Sequence,
}

/// A place where `sequence` should come and does not.
pub(super) struct Break<'a> {
    pub folder: &'a Path,
    pub headers: &'a [Header],
    pub index: usize,
    pub offset: u64,
    pub sequence: Sequence,
}

impl Break<'_> {
    fn reader(&self, fs: &dyn Fs) -> Result<GroupReader, LogError> {
        let (path, header) = &self.headers[self.index];
        let mut reader = GroupReader::open(fs, path, header.log_id, header.number)?;
        reader.move_to(self.offset);
        Ok(reader)
    }

    /// It is damage if anybody knows that the sequence was durable: a mark behind the break, or the caller.
    pub(super) fn judge(&self, fs: &dyn Fs, options: &LogOptions, found: String) -> Result<(), LogError> {
        let mut durable = options.known_durable.max(self.reader(fs)?.look_ahead()?.durable);
        for (path, header) in &self.headers[self.index + 1..] {
            let mut reader = GroupReader::open(fs, path, header.log_id, header.number)?;
            durable = durable.max(header.durable).max(reader.look_ahead()?.durable);
        }
        if durable < self.sequence {
            return Ok(());
        }
        let reason = format!("sequences up to {durable} are known to have been durable; found {found}");
        Err(LogError::damaged(&self.headers[self.index].0, self.offset, self.sequence, reason))
    }

    /// Each removal is made durable before the next: a file missing in the middle would be damage.
    pub(super) fn cut_off(&self, fs: &dyn Fs) -> Result<TornTail, LogError> {
        let path = &self.headers[self.index].0;
        let mut bytes_dropped = self.reader(fs)?.content_end()?.saturating_sub(self.offset);
        for (later, _) in self.headers[self.index + 1..].iter().rev() {
            let file = fs.open(later).map_err(LogError::io("open", later))?;
            bytes_dropped += file.len().map_err(LogError::io("read the length of", later))?;
            fs.remove_file(later).map_err(LogError::io("remove", later))?;
            fs.sync_dir(self.folder).map_err(LogError::io("sync", self.folder))?;
        }
        let file = fs.open(path).map_err(LogError::io("open", path))?;
        file.set_len(self.offset).map_err(LogError::io("cut", path))?;
        file.sync_data().map_err(LogError::io("sync", path))?;
        let after_sequence = Sequence(self.sequence.0 - 1);
        tracing::warn!(file = %path.display(), self.offset, bytes_dropped, %after_sequence, "cut off a torn log tail");
        Ok(TornTail { file: path.clone(), offset: self.offset, bytes_dropped, after_sequence })
    }
}
