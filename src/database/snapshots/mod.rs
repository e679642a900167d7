//! Snapshots: copies of collections in `data/snapshots/<name>/`.
//!
//! ```text
//! data/snapshots/<name>/info       what it is (`info`)
//! data/snapshots/<name>/manifest   as in a collection's folder
//! data/snapshots/<name>/parts/     the files that the manifest names: links to the collection's, which never change
//! data/snapshots/<name>.tmp/       one that is being made, received or removed; removed at the next start
//! ```
//!
//! Invariants: a folder without `.tmp` is whole, and every checksum in it was looked at before it got its name; one that is
//! deleted loses its name first. Names that are not ours are left alone.

mod archive;
mod error;
mod info;
mod receive;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use archive::Archive;
pub use error::SnapshotError;
pub use info::SnapshotInfo;

use crate::collection::{Figures, RequestKey, verify_copy};
use crate::database::Database;
use crate::storage::fs::{Fs, create_dir_durably};
use crate::storage::manifest::ManifestError;
use crate::storage::sections::TEMPORARY_SUFFIX;
use crate::types::limits::SNAPSHOTS_MAX;
use crate::types::{CollectionName, SnapshotName};

/// What goes on.
#[derive(Default)]
pub(super) struct Busy {
    /// Who uses which snapshot. Held for a look-up or an exchange only.
    names: Mutex<BTreeMap<SnapshotName, Users>>,
    /// Held while a snapshot is made: two at a time would do the same work, and a retry waits for the first call.
    making: Mutex<()>,
}

/// Who uses a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    /// So many read it.
    Readers(usize),
    /// Somebody makes it, receives it or deletes it.
    One,
}

/// What a snapshot is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Others may read it too.
    Read,
    /// Nobody else may do anything with it.
    Change,
}

/// A snapshot of the list.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: SnapshotName,
    /// What it is, or why that cannot be told.
    pub info: Result<SnapshotInfo, SnapshotError>,
}

impl Database {
    /// Makes a snapshot of a collection while writes go on. A retry with the same key gets the same one, as long as it is there.
    pub fn create_snapshot(
        &self,
        collection: &CollectionName,
        name: &SnapshotName,
        create_time_us: i64,
        key: Option<RequestKey>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let _one_at_a_time = self.snapshots_busy.making.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = self.snapshots()?;
        if let Some(made) = key.as_ref().and_then(|key| made_by(key, &listed)) {
            return made;
        }
        self.admit(0)?;
        let _reserved = self.reserve(name, Use::Change)?;
        self.require_free(name, listed.len())?;
        let copied = self.get(collection.as_str())?;
        let unfinished = self.begin(name)?;
        let figures = copied.copy_to(&unfinished.folder).map_err(|error| SnapshotError::of_copy(name, error))?;
        let info = SnapshotInfo {
            name: name.clone(),
            collection: collection.clone(),
            create_time_us,
            figures,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            key,
        };
        unfinished.finish(&info)?;
        Ok(info)
    }

    /// All snapshots, newest first; those that do not say what they are come last.
    pub fn snapshots(&self) -> Result<Vec<Listed>, SnapshotError> {
        let folder = self.snapshots_folder();
        let io = |action| SnapshotError::io(action, &folder);
        if !self.fs.exists(&folder).map_err(io("find"))? {
            return Ok(Vec::new());
        }
        let mut listed = Vec::new();
        for name in self.fs.list(&folder).map_err(io("list"))? {
            let Some(name) = name.to_str().and_then(|name| SnapshotName::new(name).ok()) else { continue };
            match self.snapshot(&name) {
                Err(SnapshotError::NotFound { .. }) => {}
                info => listed.push(Listed { name, info }),
            }
        }
        listed.sort_by(|a, b| b.create_time_us().cmp(&a.create_time_us()).then_with(|| a.name.cmp(&b.name)));
        Ok(listed)
    }

