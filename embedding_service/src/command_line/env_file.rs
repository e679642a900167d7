//! `.env`: settings in a file, of this folder or the nearest one above it that has one.
//!
//! Invariants: no error repeats what stands in the file, for secrets stand there; no value is changed on its way. `dotenvy`
//! reads each line; what it would do silently is refused before: it puts other variables in the place of `$name`, which cuts
//! a password at its `$`, and drops what begins with `#`.

use std::path::PathBuf;
use std::{env, fs, io};

const NAME: &str = ".env";

/// Why `.env` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// The disk says no.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not what it should be. It is not repeated.
    #[error("{path}, line {line}: expected {expected}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1; of a value on several lines the first.
        line: usize,
        /// What was expected.
        expected: &'static str,
    },
}

/// What is wrong with a line.
struct Fault {
    line: usize,
    expected: &'static str,
}

const EXPECTED: &str = "NAME=value, and single quotes round a value with spaces, quotes, `\\`, `$` or `#`";
const EXPECTED_NO_DOLLAR: &str =
    "single quotes round a value that has a `$`: other variables are not put into values here";
const EXPECTED_NO_HASH: &str = "single quotes round a value that begins with `#`, or a space before a remark";
const EXPECTED_UTF8: &str = "text in UTF-8";

/// Puts the file's settings into the environment, where that has none of the name; an empty one is none.
pub(super) fn load() -> Result<(), EnvFileError> {
    let Some(path) = find()? else { return Ok(()) };
    let bytes = fs::read(&path).map_err(|source| EnvFileError::Read { path: path.clone(), source })?;
    let told = |Fault { line, expected }| EnvFileError::Line { path: path.clone(), line, expected };
    for entry in entries(&bytes).map_err(told)? {
        let is_set = env::var_os(&entry.name).is_some_and(|value| !value.is_empty());
        if !is_set {
            dotenvy::from_read_override(entry.text.as_bytes()).map_err(|_| told(Fault::at(entry.line)))?;
        }
    }
    Ok(())
}

fn find() -> Result<Option<PathBuf>, EnvFileError> {
    let here = env::current_dir().map_err(|source| EnvFileError::Read { path: PathBuf::from(NAME), source })?;
    for folder in here.ancestors() {
        let path = folder.join(NAME);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => return Ok(Some(path)),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EnvFileError::Read { path, source });
            }
            _ => {}
        }
    }
    Ok(None)
}

/// One setting, as it is written.
struct Entry {
    line: usize,
    name: String,
    /// With a line's end.
    text: String,
}

/// Which quotes are open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Single,
    Double,
}

impl Fault {
    fn at(line: usize) -> Self {
        Self { line, expected: EXPECTED }
    }
}

fn entries(bytes: &[u8]) -> Result<Vec<Entry>, Fault> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Fault { line, expected: EXPECTED_UTF8 }
    })?;
    let mut entries = Vec::new();
    // Some editors begin a file with the mark of its byte order.
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
    while let Some((index, first)) = lines.next() {
        if first.trim().is_empty() || first.trim_start().starts_with('#') {
            continue;
        }
        let line = index + 1;
        let mut text = first.to_owned();
        let mut quotes = scan(first, Quotes::None, line)?;
        // A value in quotes may go on.
        while quotes != Quotes::None {
            let (_, next) = lines.next().ok_or(Fault::at(line))?;
            text = format!("{text}\n{next}");
            quotes = scan(next, quotes, line)?;
        }
        text.push('\n');
        let mut settings = dotenvy::from_read_iter(text.as_bytes());
        let (Some(Ok((name, _))), None) = (settings.next(), settings.next()) else { return Err(Fault::at(line)) };
        entries.push(Entry { line, name, text });
    }
    Ok(entries)
}

/// Which quotes are open at the end of the line, where these are at its beginning. The value that it is part of begins at
/// line `first`.
fn scan(line: &str, mut quotes: Quotes, first: usize) -> Result<Quotes, Fault> {
    let (mut is_escaped, mut before) = (false, '\n');
    for letter in line.chars() {
        match (quotes, letter) {
            _ if is_escaped => is_escaped = false,
            (Quotes::None | Quotes::Double, '\\') => is_escaped = true,
            (Quotes::None | Quotes::Double, '$') => return Err(Fault { line: first, expected: EXPECTED_NO_DOLLAR }),
            (Quotes::None, '#') if before == '=' => return Err(Fault { line: first, expected: EXPECTED_NO_HASH }),
            (Quotes::None, '#') if before.is_whitespace() => break,
            (Quotes::None, '\'') => quotes = Quotes::Single,
            (Quotes::None, '"') => quotes = Quotes::Double,
            (Quotes::Single, '\'') | (Quotes::Double, '"') => quotes = Quotes::None,
            _ => {}
        }
        before = letter;
    }
    // It would be dropped.
    if is_escaped && quotes == Quotes::None {
        return Err(Fault::at(first));
    }
    Ok(quotes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let entries = entries(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: line {}", fault.line));
        let texts: String = entries.into_iter().map(|entry| entry.text).collect();
        dotenvy::from_read_iter(texts.as_bytes()).map(Result::unwrap).collect()
    }

    #[test]
    fn values_are_as_they_are_written() {
        let text = "\u{feff}A=1 # a remark, which costs $5, and isn't read\r\n\r\n# B='\nexport C='pa$s #w\"or d'\n\
                    D=\"two words\"\nE=pa\\$s\nF='two\nlines'\nG=\nH=a#b\nI=  # nothing\nJ=ends\\\\";
        let expected = [
            ("A", "1"),
            ("C", "pa$s #w\"or d"),
            ("D", "two words"),
            ("E", "pa$s"),
            ("F", "two\nlines"),
            ("G", ""),
            ("H", "a#b"),
            ("I", ""),
            ("J", "ends\\"),
        ];
        assert_eq!(read(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn lines_that_would_be_read_otherwise_are_refused_by_number() {
        for (line, expected) in [
            ("KEY=sk-s3cret with spaces", EXPECTED),
            ("sk-s3cret", EXPECTED),
            ("KEY: sk-s3cret", EXPECTED),
            ("KEY='sk-s3cret", EXPECTED),
            ("KEY=\"sk-s3cret\nB=2", EXPECTED),
            ("KEY=sk-s3cret\\", EXPECTED),
            ("KEY=sk\\-s3cret", EXPECTED),
            ("KEY=sk-$3cret", EXPECTED_NO_DOLLAR),
            ("KEY=\"sk-${S}3cret\"", EXPECTED_NO_DOLLAR),
            ("KEY='sk-s3cret\n'\"$x\"", EXPECTED_NO_DOLLAR),
            ("KEY=#sk-s3cret", EXPECTED_NO_HASH),
        ] {
            let text = format!("A=1\n\n# remark\n{line}");
            let Err(fault) = entries(text.as_bytes()) else { panic!("{line} is taken") };
            assert_eq!((fault.line, fault.expected), (4, expected), "{line}");
            let path = PathBuf::from("/somewhere/.env");
            let error = EnvFileError::Line { path, line: fault.line, expected: fault.expected };
            assert!(!format!("{error} {error:?}").contains("3cret"), "{error:?}");
        }
        let Err(fault) = entries(b"A=1\nB=\xff\n") else { panic!("it is no text") };
        assert_eq!((fault.line, fault.expected), (2, EXPECTED_UTF8));
    }
}
