//! Copies of a collection's files in another folder, and collections that begin with such a copy.
//!
//! A copy is the manifest and the files that it names, which never change: so they are linked, and a copy costs neither time nor
//! room. Invariants: a copy is the collection at one record of its log; nothing of it is taken for good before every checksum in
//! it was looked at.

use std::path::Path;
use std::sync::Arc;

use crate::collection::disk::{self, DiskError, Figures};
use crate::collection::recover::log_folder;
use crate::collection::{CheckpointError, Collection, CollectionOptions, RecoverError};
use crate::storage::fs::{Fs, link_or_copy};
use crate::storage::log::{FileLog, LogError};

/// Why a collection could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It takes no writes, so not even a checkpoint can be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is in memory could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file could not be linked, or does not verify.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Collection {
    /// Copies what is visible now, or a little later, into a folder that holds nothing, durably. Writes go on meanwhile.
    pub fn copy_to(&self, folder: &Path) -> Result<Figures, CopyError> {
        self.health()?;
        self.checkpoint().map_err(|error| match error.reason() {
            DiskError::Stopped => self.health().err().unwrap_or(LogError::Closed).into(),
            _ => CopyError::from(error),
        })?;
        let fs = &*self.fs;
        {
            // No manifest is switched and no file removed while this is held.
            let _held = self.keeper.hold();
            link_all(fs, &self.folder, folder).map_err(|error| self.why(error))?;
        }
        Ok(disk::verify(fs, folder)?)
    }

    /// Files that vanish are a sign that the collection was dropped.
    fn why(&self, error: DiskError) -> CopyError {
        if self.keeper.is_closed() { LogError::Closed.into() } else { error.into() }
    }

    /// Makes a collection that begins as a copy of another, in a folder that does not exist yet, durably. Its log begins after the
    /// record that the copy stands at. Every checksum is looked at first.
    pub fn restore(
        fs: Arc<dyn Fs>,
        copy: &Path,
        folder: &Path,
        options: impl Into<CollectionOptions>,
    ) -> Result<(Self, Figures), RecoverError> {
        let figures = disk::verify(&*fs, copy)?;
        let io = |error| DiskError::Folder { action: "create", folder: folder.to_owned(), error };
        fs.create_dir_all(folder).map_err(io)?;
        link_all(&*fs, copy, folder)?;
        FileLog::begin(fs.clone(), &log_folder(folder), figures.sequence.next())?;
        Self::open(fs, folder, options).map(|(collection, _)| (collection, figures))
    }
}

/// Looks at every checksum of a copy.
pub fn verify_copy(fs: &dyn Fs, folder: &Path) -> Result<Figures, DiskError> {
    disk::verify(fs, folder)
}

/// The files of a copy as they are called within its folder, the manifest first.
pub fn copied_files(fs: &dyn Fs, folder: &Path) -> Result<Vec<String>, DiskError> {
    Ok(disk::files(fs, folder)?.into_iter().map(|(name, _)| name).collect())
}

/// Where the files of a copy lie but for the manifest, durably made where it is missing.
pub fn create_copy_folder(fs: &dyn Fs, folder: &Path) -> Result<(), DiskError> {
    disk::create_folder(fs, folder)
}

/// Makes the names of a copy's files durable.
pub fn sync_copy(fs: &dyn Fs, folder: &Path) -> Result<(), DiskError> {
    disk::sync_folder(fs, folder)?;
    fs.sync_dir(folder).map_err(|error| DiskError::Folder { action: "sync", folder: folder.to_owned(), error })
}

fn link_all(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(), DiskError> {
    create_copy_folder(fs, to)?;
    for (name, file) in disk::files(fs, from)? {
        let linked = link_or_copy(fs, &file, &to.join(name));
        linked.map_err(|error| DiskError::Folder { action: "copy a file into", folder: to.to_owned(), error })?;
    }
    sync_copy(fs, to)
}
