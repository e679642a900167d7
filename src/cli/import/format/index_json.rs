//! One JSON array of objects, as earlier Vectron wrote its `index.json`; read entry by entry.

use std::io::BufRead;

use super::{LINE_BYTES_MAX, Line, Lines, ReadError, json_record};
use crate::cli::import::draft::FieldNames;
use crate::cli::import::input::Reader;

/// A file with one array. An entry that is no record is a bad line; brackets that do not match end the import, since
/// nobody knows where the next entry begins.
pub struct IndexJson {
    reader: Reader,
    names: FieldNames,
    keeps_raw: bool,
    /// Entries so far.
    number: u64,
    place: Place,
}

/// Where in the file the reader stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Within,
    After,
}

impl IndexJson {
    /// Reads from the beginning. `keeps_raw`: entries are handed on as they are, too, each on one line.
    pub fn new(reader: Reader, names: FieldNames, keeps_raw: bool) -> Self {
        Self { reader, names, keeps_raw, number: 0, place: Place::Before }
    }

    fn fail<T>(&self, what: &str) -> Result<T, ReadError> {
        let number = self.number;
        Err(ReadError::Content(format!("expected [{{…}}, {{…}}], but {what} after entry {number}")))
    }

    /// The next byte that is no white space; it stays in the reader.
    fn peek(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let spaces = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = buffer.get(spaces).copied();
            self.reader.consume(spaces);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Reads up to the comma or bracket that ends the entry, which is consumed too, and tells where that leads.
    fn read_entry(&mut self, entry: &mut Vec<u8>) -> Result<Place, ReadError> {
        let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return self.fail("the file ends,");
            }
            let mut end = None;
            for (position, &byte) in buffer.iter().enumerate() {
                if is_text {
                    match byte {
                        _ if is_escaped => is_escaped = false,
                        b'\\' => is_escaped = true,
                        b'"' => is_text = false,
                        _ => {}
                    }
                    continue;
                }
                match byte {
                    b'"' => is_text = true,
                    b'{' | b'[' => depth += 1,
                    b',' | b']' if depth == 0 => {
                        end = Some((position, if byte == b',' { Place::Within } else { Place::After }));
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            let part = end.as_ref().map_or(buffer.len(), |(position, _)| *position);
            if entry.len() + part > LINE_BYTES_MAX {
                return self.fail(&format!("one of more than {LINE_BYTES_MAX} bytes comes"));
            }
            entry.extend_from_slice(&buffer[..part]);
            self.reader.consume(part + usize::from(end.is_some()));
            if let Some((_, place)) = end {
                return Ok(place);
            }
        }
    }
}

impl Lines for IndexJson {
    fn next_line(&mut self) -> Result<Option<Line>, ReadError> {
        if self.place == Place::Before {
            if self.peek()? != Some(b'[') {
                return self.fail("it does not begin with a bracket (one object a line is --format jsonl)");
            }
            self.reader.consume(1);
            self.place = Place::Within;
            if self.peek()? == Some(b']') {
                self.reader.consume(1);
                self.place = Place::After;
            }
        }
        if self.place == Place::After {
            // Nothing but white space may follow.
            return match self.peek()? {
                None => Ok(None),
                Some(_) => self.fail("something stands after the array,"),
            };
        }
        let mut entry = Vec::new();
        self.place = self.read_entry(&mut entry)?;
        self.number += 1;
        let draft = json_record::read(&entry, &self.names);
        let raw = self.keeps_raw.then(|| one_line(&entry));
        Ok(Some(Line { number: self.number, draft, raw }))
    }
}

/// Line breaks within an entry are white space, for a text cannot hold them as they are.
fn one_line(entry: &[u8]) -> Vec<u8> {
    entry.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::input;

    /// Number and id, or what is wrong.
    type Entry = (u64, Result<String, String>);

    fn read(json: &str) -> (Vec<Entry>, Option<String>) {
        let mut entries = IndexJson::new(input::of_bytes(json.as_bytes()), FieldNames::default(), true);
        let mut lines = Vec::new();
        loop {
            match entries.next_line() {
                Ok(Some(line)) => lines.push((line.number, line.draft.map(|draft| draft.id.unwrap_or_default()))),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn entries_come_one_by_one_and_a_bad_one_is_passed_over() {
        let json = r#" [ {"id": "a,]}\"", "vector": [1, 2]},
            {"id": "b", "vector": ["x"]}, 5,
            {"id": "c", "vector": [[3]], "m": {"k": [1]}}, {"id": "d", "vector": [1e-3]} ] "#;
        let (lines, error) = read(json);
        assert_eq!(error, None);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], (1, Ok("a,]}\"".to_owned())));
        assert!(lines[1].1.is_err() && lines[2].1.is_err() && lines[3].1.is_err());
        assert_eq!(lines[4], (5, Ok("d".to_owned())));
    }

    #[test]
    fn an_empty_array_has_no_entries() {
        assert_eq!(read(" [ ] "), (vec![], None));
    }

    #[test]
    fn what_is_no_array_or_ends_too_early_ends_the_import() {
        for (json, entries, expected) in [
            ("", 0, "does not begin with a bracket"),
            ("{}", 0, "does not begin with a bracket"),
            (r#"[{"id": "a"}"#, 0, "the file ends, after entry 0"),
            (r#"[{"id": "a"}, {"id": "#, 1, "the file ends, after entry 1"),
            (r#"[{"id": "a"}] x"#, 1, "something stands after the array"),
        ] {
            let (lines, error) = read(json);
            assert_eq!(lines.len(), entries, "{json}");
            let error = error.unwrap();
            assert!(error.replace("  ", " ").contains(expected), "{json}: {error}");
        }
    }
}
