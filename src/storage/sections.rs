//! A file that is written once: numbered sections, each verified piece by piece before it is used.
//!
//! Invariants: a file of its final name is whole and synced, for it is written under a temporary name first; every byte of a
//! section, of the table and of the header is covered by a checksum; what does not verify is never handed out.
//! `docs/data_format.md` has the bytes.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use crate::storage::fs::{File, Fs};

const MAGIC: &[u8; 8] = b"VECTRSEC";
/// The format of header and table that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 4096;
const HEADER_CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// Sections begin at multiples of it, so that they can be mapped.
const ALIGNMENT: u64 = 4096;
/// A checksum covers so much of a section.
const PIECE_BYTES: usize = 1 << 20;
/// So much is synced at a time: a log on the same disk would have to wait for gigabytes otherwise.
const SYNC_BYTES: u64 = 32 << 20;
/// A table is small: more is damage, and must not be allocated.
const TABLE_BYTES_MAX: u64 = 1 << 30;

/// Added to the name of a file that is being written.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a file is for: others are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its number in the header.
    pub number: u32,
    /// For messages.
    pub name: &'static str,
    /// The format of the content that this version writes, and the newest that it reads.
    pub format: u32,
}

/// Sees the bytes of a section while they are in the cache, each after it has verified: pieces of 1 MiB in any order, on several
/// threads, each with its place in the section.
type Look<'a> = &'a (dyn Fn(usize, &[u8]) + Sync);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
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
    #[error("file {} is damaged at offset {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// A later version of this program has written it.
    #[error("file {} has format {found}, this version reads up to {supported}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
}

impl SectionError {
    fn io(action: &'static str, file: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |error| Self::Io { action, file: file.to_owned(), error }
    }
}

/// A section of a file.
#[derive(Clone, Debug)]
struct Section {
    tag: u32,
    offset: u64,
    bytes: u64,
    /// One for each piece.
    checksums: Vec<u32>,
}

/// A file that is being written, under a temporary name.
pub struct SectionWriter<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn File>,
    kind: Kind,
    id: Uuid,
    sections: Vec<Section>,
    /// Where the next piece goes.
    end: u64,
    /// What comes before was synced.
    synced: u64,
    is_finished: bool,
    /// What is not yet a whole piece.
    pending: Vec<u8>,
}