    /// What a snapshot is.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<SnapshotInfo, SnapshotError> {
        let folder = self.snapshot_folder(name);
        let info = match info::read(&*self.fs, &folder) {
            Ok(info) => info,
            // A file of that name, or it was deleted between two looks.
            Err(ManifestError::Io { error, .. })
                if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) =>
            {
                None
            }
            Err(error) => return Err(SnapshotError::of_info(name, error)),
        };
        match info {
            None => Err(SnapshotError::NotFound { name: name.clone(), existing: self.some_names() }),
            Some(info) if info.name != *name => {
                let reason = format!("it says that it is snapshot {:?}", info.name);
                Err(SnapshotError::Damaged { name: name.clone(), reason })
            }
            Some(info) => Ok(info),
        }
    }

    /// Looks at every checksum of a snapshot.
    pub fn verify_snapshot(&self, name: &SnapshotName) -> Result<SnapshotInfo, SnapshotError> {
        let info = self.snapshot(name)?;
        let figures = verify_copy(&*self.fs, &self.snapshot_folder(name));
        let figures = figures.map_err(|error| SnapshotError::of_files(name, &error))?;
        compare(&info, figures)?;
        Ok(info)
    }

    /// Deletes a snapshot, a damaged one too.
    pub fn delete_snapshot(&self, name: &SnapshotName) -> Result<(), SnapshotError> {
        let _reserved = self.reserve(name, Use::Change)?;
        if let Err(error @ SnapshotError::NotFound { .. }) = self.snapshot(name) {
            return Err(error);
        }
        let (folder, temporary) = (self.snapshot_folder(name), self.temporary_folder(name));
        remove_if_there(&*self.fs, &temporary)?;
        self.fs.rename(&folder, &temporary).map_err(SnapshotError::io("rename", &folder))?;
        self.sync_snapshots()?;
        // It has lost its name: what cannot be removed now goes at the next start.
        if let Err(error) = remove_if_there(&*self.fs, &temporary) {
            tracing::warn!("{error}; the next start tries again");
        }
        Ok(())
    }

    /// Removes what a crash has left of snapshots that were being made, received or deleted.
    pub(super) fn remove_unfinished_snapshots(&self) -> Result<(), SnapshotError> {
        let folder = self.snapshots_folder();
        if !self.fs.exists(&folder).map_err(SnapshotError::io("find", &folder))? {
            return Ok(());
        }
        for name in self.fs.list(&folder).map_err(SnapshotError::io("list", &folder))? {
            let stem = name.to_str().and_then(|name| name.strip_suffix(TEMPORARY_SUFFIX));
            if stem.is_some_and(|stem| SnapshotName::new(stem).is_ok()) {
                let path = folder.join(&name);
                tracing::warn!(folder = %path.display(), "removing a snapshot that was not finished");
                remove_if_there(&*self.fs, &path)?;
            }
        }
        Ok(())
    }

    fn some_names(&self) -> Vec<String> {
        let names = self.fs.list(&self.snapshots_folder()).unwrap_or_default();
        let names = names.iter().filter_map(|name| name.to_str().filter(|name| SnapshotName::new(name).is_ok()));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names.truncate(10);
        names
    }

    fn snapshots_folder(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    fn snapshot_folder(&self, name: &SnapshotName) -> PathBuf {
        self.snapshots_folder().join(name.as_str())
    }

    fn temporary_folder(&self, name: &SnapshotName) -> PathBuf {
        self.snapshots_folder().join(format!("{name}{TEMPORARY_SUFFIX}"))
    }

    fn sync_snapshots(&self) -> Result<(), SnapshotError> {
        let folder = self.snapshots_folder();
        self.fs.sync_dir(&folder).map_err(SnapshotError::io("sync", &folder))
    }

    fn reserve(&self, name: &SnapshotName, wanted: Use) -> Result<Reserved<'_>, SnapshotError> {
        let mut names = self.snapshots_busy.names.lock().unwrap_or_else(PoisonError::into_inner);
        let users = match (names.get(name), wanted) {
            (None, Use::Change) => Users::One,
            (None, Use::Read) => Users::Readers(1),
            (Some(Users::Readers(count)), Use::Read) => Users::Readers(count + 1),
            (Some(_), _) => return Err(SnapshotError::Busy { name: name.clone() }),
        };
        names.insert(name.clone(), users);
        Ok(Reserved { busy: &self.snapshots_busy, name: name.clone() })
    }

    fn require_free(&self, name: &SnapshotName, count: usize) -> Result<(), SnapshotError> {
        let folder = self.snapshot_folder(name);
        if self.fs.exists(&folder).map_err(SnapshotError::io("find", &folder))? {
            return Err(SnapshotError::AlreadyExists { name: name.clone() });
        }
        if count >= SNAPSHOTS_MAX { Err(SnapshotError::TooMany) } else { Ok(()) }
    }

    /// An empty folder for a snapshot that is made or received.
    fn begin(&self, name: &SnapshotName) -> Result<Unfinished<'_>, SnapshotError> {
        let folder = self.temporary_folder(name);
        let all = self.snapshots_folder();
        create_dir_durably(&*self.fs, &all).map_err(SnapshotError::io("create", &all))?;
        remove_if_there(&*self.fs, &folder)?;
        let unfinished = Unfinished { database: self, folder };
        let folder = &unfinished.folder;
        self.fs.create_dir_all(folder).map_err(SnapshotError::io("create", folder))?;
        Ok(unfinished)
    }
}

