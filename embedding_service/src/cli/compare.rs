//! `compare`: models beside each other. Asks a service, or starts one in this process, and shows what it tells.

mod plot;
mod progress;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use prost::Message as _;
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron_embedding::compare::{Comparison, ModelReport, Setting, read_pairs, read_samples};
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::pb::v1::benchmark_models_response::Message;
use vectron_embedding::remote::{EmbeddingKey, KeyedChannel, Remote, innermost, keyed_client};
use vectron_embedding::telemetry::{self, TelemetryOptions};
use vectron_embedding::{EmbeddingService, Options, Precision, command_line};

use super::{CommandResult, WrongUsage};
use progress::Progress;

/// A service that accepts no connection in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Compare models: speed, contrast of topics, retrieval.
///
/// Each model embeds sample texts: some alone, then all in one call, each several times. The contrast score is how much
/// nearer texts of the same topic are to each other than texts of different topics; with --pairs, retrieval tells whether
/// queries find their documents. Models that cannot be used are named with the reason. Models of providers cost what the
/// provider asks. Without --server the models run in this process, with the settings of the environment and .env.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Compare the models that the service itself runs.
    #[arg(long, group = "which")]
    local: bool,
    /// Compare the models that providers run.
    #[arg(long, group = "which")]
    remote: bool,
    /// Compare these models, in this order [default: all of the registry].
    #[arg(long, group = "which", value_name = "ID,…", value_delimiter = ',', value_parser = read_id)]
    models: Vec<String>,
    /// Sample texts in place of the built-in ones: a file of lines `topic<TAB>text`.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Measure retrieval on these: a file of lines `query<TAB>document`. A query on several lines has several right documents.
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// How often each time is measured; medians are told.
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=20))]
    repeats: u32,
    /// Write the table as JSON, as `POST /benchmark` answers it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw texts per second beside contrast, as PNG (a name that ends in .png); with --pairs recall@10 too, or MRR where 10 documents are all.
    #[arg(long, value_name = "FILE", value_parser = read_plot)]
    plot: Option<PathBuf>,
    /// The service to ask, such as http://127.0.0.1:8000 or https://there. Where it asks for a key, set
    /// VECTRON_EMBEDDING_API_KEY; it needs the scopes `benchmark`, and `models:read` with --local and --remote.
    #[arg(long, value_name = "URL", conflicts_with_all = ["registry", "model_cache", "offline", "precision"])]
    server: Option<String>,
    /// Registry of models to use in place of the built-in one [default: $VECTRON_MODELS].
    #[arg(long, value_name = "FILE")]
    registry: Option<PathBuf>,
    /// Folder of the models' weights [default: $VECTRON_MODEL_CACHE, or model_cache].
    #[arg(long, value_name = "FOLDER")]
    model_cache: Option<PathBuf>,
    /// Fetch no weights [default: $VECTRON_OFFLINE].
    #[arg(long)]
    offline: bool,
    /// In which numbers local models are computed [default: $VECTRON_EMBEDDING_PRECISION, or what the registry says].
    #[arg(long, value_name = "PRECISION", value_enum)]
    precision: Option<Precision>,
    /// What is logged, as for `serve`. Not read from RUST_LOG, whose lines would run into the table.
    #[arg(long, default_value = "off", value_name = "FILTER")]
    log: String,
}

const EXAMPLES: &str = "\
Examples:
  vectron-embedding compare --local
  vectron-embedding compare --models minilm,openai-small --pairs faq.tsv --output results.json --plot benchmark.png
  vectron-embedding compare --server http://127.0.0.1:8000 --samples my-topics.tsv";

/// Bytes of a request that another process takes.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// The settings of a service in this process, from the environment.
#[derive(Parser)]
struct FromEnvironment {
    #[command(flatten)]
    options: Options,
}

fn read_id(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("expected the ids of models, such as minilm,openai-small".to_owned()),
        id => Ok(id.to_owned()),
    }
}

fn read_plot(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("expected the name of a PNG, such as benchmark.png".to_owned()),
    }
}

