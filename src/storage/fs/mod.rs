//! The file system behind one trait, with only what the storage modules need.
//!
//! [`RealFs`] is the disk; [`SimFs`] is a disk for tests that keeps synced and unsynced state apart and can lose power.
//! Writing a file does not make it durable, and neither does creating, renaming or removing it: the first needs
//! [`File::sync_data`], the others [`Fs::sync_dir`] of the folder that holds the name.

mod real;
mod sim;

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use real::RealFs;
pub use sim::{Call, SimFs};

/// A tree of folders and files.
pub trait Fs: Send + Sync {
    /// Creates a file that must not exist yet, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// The names in a folder, in no particular order.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Whether a file or folder of this name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Gives a file or folder a new name in the same folder, replacing a file of that name; all or nothing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, in whatever folder of the same disk; there must be none of that name. Both names are equal
    /// from then on: the content goes with the last of them. `Unsupported` where there are no links.
    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        let _ = (file, name);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file. Who has it open can still read it.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all it holds.
    fn remove_dir_all(&self, folder: &Path) -> io::Result<()>;
    /// Creates a folder and its parents where they are missing. Their names become durable like all others.
    fn create_dir_all(&self, folder: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable: without it, a power cut can forget that a synced file exists.
    fn sync_dir(&self, folder: &Path) -> io::Result<()>;
    /// What an ordinary process may still write to the disk of a folder.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// Creates a folder whose name survives a power cut, and those of the parents it needed. The folder itself may be there
/// already without being durable, left by a creation that did not finish.
pub fn create_dir_durably(fs: &dyn Fs, folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if fs.exists(ancestor)? {
            break;
        }
        missing.push(ancestor);
    }
    fs.create_dir_all(folder)?;
    let was_there = missing.is_empty();
    missing.extend(was_there.then_some(folder));
    for created in missing.iter().rev() {
        let parent = match created.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => continue,
        };
        match fs.sync_dir(parent) {
            // Who may not read a folder has not made this one in it.
            Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Gives a file another name, or copies it, durably, where no other name can be given: to another disk, or on one that knows
/// no links.
pub fn link_or_copy(fs: &dyn Fs, file: &Path, name: &Path) -> io::Result<()> {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    match fs.link(file, name) {
        // Some file systems say that it is not permitted where they mean that they cannot.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) => {
            copy(fs, file, name)
        }
        linked => linked,
    }
}

fn copy(fs: &dyn Fs, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (fs.open(from)?, fs.create_new(to)?);
    let bytes = from.len()?;
    let mut piece = vec![0; COPY_PIECE_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let piece = &mut piece[..COPY_PIECE_BYTES.min((bytes - offset) as usize)];
        from.read_exact_at(piece, offset)?;
        to.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    to.sync_data()
}

const COPY_PIECE_BYTES: usize = 1 << 20;

/// An open file. All positions are explicit; there is no cursor to share.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, going on after short writes and interruptions. After an error any part of
    /// the bytes may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file at least `bytes` long, reserves the space, and reads the new part as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file, or extends it by zeros without reserving space.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes content and length durable. After a failure nothing is known about what was written before: the
    /// operating system may have dropped it, and a second call may report success nevertheless. Never retry.
    fn sync_data(&self) -> io::Result<()>;
    /// What the operating system knows the file by, to map it; none where there is no such thing.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Length in bytes, with what was allocated.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
