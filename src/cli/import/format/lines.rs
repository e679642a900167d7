//! Lines of bytes, of a bounded length.

use std::io::{self, BufRead};

use super::LINE_BYTES_MAX;
use crate::cli::import::input::Reader;

/// A line that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in `ByteLines::line`, without its end.
    Line,
    /// It was longer than the limit, and was passed over; `line` has its beginning.
    TooLong,
    /// The file has ended.
    End,
}

/// Splits a file into lines.
pub struct ByteLines {
    reader: Reader,
    /// The last line that was read.
    pub line: Vec<u8>,
    /// Its number, from 1.
    pub number: u64,
}

impl ByteLines {
    pub fn new(reader: Reader) -> Self {
        Self { reader, line: Vec::new(), number: 0 }
    }

    /// Reads the next line.
    pub fn read(&mut self) -> io::Result<Outcome> {
        self.line.clear();
        let mut is_too_long = false;
        let mut has_begun = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                if !has_begun {
                    return Ok(Outcome::End);
                }
                break;
            }
            has_begun = true;
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            if self.line.len() + part.len() <= LINE_BYTES_MAX {
                self.line.extend_from_slice(part);
            } else {
                is_too_long = true;
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        // Written at the beginning of files by some editors.
        if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
            self.line.drain(..3);
        }
        Ok(if is_too_long { Outcome::TooLong } else { Outcome::Line })
    }

    /// The message for a line that was passed over.
    pub fn too_long() -> String {
        format!("expected a line of at most {LINE_BYTES_MAX} bytes, but it has more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::input;

    #[test]
    fn lines_end_as_unix_and_windows_end_them_or_with_the_file() {
        let mut lines = ByteLines::new(input::of_bytes(b"\xef\xbb\xbfa\r\n\nb\nlast"));
        let mut read = Vec::new();
        while lines.read().unwrap() == Outcome::Line {
            read.push((lines.number, String::from_utf8(lines.line.clone()).unwrap()));
        }
        let expected = [(1, "a"), (2, ""), (3, "b"), (4, "last")];
        assert_eq!(read, expected.map(|(number, line)| (number, line.to_owned())));
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX + 1];
        bytes.extend_from_slice(b"\nnext\n");
        let mut lines = ByteLines::new(input::of_bytes(&bytes));
        assert_eq!(lines.read().unwrap(), Outcome::TooLong);
        assert_eq!(lines.read().unwrap(), Outcome::Line);
        assert_eq!((lines.number, lines.line.as_slice()), (2, b"next".as_slice()));
        assert_eq!(lines.read().unwrap(), Outcome::End);
    }
}
