//! `vectron collections`.

use std::io::Write;

use serde::Serialize;
use tonic::transport::Channel;

use crate::cli::confirm::confirm;
use crate::cli::console::{counted, grouped, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::record_json::read_mask;
use crate::cli::server_options::{ServerOptions, read_name};
use crate::pb::v1 as pb;
use crate::pb::v1::collection_service_client::CollectionServiceClient;
use crate::types::Dimension;

const EXAMPLES: &str = "\
Examples:
  vectron collections list
  vectron collections create notes --model minilm                 for texts
  vectron collections create shapes --space pixels:3:euclidean    for vectors of 3 numbers
  vectron collections create copy --like notes                    the same spaces, no records
  vectron collections add-space notes --space pixels:3            another space
  vectron collections show notes
  vectron collections delete notes --yes";

/// List, describe, create and delete collections
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Collections {
    /// What to do.
    #[command(subcommand)]
    command: CollectionsCommand,
}

#[derive(clap::Subcommand)]
enum CollectionsCommand {
    /// List all collections
    List(List),
    /// Describe a collection, as JSON
    Show(Show),
    /// Create a collection
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Add spaces to a collection
    AddSpace(AddSpace),
    /// Delete a collection with everything in it
    Delete(Delete),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    server: ServerOptions,

    /// Print one JSON object a collection.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(clap::Args)]
struct Show {
    /// The collection.
    #[arg(value_parser = read_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,
}

#[derive(clap::Args)]
struct Create {
    /// The collection.
    #[arg(value_parser = read_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,

    #[command(flatten)]
    spaces: SpaceOptions,

    /// Take spaces, description and default model of another collection.
    #[arg(long, value_name = "NAME", value_parser = read_name, help_heading = "Spaces")]
    like: Option<String>,

    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(clap::Args)]
struct AddSpace {
    /// The collection.
    #[arg(value_parser = read_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,

    #[command(flatten)]
    spaces: SpaceOptions,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Spaces")]
struct SpaceOptions {
    /// Add a space for the texts of a model, named after it; may be given several times. The first one of a new collection
    /// is its default.
    #[arg(long, value_name = "ID")]
    model: Vec<String>,

    /// Add a space for vectors: `name:dimension`, or `name:dimension:metric` with cosine (the default), dot or euclidean;
    /// may be given several times.
    #[arg(long, value_name = "NAME:DIMENSION", value_parser = read_space)]
    space: Vec<pb::Space>,
}

impl SpaceOptions {
    fn into_spaces(self) -> Vec<pb::Space> {
        let of_models = self.model.into_iter().map(|model| pb::Space {
            name: model.clone(),
            text_model: Some(pb::TextModel { model_id: model, fingerprint: String::new() }),
            ..pb::Space::default()
        });
        of_models.chain(self.space).collect()
    }
}

#[derive(clap::Args)]
struct Delete {
    /// The collection.
    #[arg(value_parser = read_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,

    /// Ask nothing.
    #[arg(long, short)]
    yes: bool,
}

type Client = CollectionServiceClient<Channel>;

/// A collection, for `--json`.
#[derive(Serialize)]
struct CollectionJson {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    records: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    state_reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    default_model: String,
    sequence: u64,
    spaces: Vec<SpaceJson>,
}

#[derive(Serialize)]
struct SpaceJson {
    name: String,
    dimension: u32,
    metric: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    records: u64,
}

/// Runs the command.
pub async fn run(options: Collections) -> Ended {
    match options.command {
        CollectionsCommand::List(options) => list(options).await,
        CollectionsCommand::Show(options) => show(options).await,
        CollectionsCommand::Create(options) => create(options).await,
        CollectionsCommand::AddSpace(options) => add_space(options).await,
        CollectionsCommand::Delete(options) => delete(options).await,
    }
}

async fn list(options: List) -> Ended {
    let mut client = options.server.collections().await?;
    let mut request = pb::ListCollectionsRequest { page_size: 1_000, page_token: String::new() };
    let mut collections = Vec::new();
    loop {
        let page = client.list_collections(request.clone()).await?.into_inner();
        collections.extend(page.collections.into_iter().map(CollectionJson::from));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let mut out = results();
    if options.json {
        for collection in &collections {
            serde_json::to_writer(&mut out, collection)?;
            out.write_all(b"\n")?;
        }
    } else if collections.is_empty() {
        options.server.console().say("there are no collections yet");
    } else {
        let name_width = collections.iter().map(|collection| collection.name.len()).max().unwrap_or(0).max(4);
        writeln!(out, "{:name_width$}  {:>12}  {:9}  SPACES", "NAME", "RECORDS", "STATE")?;
        for CollectionJson { name, records, state, spaces, .. } in &collections {
            let spaces: Vec<String> = spaces.iter().map(SpaceJson::told).collect();
            let spaces = if spaces.is_empty() { "-".to_owned() } else { spaces.join(", ") };
            writeln!(out, "{name:name_width$}  {:>12}  {state:9}  {spaces}", grouped(*records))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn show(options: Show) -> Ended {
    let mut client = options.server.collections().await?;
    print(get(&mut client, &options.name).await?)
}

async fn create(options: Create) -> Ended {
    let mut client = options.server.collections().await?;
    let mut collection = pb::Collection::default();
    if let Some(like) = &options.like {
        collection = get(&mut client, like).await?;
    }
    if let Some(model) = options.spaces.model.first() {
        collection.default_model_id.clone_from(model);
    }
    if let Some(description) = options.description {
        collection.description = description;
    }
    collection.name = options.name;
    collection.spaces.extend(options.spaces.into_spaces());
    let request =
        pb::CreateCollectionRequest { collection: Some(collection), request_id: uuid::Uuid::new_v4().to_string() };
    let created = client.create_collection(request).await?.into_inner();
    print(created.collection.unwrap_or_default())
}

async fn add_space(options: AddSpace) -> Ended {
    let spaces = options.spaces.into_spaces();
    if spaces.is_empty() {
        return Err(Failure::usage("say what to add: --space NAME:DIMENSION, or --model ID"));
    }
    let mut client = options.server.collections().await?;
    let request = pb::UpdateCollectionRequest {
        collection: Some(pb::Collection { name: options.name, spaces, ..pb::Collection::default() }),
        update_mask: read_mask(&["spaces"]),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let updated = client.update_collection(request).await?.into_inner();
    print(updated.collection.unwrap_or_default())
}

async fn delete(options: Delete) -> Ended {
    let console = options.server.console();
    let mut client = options.server.collections().await?;
    let name = options.name;
    if !options.yes {
        let count = get(&mut client, &name).await?.record_count;
        confirm(&console, format_args!("collection {name} has {}", counted(count, "record")), &name)?;
    }
    let request = pb::DeleteCollectionRequest { name: name.clone(), request_id: uuid::Uuid::new_v4().to_string() };
    let deleted = client.delete_collection(request).await?.into_inner().record_count;
    console.say(format_args!("deleted collection {name} with {}", counted(deleted, "record")));
    Ok(Exit::Done)
}

async fn get(client: &mut Client, name: &str) -> Result<pb::Collection, Failure> {
    let request = pb::GetCollectionRequest { name: name.to_owned() };
    Ok(client.get_collection(request).await?.into_inner().collection.unwrap_or_default())
}

fn print(collection: pb::Collection) -> Ended {
    let mut out = results();
    serde_json::to_writer_pretty(&mut out, &CollectionJson::from(collection))?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(Exit::Done)
}

fn read_space(text: &str) -> Result<pb::Space, String> {
    let expected = "expected name:dimension or name:dimension:metric";
    let parts: Vec<&str> = text.split(':').collect();
    let (name, dimension, metric) = match parts[..] {
        [name, dimension] => (name, dimension, "cosine"),
        [name, dimension, metric] => (name, dimension, metric),
        _ => return Err(expected.to_owned()),
    };
    let dimension = dimension.parse().ok().and_then(Dimension::new);
    let dimension = dimension.ok_or_else(|| format!("{expected}, with a dimension of 1 to 65,536"))?;
    let metric = match metric {
        "cosine" => pb::Metric::Cosine,
        "dot" => pb::Metric::DotProduct,
        "euclidean" => pb::Metric::Euclidean,
        other => return Err(format!("expected cosine, dot or euclidean, but got {other:?}")),
    };
    let (name, dimension) = (name.to_owned(), dimension.get() as u32);
    Ok(pb::Space { name, dimension, metric: metric.into(), ..pb::Space::default() })
}

impl From<pb::Collection> for CollectionJson {
    fn from(collection: pb::Collection) -> Self {
        let state = match collection.state() {
            pb::CollectionState::Ready => "ready",
            pb::CollectionState::Damaged => "damaged",
            pb::CollectionState::NotLoaded => "not loaded",
            pb::CollectionState::ReadOnly => "read-only",
            pb::CollectionState::Unspecified => "unknown",
        };
        Self {
            name: collection.name,
            description: collection.description,
            records: collection.record_count,
            state,
            state_reason: collection.state_reason,
            default_model: collection.default_model_id,
            sequence: collection.sequence,
            spaces: collection.spaces.into_iter().map(SpaceJson::from).collect(),
        }
    }
}

impl From<pb::Space> for SpaceJson {
    fn from(space: pb::Space) -> Self {
        let metric = match space.metric() {
            pb::Metric::Unspecified | pb::Metric::Cosine => "cosine",
            pb::Metric::DotProduct => "dot",
            pb::Metric::Euclidean => "euclidean",
        };
        let (model, fingerprint) = space.text_model.map(|model| (model.model_id, model.fingerprint)).unzip();
        let (name, dimension, records) = (space.name, space.dimension, space.record_count);
        Self { name, dimension, metric, model, fingerprint, records }
    }
}

impl SpaceJson {
    fn told(&self) -> String {
        let Self { name, dimension, metric, model, .. } = self;
        match model {
            Some(model) if model != name => format!("{name} ({dimension}, {metric}, texts of {model})"),
            Some(_) => format!("{name} ({dimension}, {metric}, texts)"),
            None => format!("{name} ({dimension}, {metric})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_is_a_name_a_dimension_and_perhaps_a_metric() {
        let space = read_space("pixels:3:euclidean").unwrap();
        assert_eq!((space.name.as_str(), space.dimension, space.metric()), ("pixels", 3, pb::Metric::Euclidean));
        assert_eq!(read_space("a:384").unwrap().metric(), pb::Metric::Cosine);
        for text in ["a", "a:0", "a:x", "a:70000", "a:3:manhattan", "a:3:dot:x"] {
            assert!(read_space(text).is_err(), "{text}");
        }
    }
}
