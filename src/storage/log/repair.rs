//! Examines a log that nobody has open, and cuts a damaged one at its break when whoever owns it accepts the loss.
//!
//! Examining changes nothing. Cutting first copies every file from the break on into another folder, durably, and only
//! then takes them from the log: the last one first, each removal durable before the next. So after a crash in the middle
//! everything is still in the log, or beside it, or both; cutting again finishes it, or opening, where nothing is left that
//! tells damage from a torn tail.

use std::path::{Path, PathBuf};

use super::files::{self, Header};
use super::format::BLOCK_BYTES;
use super::reader::{GroupReader, read_file_header};
use super::recover::Scan;
use super::torn::Break;
use super::{LogError, LogOptions, LogRecord, OpenError};
use crate::storage::fs::Fs;
use crate::types::Sequence;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 1024 * 1024;

/// A log as it lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Records that verify, up to the end or the first break.
    pub records: u64,
    /// The last of them; [`Sequence::ZERO`] or one before the log's first if there is none.
    pub last: Sequence,
    /// What comes after them.
    pub end: End,
}

/// How a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As it should.
    Whole,
    /// In what a power cut has torn. None of it was known to be durable; opening the log cuts it off.
    Torn {
        /// The file.
        file: PathBuf,
        /// Where the torn part begins.
        offset: u64,
    },
    /// In a break that opening refuses.
    Damaged(Damage),
}

/// A break, with records behind it that were known to be durable, or where no power cut can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file with the break.
    pub file: PathBuf,
    /// Where the group begins that does not hold; 0 where the file itself does not.
    pub offset: u64,
    /// The first sequence that is lost.
    pub sequence: Sequence,
    /// What was expected and what was found.
    pub reason: String,
    /// The last sequence of which anything behind the break tells. There may have been more.
    pub last_seen: Sequence,
    /// The files from the break on, that one first.
    files: Vec<PathBuf>,
    /// Whether that one is the first of the log.
    is_first_file: bool,
}

impl Damage {
    /// How many records would be lost, as far as can be told.
    pub fn records_lost(&self) -> u64 {
        // A group may claim any sequence, the highest too.
        self.last_seen.0.saturating_add(1).saturating_sub(self.sequence.0)
    }

    /// Whether something is left of the log when it is cut here.
    pub fn can_be_cut(&self) -> bool {
        self.offset > 0 || !self.is_first_file
    }

    /// Cuts the log at the break. The files from there on are kept whole in the folder `aside`, which must be new; what
    /// was readable before the break stays. The log must be locked and nobody may have it open.
    pub fn cut_off(&self, fs: &dyn Fs, folder: &Path, aside: &Path) -> Result<(), LogError> {
        assert!(self.can_be_cut(), "a log is never left without its first file");
        keep_aside(fs, &self.files, aside)?;
        let (broken, later) = self.files.split_first().expect("the break is in a file");
        for path in later.iter().rev() {
            remove(fs, folder, path)?;
        }
        if self.offset == 0 {
            return remove(fs, folder, broken);
        }
        let file = fs.open(broken).map_err(LogError::io("open", broken))?;
        file.set_len(self.offset).map_err(LogError::io("cut", broken))?;
        file.sync_data().map_err(LogError::io("sync", broken))
    }
}

