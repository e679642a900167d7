//! A NumPy array of vectors, with the ids (and texts and metadata) from another file.
//!
//! Format versions 1 to 3: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. Two dimensions, C
//! order, little-endian numbers of 16, 32 or 64 bits.

use half::f16;

use super::lines::{ByteLines, Outcome};
use super::{Line, Lines, ReadError, read_whole};
use crate::cli::import::draft::Draft;
use crate::cli::import::input::Reader;
use crate::types::limits::DIMENSION_MAX;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes of the header: NumPy's are some hundred.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// An array of vectors, one a row.
pub struct Npy {
    reader: Reader,
    shape: Shape,
    ids: Ids,
    row: u64,
    bytes: Vec<u8>,
}

/// Where the ids come from.
pub enum Ids {
    /// The numbers of the rows, from 0.
    RowNumbers,
    /// A text file with one id a line.
    Text(IdLines),
    /// Another file of records, which have no vectors of their own.
    Records(Box<dyn Lines>),
}

impl Ids {
    /// A text file with one id a line.
    pub fn text(reader: Reader) -> Self {
        Ids::Text(IdLines(ByteLines::new(reader)))
    }
}

/// A text file with one id a line.
pub struct IdLines(ByteLines);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    rows: u64,
    columns: usize,
    number: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    F16,
    F32,
    F64,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Number::F16 => 2,
            Number::F32 => 4,
            Number::F64 => 8,
        }
    }
}

impl Npy {
    /// Reads the header.
    pub fn new(mut reader: Reader, ids: Ids) -> Result<Self, ReadError> {
        let shape = read_header(&mut reader)?;
        let bytes = vec![0; shape.columns * shape.number.bytes()];
        Ok(Self { reader, shape, ids, row: 0, bytes })
    }

    fn components(&self) -> Vec<f32> {
        match self.shape.number {
            Number::F16 => self.bytes.as_chunks::<2>().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect(),
            Number::F32 => self.bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
            Number::F64 => {
                self.bytes.as_chunks::<8>().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect()
            }
        }
    }

    /// What the other file has for this row; an error of the outer kind is one of the files, not of the row.
    fn next_id(&mut self) -> Result<Result<Draft, String>, ReadError> {
        let of_id = |id: String| Draft { id: Some(id), ..Draft::default() };
        let next = match &mut self.ids {
            Ids::RowNumbers => Some(Ok(of_id(self.row.to_string()))),
            Ids::Text(IdLines(lines)) => match lines.read()? {
                Outcome::End => None,
                Outcome::TooLong => Some(Err(ByteLines::too_long())),
                Outcome::Line => match std::str::from_utf8(&lines.line) {
                    Ok(id) => Some(Ok(of_id(id.to_owned()))),
                    Err(error) => Some(Err(format!("the id is no UTF-8: {error}"))),
                },
            },
            Ids::Records(lines) => lines.next_line()?.map(|line| match line.draft {
                Ok(draft) if draft.vector.is_some() => {
                    Err("the line of --ids has a vector of its own: leave it out with --ignore".to_owned())
                }
                draft => draft,
            }),
        };
        let (row, rows) = (self.row, self.shape.rows);
        next.ok_or_else(|| ReadError::Content(format!("there are {rows} vectors, but --ids has {row} lines only")))
    }

    /// Whether the other file has ended as well.
    fn check_end(&mut self) -> Result<(), ReadError> {
        let has_more = match &mut self.ids {
            Ids::RowNumbers => false,
            Ids::Text(IdLines(lines)) => lines.read()? != Outcome::End,
            Ids::Records(lines) => lines.next_line()?.is_some(),
        };
        let rows = self.shape.rows;
        match has_more {
            true => Err(ReadError::Content(format!("there are {rows} vectors, but --ids has more lines"))),
            false => Ok(()),
        }
    }
}

impl Lines for Npy {
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if self.row == self.shape.rows {
            self.check_end()?;
            return Ok(None);
        }
        if !read_whole(&mut self.reader, &mut self.bytes)? {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let draft = self.next_id()?.map(|draft| Draft { vector: Some(self.components()), ..draft });
        let line = Line { number: self.row, draft, raw: None };
        self.row += 1;
        Ok(Some(line))
    }
}

