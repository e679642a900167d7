//! Snapshots through real servers and the real command line: made while a writer writes, restored beside the original and on an
//! empty server, damaged, and sent by somebody who means harm.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![expect(clippy::print_stdout, reason = "figures are part of what a test says")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{Server, Texts, data_folder, vectron};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;
use vectron::pb::v1::search_request::Query;
use vectron::pb::v1::vector::Components;

fn vector(values: &[f32]) -> Option<pb::Vector> {
    let values = values.to_vec();
    Some(pb::Vector { components: Some(Components::Floats(pb::FloatArray { values })), space: "raw".into() })
}

/// One batch: every record gets the same number.
fn batch(collection: &str, count: usize, number: f32) -> pb::UpsertRequest {
    let record = |n: usize| pb::RecordInput {
        id: format!("{n:04}"),
        vector: vector(&[1.0 + n as f32, number]),
        ..Default::default()
    };
    pb::UpsertRequest { collection: collection.into(), records: (0..count).map(record).collect(), ..Default::default() }
}

async fn create(server: &Server, name: &str) {
    let space =
        pb::Space { name: "raw".into(), dimension: 2, metric: pb::Metric::Euclidean.into(), ..Default::default() };
    let collection = Some(pb::Collection { name: name.into(), spaces: vec![space], ..Default::default() });
    let request = pb::CreateCollectionRequest { collection, ..Default::default() };
    server.collections().await.create_collection(request).await.unwrap();
}

async fn everything(server: &Server, collection: &str) -> Vec<pb::Record> {
    let request = pb::ListRequest { collection: collection.into(), page_size: 10_000, ..Default::default() };
    server.vectors().await.list(request).await.unwrap().into_inner().records
}

fn number_of(record: &pb::Record) -> u32 {
    match record.vector.as_ref().unwrap().components.as_ref().unwrap() {
        Components::F32Le(bytes) => f32::from_le_bytes(bytes[4..8].try_into().unwrap()) as u32,
        Components::Floats(floats) => floats.values[1] as u32,
    }
}

async fn hits(server: &Server, collection: &str, query: &[f32]) -> Vec<(String, f32)> {
    let request = pb::SearchRequest {
        collection: collection.into(),
        query: Some(Query::Vector(vector(query).unwrap())),
        ..Default::default()
    };
    let found = server.vectors().await.search(request).await.unwrap().into_inner();
    found.hits.into_iter().map(|hit| (hit.record.unwrap().id, hit.score)).collect()
}

async fn make(server: &Server, collection: &str, name: &str) -> pb::Snapshot {
    let request =
        pb::CreateSnapshotRequest { collection: collection.into(), snapshot_name: name.into(), ..Default::default() };
    server.admin().await.create_snapshot(request).await.unwrap().into_inner().snapshot.unwrap()
}

async fn restore(server: &Server, name: &str, collection: &str) -> Result<pb::RestoreSnapshotResponse, Status> {
    let request =
        pb::RestoreSnapshotRequest { snapshot_name: name.into(), collection: collection.into(), ..Default::default() };
    server.admin().await.restore_snapshot(request).await.map(tonic::Response::into_inner)
}

async fn download(server: &Server, name: &str, offset_bytes: u64) -> Vec<u8> {
    let request = pb::DownloadSnapshotRequest { snapshot_name: name.into(), offset_bytes };
    let mut chunks = server.admin().await.download_snapshot(request).await.unwrap().into_inner();
    let (mut archive, mut declared) = (Vec::new(), 0);
    while let Some(message) = chunks.message().await.unwrap() {
        assert!(message.chunk.len() <= 1 << 20);
        declared = declared.max(message.archive_bytes);
        archive.extend_from_slice(&message.chunk);
    }
    assert_eq!(archive.len() as u64 + offset_bytes, declared);
    archive
}

fn messages(name: &str, archive: &[u8], declared: u64) -> Vec<pb::UploadSnapshotRequest> {
    let header =
        pb::UploadSnapshotRequest { snapshot_name: name.into(), archive_bytes: declared, ..Default::default() };
    let chunk = |bytes: &[u8]| pb::UploadSnapshotRequest { chunk: bytes.to_vec().into(), ..Default::default() };
    [header].into_iter().chain(archive.chunks(1 << 20).map(chunk)).collect()
}

async fn upload(server: &Server, name: &str, archive: &[u8]) -> Result<pb::Snapshot, Status> {
    let sent = messages(name, archive, archive.len() as u64);
    let answer = server.admin().await.upload_snapshot(tokio_stream::iter(sent)).await?;
    Ok(answer.into_inner().snapshot.unwrap())
}

