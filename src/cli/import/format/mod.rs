//! The formats of files. Each gives one line (entry, row) after the other, in bounded memory, and goes on after a bad
//! one wherever it can tell where the next begins.

mod csv_rows;
mod index_json;
mod json_lines;
mod json_record;
mod lines;
mod npy;

use std::fmt;
use std::io;
use std::path::Path;

use super::draft::Draft;
use super::input::Reader;

pub use csv_rows::CsvRows;
pub use index_json::IndexJson;
pub use json_lines::JsonLines;
pub use npy::{Ids, Npy};

/// Bytes of one line: more than any record may have, so that a file of another kind is not read into memory whole.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub enum Format {
    /// JSON Lines: one object a line (.jsonl, .ndjson, also .gz).
    Jsonl,
    /// Comma-separated values, with a line of names first (.csv, .tsv, also .gz).
    Csv,
    /// One JSON array of objects, such as `index.json` of earlier Vectron (.json, also .gz).
    IndexJson,
    /// A NumPy array of vectors, one a row; with --ids or --row-ids (.npy).
    Npy,
}

impl Format {
    /// By the name of the file.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "csv" | "tsv" => Some(Format::Csv),
            "json" => Some(Format::IndexJson),
            "npy" => Some(Format::Npy),
            _ => None,
        }
    }

    /// What the number of a line counts.
    pub fn place(self, file: &str, number: u64) -> String {
        match self {
            Format::Jsonl | Format::Csv => format!("{file}:{number}"),
            Format::IndexJson => format!("{file}: entry {number}"),
            Format::Npy => format!("{file}: row {number}"),
        }
    }
}

/// One line of a file.
#[derive(Debug)]
pub struct Line {
    /// Where it is: line, entry from 1, or row from 0.
    pub number: u64,
    /// What it gives, or what is wrong with it.
    pub draft: Result<Draft, String>,
    /// The line as it is in the file, where it was asked for.
    pub raw: Option<Vec<u8>>,
}

/// A file that gives lines.
pub trait Lines: Send {
    /// The next line; `None` at the end. After an error nothing more can be read.
    fn next_line(&mut self) -> Result<Option<Line>, ReadError>;

    /// What stands before the lines, and is needed to read them again.
    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Why a file cannot be read any further.
#[derive(Debug)]
pub enum ReadError {
    /// The operating system, or the compression, says so.
    Io(io::Error),
    /// The file is not what it should be.
    Content(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the file ends too early: was it cut off?")
            }
            ReadError::Io(error) => error.fmt(f),
            ReadError::Content(message) => f.write_str(message),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

/// Reads exactly `bytes.len()` bytes; `false` where the file had ended before.
fn read_whole(reader: &mut Reader, bytes: &mut [u8]) -> io::Result<bool> {
    use io::Read;
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format() {
        let of = |name: &str| Format::of(Path::new(name));
        assert_eq!(of("a/b.jsonl"), Some(Format::Jsonl));
        assert_eq!(of("b.JSONL.GZ"), Some(Format::Jsonl));
        assert_eq!(of("b.csv.gz"), Some(Format::Csv));
        assert_eq!(of("index.json"), Some(Format::IndexJson));
        assert_eq!(of("x.f16.npy"), Some(Format::Npy));
        assert_eq!(of("data"), None);
        assert_eq!(of("data.gz"), None);
        assert_eq!(of("-"), None);
    }
}