fn read_header(reader: &mut Reader) -> Result<Shape, ReadError> {
    let no_npy = || ReadError::Content("expected a NumPy array (.npy), but the file begins otherwise".to_owned());
    let mut start = [0; 8];
    if !read_whole(reader, &mut start)? || &start[..6] != MAGIC {
        return Err(no_npy());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            read_whole(reader, &mut length)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            read_whole(reader, &mut length)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(ReadError::Content(format!("expected .npy version 1, 2 or 3, but this is {version}"))),
    };
    if length > HEADER_BYTES_MAX {
        return Err(no_npy());
    }
    let mut header = vec![0; length];
    read_whole(reader, &mut header)?;
    read_shape(&String::from_utf8_lossy(&header)).map_err(ReadError::Content)
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn read_shape(header: &str) -> Result<Shape, String> {
    let value = |key: &str| {
        let (_, after) = header.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    let unclear = || format!("the header of the array is unclear: {header:?}");
    let number = match value("descr").ok_or_else(unclear)? {
        descr if descr.starts_with("'<f2'") => Number::F16,
        descr if descr.starts_with("'<f4'") => Number::F32,
        descr if descr.starts_with("'<f8'") => Number::F64,
        descr => {
            let found = descr.split(", '").next().unwrap_or(descr);
            return Err(format!("expected numbers of type '<f2', '<f4' or '<f8', but got {found}"));
        }
    };
    if !value("fortran_order").ok_or_else(unclear)?.starts_with("False") {
        return Err(
            "expected an array in C order, but this is in Fortran order: save numpy.ascontiguousarray(…)".to_owned()
        );
    }
    let shape = value("shape").and_then(|shape| shape.strip_prefix('(')?.split_once(')')).ok_or_else(unclear)?.0;
    let lengths: Option<Vec<u64>> =
        shape.split(',').map(str::trim).filter(|length| !length.is_empty()).map(|length| length.parse().ok()).collect();
    match lengths.as_deref() {
        Some(&[rows, columns]) if (1..=DIMENSION_MAX as u64).contains(&columns) => {
            Ok(Shape { rows, columns: columns as usize, number })
        }
        _ => Err(format!("expected the shape (vectors, 1 to {DIMENSION_MAX}), but got ({shape})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::draft::FieldNames;
    use crate::cli::import::format::JsonLines;
    use crate::cli::import::input;

    fn file(version: u8, descr: &str, order: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[version, 0]);
        match version {
            1 => bytes.extend_from_slice(&(header.len() as u16).to_le_bytes()),
            _ => bytes.extend_from_slice(&(header.len() as u32).to_le_bytes()),
        }
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(numbers);
        bytes
    }

    fn lines(bytes: &[u8], ids: Ids) -> Result<Vec<Result<Draft, String>>, String> {
        let mut npy = Npy::new(input::of_bytes(bytes), ids).map_err(|error| error.to_string())?;
        let mut lines = Vec::new();
        while let Some(line) = npy.next_line().map_err(|error| error.to_string())? {
            assert_eq!(line.number, lines.len() as u64);
            lines.push(line.draft);
        }
        Ok(lines)
    }

    fn draft(id: &str, vector: &[f32]) -> Draft {
        Draft { id: Some(id.to_owned()), vector: Some(vector.to_vec()), ..Draft::default() }
    }

    #[test]
    fn numbers_of_every_width_and_version_are_read() {
        let f16: Vec<u8> = [1.0, -2.0, 0.5, 65504.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let f32: Vec<u8> = [1.0_f32, -2.0, 0.5, 65504.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let f64: Vec<u8> = [1.0_f64, -2.0, 0.5, 65504.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        for (version, descr, numbers) in [(1, "<f2", f16), (2, "<f4", f32), (3, "<f8", f64)] {
            let read = lines(&file(version, descr, "False", "(2, 2)", &numbers), Ids::RowNumbers).unwrap();
            assert_eq!(read, [Ok(draft("0", &[1.0, -2.0])), Ok(draft("1", &[0.5, 65504.0]))], "{descr}");
        }
    }

    #[test]
    fn ids_come_from_a_text_or_from_records() {
        let bytes = file(1, "<f4", "False", "(2, 1)", &[0; 8]);
        let read = lines(&bytes, Ids::text(input::of_bytes(b"a\nb b\n"))).unwrap();
        assert_eq!(read, [Ok(draft("a", &[0.0])), Ok(draft("b b", &[0.0]))]);
        let json = b"{\"id\": \"a\", \"text\": \"t\"}\n{\"id\": \"b\", \"vector\": [1]}\n";
        let records = JsonLines::new(input::of_bytes(json), FieldNames::default(), false);
        let read = lines(&bytes, Ids::Records(Box::new(records))).unwrap();
        assert_eq!(read[0], Ok(Draft { text: Some("t".to_owned()), ..draft("a", &[0.0]) }));
        assert!(read[1].as_ref().unwrap_err().contains("a vector of its own"));
    }

    #[test]
    fn ids_must_be_as_many_as_vectors() {
        let bytes = file(1, "<f4", "False", "(2, 1)", &[0; 8]);
        let error = lines(&bytes, Ids::text(input::of_bytes(b"a\n"))).unwrap_err();
        assert_eq!(error, "there are 2 vectors, but --ids has 1 lines only");
        let error = lines(&bytes, Ids::text(input::of_bytes(b"a\nb\nc\n"))).unwrap_err();
        assert_eq!(error, "there are 2 vectors, but --ids has more lines");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (bytes, expected) in [
            (b"PK\x03\x04....".to_vec(), "begins otherwise"),
            (b"\x93NUM".to_vec(), "cut off"),
            (file(1, "<f4", "False", "(2, 2)", &[0; 15]), "cut off"),
            (file(9, "<f4", "False", "(2, 2)", &[]), "version 1, 2 or 3, but this is 9"),
            (file(1, ">f4", "False", "(2, 2)", &[]), "but got '>f4'"),
            (file(1, "<i8", "False", "(2, 2)", &[]), "but got '<i8'"),
            (file(1, "<f4", "True", "(2, 2)", &[]), "Fortran order"),
            (file(1, "<f4", "False", "(4,)", &[]), "but got (4,)"),
            (file(1, "<f4", "False", "(2, 70000)", &[]), "(vectors, 1 to 65536)"),
        ] {
            let error = lines(&bytes, Ids::RowNumbers).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
