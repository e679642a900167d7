//! A file or standard input as a stream of bytes, unpacked where it is packed, with how far it has been read.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

/// Bytes that are read ahead.
const BUFFER_BYTES: usize = 256 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What formats read from.
pub type Reader = BufReader<Box<dyn Read + Send>>;

/// An open file.
pub struct Input {
    /// Its bytes, unpacked.
    pub reader: Reader,
    /// How many bytes of the file itself were read.
    pub offset: Offset,
}

/// How far a file was read, to be looked at from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Offset(Arc<AtomicU64>);

impl Offset {
    /// Bytes from the beginning of the file.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    offset: Offset,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.offset.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Opens a file; `-` is standard input.
pub fn open(path: &Path) -> io::Result<Input> {
    let offset = Offset::default();
    let source: Box<dyn Read + Send> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Box::new(file)
        }
    };
    let reader = unpacked(Counted { inner: source, offset: offset.clone() })?;
    Ok(Input { reader, offset })
}

/// gzip is told by its first bytes: names lie, and standard input has none.
fn unpacked(mut source: impl Read + Send + 'static) -> io::Result<Reader> {
    let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
    source.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
    let is_gzip = magic == GZIP_MAGIC;
    let whole = Cursor::new(magic).chain(source);
    let reader: Box<dyn Read + Send> = match is_gzip {
        // Several archives after one another are one file.
        true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, whole))),
        false => Box::new(whole),
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, reader))
}

/// A file that is in memory, for tests.
#[cfg(test)]
pub fn of_bytes(bytes: &[u8]) -> Reader {
    unpacked(Cursor::new(bytes.to_vec())).expect("memory can be read")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    fn text(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        of_bytes(bytes).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn gzip_is_told_by_its_bytes_and_may_have_several_parts() {
        assert_eq!(text(b"plain").unwrap(), "plain");
        assert_eq!(text(b"").unwrap(), "");
        assert_eq!(text(b"\x1f").unwrap_or_default(), "\x1f");
        assert_eq!(text(&[packed("one, "), packed("two")].concat()).unwrap(), "one, two");
    }

    #[test]
    fn an_archive_that_is_cut_off_is_no_end() {
        let whole = packed(&"text ".repeat(1000));
        assert!(text(&whole[..whole.len() - 9]).is_err());
    }
}
