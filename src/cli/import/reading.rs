//! Reads the file on a thread of its own: lines become checked records, records become frames.

use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::mpsc;

use super::draft::FieldNames;
use super::format::{CsvRows, Format, Ids, IndexJson, JsonLines, Lines, Npy, ReadError};
use super::frame::{Frame, FrameOptions, Framer, Place};
use super::input::{self, Input, Offset};
use super::target::Target;
use crate::cli::exit::Failure;

/// Frames that are read ahead: enough that the sender never waits for the file, few enough to hold in memory.
const FRAMES_AHEAD: usize = 4;

/// What decides which records are in which frame, beside the content of the files.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Recipe {
    /// How the file is written.
    pub format: Format,
    /// Which field holds what.
    pub names: FieldNames,
    /// Between the cells of CSV.
    pub delimiter: char,
    /// The space of vectors that name none.
    pub space: String,
    /// How records are put together.
    pub frames: FrameOptions,
    /// Where the ids of an array come from.
    pub ids: IdsFrom,
}

/// Where the ids of an array come from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum IdsFrom {
    /// The file itself.
    File,
    /// The numbers of the rows.
    RowNumbers,
    /// Another file; its content counts, not its name.
    Other(#[serde(skip)] PathBuf),
}

/// What the thread has read.
#[derive(Debug)]
pub enum Read {
    /// Records to be written together.
    Frame(Frame),
    /// A line that is no record, or not one for this collection.
    Bad(BadLine),
    /// The file has ended.
    End,
    /// The file cannot be read any further.
    Failed(String),
}

/// A line that is not imported.
#[derive(Debug)]
pub struct BadLine {
    /// Where it is.
    pub place: Place,
    /// What was expected and what came.
    pub reason: String,
}

/// A file that is about to be read.
pub struct Source {
    lines: Box<dyn Lines>,
    /// How far it has been read.
    pub offset: Offset,
    recipe: Recipe,
}

impl Source {
    /// Opens the file, and reads what stands before the first line. `keeps_raw`: lines are handed on as they are, too.
    pub fn open(path: &Path, recipe: &Recipe, keeps_raw: bool) -> Result<Self, Failure> {
        let Input { reader, offset } = open(path)?;
        let names = recipe.names.clone();
        let opened: Result<Box<dyn Lines>, ReadError> = match recipe.format {
            Format::Jsonl => Ok(Box::new(JsonLines::new(reader, names, keeps_raw))),
            Format::IndexJson => Ok(Box::new(IndexJson::new(reader, names, keeps_raw))),
            Format::Csv => CsvRows::new(reader, &names, recipe.delimiter as u8, keeps_raw).map(boxed),
            Format::Npy => Npy::new(reader, open_ids(recipe)?).map(boxed),
        };
        let lines = opened.map_err(|error| Failure::new(format_args!("{}: {error}", path.display())))?;
        Ok(Self { lines, offset, recipe: recipe.clone() })
    }

    /// What stands before the lines, and is needed to read them again.
    pub fn header(&self) -> Option<Vec<u8>> {
        self.lines.header()
    }

    /// Reads to the end, on a thread that ends when nobody listens any more.
    pub fn start(self, target: Target) -> mpsc::Receiver<Read> {
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        thread::spawn(move || self.run(target, &sender));
        receiver
    }

    fn run(mut self, mut target: Target, sender: &mpsc::Sender<Read>) {
        let mut framer = Framer::new(self.recipe.frames);
        loop {
            let line = match self.lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    let _ = sender.blocking_send(Read::Failed(error.to_string()));
                    return;
                }
            };
            let checked = line.draft.and_then(|draft| draft.check(&self.recipe.names, &self.recipe.space));
            let place = Place { number: line.number, raw: line.raw };
            let checked = match checked {
                Ok(checked) => checked,
                Err(reason) => {
                    if sender.blocking_send(Read::Bad(BadLine { place, reason })).is_err() {
                        return;
                    }
                    continue;
                }
            };
            let space = checked.record.vector.as_ref().map_or("", |vector| vector.space.as_str());
            let fit = checked.vector.map_or(Ok(()), |vector| target.check(vector, space));
            let fits = fit.is_ok();
            let bad = fit.err().map(|reason| BadLine { place: place.clone(), reason });
            let frame = framer.add(checked.record, place, fits, self.offset.bytes());
            for read in bad.map(Read::Bad).into_iter().chain(frame.map(Read::Frame)) {
                if sender.blocking_send(read).is_err() {
                    return;
                }
            }
        }
        for read in framer.take(self.offset.bytes()).map(Read::Frame).into_iter().chain([Read::End]) {
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    }
}

fn boxed<L: Lines + 'static>(lines: L) -> Box<dyn Lines> {
    Box::new(lines)
}

fn open(path: &Path) -> Result<Input, Failure> {
    input::open(path).map_err(|error| Failure::file("read", path.display(), &error))
}

fn open_ids(recipe: &Recipe) -> Result<Ids, Failure> {
    let path = match &recipe.ids {
        IdsFrom::File | IdsFrom::RowNumbers => return Ok(Ids::RowNumbers),
        IdsFrom::Other(path) => path,
    };
    let reader = open(path)?.reader;
    Ok(match Format::of(path) {
        Some(Format::Jsonl) => Ids::Records(Box::new(JsonLines::new(reader, recipe.names.clone(), false))),
        _ => Ids::text(reader),
    })
}
