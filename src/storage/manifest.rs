//! One small message in a file of its own, replaced as a whole: after an accident the old one is there, or the new one.

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::fs::Fs;
use crate::storage::sections::TEMPORARY_SUFFIX;

const MAGIC: &[u8; 8] = b"VECTRMAN";
const FORMAT: u32 = 1;
/// Magic, format, checksum, and length of the message.
const HEADER_BYTES: usize = 24;

/// The name of the file.
pub const FILE_NAME: &str = "manifest";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The operating system refuses.
    #[error("cannot {action} {}: {error}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It does not verify.
    #[error("file {} is damaged: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A later version of this program has written it.
    #[error("file {} has format {found}, this version reads up to {FORMAT}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Reads the message of a folder's manifest; none if it has none.
pub fn read(fs: &dyn Fs, folder: &Path) -> Result<Option<Vec<u8>>, ManifestError> {
    read_named(fs, folder, FILE_NAME)
}

/// Reads the message in a file; none if it is not there.
pub fn read_named(fs: &dyn Fs, folder: &Path, name: &str) -> Result<Option<Vec<u8>>, ManifestError> {
    let path = folder.join(name);
    let io = |action| {
        let file = path.clone();
        move |error| ManifestError::Io { action, file, error }
    };
    let damaged = |reason: &str| ManifestError::Damaged { file: path.clone(), reason: reason.to_owned() };
    if !fs.exists(&path).map_err(io("find"))? {
        return Ok(None);
    }
    let file = fs.open(&path).map_err(io("open"))?;
    let bytes = file.len().map_err(io("read the length of"))?;
    let mut content = vec![0; usize::try_from(bytes).map_err(|_| damaged("it is larger than memory"))?];
    file.read_exact_at(&mut content, 0).map_err(io("read"))?;
    let Some((header, message)) = content.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged("it ends within its header"));
    };
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let length = u64::from_le_bytes(header[16..24].try_into().expect("eight bytes"));
    if header[..8] != *MAGIC || number(12) != checksum(number(8), message) {
        return Err(damaged("its checksum does not verify"));
    }
    if number(8) > FORMAT {
        return Err(ManifestError::NewerFormat { file: path, found: number(8) });
    }
    if length != message.len() as u64 {
        return Err(damaged("its length is not what it says"));
    }
    content.drain(..HEADER_BYTES);
    Ok(Some(content))
}

/// Bytes of a file.
pub fn file_bytes(fs: &dyn Fs, folder: &Path, name: &str) -> Result<u64, ManifestError> {
    let path = folder.join(name);
    let bytes = fs.open(&path).and_then(|file| file.len());
    bytes.map_err(|error| ManifestError::Io { action: "read the length of", file: path, error })
}

/// Replaces the message of a folder's manifest, durably: of the old one nothing is left when this returns.
pub fn write(fs: &dyn Fs, folder: &Path, message: &[u8]) -> Result<(), ManifestError> {
    write_named(fs, folder, FILE_NAME, message)
}

/// Replaces the message in a file, durably.
pub fn write_named(fs: &dyn Fs, folder: &Path, name: &str, message: &[u8]) -> Result<(), ManifestError> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let io = |action| {
        let file = temporary.clone();
        move |error| ManifestError::Io { action, file, error }
    };
    remove_leftover_named(fs, folder, name)?;
    let file = fs.create_new(&temporary).map_err(io("create"))?;
    let mut content = Vec::with_capacity(HEADER_BYTES + message.len());
    content.extend_from_slice(MAGIC);
    content.extend_from_slice(&FORMAT.to_le_bytes());
    content.extend_from_slice(&checksum(FORMAT, message).to_le_bytes());
    content.extend_from_slice(&(message.len() as u64).to_le_bytes());
    content.extend_from_slice(message);
    file.write_all_at(&content, 0).map_err(io("write"))?;
    file.sync_data().map_err(io("sync"))?;
    fs.rename(&temporary, &path).map_err(io("rename"))?;
    fs.sync_dir(folder).map_err(io("sync the folder of"))
}

/// Removes what a crash has left of a manifest that was being written.
pub fn remove_leftover(fs: &dyn Fs, folder: &Path) -> Result<(), ManifestError> {
    remove_leftover_named(fs, folder, FILE_NAME)
}

fn remove_leftover_named(fs: &dyn Fs, folder: &Path, name: &str) -> Result<(), ManifestError> {
    let temporary = folder.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let io = |action| {
        let file = temporary.clone();
        move |error| ManifestError::Io { action, file, error }
    };
    if fs.exists(&temporary).map_err(io("find"))? {
        fs.remove_file(&temporary).map_err(io("remove"))?;
    }
    Ok(())
}

fn checksum(format: u32, message: &[u8]) -> u32 {
    let head = [&format.to_le_bytes()[..], &(message.len() as u64).to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&head), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::{RealFs, SimFs};

    #[test]
    fn after_a_power_cut_the_old_one_is_there_or_the_new_one() {
        let folder = Path::new("/c");
        for calls in 1.. {
            let fs = SimFs::new();
            fs.create_dir_all(folder).unwrap();
            fs.sync_dir(Path::new("/")).unwrap();
            assert!(read(&fs, folder).unwrap().is_none());
            write(&fs, folder, b"old").unwrap();
            fs.stop_at(fs.calls_total() + calls);
            let is_done = write(&fs, folder, b"the new one").is_ok();
            for seed in 0..20 {
                let found = read(&fs.crash(seed), folder).unwrap().unwrap();
                assert!(found == b"the new one" || !is_done && found == b"old", "{calls} {seed}");
            }
            if is_done {
                assert!(calls > 5, "every call was stopped at");
                break;
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_and_a_newer_format_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        write(&RealFs, folder.path(), b"a message").unwrap();
        let path = folder.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert!(matches!(read(&RealFs, folder.path()), Err(ManifestError::Damaged { .. })), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(read(&RealFs, folder.path()), Err(ManifestError::Damaged { .. })), "cut to {at}");
        }
        let mut newer = whole.clone();
        newer[8] = 2;
        let sum = checksum(2, b"a message");
        newer[12..16].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&path, &newer).unwrap();
        let error = read(&RealFs, folder.path()).unwrap_err().to_string();
        assert!(error.contains("has format 2, this version reads up to 1"), "{error}");
    }
}
