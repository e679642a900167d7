//! CSV: a row of names, then one record a row.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use serde_json::{Map, Value};

use super::{LINE_BYTES_MAX, Line, Lines, ReadError};
use crate::api::convert::from_json;
use crate::cli::import::draft::{Draft, FieldNames, Role};
use crate::cli::import::input::Reader;

/// A file of CSV. Empty cells are as good as none.
pub struct CsvRows {
    rows: csv::Reader<Fuse>,
    left: Arc<AtomicUsize>,
    delimiter: u8,
    header: ByteRecord,
    columns: Vec<(String, Role)>,
    keeps_raw: bool,
    row: ByteRecord,
}

/// Ends a row that has no end: one quote that is not closed makes the rest of the file one cell.
struct Fuse {
    inner: Reader,
    /// Bytes that the row may still have; set anew before each.
    left: Arc<AtomicUsize>,
}

impl Read for Fuse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.load(Ordering::Relaxed).checked_sub(count) else {
            let message = format!("a row has more than {LINE_BYTES_MAX} bytes: is a quote not closed?");
            return Err(io::Error::other(message));
        };
        self.left.store(left, Ordering::Relaxed);
        Ok(count)
    }
}

impl CsvRows {
    /// Reads the names. `keeps_raw`: rows are handed on, too.
    pub fn new(reader: Reader, names: &FieldNames, delimiter: u8, keeps_raw: bool) -> Result<Self, ReadError> {
        let left = Arc::new(AtomicUsize::new(LINE_BYTES_MAX));
        let mut rows = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(Fuse { inner: reader, left: left.clone() });
        let header = rows.byte_headers().map_err(to_read_error)?.clone();
        let columns = read_columns(&header, names)?;
        Ok(Self { rows, left, delimiter, header, columns, keeps_raw, row: ByteRecord::new() })
    }

    fn read_row(&self) -> Result<Draft, String> {
        if self.row.len() != self.columns.len() {
            return Err(format!("expected {} cells, but got {}", self.columns.len(), self.row.len()));
        }
        let mut draft = Draft::default();
        let mut extra = Map::new();
        for ((name, role), cell) in self.columns.iter().zip(&self.row) {
            if cell.is_empty() || *role == Role::Ignored {
                continue;
            }
            let cell = std::str::from_utf8(cell).map_err(|error| format!("column {name:?} is no UTF-8: {error}"))?;
            match role {
                Role::Id => draft.id = Some(cell.to_owned()),
                Role::Text => draft.text = Some(cell.to_owned()),
                Role::Space => draft.space = Some(cell.to_owned()),
                Role::Vector => {
                    draft.vector = Some(read_vector(cell).map_err(|error| format!("column {name:?}: {error}"))?);
                }
                Role::Metadata => {
                    let object = serde_json::from_str(cell)
                        .map_err(|error| format!("column {name:?}: expected a JSON object, but {error}"))?;
                    draft.metadata = from_json(object).map_err(|error| error.message)?;
                }
                Role::Extra => {
                    extra.insert(name.clone(), read_value(cell));
                }
                Role::Ignored => {}
            }
        }
        for (name, value) in from_json(extra).map_err(|error| error.message)? {
            draft.add_metadata(name, value)?;
        }
        Ok(draft)
    }

    /// The row with the quotes that it needs; not always those that it had.
    fn written(&self, row: &ByteRecord) -> Vec<u8> {
        let mut writer = WriterBuilder::new().delimiter(self.delimiter).flexible(true).from_writer(Vec::new());
        let whole = "memory takes what is written";
        writer.write_byte_record(row).expect(whole);
        let mut bytes = writer.into_inner().map_err(|error| error.into_error()).expect(whole);
        bytes.pop();
        bytes
    }
}

impl Lines for CsvRows {
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        self.left.store(LINE_BYTES_MAX, Ordering::Relaxed);
        if !self.rows.read_byte_record(&mut self.row).map_err(to_read_error)? {
            return Ok(None);
        }
        let number = self.row.position().map_or(0, csv::Position::line);
        let raw = self.keeps_raw.then(|| self.written(&self.row));
        Ok(Some(Line { number, draft: self.read_row(), raw }))
    }

    fn header(&self) -> Option<Vec<u8>> {
        Some(self.written(&self.header))
    }
}

fn read_columns(header: &ByteRecord, names: &FieldNames) -> Result<Vec<(String, Role)>, ReadError> {
    let mut columns: Vec<(String, Role)> = Vec::with_capacity(header.len());
    for name in header {
        let name = String::from_utf8(name.to_vec())
            .map_err(|_| ReadError::Content("the names of the columns are no UTF-8".to_owned()))?;
        let role = names.role(&name);
        if role != Role::Ignored && columns.iter().any(|(other, _)| *other == name) {
            return Err(ReadError::Content(format!("two columns are named {name:?}; leave them out with --ignore")));
        }
        columns.push((name, role));
    }
    let has = |wanted: Role| columns.iter().any(|(_, role)| *role == wanted);
    let existing = || columns.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if !has(Role::Id) {
        let message =
            format!("expected a column {:?}, but there are {}; name it with --id-field", names.id, existing());
        return Err(ReadError::Content(message));
    }
    if !has(Role::Text) && !has(Role::Vector) {
        let message = format!(
            "expected a column {:?} or {:?}, but there are {}; name it with --text-field or --vector-field",
            names.text,
            names.vector,
            existing()
        );
        return Err(ReadError::Content(message));
    }
    Ok(columns)
}

