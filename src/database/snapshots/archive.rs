//! Sending a snapshot: a tar archive of its files, the same bytes each time, so that a broken transfer can go on.
//!
//! The order is `info`, `manifest`, then the files in the order in which the manifest names them.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{SnapshotError, SnapshotInfo, Use, info};
use crate::collection::copied_files;
use crate::database::Database;
use crate::storage::fs::File;
use crate::types::SnapshotName;

/// The format of the archive: a header for each file, contents in whole blocks, two blocks of zeros at the end.
const BLOCK_BYTES: u64 = 512;
const END_BYTES: u64 = 2 * BLOCK_BYTES;

/// A snapshot that can be sent. Its files are open: it can be deleted meanwhile.
pub struct Archive {
    /// What it is.
    pub info: SnapshotInfo,
    files: Vec<ArchivedFile>,
}

struct ArchivedFile {
    name: String,
    file: Arc<dyn File>,
    bytes: u64,
}

impl Database {
    /// Opens a snapshot to be sent. `is_verified`: look at every checksum first.
    pub fn open_snapshot(&self, name: &SnapshotName, is_verified: bool) -> Result<Archive, SnapshotError> {
        let _reserved = self.reserve(name, Use::Read)?;
        let info = if is_verified { self.verify_snapshot(name)? } else { self.snapshot(name)? };
        let folder = self.snapshot_folder(name);
        let names = copied_files(&*self.fs, &folder).map_err(|error| SnapshotError::of_files(name, &error))?;
        let mut files = Vec::with_capacity(names.len() + 1);
        for name in [info::FILE_NAME.to_owned()].into_iter().chain(names) {
            let path = folder.join(&name);
            let file = self.fs.open(&path).map_err(SnapshotError::io("open", &path))?;
            let bytes = file.len().map_err(SnapshotError::io("read the length of", &path))?;
            files.push(ArchivedFile { name, file, bytes });
        }
        Ok(Archive { info, files })
    }
}

impl Archive {
    /// Bytes of the archive.
    pub fn bytes(&self) -> u64 {
        let file = |file: &ArchivedFile| BLOCK_BYTES + file.bytes.next_multiple_of(BLOCK_BYTES);
        self.files.iter().map(file).sum::<u64>() + END_BYTES
    }

    /// Writes the archive from a byte on.
    pub fn write(&self, offset: u64, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(From { skipped: offset, out });
        for ArchivedFile { name, file, bytes } in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_path(name)?;
            header.set_size(*bytes);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(self.info.create_time_us / 1_000_000).unwrap_or(0));
            header.set_cksum();
            archive.append(&header, Reader { file, offset: 0, left: *bytes })?;
        }
        archive.finish()
    }
}

/// A writer that leaves out the beginning.
struct From<W> {
    skipped: u64,
    out: W,
}

impl<W: Write> Write for From<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skipped.min(bytes.len() as u64);
        self.skipped -= skipped;
        self.out.write_all(&bytes[skipped as usize..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a file from its beginning to the length that it had.
struct Reader<'a> {
    file: &'a Arc<dyn File>,
    offset: u64,
    left: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.left.min(buffer.len() as u64);
        self.file.read_exact_at(&mut buffer[..bytes as usize], self.offset)?;
        self.offset += bytes;
        self.left -= bytes;
        Ok(bytes as usize)
    }
}
