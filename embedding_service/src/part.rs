//! A file that is written beside its place, and put there whole.
//!
//! Readers of its name see the old file or the new one, never a part of either; after a crash too, for the content is synced
//! before the name is given, and the folder after it.
//! While it is written it is named `<name>.<something new>.part`: two processes of one id, as containers have them, do not
//! write into one file. Whoever writes it holds a lock on it, which ends with its process: a part that can be locked belongs to
//! nobody, and is removed by the next one who writes to that name.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Ends the names of files that are being written.
const ENDING: &str = ".part";

/// A file that is not in its place yet. Removed where it is not put there.
#[derive(Debug)]
pub(crate) struct Part {
    file: NamedTempFile,
    place: PathBuf,
}

impl Part {
    /// A new one for `place`, whose folder is there, with the permissions `mode` as far as the process's mask lets it. Removes
    /// what processes that have ended were writing to that place.
    pub(crate) fn of(place: &Path, mode: u32) -> io::Result<Self> {
        let (folder, name) = (folder_of(place), name_of(place)?);
        remove_parts_of_nobody(folder, &name);
        let prefix = format!("{name}.");
        let permissions = fs::Permissions::from_mode(mode);
        let file =
            tempfile::Builder::new().prefix(&prefix).suffix(ENDING).permissions(permissions).tempfile_in(folder)?;
        // A sign for others only: where there are no locks, it does without.
        let _ = file.as_file().try_lock();
        Ok(Self { file, place: place.to_owned() })
    }

    /// To be written to.
    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Where it is until then.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Puts it there. Locked until it has its name.
    pub(crate) fn put_into_place(self) -> io::Result<()> {
        self.file().sync_all()?;
        let folder = File::open(folder_of(&self.place))?;
        let _locked = self.file.persist(&self.place).map_err(|error| error.error)?;
        // Directory sync: without it a crash can forget the new name, or bring the old file back.
        folder.sync_all()
    }
}

/// The folder that has it, or will have it.
pub(crate) fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name_of(place: &Path) -> io::Result<String> {
    let name =
        place.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "expected a file's name"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Removes what processes that have ended were writing to `name` in `folder`. What cannot be looked at stays.
pub(crate) fn remove_parts_of_nobody(folder: &Path, name: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let found = found.to_string_lossy();
        let middle = found.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(ENDING));
        if !middle.is_some_and(|middle| !middle.is_empty() && !middle.contains('.')) {
            continue;
        }
        // Locked until it is gone, so that nobody begins to write to it meanwhile.
        let Ok(part) = File::open(entry.path()) else { continue };
        if part.try_lock().is_ok() && fs::remove_file(entry.path()).is_ok() {
            tracing::info!("removed {}, which nobody writes any more", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn place_has_the_whole_file_or_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        fs::write(&place, "old").unwrap();
        let part = Part::of(&place, 0o600).unwrap();
        part.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        part.put_into_place().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
        drop(Part::of(&place, 0o600).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "what is not put into place is gone");
    }

    #[test]
    fn parts_are_removed_once_nobody_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let writing = Part::of(&path("model.safetensors"), 0o666).unwrap();
        let live = writing.path().to_owned();
        assert_eq!(writing.file().metadata().unwrap().permissions().mode() & 0o444, 0o444, "others can read it");
        let others = ["model.safetensors.2.part", "model.safetensors", "config.json.2.part", "mine.part"].map(path);
        for other in &others {
            fs::write(other, "x").unwrap();
        }
        // Another process's: it has another name, whatever the processes' ids are.
        let second = Part::of(&path("model.safetensors"), 0o666).unwrap();
        assert_ne!(second.path(), live);
        assert_eq!(others.map(|other| other.exists()), [false, true, true, true]);
        assert!(live.exists());
        // As when its process ends: the file stays, and its lock does not.
        drop(writing.file.keep().unwrap());
        assert!(live.exists());
        remove_parts_of_nobody(folder.path(), "model.safetensors");
        assert!(!live.exists() && second.path().exists());
    }
}