async fn names(server: &Server) -> Vec<String> {
    let request = pb::ListSnapshotsRequest::default();
    let listed = server.admin().await.list_snapshots(request).await.unwrap().into_inner();
    listed.snapshots.into_iter().map(|snapshot| snapshot.name).collect()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str, says: &str) {
    let status = result.unwrap_err();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
    assert!(status.message().contains(says), "no {says:?} in {:?}", status.message());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_taken_under_writes_is_one_point_and_moves_to_an_empty_server() {
    let (data, other_data) = (data_folder(), data_folder());
    let server = Server::start(data.path(), Texts::Away);
    create(&server, "c").await;
    let first = pb::UpsertRequest { request_id: "first".into(), ..batch("c", 100, 1.0) };
    let answered = server.vectors().await.upsert(first.clone()).await.unwrap().into_inner();
    let mut client = server.vectors().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let writing = tokio::spawn(async move {
        let mut number = 2;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            client.upsert(batch("c", 100, number as f32)).await.unwrap();
            number += 1;
        }
        number
    });
    let mut made = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        made.push(make(&server, "c", "").await);
    }
    stop.send(()).unwrap();
    assert!(writing.await.unwrap() > 10);
    let distinct: BTreeSet<_> = made.iter().map(|snapshot| (&snapshot.name, snapshot.sequence)).collect();
    assert_eq!(distinct.len(), 5, "{made:?}");
    let mut points = BTreeSet::new();
    for (n, snapshot) in made.iter().enumerate() {
        assert_eq!((snapshot.collection.as_str(), snapshot.record_count), ("c", 100));
        assert!(snapshot.name.starts_with("c-20") && snapshot.size_bytes > 0 && snapshot.create_time.is_some());
        let name = format!("r{n}");
        let restored = restore(&server, &snapshot.name, &name).await.unwrap();
        assert_eq!((restored.record_count, restored.sequence), (100, snapshot.sequence));
        let numbers: BTreeSet<u32> = everything(&server, &name).await.iter().map(number_of).collect();
        assert_eq!(numbers.len(), 1, "one batch is in it, whole: {numbers:?}");
        points.extend(numbers);
    }
    assert!(points.len() > 2, "the snapshots are of different moments: {points:?}");
    assert_refused(
        restore(&server, &made[0].name, "c").await,
        Code::AlreadyExists,
        "COLLECTION_EXISTS",
        "\"c\" already",
    );

    // Both go on.
    server.vectors().await.upsert(batch("r4", 3, 9_000.0)).await.unwrap();
    server.vectors().await.upsert(batch("c", 2, 8_000.0)).await.unwrap();
    let count = |records: Vec<pb::Record>, number| records.iter().filter(|record| number_of(record) == number).count();
    assert_eq!(count(everything(&server, "r4").await, 9_000), 3);
    assert_eq!(count(everything(&server, "c").await, 8_000), 2);
    assert_eq!(count(everything(&server, "c").await, 9_000), 0);

    // To a server that has nothing, under the old name.
    let other = Server::start(other_data.path(), Texts::Away);
    let archive = download(&server, &made[3].name, 0).await;
    assert!(archive[5_000..] == download(&server, &made[3].name, 5_000).await, "a transfer can go on");
    let moved = upload(&other, "moved", &archive).await.unwrap();
    assert_eq!((moved.name.as_str(), moved.sequence), ("moved", made[3].sequence));
    restore(&other, "moved", "c").await.unwrap();
    assert_eq!(everything(&other, "c").await, everything(&server, "r3").await);
    for query in [[1.5, 3.0], [40.2, 0.0], [99.0, 50.0]] {
        assert_eq!(hits(&other, "c", &query).await, hits(&server, "r3", &query).await);
    }
    assert_eq!(other.vectors().await.upsert(first).await.unwrap().into_inner(), answered, "a retry is answered");
    other.vectors().await.upsert(batch("c", 7, 5_000.0)).await.unwrap();
    let before = everything(&other, "c").await;
    other.kill();
    let other = Server::start(other_data.path(), Texts::Away);
    assert_eq!(everything(&other, "c").await, before, "and it survives a kill");
}