impl Listed {
    fn create_time_us(&self) -> i64 {
        self.info.as_ref().map_or(i64::MIN, |info| info.create_time_us)
    }
}

/// A snapshot that is used.
struct Reserved<'a> {
    busy: &'a Busy,
    name: SnapshotName,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut names = self.busy.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get_mut(&self.name) {
            Some(Users::Readers(count)) if *count > 1 => *count -= 1,
            _ => drop(names.remove(&self.name)),
        }
    }
}

/// A snapshot without its name, which is removed unless it is finished.
struct Unfinished<'a> {
    database: &'a Database,
    folder: PathBuf,
}

impl Unfinished<'_> {
    /// Gives it its name, durably. The files are synced and verified.
    fn finish(self, info: &SnapshotInfo) -> Result<(), SnapshotError> {
        let (database, folder) = (self.database, &self.folder);
        info::write(&*database.fs, folder, info).map_err(|error| SnapshotError::of_info(&info.name, error))?;
        let name = database.snapshot_folder(&info.name);
        database.fs.rename(folder, &name).map_err(SnapshotError::io("rename", folder))?;
        database.sync_snapshots()
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&*self.database.fs, &self.folder) {
            tracing::warn!("{error}; the next start tries again");
        }
    }
}

fn remove_if_there(fs: &dyn Fs, folder: &Path) -> Result<(), SnapshotError> {
    if fs.exists(folder).map_err(SnapshotError::io("find", folder))? {
        fs.remove_dir_all(folder).map_err(SnapshotError::io("remove", folder))?;
    }
    Ok(())
}

/// What an earlier call with the same request id has made.
fn made_by(key: &RequestKey, listed: &[Listed]) -> Option<Result<SnapshotInfo, SnapshotError>> {
    let infos = listed.iter().filter_map(|listed| listed.info.as_ref().ok());
    let made =
        infos.into_iter().find(|info| info.key.as_ref().is_some_and(|made| made.request_id == key.request_id))?;
    if made.key.as_ref() == Some(key) {
        return Some(Ok(made.clone()));
    }
    Some(Err(SnapshotError::RequestIdReused { request_id: key.request_id.clone() }))
}

/// What a snapshot says of itself has to be so.
fn compare(info: &SnapshotInfo, found: Figures) -> Result<(), SnapshotError> {
    if info.figures == found {
        return Ok(());
    }
    let told = |figures: Figures| {
        let Figures { sequence, record_count, bytes } = figures;
        format!("{record_count} records in {bytes} bytes at sequence {sequence}")
    };
    let reason = format!("its info names {}, its files have {}", told(info.figures), told(found));
    Err(SnapshotError::Damaged { name: info.name.clone(), reason })
}
