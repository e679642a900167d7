//! `vectron delete`.

use std::collections::HashSet;
use std::io::Write;

use serde::Serialize;

use crate::cli::console::{counted, results};
use crate::cli::exit::{Ended, Exit};
use crate::cli::record_json::read_mask;
use crate::cli::server_options::{CollectionOption, ServerOptions};
use crate::cli::{filter, id_list};
use crate::pb::v1 as pb;
use crate::pb::v1::delete_request::Selector;

const EXAMPLES: &str = "\
Examples:
  vectron delete -c notes 17 18             two records
  vectron delete -c notes - < ids.txt       many
  vectron delete -c notes 17 --dry-run      only say which exist
  vectron delete -c notes --filter '{\"equals\": {\"field\": \"source\", \"value\": \"old.txt\"}}'";

/// Delete records by id, or by their metadata; nothing is asked
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Delete {
    /// The ids; `-`: from standard input, one a line.
    #[arg(required_unless_present = "filter", conflicts_with = "filter", value_name = "ID")]
    ids: Vec<String>,

    /// All records whose metadata fulfil this: all_of, any_of, not, equals, in, range, exists or contains.
    #[arg(long, value_name = "JSON", value_parser = filter::read)]
    filter: Option<pb::Filter>,

    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    collection: CollectionOption,

    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,

    /// Print what was done as one JSON object.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What was done, for `--json`.
#[derive(Default, Serialize)]
struct Summary {
    deleted: u64,
    missing: Vec<String>,
}

/// Runs the command.
pub async fn run(options: Delete) -> Ended {
    let console = options.server.console();
    let mut client = options.server.vectors().await?;
    let mut summary = Summary::default();
    if let Some(filter) = options.filter {
        let collection = options.collection.collection.clone();
        summary.deleted = if options.dry_run {
            let request = pb::CountRequest { collection, filter: Some(filter), min_sequence: 0 };
            client.count(request).await?.into_inner().record_count
        } else {
            client.delete(request(collection, Selector::Filter(filter))).await?.into_inner().deleted_count
        };
    }
    for ids in id_list::batches(options.ids) {
        let mut seen = HashSet::new();
        let ids: Vec<String> = ids?.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let collection = options.collection.collection.clone();
        // A delete tells how many there were, not which.
        let there = pb::GetRequest {
            collection: collection.clone(),
            ids: ids.clone(),
            read_mask: read_mask(&["id"]),
            min_sequence: 0,
        };
        let there = client.get(there).await?.into_inner();
        for id in there.missing_ids {
            console.complain(format_args!("there is no record {id:?}"));
            summary.missing.push(id);
        }
        if options.dry_run {
            summary.deleted += there.records.len() as u64;
            continue;
        }
        let keys = ids.into_iter().map(|id| pb::RecordKey { id, if_version: None }).collect();
        let selector = Selector::Ids(pb::RecordKeys { keys });
        summary.deleted += client.delete(request(collection, selector)).await?.into_inner().deleted_count;
    }
    let done = if options.dry_run { "would be deleted" } else { "deleted" };
    console.say(format_args!("{} {done}", counted(summary.deleted, "record")));
    if options.json {
        let mut out = results();
        serde_json::to_writer(&mut out, &summary)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(Exit::complete_if(summary.missing.is_empty()))
}

fn request(collection: String, selector: Selector) -> pb::DeleteRequest {
    pb::DeleteRequest {
        collection,
        selector: Some(selector),
        durability: pb::Durability::Durable.into(),
        request_id: uuid::Uuid::new_v4().to_string(),
    }
}