#[tokio::test]
async fn what_is_refused_says_why_and_leaves_nothing() {
    let outer = data_folder();
    let data = outer.path().join("data");
    let server = Server::start(&data, Texts::Away);
    create(&server, "c").await;
    server.vectors().await.upsert(batch("c", 50, 1.0)).await.unwrap();
    let snapshot = make(&server, "c", "s").await;
    let archive = download(&server, "s", 0).await;
    let before = files(&data.join("snapshots"));
    let mut admin = server.admin().await;
    let invalid = Code::InvalidArgument;
    for name in ["../x", "/etc/passwd", "a/b", "..", "s.tmp", "ä", "", &"x".repeat(129)] {
        let (snapshot_name, says) = (name.to_owned(), "A-Z a-z 0-9 _ -");
        let delete = pb::DeleteSnapshotRequest { snapshot_name: snapshot_name.clone() };
        assert_refused(admin.delete_snapshot(delete).await, invalid, "INVALID_ARGUMENT", says);
        assert_refused(restore(&server, name, "d").await, invalid, "INVALID_ARGUMENT", says);
        assert_refused(upload(&server, name, &archive).await, invalid, "INVALID_ARGUMENT", says);
        let request = pb::DownloadSnapshotRequest { snapshot_name: snapshot_name.clone(), offset_bytes: 0 };
        assert_refused(admin.download_snapshot(request).await.map(|_| ()), invalid, "INVALID_ARGUMENT", says);
        if !name.is_empty() {
            let request = pb::CreateSnapshotRequest { collection: "c".into(), snapshot_name, ..Default::default() };
            assert_refused(admin.create_snapshot(request).await, invalid, "INVALID_ARGUMENT", says);
        }
    }
    let missing = restore(&server, "t", "d").await;
    assert_refused(missing, Code::NotFound, "SNAPSHOT_NOT_FOUND", "there is no snapshot \"t\"; there are: s");
    let of_nothing = pb::CreateSnapshotRequest { collection: "nope".into(), ..Default::default() };
    assert_refused(admin.create_snapshot(of_nothing).await, Code::NotFound, "COLLECTION_NOT_FOUND", "there are: c");
    let again = upload(&server, "s", &archive).await;
    assert_refused(again, Code::AlreadyExists, "SNAPSHOT_EXISTS", "there is a snapshot \"s\" already");

    // What is no archive, less, more, or not what was declared.
    let reason = "INVALID_ARCHIVE";
    assert_refused(upload(&server, "u", b"no archive at all").await, invalid, reason, "nothing of it was kept");
    assert_refused(upload(&server, "u", &archive[..3_000]).await, invalid, reason, "broke off");
    for declared in [archive.len() as u64 - 1, archive.len() as u64 + 1] {
        let sent = tokio_stream::iter(messages("u", &archive, declared));
        assert_refused(admin.upload_snapshot(sent).await, invalid, reason, "declared");
    }
    // More than any disk has.
    let sent = tokio_stream::iter(messages("u", &archive, 1 << 43));
    assert_refused(admin.upload_snapshot(sent).await, Code::ResourceExhausted, "DISK_LOW", "8796093022208");
    let sent = tokio_stream::iter(messages("u", &archive, u64::MAX));
    assert_refused(admin.upload_snapshot(sent).await, invalid, "INVALID_ARGUMENT", "archive_bytes");
    assert_refused(admin.upload_snapshot(tokio_stream::empty()).await, invalid, "INVALID_ARGUMENT", "first message");
    let large = pb::UploadSnapshotRequest { chunk: vec![0; (1 << 20) + 1].into(), ..Default::default() };
    let sent = [messages("u", &[], 1 << 30).remove(0), large];
    assert_refused(
        admin.upload_snapshot(tokio_stream::iter(sent)).await,
        invalid,
        "INVALID_ARGUMENT",
        "at most 1048576",
    );
    for (name, at) in [("../../evil", 0), ("/tmp/vectron-evil", 1), ("parts/../../../evil", 2)] {
        let sent = upload(&server, "u", &renamed(&archive, at, name)).await;
        assert_refused(sent, invalid, reason, "evil");
    }
    // A flipped byte in each file.
    let mut at = 0;
    while at + 1024 < archive.len() {
        let size = &archive[at + 124..at + 135];
        let bytes = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 8).unwrap();
        let mut flipped = archive.clone();
        flipped[at + 512 + if bytes > 4096 { 4096 } else { bytes - 1 }] ^= 1;
        let name = String::from_utf8_lossy(&archive[at..at + 100]).trim_end_matches('\0').to_owned();
        assert_refused(upload(&server, "u", &flipped).await, Code::DataLoss, "SNAPSHOT_DAMAGED", &name);
        at += 512 + bytes.next_multiple_of(512);
    }
    // A client that leaves in the middle.
    let begun = messages("u", &archive[..2_000], archive.len() as u64);
    let for_ever = tokio_stream::iter(begun).chain(tokio_stream::pending());
    let left = tokio::time::timeout(Duration::from_millis(300), admin.upload_snapshot(for_ever)).await;
    assert!(left.is_err(), "it waits for the rest");
    let deadline = Instant::now() + Duration::from_secs(20);
    while files(&data.join("snapshots")) != before {
        assert!(Instant::now() < deadline, "{:?}", files(&data.join("snapshots")));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((names(&server).await, fs::read_dir(outer.path()).unwrap().count()), (vec!["s".to_owned()], 1));
    assert!(!Path::new("/tmp/vectron-evil").exists());
    assert_eq!(upload(&server, "u", &archive).await.unwrap().record_count, snapshot.record_count);

    // Pages, newest first; and of one collection.
    create(&server, "d").await;
    for n in 0..5 {
        make(&server, "d", &format!("d{n}")).await;
    }
    let mut request = pb::ListSnapshotsRequest { page_size: 2, ..Default::default() };
    let mut listed = Vec::new();
    loop {
        let page = admin.list_snapshots(request.clone()).await.unwrap().into_inner();
        listed.extend(page.snapshots.into_iter().map(|snapshot| snapshot.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["d4", "d3", "d2", "d1", "d0", "s", "u"]);
    let of_c = pb::ListSnapshotsRequest { collection: "c".into(), ..Default::default() };
    assert_eq!(admin.list_snapshots(of_c).await.unwrap().into_inner().snapshots.len(), 2);
    let strange = pb::ListSnapshotsRequest { page_token: "x".into(), ..Default::default() };
    assert_refused(admin.list_snapshots(strange).await, invalid, "INVALID_ARGUMENT", "page_token");
}

/// The archive with another name for the file at a place.
fn renamed(archive: &[u8], place: usize, name: &str) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut at = 0;
    for _ in 0..place {
        let size = std::str::from_utf8(&archive[at + 124..at + 135]).unwrap();
        at += 512 + usize::from_str_radix(size, 8).unwrap().next_multiple_of(512);
    }
    let header = &mut archive[at..at + 512];
    header[..100].fill(0);
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive
}

struct Cli {
    folder: tempfile::TempDir,
}

impl Cli {
    fn run(&self, server: &str, arguments: &[&str]) -> (i32, String, String) {
        let mut command = vectron(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Output { status, stdout, stderr } = command.env("VECTRON_SERVER", server).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    fn done(&self, server: &str, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(server, arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        print!("{err}");
        out
    }

    /// As `done`, with the seconds that it took.
    fn timed(&self, server: &str, arguments: &[&str]) -> String {
        let started = Instant::now();
        let out = self.done(server, arguments);
        println!("{:?}: {:.3} s", &arguments[..2], started.elapsed().as_secs_f64());
        out
    }
}

#[test]
fn the_command_line_makes_moves_and_restores_snapshots() {
    let (data, other_data) = (data_folder(), data_folder());
    let (server, other) = (Server::start(data.path(), Texts::Away), Server::start(other_data.path(), Texts::Away));
    let (here, there) = (server.address.as_str(), other.address.as_str());
    let cli = Cli { folder: data_folder() };
    let mut lines = String::new();
    for n in 0..10_000_u32 {
        let vector: Vec<f32> = (0..384_u32).map(|d| ((n * 31 + d * 17 + n * d) % 101) as f32 / 7.0 + 0.1).collect();
        lines.push_str(
            &json!({"id": format!("{n:05}"), "vector": vector, "text": format!("text {n}"), "n": n}).to_string(),
        );
        lines.push('\n');
    }
    fs::write(cli.folder.path().join("notes.jsonl"), lines).unwrap();
    cli.done(here, &["import", "notes.jsonl", "-c", "notes"]);
    let made: Value =
        serde_json::from_str(&cli.timed(here, &["snapshot", "create", "notes", "--name", "before"])).unwrap();
    assert_eq!(
        (&made["name"], &made["collection"], &made["records"]),
        (&json!("before"), &json!("notes"), &json!(10_000))
    );
    let listed = cli.done(here, &["snapshot", "list"]);
    assert!(listed.contains("before") && listed.contains("10,000") && listed.contains("notes"), "{listed}");
    cli.timed(here, &["snapshot", "restore", "before", "beside"]);
    cli.timed(here, &["snapshot", "download", "before", "-o", "notes.tar"]);
    assert!(cli.folder.path().join("notes.tar").exists() && !cli.folder.path().join("notes.tar.part").exists());
    cli.timed(there, &["snapshot", "upload", "notes.tar"]);
    cli.timed(there, &["snapshot", "restore", "notes", "notes"]);
    let exported = cli.done(here, &["export", "-c", "notes"]);
    assert_eq!(exported.lines().count(), 10_000);
    assert!(cli.done(here, &["export", "-c", "beside"]) == exported);
    assert!(cli.done(there, &["export", "-c", "notes"]) == exported);

    // The archive is a tar like any other.
    let list = std::process::Command::new("tar").args(["tf", "notes.tar"]).current_dir(cli.folder.path()).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    assert!(list.starts_with("info\nmanifest\nparts/"), "{list}");

    let (code, _, err) = cli.run(here, &["snapshot", "delete", "before"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("snapshot before has 10,000 records of notes: to delete it, say --yes"), "{err}");
    cli.done(here, &["snapshot", "delete", "before", "--yes"]);
    assert_eq!(cli.done(here, &["snapshot", "list", "--json"]), "");
    assert!(cli.done(here, &["export", "-c", "beside"]) == exported, "what was restored keeps its files");
    for (arguments, expected, says) in [
        (
            &["snapshot", "download", "before"][..],
            1,
            "there is no snapshot \"before\"; there are none yet [SNAPSHOT_NOT_FOUND]",
        ),
        (&["snapshot", "restore", "before", "x"], 1, "SNAPSHOT_NOT_FOUND"),
        (&["snapshot", "create", "nope"], 1, "COLLECTION_NOT_FOUND"),
        (&["snapshot", "upload", "notes.jsonl", "--name", "x"], 1, "INVALID_ARCHIVE"),
        (&["snapshot", "upload", "notes.jsonl"], 2, "choose one with --name"),
        (&["snapshot", "upload", "missing.tar"], 1, "cannot read missing.tar"),
        (&["snapshot", "create", "notes", "--name", "a/b"], 2, "A-Z a-z 0-9 _ -"),
        (&["snapshot"], 2, "vectron snapshot download before-cleanup -o notes.tar"),
    ] {
        let (code, _, err) = cli.run(here, arguments);
        assert_eq!(code, expected, "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
    assert!(!cli.folder.path().join("before.tar").exists() && !cli.folder.path().join("before.tar.part").exists());
    drop(server);
    assert_eq!(cli.run(common::AWAY, &["snapshot", "list"]).0, 4);
}

/// Six megabytes and a half, of which the connection loses some, twice.
#[test]
fn a_download_that_broke_off_goes_on_where_it_was() {
    const CUTS: [u64; 2] = [4_000_000, 1_500_000];
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let cli = Cli { folder: data_folder() };
    let line = |n: u32| {
        let vector: Vec<f32> = (0..384_u32).map(|d| ((n * 31 + d * 17 + n * d) % 101) as f32 / 7.0 + 0.1).collect();
        json!({"id": format!("{n:05}"), "vector": vector}).to_string() + "\n"
    };
    fs::write(cli.folder.path().join("notes.jsonl"), (0..4_000).map(line).collect::<String>()).unwrap();
    cli.done(&server.address, &["import", "notes.jsonl", "-c", "notes"]);
    cli.done(&server.address, &["snapshot", "create", "notes", "--name", "s"]);
    cli.done(&server.address, &["snapshot", "download", "s", "-o", "whole.tar"]);
    let whole = fs::read(cli.folder.path().join("whole.tar")).unwrap();
    assert!(whole.len() > 6_000_000, "{} bytes", whole.len());

    let proxy = Proxy::start(&server.address, &CUTS);
    cli.timed(&proxy.address, &["snapshot", "download", "s", "-o", "pieces.tar"]);
    assert!(fs::read(cli.folder.path().join("pieces.tar")).unwrap() == whole);
    assert!(!cli.folder.path().join("pieces.tar.part").exists());
    // From the beginning each time it would be all of it, and the cuts. Of a message that was cut nothing counts: 1 MiB at most.
    let passed = proxy.passed_bytes();
    let (all, cut) = (whole.len() as u64, CUTS.iter().sum::<u64>());
    assert!((all..all + 5 * (1 << 19)).contains(&passed) && passed < all + cut / 2, "{passed} bytes for {all}");
    println!("{all} bytes came as {passed} through two broken connections");

    // Where it breaks again and again the command says so, and leaves nothing behind.
    let proxy = Proxy::start(&server.address, &[2_000_000, 1_000, 1_000, 1_000, 1_000]);
    let (code, _, err) = cli.run(&proxy.address, &["snapshot", "download", "s", "-o", "never.tar"]);
    assert!(code != 0 && !err.is_empty(), "{code}: {err}");
    assert!(!cli.folder.path().join("never.tar").exists() && !cli.folder.path().join("never.tar.part").exists());
}
