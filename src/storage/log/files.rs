//! The files of a log: their names, their headers, and which of them are ours.

use std::path::{Path, PathBuf};

use super::LogError;
use super::format::{Defect, FileHeader};
use super::reader::{newer_format, read_file_header};
use crate::storage::fs::Fs;
use crate::types::Sequence;

const TEMPORARY_SUFFIX: &str = ".tmp";

/// A file of the log that is put to use.
#[derive(Debug, Clone)]
pub(super) struct LogFile {
    pub path: PathBuf,
    pub number: u64,
    pub first: Sequence,
    pub bytes: u64,
}

/// The name of the file that begins with `first`.
pub(super) fn name(first: Sequence) -> String {
    format!("{:020}.log", first.0)
}

/// The name it has until its header is durable.
pub(super) fn temporary_name(first: Sequence) -> String {
    name(first) + TEMPORARY_SUFFIX
}

/// The paths of the log's files, in order, and those of creations that did not finish. Other names are not ours.
pub(super) fn list(fs: &dyn Fs, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), LogError> {
    let (mut files, mut temporary) = (Vec::new(), Vec::new());
    for name in fs.list(folder).map_err(LogError::io("list", folder))? {
        let Some(name) = name.to_str() else { continue };
        match name.strip_suffix(TEMPORARY_SUFFIX) {
            Some(stem) if first_of(stem).is_some() => temporary.push(folder.join(name)),
            None if first_of(name).is_some() => files.push(folder.join(name)),
            _ => {}
        }
    }
    files.sort(); // names have a fixed length, so this is the order of sequences
    Ok((files, temporary))
}

fn first_of(name: &str) -> Option<Sequence> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Sequence)
}

/// Removes what creations that did not finish have left.
pub(super) fn remove_temporary(fs: &dyn Fs, folder: &Path, temporary: &[PathBuf]) -> Result<(), LogError> {
    for path in temporary {
        fs.remove_file(path).map_err(LogError::io("remove", path))?;
    }
    if !temporary.is_empty() {
        fs.sync_dir(folder).map_err(LogError::io("sync", folder))?;
    }
    Ok(())
}

/// A file and what it says of itself.
pub(super) type Header = (PathBuf, FileHeader);

/// Reads headers and checks what no power cut can break: all of them, or those before the first that does not hold, and
/// what is wrong with it.
pub(super) fn read_headers(fs: &dyn Fs, paths: &[PathBuf]) -> Result<(Vec<Header>, Option<LogError>), LogError> {
    let mut headers: Vec<Header> = Vec::with_capacity(paths.len());
    for path in paths {
        let named = path.file_name().and_then(|name| first_of(name.to_str()?)).unwrap_or_default();
        let file = fs.open(path).map_err(LogError::io("open", path))?;
        let header = match read_file_header(file.as_ref(), path)? {
            Ok(header) => header,
            Err(Defect::NewerFormat(found)) => return Err(newer_format(path, found)),
            Err(Defect::Broken(reason)) => {
                return Ok((headers, Some(LogError::damaged(path, 0, named, reason))));
            }
        };
        let mut reason = None;
        if header.first != named || named == Sequence::ZERO {
            reason = Some(format!("the header of this file names {} as its first sequence", header.first));
        } else if let Some((before_path, before)) = headers.last() {
            let before_name = before_path.file_name().unwrap_or_default().display();
            if header.log_id != before.log_id {
                reason = Some(format!("this file belongs to another log than {before_name}"));
            } else if header.number != before.number.saturating_add(1) {
                let (number, before) = (header.number, before.number);
                reason = Some(format!("this is file {number}, but {before_name} before it is file {before}"));
            }
        }
        if let Some(reason) = reason {
            return Ok((headers, Some(LogError::damaged(path, 0, named, reason))));
        }
        headers.push((path.clone(), header));
    }
    Ok((headers, None))
}

/// Puts files to use.
pub(super) fn measure(fs: &dyn Fs, headers: &[Header]) -> Result<Vec<LogFile>, LogError> {
    let measured = headers.iter().map(|(path, header)| {
        let file = fs.open(path).map_err(LogError::io("open", path))?;
        let bytes = file.len().map_err(LogError::io("read the length of", path))?;
        Ok(LogFile { path: path.clone(), number: header.number, first: header.first, bytes })
    });
    measured.collect()
}
