//! A NumPy array of vectors, with the ids (and texts and metadata) from another file.

use super::lines::{ByteLines, Outcome};
use super::{Line, Lines, ReadError, read_whole};
use crate::cli::import::draft::Draft;
use crate::cli::import::input::Reader;
use crate::cli::npy::{Header, Number};

/// An array of vectors, one a row.
pub struct Npy {
    reader: Reader,
    header: Header,
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

impl Npy {
    /// Reads the header.
    pub fn new(mut reader: Reader, ids: Ids) -> Result<Self, ReadError> {
        let header = read_header(&mut reader)?;
        let bytes = vec![0; header.row_bytes()];
        Ok(Self { reader, header, ids, row: 0, bytes })
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
        let (row, rows) = (self.row, self.header.rows);
        next.ok_or_else(|| ReadError::Content(format!("there are {rows} vectors, but --ids has {row} lines only")))
    }

    /// Whether the other file has ended as well.
    fn check_end(&mut self) -> Result<(), ReadError> {
        let has_more = match &mut self.ids {
            Ids::RowNumbers => false,
            Ids::Text(IdLines(lines)) => lines.read()? != Outcome::End,
            Ids::Records(lines) => lines.next_line()?.is_some(),
        };
        let rows = self.header.rows;
        match has_more {
            true => Err(ReadError::Content(format!("there are {rows} vectors, but --ids has more lines"))),
            false => Ok(()),
        }
    }
}

impl Lines for Npy {
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if self.row == self.header.rows {
            self.check_end()?;
            return Ok(None);
        }
        if !read_whole(&mut self.reader, &mut self.bytes)? {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let draft = self.next_id()?.map(|draft| Draft { vector: Some(self.header.components(&self.bytes)), ..draft });
        let line = Line { number: self.row, draft, raw: None };
        self.row += 1;
        Ok(Some(line))
    }
}

fn read_header(reader: &mut Reader) -> Result<Header, ReadError> {
    Header::read(reader, Number::FLOATS).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => ReadError::Content(error.to_string()),
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::cli::import::draft::FieldNames;
    use crate::cli::import::format::JsonLines;
    use crate::cli::import::input;

    fn file(version: u8, descr: &str, order: &str, shape: &str, numbers: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY".to_vec();
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
