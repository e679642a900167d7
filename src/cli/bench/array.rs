//! NumPy files as a benchmark reads them: row after row, so that the memory of an engine is not hidden behind its data.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::BenchError;
use crate::cli::npy::{Header, Number};
use crate::collection::has_direction;
use crate::types::{Metric, Vector};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// An open array of which the header is read.
pub struct Array {
    path: PathBuf,
    header: Header,
    reader: BufReader<File>,
    row: u64,
    bytes: Vec<u8>,
}

impl Array {
    /// Opens a file of numbers of one of these types.
    pub fn open(path: &Path, expected: &[Number]) -> Result<Self, BenchError> {
        let file = File::open(path).map_err(|error| told(path, &error))?;
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let header = Header::read(&mut reader, expected).map_err(|error| told(path, &error))?;
        Ok(Self { path: path.to_owned(), header, reader, row: 0, bytes: vec![0; header.row_bytes()] })
    }

    /// How many rows there are, of how many numbers.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next row's bytes; `None` after the last.
    fn next_row(&mut self) -> Result<Option<u64>, BenchError> {
        if self.row == self.header.rows {
            return Ok(None);
        }
        self.reader.read_exact(&mut self.bytes).map_err(|error| told(&self.path, &error))?;
        self.row += 1;
        Ok(Some(self.row - 1))
    }

    /// The next row as numbers of 32 bits.
    pub fn next_components(&mut self) -> Result<Option<Vec<f32>>, BenchError> {
        Ok(self.next_row()?.map(|_| self.header.components(&self.bytes)))
    }

    /// The next row as a vector, with its number.
    pub fn next_vector(&mut self) -> Result<Option<(u64, Vector)>, BenchError> {
        let Some(row) = self.next_row()? else { return Ok(None) };
        match Vector::new(self.header.components(&self.bytes)) {
            Ok(vector) => Ok(Some((row, vector))),
            Err(error) => Err(format!("{}: row {row}: {error}", self.path.display()).into()),
        }
    }

    /// The next row as whole numbers.
    pub fn next_integers(&mut self) -> Result<Option<Vec<i64>>, BenchError> {
        Ok(self.next_row()?.map(|_| self.header.integers(&self.bytes)))
    }
}

/// All vectors of a file.
pub fn read_vectors(path: &Path) -> Result<Vec<Vector>, BenchError> {
    let mut array = Array::open(path, Number::FLOATS)?;
    let mut vectors = Vec::new();
    while let Some((_, vector)) = array.next_vector()? {
        vectors.push(vector);
    }
    if vectors.is_empty() {
        return Err(format!("{}: expected at least one vector, but there is none", path.display()).into());
    }
    Ok(vectors)
}

/// Refuses a vector that the metric cannot compare.
pub fn check_direction(path: &Path, row: u64, vector: &Vector, metric: Metric) -> Result<(), BenchError> {
    if metric == Metric::Cosine && !has_direction(vector) {
        let path = path.display();
        return Err(format!("{path}: row {row} is a zero vector, which has no cosine; try --metric euclidean").into());
    }
    Ok(())
}

/// What is wrong with a file, in one line.
pub fn told(path: &Path, error: &io::Error) -> BenchError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{}: the file ends too early: was it cut off?", path.display()).into(),
        _ => format!("{}: {error}", path.display()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, number: Number, rows: u64, columns: usize, numbers: &[u8]) -> PathBuf {
        let path = folder.join("array.npy");
        let mut bytes = Vec::new();
        Header { rows, columns, number }.write(&mut bytes).unwrap();
        bytes.extend_from_slice(numbers);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn rows_come_one_after_the_other_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<u8> = [1_i32, -2, 3, 4].iter().flat_map(|number| number.to_le_bytes()).collect();
        let path = file(folder.path(), Number::I32, 2, 2, &numbers);
        let mut array = Array::open(&path, Number::INTEGERS).unwrap();
        assert_eq!(array.next_integers().unwrap(), Some(vec![1, -2]));
        assert_eq!(array.next_components().unwrap(), Some(vec![3.0, 4.0]));
        assert_eq!(array.next_integers().unwrap(), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name_and_row() {
        let folder = tempfile::tempdir().unwrap();
        let told = |numbers: &[f32], rows| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let path = file(folder.path(), Number::F32, rows, 1, &bytes);
            read_vectors(&path).unwrap_err().to_string()
        };
        for (error, says) in [
            (told(&[1.0, f32::NAN], 2), "array.npy: row 1: every component of a vector is a finite number"),
            (told(&[1.0], 2), "array.npy: the file ends too early"),
            (told(&[], 0), "at least one vector"),
            (read_vectors(&folder.path().join("none.npy")).unwrap_err().to_string(), "none.npy: No such file"),
        ] {
            assert!(error.contains(says), "{error}");
        }
    }
}
