//! `vectron export`: everything in a collection, to be imported again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tonic::transport::Channel;

use crate::cli::console::{Unit, counted, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::filter;
use crate::cli::record_json::{RecordJson, read_mask};
use crate::cli::server_options::{CollectionOption, ServerOptions, vectors};
use crate::pb::v1 as pb;
use crate::pb::v1::collection_service_client::CollectionServiceClient;

/// Records of one page; the server ends a page at some megabytes too.
const PAGE_RECORDS: u32 = 2_000;

const ABOUT: &str = "\
Write all records of a collection, or those that fulfil a filter, in the order of their ids.

JSON Lines give back what was stored: id, text, vector, space and metadata. Numbers are written so that they come back bit \
for bit. To import them elsewhere, make a collection with the same spaces first: `vectron collections create NEW --like OLD`. \
Records that change while the export runs are in it as they were before or after.";

const EXAMPLES: &str = "\
Examples:
  vectron export -c notes -o notes.jsonl.gz          a file, packed
  vectron export -c notes | head                     a look
  vectron export -c notes --no-vectors -o texts.jsonl        to be embedded anew by another model
  vectron export -c notes --filter '{\"equals\": {\"field\": \"kind\", \"value\": \"animal\"}}' -o animals.jsonl
  vectron export -c old --format index-json -o index.json    ids and vectors only, as earlier Vectron had them";

/// Write all records of a collection, in the order of their ids
#[derive(clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Export {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    collection: CollectionOption,

    /// Only records whose metadata fulfil this: all_of, any_of, not, equals, in, range, exists or contains.
    #[arg(long, value_name = "JSON", value_parser = filter::read)]
    filter: Option<pb::Filter>,

    /// The file [default: standard output]; packed where its name ends with .gz. It appears when it is whole.
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,

    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Jsonl, help_heading = "Output")]
    format: Format,

    /// Leave the vectors out, and their spaces.
    #[arg(long, help_heading = "Output")]
    no_vectors: bool,
}

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One object a line, with everything.
    Jsonl,
    /// One array of ids and vectors, as earlier Vectron had them.
    IndexJson,
}

/// What earlier Vectron kept of a record.
#[derive(Serialize)]
struct IndexEntry {
    id: String,
    vector: Vec<f32>,
}

/// Runs the command.
pub async fn run(options: Export) -> Ended {
    if options.no_vectors && options.format == Format::IndexJson {
        return Err(Failure::usage("--format index-json holds nothing but ids and vectors: leave --no-vectors out"));
    }
    let mut console = options.server.console();
    let channel = options.server.connect().await?;
    let name = options.collection.collection.clone();
    let request = pb::GetCollectionRequest { name: name.clone() };
    let described = CollectionServiceClient::new(channel.clone()).get_collection(request).await?.into_inner();
    let all = described.collection.map(|collection| collection.record_count);
    // How many fulfil a filter is not known before the end.
    console.start_bar(all.filter(|_| options.filter.is_none()), Unit::Records);
    let started = Instant::now();
    let mut pages = Pages::new(channel, &name, options.filter, options.no_vectors);
    let mut output = Output::open(options.output.as_deref())?;
    let mut count = 0;
    if options.format == Format::IndexJson {
        output.write(b"[")?;
    }
    while let Some(records) = pages.next().await? {
        for record in records {
            let record = RecordJson::from(record);
            match options.format {
                Format::Jsonl => {
                    serde_json::to_writer(output.writer(), &RecordJson { version: None, ..record })
                        .map_err(|error| output.failed(error.into()))?;
                    output.write(b"\n")?;
                }
                Format::IndexJson => {
                    output.write(if count == 0 { b"\n" } else { b",\n" })?;
                    let entry = IndexEntry { id: record.id, vector: record.vector.unwrap_or_default() };
                    serde_json::to_writer(output.writer(), &entry).map_err(|error| output.failed(error.into()))?;
                }
            }
            count += 1;
        }
        console.bar().set_position(count);
    }
    if options.format == Format::IndexJson {
        output.write(b"\n]\n")?;
    }
    output.finish()?;
    console.end_bar();
    let place = options.output.map_or_else(String::new, |path| format!(" to {}", path.display()));
    let seconds = started.elapsed().as_secs_f64();
    console.say(format_args!("exported {} of {name}{place} in {seconds:.1} s", counted(count, "record")));
    Ok(Exit::Done)
}

/// The pages of a collection.
struct Pages {
    client: pb::vector_service_client::VectorServiceClient<Channel>,
    request: Option<pb::ListRequest>,
}

impl Pages {
    fn new(channel: Channel, collection: &str, filter: Option<pb::Filter>, no_vectors: bool) -> Self {
        let request = pb::ListRequest {
            collection: collection.to_owned(),
            page_size: PAGE_RECORDS,
            filter,
            read_mask: read_mask(if no_vectors { &["text", "metadata"] } else { &["vector", "text", "metadata"] }),
            ..pb::ListRequest::default()
        };
        Self { client: vectors(channel), request: Some(request) }
    }

    /// A page begins after an id, so it can be asked for again where the connection broke.
    async fn next(&mut self) -> Result<Option<Vec<pb::Record>>, Failure> {
        let Some(request) = self.request.take() else { return Ok(None) };
        let mut tries = [200, 1_000, 5_000].into_iter().map(Duration::from_millis);
        let response = loop {
            match self.client.list(request.clone()).await {
                Ok(response) => break response.into_inner(),
                Err(status) => match tries.next() {
                    Some(pause) if crate::cli::import::is_temporary(&status) => tokio::time::sleep(pause).await,
                    _ => return Err(status.into()),
                },
            }
        };
        if !response.next_page_token.is_empty() {
            self.request = Some(pb::ListRequest { page_token: response.next_page_token, ..request });
        }
        Ok(Some(response.records))
    }
}

/// Standard output, or a file that gets its name when it is whole.
struct Output {
    writer: Box<dyn Finish>,
    names: Option<(PathBuf, PathBuf)>,
}

/// A writer that has an end.
trait Finish: Write {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Finish for BufWriter<io::Stdout> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()
    }
}

impl Finish for BufWriter<File> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.into_inner()?.sync_all()
    }
}

impl Finish for GzEncoder<BufWriter<File>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        GzEncoder::finish(*self)?.into_inner()?.sync_all()
    }
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self { writer: Box::new(results()), names: None });
        };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| Failure::file("write", part.display(), &error))?;
        let file = BufWriter::with_capacity(256 << 10, file);
        let writer: Box<dyn Finish> = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Box::new(GzEncoder::new(file, Compression::default())),
            false => Box::new(file),
        };
        Ok(Self { writer, names: Some((part, path.to_owned())) })
    }

    fn writer(&mut self) -> &mut dyn Write {
        &mut self.writer
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Failure {
        match &self.names {
            Some((part, _)) => Failure::file("write", part.display(), &error),
            None => error.into(),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let Self { writer, names } = self;
        let Some((part, path)) = names else { return Ok(writer.finish()?) };
        writer.finish().map_err(|error| Failure::file("write", part.display(), &error))?;
        fs::rename(&part, &path).map_err(|error| Failure::file("write", path.display(), &error))
    }
}
