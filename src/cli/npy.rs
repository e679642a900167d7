//! The header of a NumPy array of two dimensions, which says what follows it.
//!
//! Format versions 1 to 3: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. C order,
//! little-endian numbers. The rows follow one another without a gap.

use std::io::{self, Read, Write};

use half::f16;

use crate::types::limits::DIMENSION_MAX;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Bytes of the header: NumPy's are some hundred.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The rows of a file of ours begin at a multiple of this, as NumPy's do.
const ALIGNMENT_BYTES: usize = 64;

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Rows.
    pub rows: u64,
    /// Numbers of each.
    pub columns: usize,
    /// Their type.
    pub number: Number,
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed, of 4 bytes.
    I32,
    /// Signed, of 8 bytes.
    I64,
}

impl Number {
    /// Those of vectors.
    pub const FLOATS: &[Self] = &[Self::F16, Self::F32, Self::F64];
    /// Those of row numbers.
    pub const INTEGERS: &[Self] = &[Self::I32, Self::I64];

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// NumPy's name.
    fn descr(self) -> &'static str {
        match self {
            Self::F16 => "'<f2'",
            Self::F32 => "'<f4'",
            Self::F64 => "'<f8'",
            Self::I32 => "'<i4'",
            Self::I64 => "'<i8'",
        }
    }
}

impl Header {
    /// Reads it, if the numbers are of one of the types `expected`. What is wrong with it is an error of the kind
    /// `InvalidData`.
    pub fn read(reader: &mut impl Read, expected: &[Number]) -> io::Result<Self> {
        let no_npy = || invalid("expected a NumPy array (.npy), but the file begins otherwise");
        let mut start = [0; 8];
        reader.read_exact(&mut start)?;
        if &start[..6] != MAGIC {
            return Err(no_npy());
        }
        let length = match start[6] {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length)?;
                u32::from_le_bytes(length) as usize
            }
            version => return Err(invalid(format!("expected .npy version 1, 2 or 3, but this is {version}"))),
        };
        if length > HEADER_BYTES_MAX {
            return Err(no_npy());
        }
        let mut header = vec![0; length];
        reader.read_exact(&mut header)?;
        parse(&String::from_utf8_lossy(&header), expected).map_err(invalid)
    }

    /// Writes it, version 1.
    pub fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let Self { rows, columns, number } = self;
        let descr = number.descr();
        let mut header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
        let start_bytes = MAGIC.len() + 2 + size_of::<u16>();
        let end_bytes = (start_bytes + header.len() + 1).next_multiple_of(ALIGNMENT_BYTES);
        header.push_str(&" ".repeat(end_bytes - start_bytes - header.len() - 1));
        header.push('\n');
        writer.write_all(MAGIC)?;
        writer.write_all(&[1, 0])?;
        writer.write_all(&(header.len() as u16).to_le_bytes())?;
        writer.write_all(header.as_bytes())
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.number.bytes()
    }

    /// The numbers of a row, or of several, as components of vectors.
    pub fn components(&self, bytes: &[u8]) -> Vec<f32> {
        match self.number {
            Number::F16 => bytes.as_chunks::<2>().0.iter().map(|&two| f16::from_le_bytes(two).to_f32()).collect(),
            Number::F32 => bytes.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
            Number::F64 => bytes.as_chunks::<8>().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect(),
            Number::I32 | Number::I64 => self.integers(bytes).into_iter().map(|number| number as f32).collect(),
        }
    }

    /// The same as whole numbers.
    pub fn integers(&self, bytes: &[u8]) -> Vec<i64> {
        match self.number {
            Number::I32 => bytes.as_chunks::<4>().0.iter().map(|&four| i32::from_le_bytes(four).into()).collect(),
            Number::I64 => bytes.as_chunks::<8>().0.iter().map(|&eight| i64::from_le_bytes(eight)).collect(),
            Number::F16 | Number::F32 | Number::F64 => {
                self.components(bytes).into_iter().map(|number| number as i64).collect()
            }
        }
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(header: &str, expected: &[Number]) -> Result<Header, String> {
    let value = |key: &str| {
        let (_, after) = header.split_once(&format!("'{key}':"))?;
        Some(after.trim_start())
    };
    let unclear = || format!("the header of the array is unclear: {header:?}");
    let descr = value("descr").ok_or_else(unclear)?;
    let number = *expected.iter().find(|number| descr.starts_with(number.descr())).ok_or_else(|| {
        let found = descr.split(", '").next().unwrap_or(descr);
        format!("expected numbers of type {}, but got {found}", listed(expected))
    })?;
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
            Ok(Header { rows, columns: columns as usize, number })
        }
        _ => Err(format!("expected the shape (vectors, 1 to {DIMENSION_MAX}), but got ({shape})")),
    }
}

/// For messages: `'<f2', '<f4' or '<f8'`.
fn listed(numbers: &[Number]) -> String {
    let names: Vec<&str> = numbers.iter().map(|number| number.descr()).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_begins_where_numpy_begins_it() {
        for (number, rows) in [(Number::F16, 0), (Number::F32, 7), (Number::I32, 1_000_000), (Number::I64, u64::MAX)] {
            let header = Header { rows, columns: 384, number };
            let mut bytes = Vec::new();
            header.write(&mut bytes).unwrap();
            assert_eq!(bytes.len() % ALIGNMENT_BYTES, 0);
            bytes.extend_from_slice(b"rows");
            let mut rest = bytes.as_slice();
            assert_eq!(Header::read(&mut rest, &[number]).unwrap(), header);
            assert_eq!(rest, b"rows");
        }
    }

    #[test]
    fn another_type_is_named_beside_those_expected() {
        let mut bytes = Vec::new();
        Header { rows: 1, columns: 1, number: Number::F32 }.write(&mut bytes).unwrap();
        let error = Header::read(&mut bytes.as_slice(), Number::INTEGERS).unwrap_err();
        assert_eq!(error.to_string(), "expected numbers of type '<i4' or '<i8', but got '<f4'");
        assert_eq!(Header::read(&mut &bytes[..9], Number::FLOATS).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn integers_of_both_widths_keep_their_sign() {
        let of = |number| Header { rows: 1, columns: 1, number };
        assert_eq!(of(Number::I32).integers(&(-1_i32).to_le_bytes()), [-1]);
        assert_eq!(of(Number::I64).integers(&(1_i64 << 40).to_le_bytes()), [1 << 40]);
    }
}