impl<'a> SectionWriter<'a> {
    /// Begins a file, over one of its temporary name that was left behind.
    pub fn create(fs: &'a dyn Fs, path: &Path, kind: Kind) -> Result<Self, SectionError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        if fs.exists(&temporary).map_err(SectionError::io("find", &temporary))? {
            fs.remove_file(&temporary).map_err(SectionError::io("remove", &temporary))?;
        }
        let file = fs.create_new(&temporary).map_err(SectionError::io("create", &temporary))?;
        let (sections, pending) = (Vec::new(), Vec::with_capacity(PIECE_BYTES));
        let (path, id, end, synced) = (path.to_owned(), Uuid::new_v4(), HEADER_BYTES as u64, 0);
        Ok(Self { fs, path, temporary, file, kind, id, sections, end, synced, is_finished: false, pending })
    }

    /// Begins a section. Tags are distinct within a file.
    pub fn begin(&mut self, tag: u32) -> Result<(), SectionError> {
        self.flush()?;
        self.end = self.end.next_multiple_of(ALIGNMENT);
        self.sections.push(Section { tag, offset: self.end, bytes: 0, checksums: Vec::new() });
        Ok(())
    }

    /// Adds bytes to the section that was begun last.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), SectionError> {
        while !bytes.is_empty() {
            if self.pending.is_empty() && bytes.len() >= PIECE_BYTES {
                let (piece, rest) = bytes.split_at(PIECE_BYTES);
                self.write_piece(piece)?;
                bytes = rest;
                continue;
            }
            let (first, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.pending.len()));
            self.pending.extend_from_slice(first);
            bytes = rest;
            if self.pending.len() == PIECE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// A whole section.
    pub fn section(&mut self, tag: u32, bytes: &[u8]) -> Result<(), SectionError> {
        self.begin(tag)?;
        self.write(bytes)
    }

    fn flush(&mut self) -> Result<(), SectionError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.write_piece(&pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn write_piece(&mut self, piece: &[u8]) -> Result<(), SectionError> {
        self.file.write_all_at(piece, self.end).map_err(SectionError::io("write", &self.temporary))?;
        let section = self.sections.last_mut().expect("a section was begun");
        section.checksums.push(crc32c::crc32c(piece));
        section.bytes += piece.len() as u64;
        self.end += piece.len() as u64;
        if self.end - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(SectionError::io("sync", &self.temporary))?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Writes table and header, syncs the file and gives it its name. The name is durable once the folder is synced. Returns the
    /// file's id.
    pub fn finish(mut self) -> Result<Uuid, SectionError> {
        self.flush()?;
        let io = |action| SectionError::io(action, &self.temporary);
        let mut table = Vec::new();
        for section in &self.sections {
            table.extend_from_slice(&section.tag.to_le_bytes());
            table.extend_from_slice(&(section.checksums.len() as u32).to_le_bytes());
            table.extend_from_slice(&section.offset.to_le_bytes());
            table.extend_from_slice(&section.bytes.to_le_bytes());
            section.checksums.iter().for_each(|checksum| table.extend_from_slice(&checksum.to_le_bytes()));
        }
        let table_offset = self.end.next_multiple_of(ALIGNMENT);
        self.file.write_all_at(&table, table_offset).map_err(io("write"))?;
        let mut header = vec![0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..16].copy_from_slice(&self.kind.number.to_le_bytes());
        header[16..32].copy_from_slice(self.id.as_bytes());
        header[32..36].copy_from_slice(&self.kind.format.to_le_bytes());
        header[36..40].copy_from_slice(&crc32c::crc32c(&table).to_le_bytes());
        header[40..48].copy_from_slice(&table_offset.to_le_bytes());
        header[48..56].copy_from_slice(&(table.len() as u64).to_le_bytes());
        let checksum = crc32c::crc32c(&header[..HEADER_CHECKSUM_AT]);
        header[HEADER_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&header, 0).map_err(io("write"))?;
        self.file.sync_data().map_err(io("sync"))?;
        self.fs.rename(&self.temporary, &self.path).map_err(io("rename"))?;
        self.is_finished = true;
        Ok(self.id)
    }
}

impl Drop for SectionWriter<'_> {
    /// What cannot be finished, on a full disk for example, must not fill it. Otherwise the next start removes it.
    fn drop(&mut self) {
        if !self.is_finished {
            let _ = self.fs.remove_file(&self.temporary);
        }
    }
}

/// A file whose header and table have verified. Sections verify when they are read.
pub struct SectionFile {
    path: PathBuf,
    file: Arc<dyn File>,
    id: Uuid,
    sections: Vec<Section>,
}

