//! A collection's files beside its log: what they are called, and what is in them. `docs/data_format.md` has the bytes.
//!
//! - `manifest`: the collection as it stood after one record of its log.
//! - `parts/<number>.rows`: rows of one part (primary); `parts/<number>.graph`: its graph (derived: can be built again).
//! - `parts/<number>.answers`: answers to requests.
//!
//! Invariants: what the manifest names is there, whole and synced, before the manifest is; a file never changes; a number is
//! not given twice while a file of it is there.

mod answers;
mod bounds;
mod content;
mod manifest;
mod part;
mod rows;
mod verify;

use std::path::{Path, PathBuf};

pub use answers::{read_answers, write_answers};
pub use manifest::{AnswersFile, Manifest, PartEntry, read_manifest, write_manifest};
pub use part::{lie_in_file, read_segment, read_table, write_segment, write_table};
pub use verify::{Figures, check_manifest, examine_answers, examine_part, files, verify};

use crate::collection::op::DecodeError;
use crate::storage::fs::{Fs, create_dir_durably};
use crate::storage::manifest::ManifestError;
use crate::storage::memory::NoMemory;
use crate::storage::sections::{SectionError, TEMPORARY_SUFFIX};
use crate::storage::space::LowSpace;

/// Why a file cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file of a part, or of answers.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file is whole, but says what this version does not understand.
    #[error("{}: {error}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The manifest names a file that is another.
    #[error("{} is not the file that the manifest names: expected id {expected}, got {got}", file.display())]
    Stranger {
        /// The file.
        file: PathBuf,
        /// Its id according to the manifest.
        expected: uuid::Uuid,
        /// Its id.
        got: uuid::Uuid,
    },
    /// The same record lies in two places.
    #[error("{}: record {id:?} is there twice", folder.display())]
    Twice {
        /// The folder of the collection.
        folder: PathBuf,
        /// The record.
        id: String,
    },
    /// The manifest is whole, but no program of ours has written it.
    #[error("{}: {reason}", file.display())]
    Contradiction {
        /// The file.
        file: PathBuf,
        /// What cannot be.
        reason: String,
    },
    /// The folder of the files.
    #[error("cannot {action} {}: {error}", folder.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The disk is nearly full.
    #[error(transparent)]
    LowSpace(#[from] LowSpace),
    /// There is too little memory for what is in the files.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// The collection is closing.
    #[error("stopped, since the collection is closing")]
    Stopped,
}

impl DiskError {
    /// What the system says, where it refuses.
    pub fn io(&self) -> Option<&std::io::Error> {
        match self {
            DiskError::Section(SectionError::Io { error, .. })
            | DiskError::Manifest(ManifestError::Io { error, .. })
            | DiskError::Folder { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Which file of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Rows of a part.
    Rows,
    /// Its graph.
    Graph,
    /// Answers to requests.
    Answers,
}

impl FileKind {
    fn suffix(self) -> &'static str {
        match self {
            FileKind::Rows => "rows",
            FileKind::Graph => "graph",
            FileKind::Answers => "answers",
        }
    }
}

/// The folder of the files, within that of the collection.
pub fn parts_folder(collection_folder: &Path) -> PathBuf {
    collection_folder.join("parts")
}

/// Where a file lies.
pub fn path_of(collection_folder: &Path, number: u32, kind: FileKind) -> PathBuf {
    parts_folder(collection_folder).join(format!("{number:010}.{}", kind.suffix()))
}

/// Number and kind of a file of that name; none for a name that is not ours.
fn read_name(name: &str) -> Option<(u32, FileKind)> {
    let (digits, suffix) = name.split_once('.')?;
    let kind = [FileKind::Rows, FileKind::Graph, FileKind::Answers].into_iter().find(|kind| kind.suffix() == suffix)?;
    let is_number = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_number)?, kind))
}

/// Makes the folder where it is missing, durably.
pub fn create_folder(fs: &dyn Fs, collection_folder: &Path) -> Result<(), DiskError> {
    let folder = parts_folder(collection_folder);
    create_dir_durably(fs, &folder).map_err(|error| DiskError::Folder { action: "create", folder, error })
}

/// Makes the names of files durable.
pub fn sync_folder(fs: &dyn Fs, collection_folder: &Path) -> Result<(), DiskError> {
    let folder = parts_folder(collection_folder);
    fs.sync_dir(&folder).map_err(|error| DiskError::Folder { action: "sync", folder, error })
}

/// Bytes of a collection's files beside its log, those among them that are being written or wait to be removed.
pub fn file_bytes(fs: &dyn Fs, collection_folder: &Path) -> Result<u64, DiskError> {
    let folder = parts_folder(collection_folder);
    let io = |action| {
        let folder = folder.clone();
        move |error| DiskError::Folder { action, folder, error }
    };
    let mut files = Vec::new();
    if fs.exists(&folder).map_err(io("find"))? {
        files.extend(fs.list(&folder).map_err(io("list"))?.into_iter().map(|name| folder.join(name)));
    }
    let manifest = collection_folder.join(crate::storage::manifest::FILE_NAME);
    if fs.exists(&manifest).map_err(io("find the manifest beside"))? {
        files.push(manifest);
    }
    let lengths = files.iter().map(|file| fs.open(file).and_then(|file| file.len()));
    lengths.sum::<Result<u64, _>>().map_err(io("read the length of a file of"))
}

/// Removes files that `is_needed` does not want, unfinished ones among them, and returns how many; names that are not ours stay.
pub fn remove_others(
    fs: &dyn Fs,
    collection_folder: &Path,
    is_needed: impl Fn(u32, FileKind) -> bool,
) -> Result<usize, DiskError> {
    let folder = parts_folder(collection_folder);
    let io = |action| {
        let folder = folder.clone();
        move |error| DiskError::Folder { action, folder, error }
    };
    if !fs.exists(&folder).map_err(io("find"))? {
        return Ok(0);
    }
    let mut removed = 0;
    for name in fs.list(&folder).map_err(io("list"))? {
        let Some(name) = name.to_str() else { continue };
        let is_other = match name.strip_suffix(TEMPORARY_SUFFIX) {
            Some(name) => read_name(name).is_some(),
            None => read_name(name).is_some_and(|(number, kind)| !is_needed(number, kind)),
        };
        if is_other {
            fs.remove_file(&folder.join(name)).map_err(io("remove a file of"))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::RealFs;

    #[test]
    fn only_names_of_ours_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        create_folder(&RealFs, folder.path()).unwrap();
        let ours = ["0000000001.rows", "0000000001.graph", "0000000002.answers", "0000000003.rows.tmp"];
        let foreign = ["1.rows", "0000000001.txt", "notes", "0000000001.rows.bak", "+000000001.rows", ".tmp"];
        for name in ours.iter().chain(&foreign) {
            std::fs::write(parts_folder(folder.path()).join(name), "x").unwrap();
        }
        let removed = remove_others(&RealFs, folder.path(), |number, kind| (number, kind) == (1, FileKind::Rows));
        assert_eq!(removed.unwrap(), 3);
        let mut left: Vec<_> = RealFs.list(&parts_folder(folder.path())).unwrap();
        left.sort();
        let mut expected: Vec<_> = foreign.iter().chain(&["0000000001.rows"]).map(std::ffi::OsString::from).collect();
        expected.sort();
        assert_eq!(left, expected);
    }
}
