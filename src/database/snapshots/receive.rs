//! Taking in the archive of a snapshot, from whomever it comes.
//!
//! Only regular files with the names that are expected next are taken: `info`, `manifest`, then those that the manifest names, each
//! once. So no name of the archive ever becomes a path. What breaks off, is more than was declared, or does not verify leaves nothing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{SnapshotError, SnapshotInfo, Use, compare, info};
use crate::collection::{copied_files, create_copy_folder, sync_copy, verify_copy};
use crate::database::Database;
use crate::storage::fs::Fs;
use crate::storage::manifest;
use crate::types::SnapshotName;
use crate::types::limits::ARCHIVE_BYTES_MAX;

/// A manifest holds sets of rows, marks of streams and names of files: more is none.
const MANIFEST_BYTES_MAX: u64 = 128 << 20;
/// Read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

impl Database {
    /// Takes in an archive of so many bytes, under a name of its own.
    pub fn receive_snapshot(
        &self,
        name: &SnapshotName,
        archive: impl Read,
        archive_bytes: u64,
    ) -> Result<SnapshotInfo, SnapshotError> {
        if archive_bytes > ARCHIVE_BYTES_MAX {
            let reason = format!("expected at most {ARCHIVE_BYTES_MAX} bytes, but {archive_bytes} are declared");
            return Err(SnapshotError::Archive { reason });
        }
        self.admit(archive_bytes)?;
        let _reserved = self.reserve(name, Use::Change)?;
        self.require_free(name, self.snapshots()?.len())?;
        let unfinished = self.begin(name)?;
        let info = unpack(&*self.fs, name, &unfinished.folder, Declared::new(archive, archive_bytes))?;
        // Here it has another name, and was made by no request.
        let info = SnapshotInfo { name: name.clone(), key: None, ..info };
        unfinished.finish(&info)?;
        Ok(info)
    }
}

fn unpack<R: Read>(
    fs: &dyn Fs,
    name: &SnapshotName,
    folder: &Path,
    mut archive: Declared<R>,
) -> Result<SnapshotInfo, SnapshotError> {
    let mut tar = tar::Archive::new(&mut archive);
    // Raw: names and sizes that extensions would change are refused, not followed.
    let mut entries = tar.entries().map_err(of_reading)?.raw(true);
    let mut next = || entries.next().transpose().map_err(of_reading);

    let mut entry = next()?.ok_or_else(|| refused("it is empty"))?;
    require(&entry, info::FILE_NAME, info::BYTES_MAX)?;
    write(fs, folder, info::FILE_NAME, &mut entry)?;
    let info = info::read(fs, folder).map_err(|error| SnapshotError::of_info(name, error))?;
    let info = info.ok_or_else(|| refused("it has no info"))?;

    let mut left = info.figures.bytes;
    let mut entry = next()?.ok_or_else(|| refused("it ends after its info"))?;
    require(&entry, manifest::FILE_NAME, left.min(MANIFEST_BYTES_MAX))?;
    left -= write(fs, folder, manifest::FILE_NAME, &mut entry)?;

    let of_files = |error| SnapshotError::of_files(name, &error);
    create_copy_folder(fs, folder).map_err(of_files)?;
    let names = copied_files(fs, folder).map_err(of_files)?;
    let mut expected: BTreeSet<String> = names.into_iter().filter(|name| name != manifest::FILE_NAME).collect();
    while let Some(mut entry) = next()? {
        let path = entry.path_bytes();
        let wanted = std::str::from_utf8(&path).ok().and_then(|path| expected.take(path));
        let Some(wanted) = wanted else {
            let got = told(&path);
            return Err(refused(format!("it has {got}, which its manifest does not name, or which came before")));
        };
        drop(path);
        require(&entry, &wanted, left)?;
        left -= write(fs, folder, &wanted, &mut entry)?;
    }
    if let Some(missing) = expected.first() {
        return Err(refused(format!("{missing} is missing, and {} more", expected.len() - 1)));
    }
    archive.drain().map_err(of_reading)?;
    sync_copy(fs, folder).map_err(of_files)?;
    compare(&info, verify_copy(fs, folder).map_err(of_files)?)?;
    Ok(info)
}

/// A file of that name and no more than so many bytes.
fn require<R: Read>(entry: &tar::Entry<'_, R>, name: &str, bytes_max: u64) -> Result<(), SnapshotError> {
    let path = entry.path_bytes();
    if path.as_ref() != name.as_bytes() {
        return Err(refused(format!("expected {name}, got {}", told(&path))));
    }
    if !entry.header().entry_type().is_file() {
        let got = char::from(entry.header().entry_type().as_byte());
        return Err(refused(format!("expected {name} to be a file, got an entry of type {got:?}")));
    }
    let bytes = entry.header().entry_size().map_err(of_reading)?;
    if bytes > bytes_max {
        return Err(refused(format!(
            "{name} has {bytes} bytes, which is more than the {bytes_max} that are left for it"
        )));
    }
    Ok(())
}

/// Writes a file, synced, and returns its bytes. The name is one of ours.
fn write<R: Read>(fs: &dyn Fs, folder: &Path, name: &str, entry: &mut tar::Entry<'_, R>) -> Result<u64, SnapshotError> {
    let path = folder.join(name);
    let bytes = entry.header().entry_size().map_err(of_reading)?;
    let file = fs.create_new(&path).map_err(SnapshotError::io("create", &path))?;
    let mut piece = vec![0; PIECE_BYTES.min(bytes as usize)];
    let mut offset = 0;
    while offset < bytes {
        let piece = &mut piece[..PIECE_BYTES.min((bytes - offset) as usize)];
        let within = |error: io::Error| io::Error::new(error.kind(), format!("{error}, within {name}"));
        entry.read_exact(piece).map_err(within).map_err(of_reading)?;
        file.write_all_at(piece, offset).map_err(SnapshotError::io("write", &path))?;
        offset += piece.len() as u64;
    }
    file.sync_data().map_err(SnapshotError::io("sync", &path))?;
    Ok(bytes)
}

/// A name from elsewhere, for a message.
fn told(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).chars().take(128).collect();
    format!("{text:?}")
}

fn refused(reason: impl Into<String>) -> SnapshotError {
    SnapshotError::Archive { reason: reason.into() }
}

fn of_reading(error: io::Error) -> SnapshotError {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::UnexpectedEof => SnapshotError::BrokenOff { reason },
        _ => SnapshotError::Archive { reason },
    }
}

/// A reader that has to yield as many bytes as were declared, no fewer and no more.
struct Declared<R> {
    reader: R,
    bytes: u64,
    left: u64,
}

impl<R: Read> Declared<R> {
    fn new(reader: R, bytes: u64) -> Self {
        Self { reader, bytes, left: bytes }
    }

    /// What follows the last file, to its end.
    fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(|_| ())
    }
}

impl<R: Read> Read for Declared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.reader.read(buffer)? as u64;
        let declared = self.bytes;
        if bytes > self.left {
            let message = format!("there are more than the {declared} bytes that were declared");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        self.left -= bytes;
        if bytes == 0 && self.left > 0 {
            let message = format!("{} bytes came, {declared} were declared", declared - self.left);
            return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes as usize)
    }
}