fn to_read_error(error: csv::Error) -> ReadError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => ReadError::Io(error),
        other => ReadError::Content(format!("{other:?}")),
    }
}

/// A JSON array, or numbers separated by spaces or semicolons.
fn read_vector(cell: &str) -> Result<Vec<f32>, String> {
    let cell = cell.trim();
    if cell.starts_with('[') {
        return serde_json::from_str(cell).map_err(|error| format!("expected numbers, but {error}"));
    }
    let numbers = cell.split([' ', ';', '\t', '\n']).filter(|number| !number.is_empty());
    numbers.map(|number| number.parse().map_err(|_| format!("expected numbers, but got {number:?}"))).collect()
}

/// A number or a truth value where it is written as we would write it, so that no text is changed: 01234 and 1.50 stay
/// texts.
fn read_value(cell: &str) -> Value {
    let value: Value = serde_json::from_str(cell).unwrap_or_default();
    let printed = value.to_string();
    let is_scalar = value.is_number() || value.is_boolean();
    let fits = value.as_u64().is_none_or(|whole| i64::try_from(whole).is_ok());
    if is_scalar && fits && printed == cell {
        return value;
    }
    Value::String(cell.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::convert::to_json;
    use crate::cli::import::input;

    fn rows(csv: &str) -> CsvRows {
        CsvRows::new(input::of_bytes(csv.as_bytes()), &FieldNames::default(), b',', true)
            .map_err(|e| e.to_string())
            .unwrap()
    }

    fn next(rows: &mut CsvRows) -> Line {
        rows.next_line().map_err(|error| error.to_string()).unwrap().unwrap()
    }

    #[test]
    fn cells_become_numbers_only_where_no_text_is_lost() {
        let csv = "id,text,a,b,c,d,e,f,g\n1,\"x, \"\"y\"\"\n2\",01234,1.50,-7,0.5,true,9223372036854775807,18446744073709551615\n";
        let draft = next(&mut rows(csv)).draft.unwrap();
        assert_eq!(draft.text.as_deref(), Some("x, \"y\"\n2"));
        let metadata = serde_json::to_string(&to_json(draft.metadata)).unwrap();
        let expected =
            r#"{"a":"01234","b":"1.50","c":-7,"d":0.5,"e":true,"f":9223372036854775807,"g":"18446744073709551615"}"#;
        assert_eq!(metadata, expected);
    }

    #[test]
    fn a_vector_is_json_or_a_list() {
        for cell in ["\"[1, 2.5]\"", "1 2.5", "1;2.5", " 1  2.5 "] {
            let draft = next(&mut rows(&format!("id,vector\na,{cell}\n"))).draft.unwrap();
            assert_eq!(draft.vector, Some(vec![1.0, 2.5]), "{cell}");
        }
        let error = next(&mut rows("id,vector\na,1 x\n")).draft.unwrap_err();
        assert_eq!(error, "column \"vector\": expected numbers, but got \"x\"");
    }

    #[test]
    fn a_row_of_another_length_is_bad_and_keeps_its_line() {
        let mut rows = rows("id,text,metadata\n1,\"two\nlines\",\n2,x\n3,y,\"{\"\"n\"\": 1}\"\n");
        assert_eq!(next(&mut rows).number, 2);
        let bad = next(&mut rows);
        assert_eq!((bad.number, bad.draft.unwrap_err()), (4, "expected 3 cells, but got 2".to_owned()));
        assert_eq!(bad.raw.unwrap(), b"2,x");
        let last = next(&mut rows);
        assert_eq!((last.number, last.draft.unwrap().metadata.len()), (5, 1));
        assert_eq!(last.raw.unwrap(), b"3,y,\"{\"\"n\"\": 1}\"");
        assert!(matches!(rows.next_line(), Ok(None)));
        assert_eq!(rows.header().unwrap(), b"id,text,metadata");
    }

    #[test]
    fn columns_that_are_missing_are_named() {
        for (csv, expected) in [
            ("key,text\n", "expected a column \"id\", but there are \"key\", \"text\"; name it with --id-field"),
            ("id,body\n", "expected a column \"text\" or \"vector\", but there are \"id\", \"body\""),
            ("id,text,text\n", "two columns are named \"text\""),
        ] {
            let made = CsvRows::new(input::of_bytes(csv.as_bytes()), &FieldNames::default(), b',', false);
            let error = made.err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