impl SectionFile {
    /// Opens a file of that kind.
    pub fn open(fs: &dyn Fs, path: &Path, kind: Kind) -> Result<Self, SectionError> {
        let io = |action| SectionError::io(action, path);
        let damaged =
            |offset, reason: String| SectionError::Damaged { file: path.to_owned(), offset: offset as u64, reason };
        let file = fs.open(path).map_err(io("open"))?;
        let file_bytes = file.len().map_err(io("read the length of"))?;
        if file_bytes < HEADER_BYTES as u64 {
            return Err(damaged(0, format!("a header has {HEADER_BYTES} bytes, the file {file_bytes}")));
        }
        let mut header = vec![0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(io("read"))?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let computed = crc32c::crc32c(&header[..HEADER_CHECKSUM_AT]);
        if header[..8] != *MAGIC || number(HEADER_CHECKSUM_AT) != computed {
            return Err(damaged(0, "the header does not verify".to_owned()));
        }
        for (found, supported) in [(number(8), FORMAT), (number(32), kind.format)] {
            if found > supported {
                return Err(SectionError::NewerFormat { file: path.to_owned(), found, supported });
            }
        }
        if number(12) != kind.number {
            return Err(damaged(
                12,
                format!("expected a {} file, of kind {}, got {}", kind.name, kind.number, number(12)),
            ));
        }
        let (table_offset, table_bytes) = (long(40), long(48));
        let table_end = table_offset.checked_add(table_bytes).filter(|&end| end <= file_bytes);
        if table_end.is_none() || table_bytes > TABLE_BYTES_MAX {
            return Err(damaged(40, format!("the table ends beyond the file, which has {file_bytes} bytes")));
        }
        let mut table = vec![0; table_bytes as usize];
        file.read_exact_at(&mut table, table_offset).map_err(io("read"))?;
        if crc32c::crc32c(&table) != number(36) {
            return Err(damaged(table_offset as usize, "the table of sections does not verify".to_owned()));
        }
        let sections = read_table(&table, file_bytes)
            .ok_or_else(|| damaged(table_offset as usize, "the table of sections contradicts itself".to_owned()))?;
        let id = Uuid::from_slice(&header[16..32]).expect("16 bytes");
        Ok(Self { path: path.to_owned(), file, id, sections })
    }

    /// The id that the file was given when it was written.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of a section; none if the file has none of that tag.
    pub fn bytes(&self, tag: u32) -> Option<u64> {
        self.section(tag).map(|section| section.bytes)
    }

    /// An error that names the file, for content that verifies and makes no sense all the same.
    pub fn nonsense(&self, tag: u32, reason: impl Into<String>) -> SectionError {
        let offset = self.section(tag).map_or(0, |section| section.offset);
        SectionError::Damaged { file: self.path.clone(), offset, reason: reason.into() }
    }

    /// A whole section.
    pub fn read(&self, tag: u32) -> Result<Vec<u8>, SectionError> {
        let bytes = self.bytes(tag).ok_or_else(|| self.nonsense(tag, format!("section {tag} is missing")))?;
        let mut content = vec![0; bytes as usize];
        self.read_into(tag, &mut content, 1, &|_, _| ())?;
        Ok(content)
    }

    /// A whole section into a place of its length, by several threads.
    pub fn read_into(&self, tag: u32, content: &mut [u8], threads: usize, look: Look<'_>) -> Result<(), SectionError> {
        let section = self.section(tag).ok_or_else(|| self.nonsense(tag, format!("section {tag} is missing")))?;
        if section.bytes != content.len() as u64 {
            let reason = format!("expected section {tag} to have {} bytes, got {}", content.len(), section.bytes);
            return Err(self.nonsense(tag, reason));
        }
        let pieces: Vec<_> = content.chunks_mut(PIECE_BYTES).map(Mutex::new).collect();
        for_each_piece(pieces.len(), threads, |number| {
            let mut piece = pieces[number].lock().expect("each piece is taken once");
            let offset = section.offset + (number * PIECE_BYTES) as u64;
            self.file.read_exact_at(&mut piece, offset).map_err(SectionError::io("read", &self.path))?;
            self.verify_piece(section, number, &piece)?;
            look(number * PIECE_BYTES, &piece);
            Ok(())
        })
    }

    /// Reads everything that has a checksum, and keeps none of it.
    pub fn verify(&self) -> Result<(), SectionError> {
        self.sections.iter().try_for_each(|section| self.read_pieces(section.tag, |_| Ok(())))
    }

    /// Hands out a section piece by piece, in order, each after it has verified, and keeps none of it.
    pub fn read_pieces(
        &self,
        tag: u32,
        mut with_piece: impl FnMut(&[u8]) -> Result<(), SectionError>,
    ) -> Result<(), SectionError> {
        let section = self.section(tag).ok_or_else(|| self.nonsense(tag, format!("section {tag} is missing")))?;
        let mut piece = vec![0; section.bytes.min(PIECE_BYTES as u64) as usize];
        let mut left = section.bytes;
        for number in 0..section.checksums.len() {
            let bytes = left.min(PIECE_BYTES as u64);
            let piece = &mut piece[..bytes as usize];
            let offset = section.offset + (number * PIECE_BYTES) as u64;
            self.file.read_exact_at(piece, offset).map_err(SectionError::io("read", &self.path))?;
            self.verify_piece(section, number, piece)?;
            with_piece(piece)?;
            left -= bytes;
        }
        Ok(())
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> Result<u64, SectionError> {
        self.file.len().map_err(SectionError::io("read the length of", &self.path))
    }

    /// Verifies a whole section that was mapped.
    pub fn verify_mapped(&self, tag: u32, content: &[u8], threads: usize, look: Look<'_>) -> Result<(), SectionError> {
        let section = self.section(tag).filter(|section| section.bytes == content.len() as u64);
        let section = section.ok_or_else(|| self.nonsense(tag, format!("section {tag} has another length")))?;
        let pieces: Vec<_> = content.chunks(PIECE_BYTES).collect();
        for_each_piece(pieces.len(), threads, |number| {
            self.verify_piece(section, number, pieces[number])?;
            look(number * PIECE_BYTES, pieces[number]);
            Ok(())
        })
    }

    /// The file, and where a section begins in it, to be mapped.
    pub fn place(&self, tag: u32) -> Option<(BorrowedFd<'_>, u64)> {
        Some((self.file.descriptor()?, self.section(tag)?.offset))
    }

    fn verify_piece(&self, section: &Section, number: usize, piece: &[u8]) -> Result<(), SectionError> {
        let offset = section.offset + (number * PIECE_BYTES) as u64;
        let (expected, got) = (section.checksums[number], crc32c::crc32c(piece));
        if expected == got {
            return Ok(());
        }
        let reason = format!("{} bytes have checksum {got:08x}, expected {expected:08x}", piece.len());
        Err(SectionError::Damaged { file: self.path.clone(), offset, reason })
    }

    fn section(&self, tag: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.tag == tag)
    }
}

/// Does something with each piece, on several threads, until it fails.
fn for_each_piece(
    pieces: usize,
    threads: usize,
    of_piece: impl Fn(usize) -> Result<(), SectionError> + Sync,
) -> Result<(), SectionError> {
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let some = || {
        while !has_failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pieces {
                break;
            }
            of_piece(number).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
        }
        Ok(())
    };
    let threads = threads.min(pieces);
    if threads <= 1 {
        return some();
    }
    std::thread::scope(|scope| {
        let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let own = some();
        spawned.into_iter().fold(own, |all, thread| all.and(thread.join().expect("reading does not panic")))
    })
}

