//! `vectron import`: a file becomes records, on one stream that can be cut off at any moment and gone on with.
//!
//! The way of a line: `format` splits the file and reads the line, `draft` checks it, `frame` puts records together (on
//! the thread of `reading`), `sending` and `stream` send them and keep what is not settled, `repair` and `mending` look
//! after frames that the server refused, `bad_lines` tells what was left out.

mod bad_lines;
pub mod draft;
pub mod format;
mod frame;
mod identity;
pub mod input;
mod mending;
mod options;
mod reading;
mod repair;
mod retry;
mod sending;
mod stream;
mod target;

use std::time::{Duration, Instant};

use serde::Serialize;
use tonic::Code;
use tonic::transport::Channel;

use crate::cli::console::{Console, Unit, counted, grouped, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::server_options;
use crate::pb::v1 as pb;
use crate::pb::v1::collection_service_client::CollectionServiceClient;
use bad_lines::BadLines;
use reading::{Read, Recipe, Source};
use retry::Trouble;
use sending::{Import as Parts, Sending, Totals};
use target::Target;

pub use options::Import;
pub use retry::is_temporary;

/// What was imported, for `--json`.
#[derive(Serialize)]
struct Summary<'a> {
    collection: &'a str,
    records: u64,
    records_before: u64,
    bad_lines: u64,
    truncated_texts: u64,
    seconds: f64,
    records_per_s: f64,
    collection_records: u64,
}

/// Runs the command.
pub async fn run(options: Import) -> Ended {
    let recipe = options.recipe()?;
    let bad_lines = BadLines::new(options.file_name(), recipe.format, options.bad_lines_max);
    let console = options.server.console();
    match options.dry_run {
        true => read_only(Source::open(&options.file, &recipe, options.rejects.is_some())?, bad_lines, console).await,
        false => import(&options, &recipe, bad_lines, console).await,
    }
}

async fn import(options: &Import, recipe: &Recipe, bad_lines: BadLines, mut console: Console) -> Ended {
    let started = Instant::now();
    let open = pb::StreamOpen {
        stream_id: options.stream_id(recipe)?,
        collection: options.collection.collection.clone(),
        durability: options.durability.to_message().into(),
        model_id: options.model.clone(),
        create_missing: !options.no_create,
    };
    let channel = options.server.connect().await?;
    let collection = describe(channel.clone(), &open.collection, options.retry_s).await?;
    if collection.is_none() && options.no_create {
        let name = &open.collection;
        let advice = "leave --no-create out, or make it with `vectron collections create`";
        return Err(Failure::new(format_args!("there is no collection {name:?}; {advice}")));
    }
    let target = Target::new(collection.as_ref(), !options.no_create);
    let size = options.file_bytes();
    console.say(format_args!(
        "importing {} ({}) into collection {} at {}",
        options.file_name(),
        size.map_or_else(|| "of unknown size".to_owned(), |bytes| indicatif::HumanBytes(bytes).to_string()),
        open.collection,
        options.server.server
    ));
    // After the server: whoever writes to standard input may take its time.
    let source = Source::open(&options.file, recipe, options.rejects.is_some())?;
    console.start_bar(size, Unit::Bytes);
    let rejects = options.rejects.clone().map(|path| (path, source.header()));
    let mut sending = Sending::new(Parts {
        client: server_options::vectors(channel),
        open,
        reads: source.start(target),
        frames: recipe.frames,
        rejects,
        retry_s: options.retry_s,
        bad_lines,
        console,
    });
    let ended = tokio::select! {
        ended = send(&mut sending, options.restart) => ended,
        () = vectron_embedding::shutdown::signal() => {
            sending.console.end_bar();
            return Ok(sending.interrupted(options.is_resumable()));
        }
    };
    sending.console.end_bar();
    if let Err(failure) = ended {
        sending.tell_stored();
        return Err(failure);
    }
    summarize(options, &mut sending, started.elapsed()).await
}

async fn send(sending: &mut Sending, restarts: bool) -> Result<(), Failure> {
    if restarts {
        sending.forget().await?;
    }
    sending.run().await
}

/// The collection as it is; `None` where there is none. A server that still starts is waited for.
async fn describe(channel: Channel, name: &str, retry_s: u64) -> Result<Option<pb::Collection>, Failure> {
    let mut client = CollectionServiceClient::new(channel);
    let mut trouble = Trouble::new(Duration::from_secs(retry_s));
    loop {
        let request = pb::GetCollectionRequest { name: name.to_owned() };
        let status = match client.get_collection(request).await {
            Ok(response) => return Ok(response.into_inner().collection),
            Err(status) => status,
        };
        match trouble.next_pause() {
            _ if status.code() == Code::NotFound => return Ok(None),
            Some(pause) if is_temporary(&status) => tokio::time::sleep(pause).await,
            _ => return Err(status.into()),
        }
    }
}

async fn summarize(options: &Import, sending: &mut Sending, time: Duration) -> Ended {
    let collection = options.collection.collection.as_str();
    let request = pb::CountRequest { collection: collection.to_owned(), ..pb::CountRequest::default() };
    let collection_records = match sending.client.count(request).await {
        Ok(response) => response.into_inner().record_count,
        // Nothing came, so nothing was made.
        Err(status) if status.code() == Code::NotFound => 0,
        Err(status) => return Err(status.into()),
    };
    let Totals { records, records_before, truncated } = sending.totals;
    let records_per_s = records as f64 / time.as_secs_f64().max(0.001);
    let seconds = time.as_secs_f64();
    let mut told = vec![format!(
        "imported {} in {seconds:.1} s ({}/s)",
        counted(records, "record"),
        grouped(records_per_s.round() as u64)
    )];
    if records_before > 0 {
        told.push(format!("{} were there before", grouped(records_before)));
    }
    told.extend(sending.bad_lines.told());
    if truncated > 0 {
        told.push(format!("{} longer than the model reads (found by their beginning)", counted(truncated, "text")));
    }
    told.push(format!("collection {collection} now has {}", counted(collection_records, "record")));
    sending.console.say(told.join("; "));
    if options.json {
        let summary = Summary {
            collection,
            records,
            records_before,
            bad_lines: sending.bad_lines.count,
            truncated_texts: truncated,
            seconds,
            records_per_s,
            collection_records,
        };
        print_json(&summary)?;
    }
    Ok(Exit::complete_if(sending.bad_lines.count == 0))
}

/// `--dry-run`: reads and reports; the server is not asked.
async fn read_only(source: Source, mut bad_lines: BadLines, console: Console) -> Ended {
    let started = Instant::now();
    let (mut records, mut frames) = (0, 0);
    let mut reads = source.start(Target::unknown());
    while let Some(read) = reads.recv().await {
        match read {
            Read::Frame(frame) => {
                records += frame.records.len() as u64;
                frames += 1;
            }
            Read::Bad(bad) => bad_lines.add(&bad, &console)?,
            Read::End => break,
            Read::Failed(error) => return Err(Failure::new(format_args!("{}: {error}", bad_lines.file()))),
        }
    }
    let mut told = vec![format!(
        "read {} in {} within {:.1} s; nothing was sent",
        counted(records, "record"),
        counted(frames, "frame"),
        started.elapsed().as_secs_f64()
    )];
    told.extend(bad_lines.told());
    console.say(told.join("; "));
    Ok(Exit::complete_if(bad_lines.count == 0))
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = results();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
