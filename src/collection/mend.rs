//! The files of a collection that nobody has open: which of them are damaged, and how to go on without them.
//!
//! A damaged graph is no loss: it is built again. Without a rows file its records are gone, without a file of answers retries of old
//! requests are taken for new ones, without a manifest nobody knows what the parts mean: then only the log is left, if it is whole
//! from its first record on.

use std::path::{Path, PathBuf};

use crate::collection::disk::{self, DiskError, FileKind, Manifest};
use crate::collection::op::DecodeError;
use crate::collection::recover::log_folder;
use crate::storage::fs::{Fs, create_dir_durably, link_or_copy};
use crate::storage::log::{FileLog, LogError};
use crate::storage::manifest::{self, ManifestError};
use crate::storage::sections::SectionError;
use crate::types::Sequence;

/// How the files of a collection were found.
#[derive(Debug, Default)]
pub struct FilesFound {
    /// The checkpoint: records of the log up to here lie in parts. Zero: the log is all there is.
    pub sequence: Sequence,
    /// Those that do not verify, or say what cannot be.
    pub damaged: Vec<DamagedFile>,
}

/// A file that does not verify, or says what cannot be.
#[derive(Debug)]
pub struct DamagedFile {
    /// The file.
    pub file: PathBuf,
    /// What was expected and what was found.
    pub reason: String,
    /// What is lost with it.
    pub lost: FileLoss,
}

/// What is lost with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLoss {
    /// So many records.
    Records(u64),
    /// So many answers to requests.
    Answers(u64),
    /// What the parts mean: the log alone is left.
    Manifest,
}

impl FilesFound {
    /// Where the log has everything from its first record on, nothing is lost with any file: the manifest goes too, and parts are made
    /// anew.
    pub fn go_back_to_log(&mut self, folder: &Path) {
        for damaged in &mut self.damaged {
            damaged.lost = match damaged.lost {
                FileLoss::Records(_) => FileLoss::Records(0),
                FileLoss::Answers(_) => FileLoss::Answers(0),
                FileLoss::Manifest => return,
            };
        }
        let (file, reason) = (folder.join(manifest::FILE_NAME), "it names files that are damaged".to_owned());
        self.damaged.push(DamagedFile { file, reason, lost: FileLoss::Manifest });
    }

    /// Whether the manifest itself is lost.
    pub fn is_manifest_lost(&self) -> bool {
        self.damaged.iter().any(|file| file.lost == FileLoss::Manifest)
    }
}

/// Reads every file of a collection that cannot be made again. Fails where the machine does not let it, or where a newer version has
/// written.
pub fn examine_files(fs: &dyn Fs, folder: &Path) -> Result<FilesFound, DiskError> {
    let manifest = match disk::read_manifest(fs, folder) {
        Ok(None) => return Ok(FilesFound::default()),
        Ok(Some(manifest)) => manifest,
        Err(error @ DiskError::Content { error: DecodeError::Newer { .. }, .. }) => return Err(error),
        Err(error @ (DiskError::Manifest(ManifestError::Damaged { .. }) | DiskError::Content { .. })) => {
            let file = folder.join(manifest::FILE_NAME);
            let damaged = vec![DamagedFile { file, reason: error.to_string(), lost: FileLoss::Manifest }];
            return Ok(FilesFound { sequence: Sequence::ZERO, damaged });
        }
        Err(error) => return Err(error),
    };
    let mut damaged = Vec::new();
    let mut note = |examined: Result<(), DiskError>, number, kind, lost| match examined {
        Ok(()) => Ok(()),
        Err(error) if is_of_the_file(&error) => {
            let file = disk::path_of(folder, number, kind);
            damaged.push(DamagedFile { file, reason: error.to_string(), lost });
            Ok(())
        }
        Err(error) => Err(error),
    };
    for part in &manifest.parts {
        let lost = FileLoss::Records(u64::from(part.row_count) - part.dead.len());
        let examined = disk::examine_part(fs, folder, part, &manifest.spaces[usize::from(part.space)]);
        note(examined, part.number, FileKind::Rows, lost)?;
    }
    for file in &manifest.answers {
        let examined = disk::examine_answers(fs, folder, file).map(|_| ());
        note(examined, file.number, FileKind::Answers, FileLoss::Answers(file.count.into()))?;
    }
    Ok(FilesFound { sequence: manifest.sequence, damaged })
}

fn is_of_the_file(error: &DiskError) -> bool {
    match error {
        // 5: the disk itself refuses to read it.
        DiskError::Section(SectionError::Io { error, .. }) => {
            error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(5)
        }
        DiskError::Section(SectionError::Damaged { .. }) | DiskError::Stranger { .. } => true,
        // It verifies, and no start could take it in.
        DiskError::Content { error, .. } => !matches!(error, DecodeError::Newer { .. }),
        _ => false,
    }
}

/// Has a collection go on without its damaged files, which are kept in the folder `aside`, durably. It can be interrupted at any
/// moment, and done again.
pub fn leave_out(fs: &dyn Fs, folder: &Path, aside: &Path, found: &FilesFound) -> Result<(), DiskError> {
    let io = |action| move |error| DiskError::Folder { action, folder: aside.to_owned(), error };
    create_dir_durably(fs, aside).map_err(io("create"))?;
    for DamagedFile { file, .. } in &found.damaged {
        let name = aside.join(file.file_name().unwrap_or_default());
        if fs.exists(file).map_err(io("find a file for"))? && !fs.exists(&name).map_err(io("look into"))? {
            link_or_copy(fs, file, &name).map_err(io("copy a file into"))?;
        }
    }
    fs.sync_dir(aside).map_err(io("sync"))?;
    if found.is_manifest_lost() {
        fs.remove_file(&folder.join(manifest::FILE_NAME)).map_err(io("remove what was copied into"))?;
        return fs.sync_dir(folder).map_err(io("sync the folder of"));
    }
    let Some(manifest) = disk::read_manifest(fs, folder)? else { return Ok(()) };
    let is_whole = |number: u32, kind| {
        let file = disk::path_of(folder, number, kind);
        !found.damaged.iter().any(|damaged| damaged.file == file)
    };
    let Manifest { parts, answers, .. } = manifest;
    let parts = parts.into_iter().filter(|part| is_whole(part.number, FileKind::Rows)).collect();
    let answers = answers.into_iter().filter(|file| is_whole(file.number, FileKind::Answers)).collect();
    disk::write_manifest(fs, folder, &Manifest { parts, answers, ..manifest })
}

/// Puts a new log, which begins after the checkpoint, in the place of one that holds nothing newer that can be read.
pub fn begin_log_anew(
    fs: std::sync::Arc<dyn Fs>,
    folder: &Path,
    aside: &Path,
    checkpoint: Sequence,
) -> Result<(), LogError> {
    let log = log_folder(folder);
    FileLog::put_aside(&*fs, &log, aside)?;
    FileLog::begin(fs, &log, checkpoint.next())
}
