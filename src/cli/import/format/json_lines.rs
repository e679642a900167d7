//! JSON Lines: one object a line.

use super::lines::{ByteLines, Outcome};
use super::{Line, Lines, ReadError, json_record};
use crate::cli::import::draft::FieldNames;
use crate::cli::import::input::Reader;

/// A file of JSON Lines. Empty lines count, and are passed over.
pub struct JsonLines {
    lines: ByteLines,
    names: FieldNames,
    keeps_raw: bool,
}

impl JsonLines {
    /// Reads from the beginning. `keeps_raw`: lines are handed on as they are, too.
    pub fn new(reader: Reader, names: FieldNames, keeps_raw: bool) -> Self {
        Self { lines: ByteLines::new(reader), names, keeps_raw }
    }
}

impl Lines for JsonLines {
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        loop {
            let draft = match self.lines.read()? {
                Outcome::End => return Ok(None),
                Outcome::Line if self.lines.line.iter().all(u8::is_ascii_whitespace) => continue,
                Outcome::Line => json_record::read(&self.lines.line, &self.names),
                Outcome::TooLong => Err(ByteLines::too_long()),
            };
            let raw = self.keeps_raw.then(|| self.lines.line.clone());
            return Ok(Some(Line { number: self.lines.number, draft, raw }));
        }
    }
}
