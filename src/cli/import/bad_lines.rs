//! Lines that are not imported: told, counted, and set aside.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::format::Format;
use super::reading::BadLine;
use crate::cli::console::{Console, counted};
use crate::cli::exit::Failure;

/// Bad lines that are told one by one; more are counted.
const TOLD_MAX: u64 = 10;

/// The bad lines of an import.
pub struct BadLines {
    file: String,
    format: Format,
    count_max: u64,
    /// How many there were.
    pub count: u64,
    rejects: Option<Rejects>,
}

impl BadLines {
    /// None so far; more than `count_max` end the import.
    pub fn new(file: String, format: Format, count_max: u64) -> Self {
        Self { file, format, count_max, count: 0, rejects: None }
    }

    /// Sets bad lines aside from now on.
    pub fn set_aside_in(&mut self, rejects: Rejects) {
        self.rejects = Some(rejects);
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where a line is, for a person.
    pub fn place(&self, number: u64) -> String {
        self.format.place(&self.file, number)
    }

    /// Tells, counts and sets aside; fails where there are too many.
    pub fn add(&mut self, bad: &BadLine, console: &Console) -> Result<(), Failure> {
        self.count += 1;
        if self.count <= TOLD_MAX {
            console.complain(format_args!("{}: {}", self.place(bad.place.number), bad.reason));
        }
        if self.count == TOLD_MAX + 1 {
            console.complain("more bad lines are counted, not shown");
        }
        if let (Some(rejects), Some(raw)) = (&mut self.rejects, &bad.place.raw) {
            rejects.add(raw)?;
        }
        if self.count <= self.count_max {
            return Ok(());
        }
        let at_most = match self.count_max {
            0 => "no bad line is allowed".to_owned(),
            max => format!("there are more than {} bad lines", max),
        };
        let advice = "mend them, or allow more with --bad-lines-max (--rejects FILE sets them aside)";
        Err(Failure::new(format_args!("{}: {at_most}; {advice}", self.place(bad.place.number))))
    }

    /// For the summary: `3 bad lines in rejects.jsonl`.
    pub fn told(&self) -> Option<String> {
        let place = self.rejects.as_ref().map(|rejects| format!(", set aside in {}", rejects.path.display()));
        (self.count > 0).then(|| format!("{}{}", counted(self.count, "bad line"), place.unwrap_or_default()))
    }
}

/// A file of lines as they are, to be mended and imported again.
pub struct Rejects {
    path: PathBuf,
    file: File,
    /// Hashes of the lines that are in it: an import that goes on finds the same lines again.
    known: HashSet<u64>,
}

impl Rejects {
    /// Begins the file anew, or goes on with it. `header`: what stands before the lines.
    pub fn open(path: &Path, goes_on: bool, header: Option<Vec<u8>>) -> Result<Self, Failure> {
        let fail = |error: io::Error| Failure::file("write", path.display(), &error);
        let known = if goes_on { known_lines(path).map_err(fail)? } else { HashSet::new() };
        let is_new = known.is_empty();
        let mut options = File::options();
        options.create(true);
        match is_new {
            true => options.write(true).truncate(true),
            false => options.append(true),
        };
        let file = options.open(path).map_err(fail)?;
        let mut rejects = Self { path: path.to_owned(), file, known };
        if let Some(header) = header.filter(|_| is_new) {
            rejects.write(&header)?;
        }
        Ok(rejects)
    }

    fn add(&mut self, raw: &[u8]) -> Result<(), Failure> {
        // A row of CSV may have several lines.
        let mut is_known = true;
        for line in raw.split(|&byte| byte == b'\n') {
            is_known &= !self.known.insert(xxh3_64(line));
        }
        if is_known { Ok(()) } else { self.write(raw) }
    }

    /// Without a buffer: a line that was told is in the file, whatever comes then.
    fn write(&mut self, raw: &[u8]) -> Result<(), Failure> {
        let line = [raw, b"\n"].concat();
        self.file.write_all(&line).map_err(|error| Failure::file("write", self.path.display(), &error))
    }
}

fn known_lines(path: &Path) -> io::Result<HashSet<u64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    BufReader::new(file).split(b'\n').map(|line| Ok(xxh3_64(&line?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::frame::Place;

    fn bad(number: u64, raw: &str) -> BadLine {
        BadLine { place: Place { number, raw: Some(raw.into()) }, reason: "wrong".to_owned() }
    }

    #[test]
    fn an_import_that_goes_on_sets_each_line_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.csv");
        let console = Console::new(true);
        for goes_on in [false, true, true] {
            let mut lines = BadLines::new("f".to_owned(), Format::Csv, 100);
            lines.set_aside_in(Rejects::open(&path, goes_on, Some(b"id,text".to_vec())).unwrap());
            lines.add(&bad(2, "a"), &console).unwrap();
            lines.add(&bad(3, "b\nc"), &console).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "id,text\na\nb\nc\n");
        Rejects::open(&path, false, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn too_many_end_the_import() {
        let console = Console::new(true);
        let mut lines = BadLines::new("f".to_owned(), Format::Jsonl, 1);
        assert!(lines.add(&bad(1, ""), &console).is_ok());
        let failure = lines.add(&bad(7, ""), &console).unwrap_err();
        assert!(failure.message.unwrap().starts_with("f:7: there are more than 1 bad lines"));
        assert!(BadLines::new("f".to_owned(), Format::Jsonl, 0).add(&bad(1, ""), &console).is_err());
    }
}
