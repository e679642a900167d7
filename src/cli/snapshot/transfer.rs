//! `vectron snapshot download` and `upload`: archives between the server and files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tonic::Status;

use super::{Client, Download, Upload, client, read_snapshot_name};
use crate::cli::console::{Console, Unit, counted};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::pb::v1 as pb;

/// Bytes of a message.
const CHUNK_BYTES: usize = 1 << 20;

pub async fn download(options: Download) -> Ended {
    let mut console = options.server.console();
    let mut client = client(&options.server).await?;
    let path = options.output.unwrap_or_else(|| PathBuf::from(format!("{}.tar", options.name)));
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let started = Instant::now();
    let fetched = fetch(&mut client, &options.name, &part, &mut console).await;
    console.end_bar();
    if fetched.is_err() {
        // What is there of it is of no use; where it cannot be removed, the error that is told matters more.
        let _ = fs::remove_file(&part);
    }
    let (snapshot, bytes) = fetched?;
    fs::rename(&part, &path).map_err(|error| Failure::file("write", path.display(), &error))?;
    let (records, seconds) = (counted(snapshot.record_count, "record"), started.elapsed().as_secs_f64());
    let (name, path) = (options.name, path.display());
    console.say(format_args!("downloaded {name} ({records}, {}) to {path} in {seconds:.1} s", counted(bytes, "byte")));
    Ok(Exit::Done)
}

/// Writes the archive to a file, going on where a connection broke. Returns the snapshot and the bytes of the archive.
async fn fetch(
    client: &mut Client,
    name: &str,
    part: &Path,
    console: &mut Console,
) -> Result<(pb::Snapshot, u64), Failure> {
    let failed = |error| Failure::file("write", part.display(), &error);
    let mut tries = [200, 1_000, 5_000].into_iter().map(Duration::from_millis);
    let mut progress: Option<Progress> = None;
    loop {
        let broken = match fetch_from(client, name, part, console, &mut progress).await {
            Ok(()) => break,
            Err(Broken::Status(status)) => status,
            Err(Broken::File(error)) => return Err(failed(error)),
        };
        match tries.next() {
            // The connection, not the snapshot.
            Some(pause) if progress.is_some() && crate::cli::import::is_temporary(&broken) => {
                tokio::time::sleep(pause).await;
            }
            _ => return Err(broken.into()),
        }
    }
    let progress = progress.ok_or_else(|| Failure::new("the server sent nothing"))?;
    if progress.bytes != progress.archive_bytes {
        let Progress { bytes, archive_bytes, .. } = progress;
        return Err(Failure::new(format_args!("the server sent {bytes} bytes of {archive_bytes}; try again")));
    }
    progress.file.sync_all().map_err(failed)?;
    Ok((progress.snapshot, progress.archive_bytes))
}

/// What has come so far.
struct Progress {
    snapshot: pb::Snapshot,
    archive_bytes: u64,
    bytes: u64,
    file: File,
}

enum Broken {
    Status(Status),
    File(io::Error),
}

async fn fetch_from(
    client: &mut Client,
    name: &str,
    part: &Path,
    console: &mut Console,
    progress: &mut Option<Progress>,
) -> Result<(), Broken> {
    let offset_bytes = progress.as_ref().map_or(0, |progress| progress.bytes);
    let request = pb::DownloadSnapshotRequest { snapshot_name: name.to_owned(), offset_bytes };
    let mut chunks = client.download_snapshot(request).await.map_err(Broken::Status)?.into_inner();
    while let Some(message) = chunks.message().await.map_err(Broken::Status)? {
        if let Some(snapshot) = message.snapshot {
            let is_other =
                |so_far: &Progress| so_far.snapshot != snapshot || so_far.archive_bytes != message.archive_bytes;
            if progress.as_ref().is_some_and(is_other) {
                let message = "the snapshot was replaced by another of its name while it was sent; try again";
                return Err(Broken::Status(Status::aborted(message)));
            }
            if progress.is_none() {
                let file = File::create(part).map_err(Broken::File)?;
                console.start_bar(Some(message.archive_bytes), Unit::Bytes);
                *progress = Some(Progress { snapshot, archive_bytes: message.archive_bytes, bytes: 0, file });
            }
        }
        let Some(progress) = progress else {
            return Err(Broken::Status(Status::data_loss("the server did not say what it sends")));
        };
        progress.file.write_all(&message.chunk).map_err(Broken::File)?;
        progress.bytes += message.chunk.len() as u64;
        console.bar().set_position(progress.bytes);
    }
    Ok(())
}

pub async fn upload(options: Upload) -> Ended {
    let path = &options.file;
    let unreadable = |error| Failure::file("read", path.display(), &error);
    let name = match options.name {
        Some(name) => name,
        None => name_of(path)?,
    };
    let file = File::open(path).map_err(unreadable)?;
    let archive_bytes = file.metadata().map_err(unreadable)?.len();
    let mut console = options.server.console();
    let mut client = client(&options.server).await?;
    console.start_bar(Some(archive_bytes), Unit::Bytes);
    let started = Instant::now();
    let header = pb::UploadSnapshotRequest { snapshot_name: name.clone(), archive_bytes, ..Default::default() };
    let failure = Arc::default();
    let chunks = Chunks { file, bar: console.bar().clone(), failure: Arc::clone(&failure) };
    let messages = tokio_stream::iter(std::iter::once(header).chain(chunks));
    let answer = client.upload_snapshot(messages).await;
    console.end_bar();
    if let Some(error) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(unreadable(error));
    }
    let snapshot = answer?.into_inner().snapshot.unwrap_or_default();
    let (records, seconds) = (counted(snapshot.record_count, "record"), started.elapsed().as_secs_f64());
    console.say(format_args!(
        "uploaded {} as snapshot {name} ({records} of {}) in {seconds:.1} s; restore it with \
         `vectron snapshot restore {name} COLLECTION`",
        path.display(),
        snapshot.collection
    ));
    Ok(Exit::Done)
}

/// A file that is sent piece by piece. Where it cannot be read, the archive breaks off.
struct Chunks {
    file: File,
    bar: ProgressBar,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Iterator for Chunks {
    type Item = pb::UploadSnapshotRequest;

    fn next(&mut self) -> Option<pb::UploadSnapshotRequest> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        if let Err(error) = (&mut self.file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return None;
        }
        self.bar.inc(chunk.len() as u64);
        (!chunk.is_empty()).then(|| pb::UploadSnapshotRequest { chunk: chunk.into(), ..Default::default() })
    }
}

fn name_of(path: &Path) -> Result<String, Failure> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file_name.strip_suffix(".tar").unwrap_or(&file_name);
    read_snapshot_name(stem).map_err(|error| Failure::usage(format_args!("{error}; choose one with --name")))
}
