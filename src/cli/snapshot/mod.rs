//! `vectron snapshot`.

mod transfer;

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use tonic::transport::Channel;

use crate::cli::confirm::confirm;
use crate::cli::console::{counted, grouped, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::server_options::{ServerOptions, read_name};
use crate::pb::v1 as pb;
use crate::pb::v1::admin_service_client::AdminServiceClient;
use crate::types::SnapshotName;

const ABOUT: &str = "\
Copies of collections: make, list and delete them, restore one as a new collection, take them elsewhere.

A snapshot lies on the server's disk, beside the collections, and shares its files with the collection: making one takes no room \
and hardly any time, and writes go on meanwhile. So it guards against mistakes, but not against a broken disk: for that, download \
it, and keep the file elsewhere. Everything is in it: records, settings, marks of streams, answers to request ids.";

const EXAMPLES: &str = "\
Examples:
  vectron snapshot create notes                              of collection notes, named by the time
  vectron snapshot create notes --name before-cleanup
  vectron snapshot list
  vectron snapshot restore before-cleanup notes-as-it-was    beside the original
  vectron snapshot download before-cleanup -o notes.tar      a backup; keep it on another disk
  vectron snapshot upload notes.tar --name moved --server http://other:3000
  vectron snapshot restore moved notes --server http://other:3000
  vectron snapshot delete before-cleanup --yes";

/// Make, list, restore, download and upload copies of collections
#[derive(clap::Args)]
#[command(long_about = ABOUT, after_help = EXAMPLES)]
pub struct Snapshot {
    /// What to do.
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(clap::Subcommand)]
enum SnapshotCommand {
    /// Make a snapshot of a collection, and describe it as JSON
    Create(Create),
    /// List snapshots, newest first
    List(List),
    /// Delete a snapshot; the collection stays as it is
    Delete(Delete),
    /// Make a new collection that begins as a snapshot
    Restore(Restore),
    /// Write a snapshot to a file
    Download(Download),
    /// Bring a snapshot from a file to the server
    Upload(Upload),
}

#[derive(clap::Args)]
struct Create {
    /// The collection.
    #[arg(value_parser = read_name)]
    collection: String,

    #[command(flatten)]
    server: ServerOptions,

    /// What the snapshot is called [default: the collection and the time].
    #[arg(long, value_name = "NAME", value_parser = read_snapshot_name)]
    name: Option<String>,
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    server: ServerOptions,

    /// Only those of this collection.
    #[arg(long, short, value_name = "NAME", value_parser = read_name)]
    collection: Option<String>,

    /// Print one JSON object a snapshot.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

#[derive(clap::Args)]
struct Delete {
    /// The snapshot.
    #[arg(value_parser = read_snapshot_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,

    /// Ask nothing.
    #[arg(long, short)]
    yes: bool,
}

#[derive(clap::Args)]
struct Restore {
    /// The snapshot.
    #[arg(value_parser = read_snapshot_name)]
    name: String,

    /// The collection to make; there must be none of that name.
    #[arg(value_parser = read_name)]
    collection: String,

    #[command(flatten)]
    server: ServerOptions,
}

#[derive(clap::Args)]
struct Download {
    /// The snapshot.
    #[arg(value_parser = read_snapshot_name)]
    name: String,

    #[command(flatten)]
    server: ServerOptions,

    /// The file, a tar archive [default: the snapshot's name and .tar]. It appears when it is whole.
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Upload {
    /// The file, as `snapshot download` wrote it.
    file: PathBuf,

    #[command(flatten)]
    server: ServerOptions,

    /// What the snapshot is called on the server [default: the name of the file without .tar].
    #[arg(long, value_name = "NAME", value_parser = read_snapshot_name)]
    name: Option<String>,
}

type Client = AdminServiceClient<Channel>;

/// A snapshot, for JSON.
#[derive(Serialize)]
struct SnapshotJson {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    collection: String,
    records: u64,
    bytes: u64,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    made_by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    damage: String,
}

/// Runs the command.
pub async fn run(options: Snapshot) -> Ended {
    match options.command {
        SnapshotCommand::Create(options) => create(options).await,
        SnapshotCommand::List(options) => list(options).await,
        SnapshotCommand::Delete(options) => delete(options).await,
        SnapshotCommand::Restore(options) => restore(options).await,
        SnapshotCommand::Download(options) => transfer::download(options).await,
        SnapshotCommand::Upload(options) => transfer::upload(options).await,
    }
}

async fn client(server: &ServerOptions) -> Result<Client, Failure> {
    Ok(AdminServiceClient::new(server.connect().await?))
}

async fn create(options: Create) -> Ended {
    let mut client = client(&options.server).await?;
    let request = pb::CreateSnapshotRequest {
        collection: options.collection,
        snapshot_name: options.name.unwrap_or_default(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    print(client.create_snapshot(request).await?.into_inner().snapshot.unwrap_or_default())
}

async fn list(options: List) -> Ended {
    let snapshots = all(&mut client(&options.server).await?, options.collection.unwrap_or_default()).await?;
    let snapshots: Vec<SnapshotJson> = snapshots.into_iter().map(SnapshotJson::from).collect();
    let mut out = results();
    if options.json {
        for snapshot in &snapshots {
            serde_json::to_writer(&mut out, snapshot)?;
            out.write_all(b"\n")?;
        }
    } else if snapshots.is_empty() {
        options.server.console().say("there are no snapshots; make one with `vectron snapshot create COLLECTION`");
    } else {
        let name_width = snapshots.iter().map(|snapshot| snapshot.name.len()).max().unwrap_or(0).max(4);
        writeln!(out, "{:name_width$}  {:20}  {:>12}  {:>15}  COLLECTION", "NAME", "CREATED", "RECORDS", "BYTES")?;
        for SnapshotJson { name, collection, records, bytes, created, damage, .. } in &snapshots {
            let (records, bytes) = (grouped(*records), grouped(*bytes));
            let created = created.as_deref().unwrap_or("-");
            let last = if damage.is_empty() { collection.clone() } else { format!("damaged: {damage}") };
            writeln!(out, "{name:name_width$}  {created:20}  {records:>12}  {bytes:>15}  {last}")?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn all(client: &mut Client, collection: String) -> Result<Vec<pb::Snapshot>, Failure> {
    let mut request = pb::ListSnapshotsRequest { collection, page_size: 1_000, page_token: String::new() };
    let mut snapshots = Vec::new();
    loop {
        let page = client.list_snapshots(request.clone()).await?.into_inner();
        snapshots.extend(page.snapshots);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(snapshots);
        }
    }
}

async fn delete(options: Delete) -> Ended {
    let console = options.server.console();
    let mut client = client(&options.server).await?;
    let name = options.name;
    if !options.yes {
        let known = all(&mut client, String::new()).await?.into_iter().find(|snapshot| snapshot.name == name);
        let what = match known {
            Some(snapshot) if snapshot.damage.is_empty() => {
                let (records, collection) = (counted(snapshot.record_count, "record"), snapshot.collection);
                format!("snapshot {name} has {records} of {collection}")
            }
            _ => format!("snapshot {name} is damaged, or not there"),
        };
        confirm(&console, what, &name)?;
    }
    client.delete_snapshot(pb::DeleteSnapshotRequest { snapshot_name: name.clone() }).await?;
    console.say(format_args!("deleted snapshot {name}"));
    Ok(Exit::Done)
}

async fn restore(options: Restore) -> Ended {
    let console = options.server.console();
    let mut client = client(&options.server).await?;
    let (snapshot_name, collection) = (options.name, options.collection);
    let request = pb::RestoreSnapshotRequest {
        snapshot_name: snapshot_name.clone(),
        collection: collection.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let restored = client.restore_snapshot(request).await?.into_inner().record_count;
    console.say(format_args!("restored {} of {snapshot_name} as collection {collection}", counted(restored, "record")));
    Ok(Exit::Done)
}

fn print(snapshot: pb::Snapshot) -> Ended {
    let mut out = results();
    serde_json::to_writer_pretty(&mut out, &SnapshotJson::from(snapshot))?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(Exit::Done)
}

fn read_snapshot_name(name: &str) -> Result<String, String> {
    SnapshotName::new(name).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

impl From<pb::Snapshot> for SnapshotJson {
    fn from(snapshot: pb::Snapshot) -> Self {
        // Whole seconds are enough for a person.
        let created = snapshot.create_time.map(|time| prost_types::Timestamp { nanos: 0, ..time }.to_string());
        Self {
            name: snapshot.name,
            collection: snapshot.collection,
            records: snapshot.record_count,
            bytes: snapshot.size_bytes,
            sequence: snapshot.sequence,
            created,
            made_by: snapshot.program_version,
            damage: snapshot.damage,
        }
    }
}
