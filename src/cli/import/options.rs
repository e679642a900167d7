//! What `vectron import` takes.

use std::path::{Path, PathBuf};

use super::draft::FieldNames;
use super::format::Format;
use super::frame::FrameOptions;
use super::identity::{stream_id, unique_stream_id};
use super::reading::{IdsFrom, Recipe};
use crate::cli::exit::Failure;
use crate::cli::server_options::{CollectionOption, ServerOptions};
use crate::pb::v1 as pb;

const ABOUT: &str = "\
Import a file of records: texts are embedded by the server, vectors are stored as they are.

A record has an id and a text, a vector, or both; everything else becomes metadata. In JSON Lines:

  {\"id\": \"1\", \"text\": \"The cat sat on the mat\", \"metadata\": {\"kind\": \"animal\"}}
  {\"id\": \"2\", \"text\": \"Stocks fell sharply\", \"year\": 2024}
  {\"id\": \"3\", \"vector\": [0.1, 0.7, 0.2]}

A text without a vector is embedded; with both, the vector is stored and the text is kept beside it. A record whose id \
exists replaces the old one. The collection, and a space for the model or for the vectors, are made where they are missing.

Whatever cuts an import off (Ctrl-C, a crash here or there, the network), the same command goes on where it stopped: \
nothing is lost, nothing is written twice. Bad lines are told with their number and left out.";

const EXAMPLES: &str = "\
Examples:
  vectron import notes.jsonl                              into collection `default`
  vectron import notes.jsonl.gz -c notes --dry-run        only read it, and say what is wrong
  vectron import notes.jsonl --rejects bad.jsonl          set bad lines aside, to be mended and imported
  vectron import shop.csv --id-field sku --text-field title --ignore internal_note
  vectron import data/index.json -c old                   vectors of earlier Vectron
  vectron import vectors.npy --ids names.txt              vectors of NumPy, ids from a file
  vectron import vectors.npy --ids notes.jsonl --space minilm
  psql -c \"COPY (SELECT id, text FROM t) TO STDOUT CSV HEADER\" | vectron import - --format csv";

/// Import a file of records: texts are embedded by the server, vectors are stored as they are.
#[derive(clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Import {
    /// The file (.jsonl, .csv, .json, .npy, also .gz); `-`: standard input, with --format.
    pub file: PathBuf,

    /// Which server.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Which collection.
    #[command(flatten)]
    pub collection: CollectionOption,
    /// How the file is written.
    #[command(flatten)]
    pub form: FileForm,
    /// Which field holds what.
    #[command(flatten)]
    pub names: FieldNames,

    /// The model for texts [default: the collection's, else the server's].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ID", help_heading = "How it is stored")]
    pub model: String,

    /// The space of vectors that name none [default: the one of their dimension].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME", help_heading = "How it is stored")]
    pub space: String,

    /// When records count as written.
    #[arg(long, value_enum, default_value_t = Durability::Durable, value_name = "PROMISE", help_heading = "How it is stored")]
    pub durability: Durability,

    /// Fail where the collection, or a space for a record, is missing.
    #[arg(long, help_heading = "How it is stored")]
    pub no_create: bool,

    /// Write bad lines to this file, as they are.
    #[arg(long, value_name = "FILE", help_heading = "What can go wrong")]
    pub rejects: Option<PathBuf>,

    /// Stop where there are more bad lines; 0: at the first.
    #[arg(long, default_value_t = 100, value_name = "COUNT", help_heading = "What can go wrong")]
    pub bad_lines_max: u64,

    /// Begin anew, though an earlier import of the file was cut off.
    #[arg(long, help_heading = "What can go wrong")]
    pub restart: bool,

    /// Give up after so many seconds without progress.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", help_heading = "What can go wrong")]
    pub retry_s: u64,

    /// Read the file and say what is wrong with it; nothing is sent.
    #[arg(long, help_heading = "What can go wrong")]
    pub dry_run: bool,

    /// How records are put together.
    #[command(flatten)]
    pub frames: FrameOptions,

    /// Print the summary as one JSON object.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// How the file is written.
#[derive(clap::Args)]
#[command(next_help_heading = "The file")]
pub struct FileForm {
    /// How the file is written [default: by its name].
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// The character between the cells of CSV [default: a comma; a tab for .tsv].
    #[arg(long, value_name = "CHARACTER")]
    pub delimiter: Option<char>,

    /// The ids of a .npy file: a text with one id a line, or JSON Lines with ids, texts and metadata (.jsonl, .jsonl.gz).
    #[arg(long, value_name = "FILE", conflicts_with = "row_ids")]
    pub ids: Option<PathBuf>,

    /// The ids of a .npy file are the numbers of its rows: 0, 1, 2, …
    #[arg(long)]
    pub row_ids: bool,
}

/// When records count as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// When they are synced to disk: they survive a power cut.
    Durable,
    /// When the operating system has them: they survive a crash of the server.
    Buffered,
}

impl Durability {
    /// As the contract says it.
    pub fn to_message(self) -> pb::Durability {
        match self {
            Durability::Durable => pb::Durability::Durable,
            Durability::Buffered => pb::Durability::Buffered,
        }
    }
}

impl Import {
    /// Everything that decides which records are in which frame.
    pub fn recipe(&self) -> Result<Recipe, Failure> {
        let format = match self.form.format.or_else(|| Format::of(&self.file)) {
            Some(format) => format,
            None if self.is_stdin() => return Err(Failure::usage("standard input has no name: say --format")),
            None => {
                let name = self.file_name();
                return Err(Failure::usage(format_args!("{name}: the name does not tell the format: say --format")));
            }
        };
        let ids = match (format, &self.form.ids, self.form.row_ids) {
            (Format::Npy, Some(path), _) => IdsFrom::Other(path.clone()),
            (Format::Npy, None, true) => IdsFrom::RowNumbers,
            (Format::Npy, None, false) => {
                return Err(Failure::usage("an array has no ids: say --ids FILE, or --row-ids"));
            }
            (_, None, false) => IdsFrom::File,
            _ => return Err(Failure::usage("--ids and --row-ids are for .npy files")),
        };
        if let Some(rejects) = &self.rejects {
            if format == Format::Npy {
                return Err(Failure::usage("--rejects is for files of lines, not for .npy"));
            }
            let same = |path: &Path| path.canonicalize().ok();
            if !self.is_stdin() && same(rejects).is_some_and(|path| Some(path) == same(&self.file)) {
                return Err(Failure::usage("--rejects names the file that is imported"));
            }
        }
        let delimiter = self.form.delimiter.unwrap_or(if self.file_name().contains(".tsv") { '\t' } else { ',' });
        if !delimiter.is_ascii() {
            return Err(Failure::usage(format_args!(
                "--delimiter: expected an ASCII character, but got {delimiter:?}"
            )));
        }
        let (names, space, frames) = (self.names.clone(), self.space.clone(), self.frames);
        Ok(Recipe { format, names, delimiter, space, frames, ids })
    }

    /// The same for the same files and options.
    pub fn stream_id(&self, recipe: &Recipe) -> Result<String, Failure> {
        if !self.is_resumable() {
            return Ok(unique_stream_id());
        }
        let files: Vec<&Path> = [&self.file].into_iter().chain(&self.form.ids).map(PathBuf::as_path).collect();
        stream_id(&files, &(&self.collection.collection, &self.model, recipe))
            .map_err(|error| Failure::file("read", self.file_name(), &error))
    }

    /// Bytes of the file; `None` for what has no end that is known: standard input, a pipe.
    pub fn file_bytes(&self) -> Option<u64> {
        let metadata = if self.is_stdin() { None } else { self.file.metadata().ok() };
        metadata.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// Whether the file can be read again. One that is missing could: reading it says so.
    pub fn is_resumable(&self) -> bool {
        !self.is_stdin() && self.file.metadata().map_or(true, |metadata| metadata.is_file() || metadata.is_dir())
    }

    /// The name of the file, for a person.
    pub fn file_name(&self) -> String {
        if self.is_stdin() { "standard input".to_owned() } else { self.file.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }
}