pub fn run(arguments: &Arguments) -> CommandResult {
    telemetry::init(&TelemetryOptions { log: arguments.log.clone() })?;
    let samples = arguments.samples.as_deref().map(read_samples).transpose().map_err(WrongUsage::of)?;
    let pairs = arguments.pairs.as_deref().map(read_pairs).transpose().map_err(WrongUsage::of)?;
    let (samples, pairs) = (samples.unwrap_or_default(), pairs.unwrap_or_default());
    for file in [&arguments.output, &arguments.plot].into_iter().flatten() {
        check_place(file)?;
    }
    let request = pb::BenchmarkModelsRequest {
        model_ids: arguments.models.clone(),
        samples: samples.into_iter().map(Into::into).collect(),
        pairs: pairs.into_iter().map(Into::into).collect(),
        repeats: arguments.repeats,
    };
    let bytes_max = if arguments.server.is_some() { REQUEST_BYTES_MAX } else { usize::MAX };
    let bytes = request.encoded_len();
    if bytes > bytes_max {
        return Err(WrongUsage(format!(
            "samples and pairs have {bytes} bytes together: expected at most {bytes_max} (16 MiB) for a service elsewhere"
        ))
        .into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let comparison = match &arguments.server {
        Some(url) => {
            let remote = Remote::new(url, EmbeddingKey::from_environment(), CONNECT_TIMEOUT)
                .map_err(|error| WrongUsage(format!("--server: {error}")))?;
            if let Some(warning) = remote.warning() {
                eprintln!("warning: {warning}");
            }
            runtime.block_on(async {
                let unreachable = |error| format!("no embedding service can be reached at {url}: {error}");
                compare(remote.connect().await.map_err(unreachable)?, arguments, request).await
            })
        }
        None => {
            let options = arguments.options();
            options.registry().map_err(WrongUsage::of)?;
            let service = EmbeddingService::start_idle(&options)?;
            let comparison = runtime.block_on(async {
                let channel = KeyedChannel::new(service.in_memory_channel(), EmbeddingKey::default());
                compare(channel, arguments, request).await
            });
            service.shutdown();
            comparison
        }
    }?;

    let has_results = comparison.models.iter().any(|model| model.measured().is_some());
    // Before the table: they are what a script waits for, and a broken pipe must not keep it from them. Where they cannot be
    // written, the table still says what took so long to find out.
    let written = write_table(arguments.output.as_deref(), &comparison);
    let drawn = match arguments.plot.as_deref().filter(|_| has_results) {
        Some(path) => plot::draw(&comparison, path),
        None => Ok(()),
    };
    table::print(&comparison);
    written.and(drawn)?;
    if has_results { Ok(()) } else { Err("no model could be measured".into()) }
}

async fn compare(
    channel: KeyedChannel,
    arguments: &Arguments,
    mut request: pb::BenchmarkModelsRequest,
) -> Result<Comparison, Box<dyn std::error::Error>> {
    let mut client = keyed_client(channel);
    if arguments.local || arguments.remote {
        let listed = client.list_models(pb::ListModelsRequest { page_size: 1000, ..Default::default() }).await;
        let models = listed.map_err(told)?.into_inner().models;
        let is_meant = |model: &pb::Model| (model.provider == "local") == arguments.local;
        request.model_ids = models.into_iter().filter(is_meant).map(|model| model.id).collect();
        if request.model_ids.is_empty() {
            let which = if arguments.local { "local" } else { "remote" };
            return Err(WrongUsage(format!("the registry has no {which} models")).into());
        }
    }

    let mut answers = client.benchmark_models(request).await.map_err(refused)?.into_inner();
    let mut progress = Progress::of(0);
    let (mut expected, mut comparison) = (0, Comparison { setting: Setting::default(), models: Vec::new() });
    while let Some(answer) = answers.next().await {
        match answer.map_err(told)?.message {
            Some(Message::Started(started)) => {
                comparison.setting = Setting::from(&started);
                expected = started.model_ids.len();
                progress = Progress::of(expected);
            }
            Some(Message::Progress(made)) => progress.show(&made),
            Some(Message::Result(result)) => {
                let report = ModelReport::from(result);
                progress.next_model(&report);
                comparison.models.push(report);
            }
            // Of a newer service: nothing that the table needs.
            None => {}
        }
    }
    progress.end();
    if comparison.models.len() != expected {
        return Err(format!("expected results of {expected} models, got {}", comparison.models.len()).into());
    }
    Ok(comparison)
}

impl Arguments {
    /// The environment's, and what the command line says. Ends the process where the environment says what cannot be.
    fn options(&self) -> Options {
        let FromEnvironment { mut options } = command_line::parse_from(["vectron-embedding"]);
        if let Some(registry) = &self.registry {
            options.models_file = Some(registry.clone());
        }
        if let Some(model_cache) = &self.model_cache {
            options.model_cache.clone_from(model_cache);
        }
        options.offline |= self.offline;
        options.precision = self.precision.or(options.precision);
        options
    }
}

fn write_table(path: Option<&Path>, comparison: &Comparison) -> CommandResult {
    let Some(path) = path else { return Ok(()) };
    let json = serde_json::to_string_pretty(comparison)? + "\n";
    fs::write(path, json).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

/// A comparison may take long: that there is no place for its result is told before.
fn check_place(file: &Path) -> CommandResult {
    if file.is_dir() {
        return Err(WrongUsage(format!("cannot write {}: it is a folder", file.display())).into());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        Ok(())
    } else {
        Err(WrongUsage(format!("cannot write {}: there is no folder {}", file.display(), folder.display())).into())
    }
}

/// What the service does not take was given here, as an option: it is named as that.
fn refused(status: Status) -> Box<dyn std::error::Error> {
    let message = told(status.clone());
    let fields = [("model_ids", "--models"), ("samples", "--samples"), ("pairs", "--pairs"), ("repeats", "--repeats")];
    let named = fields.iter().find_map(|(field, option)| Some(format!("{option}{}", message.strip_prefix(field)?)));
    match (status.code(), named) {
        (Code::InvalidArgument, Some(named)) => WrongUsage(named).into(),
        (Code::NotFound, _) if reason(&status).as_deref() == Some("MODEL_NOT_FOUND") => {
            WrongUsage(format!("--models: {message}")).into()
        }
        _ => message.into(),
    }
}

fn reason(status: &Status) -> Option<String> {
    Some(status.get_details_error_info()?.reason)
}

fn told(status: Status) -> String {
    match status.message() {
        "" => innermost(&status),
        message => message.to_owned(),
    }
}