/// Reads a log up to its end or its first break and changes nothing. `replay` sees the records that verify.
pub fn examine<E>(
    fs: &dyn Fs,
    folder: &Path,
    options: &LogOptions,
    replay: impl FnMut(LogRecord<'_>) -> Result<(), E>,
) -> Result<Examined, OpenError<E>> {
    let missing = || LogError::Missing { folder: folder.to_owned() };
    if !fs.exists(folder).map_err(LogError::io("find", folder))? {
        return Err(missing().into());
    }
    let (paths, _) = files::list(fs, folder)?;
    if paths.is_empty() {
        return Err(missing().into());
    }
    let (headers, broken_header) = files::read_headers(fs, &paths)?;
    let Some((_, first)) = headers.first() else {
        let broken = broken_header.as_ref().and_then(Found::of).ok_or_else(missing)?;
        let end = End::Damaged(damage(fs, &paths, &headers, broken, Sequence::ZERO)?);
        return Ok(Examined { records: 0, last: Sequence::ZERO, end });
    };
    let mut scan = Scan::new(first, replay);
    let (found, is_judged) = if options.first_needed != Sequence::ZERO && options.first_needed < first.first {
        let reason = format!("the log begins at sequence {}, earlier files are missing", first.first);
        (Some(Found { index: 0, offset: 0, sequence: options.first_needed, reason }), true)
    } else {
        match scan.read_files(fs, &headers) {
            Ok((offset, Some(stop))) => {
                let found = Found { index: stop.index, offset, sequence: scan.next, reason: stop.reason };
                // With a header that does not hold in a later file, nobody can say that the rest was never durable.
                (Some(found), broken_header.is_some())
            }
            Ok((_, None)) if broken_header.is_some() => {
                let found = broken_header.as_ref().and_then(Found::of);
                (found.map(|found| Found { index: headers.len(), sequence: scan.next, ..found }), true)
            }
            Ok((offset, None)) if scan.last() < options.known_durable => {
                let reason = format!("the log ends here, but {} is known to have been durable", options.known_durable);
                (Some(Found { index: headers.len() - 1, offset, sequence: scan.next, reason }), true)
            }
            Ok((_, None)) => (None, false),
            Err(OpenError::Log(error @ LogError::Damaged { .. })) => {
                let index = headers.iter().position(|(path, _)| error.is_in(path)).unwrap_or_default();
                (Found::of(&error).map(|found| Found { index, sequence: scan.next, ..found }), true)
            }
            Err(error) => return Err(error),
        }
    };
    let end = match found {
        None => End::Whole,
        Some(found) if is_judged => End::Damaged(damage(fs, &paths, &headers, found, options.known_durable)?),
        Some(found) => {
            let torn =
                Break { folder, headers: &headers, index: found.index, offset: found.offset, sequence: found.sequence };
            match torn.judge(fs, options, found.reason.clone()) {
                Ok(()) => End::Torn { file: paths[found.index].clone(), offset: found.offset },
                Err(LogError::Damaged { reason, .. }) => {
                    let found = Found { reason, ..found };
                    End::Damaged(damage(fs, &paths, &headers, found, options.known_durable)?)
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(Examined { records: scan.records, last: scan.last(), end })
}

/// A break before it is described.
struct Found {
    index: usize,
    offset: u64,
    sequence: Sequence,
    reason: String,
}

impl Found {
    fn of(error: &LogError) -> Option<Self> {
        match error {
            LogError::Damaged { offset, sequence, reason, .. } => {
                Some(Self { index: 0, offset: *offset, sequence: *sequence, reason: reason.clone() })
            }
            _ => None,
        }
    }
}

/// Looks behind a break for the last record of which anything tells.
fn damage(
    fs: &dyn Fs,
    paths: &[PathBuf],
    headers: &[Header],
    found: Found,
    known_durable: Sequence,
) -> Result<Damage, LogError> {
    let Found { index, offset, sequence, reason } = found;
    let mut last_seen = known_durable;
    for (number, path) in paths.iter().enumerate().skip(index) {
        let file = fs.open(path).map_err(LogError::io("open", path))?;
        let (log_id, file_number) = match (read_file_header(file.as_ref(), path)?, headers.last()) {
            (Ok(header), _) => {
                last_seen = last_seen.max(Sequence(header.first.0.saturating_sub(1))).max(header.durable);
                (header.log_id, header.number)
            }
            // What is lost of a header follows from the one before; what does not fit verifies nowhere.
            (Err(_), Some((_, last))) => {
                let later = (number + 1 - headers.len()) as u64;
                (last.log_id, last.number.saturating_add(later))
            }
            (Err(_), None) => continue,
        };
        let mut reader = GroupReader::open(fs, path, log_id, file_number)?;
        reader.move_to(if number == index { offset.max(BLOCK_BYTES) } else { BLOCK_BYTES });
        let ahead = reader.look_ahead()?;
        last_seen = last_seen.max(ahead.last).max(ahead.durable);
    }
    let files = paths[index..].to_vec();
    Ok(Damage { file: paths[index].clone(), offset, sequence, reason, last_seen, files, is_first_file: index == 0 })
}

/// Copies files as they are, so that they survive a power cut from here on.
pub(super) fn keep_aside(fs: &dyn Fs, paths: &[PathBuf], aside: &Path) -> Result<(), LogError> {
    fs.create_dir_all(aside).map_err(LogError::io("create", aside))?;
    for path in paths {
        let to = aside.join(path.file_name().unwrap_or_default());
        // What an interrupted copy has left may be cut short.
        if fs.exists(&to).map_err(LogError::io("find", &to))? {
            fs.remove_file(&to).map_err(LogError::io("remove", &to))?;
        }
        copy(fs, path, &to)?;
    }
    fs.sync_dir(aside).map_err(LogError::io("sync", aside))?;
    match aside.parent() {
        Some(parent) => fs.sync_dir(parent).map_err(LogError::io("sync", parent)),
        None => Ok(()),
    }
}

fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(), LogError> {
    let source = fs.open(from).map_err(LogError::io("open", from))?;
    let bytes = source.len().map_err(LogError::io("read the length of", from))?;
    let target = fs.create_new(to).map_err(LogError::io("create", to))?;
    let mut buffer = Vec::new();
    let mut offset = 0;
    while offset < bytes {
        buffer.resize(COPY_BYTES.min(bytes - offset) as usize, 0);
        source.read_exact_at(&mut buffer, offset).map_err(LogError::io("read", from))?;
        target.write_all_at(&buffer, offset).map_err(LogError::io("write", to))?;
        offset += buffer.len() as u64;
    }
    target.sync_data().map_err(LogError::io("sync", to))
}

fn remove(fs: &dyn Fs, folder: &Path, path: &Path) -> Result<(), LogError> {
    fs.remove_file(path).map_err(LogError::io("remove", path))?;
    // Before the next one goes: a file missing in the middle would be damage of another kind.
    fs.sync_dir(folder).map_err(LogError::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_claims_the_highest_sequence_is_counted_without_overflow() {
        let damage = |sequence, last_seen| Damage {
            file: PathBuf::from("log"),
            offset: 4096,
            sequence: Sequence(sequence),
            reason: String::new(),
            last_seen: Sequence(last_seen),
            files: Vec::new(),
            is_first_file: true,
        };
        assert_eq!(damage(5, 7).records_lost(), 3);
        assert_eq!(damage(5, 3).records_lost(), 0);
        assert_eq!(damage(5, u64::MAX).records_lost(), u64::MAX - 5);
    }
}