fn read_table(mut table: &[u8], file_bytes: u64) -> Option<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut bytes_in_all = 0;
    while !table.is_empty() {
        let (head, rest) = table.split_first_chunk::<24>()?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (tag, pieces, offset, bytes) = (number(0), number(4) as usize, long(8), long(16));
        let is_within = offset.checked_add(bytes).is_some_and(|end| end <= file_bytes);
        if !is_within || bytes.div_ceil(PIECE_BYTES as u64) != pieces as u64 {
            return None;
        }
        // Each byte in one section: else a small file could ask for any amount of work.
        bytes_in_all += bytes; // of two lengths of files at most
        if bytes_in_all > file_bytes || sections.iter().any(|section| section.tag == tag) {
            return None;
        }
        let (checksums, rest) = rest.split_at_checked(4 * pieces)?;
        let checksums = checksums.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        sections.push(Section { tag, offset, bytes, checksums });
        table = rest;
    }
    Some(sections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::{RealFs, SimFs};

    const KIND: Kind = Kind { number: 7, name: "test", format: 3 };

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn write(fs: &dyn Fs, path: &Path, kind: Kind, sections: &[(u32, usize)]) -> Uuid {
        let mut writer = SectionWriter::create(fs, path, kind).unwrap();
        for &(tag, bytes) in sections {
            writer.begin(tag).unwrap();
            content(bytes).chunks(700_001).for_each(|some| writer.write(some).unwrap());
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_was_written_is_read_by_any_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let sections = [(1, 0), (2, 1), (9, PIECE_BYTES), (4, 3 * PIECE_BYTES + 5), (5, 4096)];
        let id = write(&RealFs, &path, KIND, &sections);
        let file = SectionFile::open(&RealFs, &path, KIND).unwrap();
        assert_eq!(file.id(), id);
        for (tag, bytes) in sections {
            assert_eq!(file.bytes(tag), Some(bytes as u64));
            for threads in [1, 2, 5] {
                let mut read = vec![1; bytes];
                file.read_into(tag, &mut read, threads, &|_, _| ()).unwrap();
                assert!(read == content(bytes), "{tag} {threads}");
            }
        }
        assert_eq!(file.bytes(3), None);
        assert!(file.read(3).unwrap_err().to_string().contains("section 3 is missing"));
        assert_eq!(RealFs.list(folder.path()).unwrap(), ["a"]);
    }

    #[test]
    fn a_flipped_bit_is_found_or_lies_where_nothing_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&RealFs, &path, KIND, &[(1, 5000), (2, 100)]);
        let whole = std::fs::read(&path).unwrap();
        // In place: some file systems write to the disk what is cut to nothing and written anew, tens of thousands of times here.
        let file = RealFs.open(&path).unwrap();
        let mut found = 0;
        for at in 0..whole.len() {
            file.write_all_at(&[whole[at] ^ 1 << (at % 8)], at as u64).unwrap();
            let opened = SectionFile::open(&RealFs, &path, KIND);
            let verified = opened.as_ref().is_ok_and(|file| file.verify().is_ok());
            let read = opened.and_then(|file| Ok((file.read(1)?, file.read(2)?)));
            assert_eq!(verified, read.is_ok(), "byte {at}");
            match read {
                Ok(read) => assert!(read == (content(5000), content(100)), "byte {at}"),
                Err(SectionError::Damaged { .. } | SectionError::NewerFormat { .. }) => found += 1,
                Err(error) => panic!("byte {at}: {error}"),
            }
            file.write_all_at(&whole[at..at + 1], at as u64).unwrap();
        }
        // Header, sections and table; not the zeros between them.
        assert_eq!(found, HEADER_BYTES + 5000 + 100 + 2 * (24 + 4));
        assert!(std::fs::read(&path).unwrap() == whole);
        for length in (0..whole.len()).rev() {
            file.set_len(length as u64).unwrap();
            assert!(SectionFile::open(&RealFs, &path, KIND).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn another_kind_and_a_newer_format_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&RealFs, &path, KIND, &[]);
        let error = |kind| SectionFile::open(&RealFs, &path, kind).err().unwrap().to_string();
        assert!(error(Kind { number: 8, ..KIND }).contains("expected a test file, of kind 8, got 7"));
        assert!(error(Kind { format: 2, ..KIND }).contains("has format 3, this version reads up to 2"));
    }

    #[test]
    fn a_file_of_its_name_survives_a_power_cut_whole() {
        let (fs, folder) = (SimFs::new(), Path::new("/parts"));
        fs.create_dir_all(folder).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        let path = folder.join("a");
        write(&fs, &path, KIND, &[(1, 10_000)]);
        fs.sync_dir(folder).unwrap();
        for seed in 0..50 {
            let after = fs.crash(seed);
            let file = SectionFile::open(&after, &path, KIND).unwrap();
            assert!(file.read(1).unwrap() == content(10_000), "{seed}");
        }
    }
}
