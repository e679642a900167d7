//! Ids and metadata that belong to the rows of an array: one JSON object a line, as `vectron import` reads it.
//!
//! Metadata are read row after row, and twice: once to be checked before anything is written, once to be written. So the
//! memory of an engine is not hidden behind its data.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::BenchError;
use crate::api::convert::read_metadata;
use crate::cli::import::draft::FieldNames;
use crate::cli::import::format::{JsonLines, Lines};
use crate::cli::import::input;
use crate::types::{Metadata, RecordId};

/// A file that was read through and has a record for every row.
pub struct RecordFile {
    path: PathBuf,
    ids: Vec<RecordId>,
}

/// The records of a file, one after the other.
pub struct Records {
    path: PathBuf,
    lines: JsonLines,
}

/// What a line says of its row.
pub struct RecordLine {
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its metadata.
    pub metadata: Metadata,
}

impl RecordFile {
    /// Reads the file through: the first `rows` lines have to be records of their own ids. A row without id has its number.
    pub fn open(path: &Path, rows: u64) -> Result<Self, BenchError> {
        let mut records = Records::open(path)?;
        let mut ids = Vec::new();
        let mut row_of: HashMap<RecordId, u64> = HashMap::new();
        for row in 0..rows {
            let path = path.display();
            let record = records.next_record()?.ok_or_else(|| {
                format!("{path}: expected a record for each of {rows} rows of the base, but there are {row}")
            })?;
            let id = record.id.unwrap_or_else(|| row.to_string());
            let id = RecordId::new(&id).map_err(|error| format!("{path}: row {row}: {error}"))?;
            if let Some(before) = row_of.insert(id.clone(), row) {
                return Err(format!("{path}: row {row} has the id of row {before}: {:?}", id.as_str()).into());
            }
            ids.push(id);
        }
        Ok(Self { path: path.to_owned(), ids })
    }

    /// The id of a row.
    pub fn id(&self, row: u64) -> &RecordId {
        &self.ids[row as usize]
    }

    /// Reads it again.
    pub fn records(&self) -> Result<Records, BenchError> {
        Records::open(&self.path)
    }
}

impl Records {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, BenchError> {
        let input = input::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let [id, text, vector, metadata, space] = ["id", "text", "vector", "metadata", "space"].map(str::to_owned);
        let ignore = vec![text.clone(), vector.clone()];
        let names = FieldNames { id, text, vector, metadata, space, ignore };
        Ok(Self { path: path.to_owned(), lines: JsonLines::new(input.reader, names, false) })
    }

    /// The next record; `None` after the last.
    pub fn next_record(&mut self) -> Result<Option<RecordLine>, BenchError> {
        let path = self.path.display();
        let Some(line) = self.lines.next_line().map_err(|error| format!("{path}: {error}"))? else { return Ok(None) };
        let told = |message: String| format!("{path}:{}: {message}", line.number);
        let draft = line.draft.map_err(told)?;
        let metadata = read_metadata("metadata", draft.metadata).map_err(|error| told(error.message))?;
        Ok(Some(RecordLine { id: draft.id, metadata }))
    }
}

/// The metadata of all records: one for each of `queries`.
pub fn read_query_metadata(path: &Path, queries: usize) -> Result<Vec<Metadata>, BenchError> {
    let mut records = Records::open(path)?;
    let mut all = Vec::with_capacity(queries);
    while let Some(record) = records.next_record()? {
        all.push(record.metadata);
    }
    match all.len() == queries {
        true => Ok(all),
        false => {
            let (path, got) = (path.display(), all.len());
            Err(format!("{path}: expected a record for each of {queries} queries, but there are {got}").into())
        }
    }
}
