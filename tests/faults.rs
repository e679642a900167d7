//! Faults of the disk, through the real process: a sync that fails, a disk that is full or nearly so, bytes that have changed.
//!
//! Two of them need more than every machine allows: strace to make a system call fail, and root to mount a small disk. Where
//! that is missing the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, Texts, command, data_folder, vectron};
use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;

#[expect(clippy::print_stderr, reason = "a test that could not be made says so")]
fn skip(why: &str) {
    eprintln!("NOT TESTED: {why}");
}

fn upsert(collection: &str, id: usize, components: usize) -> pb::UpsertRequest {
    let values = (0..components).map(|component| (id + component + 1) as f32).collect();
    let vector = pb::Vector {
        components: Some(pb::vector::Components::Floats(pb::FloatArray { values })),
        ..Default::default()
    };
    pb::UpsertRequest {
        collection: collection.to_owned(),
        records: vec![pb::RecordInput { id: id.to_string(), vector: Some(vector), ..Default::default() }],
        create_missing: true,
        ..Default::default()
    }
}

async fn count(server: &Server, collection: &str) -> u64 {
    let request = pb::CountRequest { collection: collection.to_owned(), ..Default::default() };
    server.vectors().await.count(request).await.unwrap().into_inner().record_count
}

async fn health(server: &Server, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.channel().await).check(request).await.unwrap().into_inner().status()
}

fn reason(status: &tonic::Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The server under strace, which makes each thread's `nth` call of fdatasync fail. `None` where strace cannot.
fn with_a_failing_sync(data: &Path, nth: usize, trace: &Path) -> Option<Server> {
    let mut strace = Command::new("strace");
    let inject = format!("inject=fdatasync:error=EIO:when={nth}");
    // The tracer as a grandchild: then signals and the exit code are the server's own.
    strace.args(["-D", "-f", "-y", "-e", "trace=fdatasync", "-e", &inject, "-o"]).arg(trace);
    let works = strace_of(&strace, Command::new("true")).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = strace_of(&strace, command(data, Texts::Away));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Some(Server::run(command, Texts::Away))
}

/// A command under another one.
fn strace_of(strace: &Command, inner: Command) -> Command {
    let mut command = Command::new(strace.get_program());
    command.args(strace.get_args()).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = inner.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    let data = data_folder();
    let elsewhere = data_folder();
    let trace = elsewhere.path().join("trace");
    let Some(server) = with_a_failing_sync(data.path(), 9, &trace) else {
        return skip("strace is missing, or may not trace here");
    };
    let mut client = server.vectors().await;
    client.upsert(upsert("other", 0, 2)).await.unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        assert!(acknowledged < 20, "no sync has failed");
        match client.upsert(upsert("default", acknowledged, 2)).await {
            Ok(_) => acknowledged += 1,
            Err(status) => break status,
        }
    };
    assert!(acknowledged > 0);
    // Every later one is refused as well, however it wants to be acknowledged, and the cause is named.
    let buffered = pb::UpsertRequest { durability: pb::Durability::Buffered.into(), ..upsert("default", 99, 2) };
    let later = [client.upsert(upsert("default", 98, 2)).await, client.upsert(buffered).await];
    for status in [refused].into_iter().chain(later.map(Result::unwrap_err)) {
        assert_eq!((status.code(), reason(&status).as_str()), (tonic::Code::Unavailable, "COLLECTION_READ_ONLY"));
        let message = status.message();
        assert!(message.contains("cannot sync") && message.contains("Input/output error"), "{message}");
    }
    let (status, body) = server.post("/vector", json!({"id": "x", "vector": [1, 1]})).await;
    assert_eq!((status, &body["code"]), (503, &json!("COLLECTION_READ_ONLY")));
    assert_eq!(server.delete("/vector/0").await.0, 503);

    // Reads go on, and show what was acknowledged and nothing else; other collections are written to.
    assert_eq!(count(&server, "default").await, acknowledged as u64);
    assert_eq!(server.get("/vector/0").await.0, 200);
    assert_eq!(server.post("/search/vector", json!({"vector": [1, 2]})).await.0, 200);
    client.upsert(upsert("other", 1, 2)).await.unwrap();

    // Readiness is off, with the reason; liveness and the services stay.
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, &body["code"]), (503, &json!("COLLECTION_READ_ONLY")));
    assert!(body["message"].as_str().unwrap().contains("collection default takes no writes"), "{body}");
    assert_eq!(server.get("/livez").await.0, 200);
    for _ in 0..1500 {
        if health(&server, "vectron.ready").await == ServingStatus::NotServing {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(health(&server, "vectron.ready").await, ServingStatus::NotServing);
    assert_eq!(health(&server, "").await, ServingStatus::Serving);
    assert_eq!(health(&server, "vectron.v1.VectorService").await, ServingStatus::Serving);

    let log = server.log.clone();
    drop(client);
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(1), "{:?}", log.lock().unwrap());
    let said = log.lock().unwrap().join("\n");
    assert!(said.contains("not every log could be synced"), "{said}");
    assert_eq!(syncs_after_a_failure(&fs::read_to_string(&trace).unwrap()), (1, 0));

    // What is really on the disk: everything acknowledged, and at most what was written when the sync failed.
    let server = Server::start(data.path(), Texts::Away);
    assert!((acknowledged as u64..=acknowledged as u64 + 1).contains(&count(&server, "default").await));
    assert_eq!(count(&server, "other").await, 2);
    server.vectors().await.upsert(upsert("default", 99, 2)).await.unwrap();
    assert_eq!(server.get("/readyz").await.0, 200);
    assert_eq!(health(&server, "vectron.ready").await, ServingStatus::Serving);
}

/// How many syncs have failed, and how many of the same files came after that.
fn syncs_after_a_failure(trace: &str) -> (usize, usize) {
    let mut syncing = BTreeMap::new();
    let mut failed: Vec<&str> = Vec::new();
    let mut repeated = 0;
    // A call that others have interrupted takes two lines: only the first names the file, only the second its end.
    for (thread, line) in trace.lines().filter_map(|line| line.split_once(' ')) {
        if let Some((_, call)) = line.split_once("fdatasync(") {
            let file = call.split(['<', '>']).nth(1).unwrap();
            repeated += usize::from(failed.contains(&file));
            syncing.insert(thread, file);
        }
        if line.contains("INJECTED") {
            failed.push(syncing[thread]);
        }
    }
    (failed.len(), repeated)
}

/// A small disk in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path, bytes: usize) -> Option<Self> {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "vectron-test"]).arg(folder).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }

    /// Something else that takes up room.
    fn fill(&self, bytes: usize) {
        fs::write(self.ballast(), vec![1; bytes]).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn serve(data: &Path, disk_free_bytes_min: &str) -> Server {
    let mut command = command(data, Texts::Away);
    command.args(["--disk-free-bytes-min", disk_free_bytes_min]);
    Server::run(command, Texts::Away)
}

/// Writes until it is refused; returns how many were acknowledged, and the refusal.
async fn write_until_refused(server: &Server, first: usize) -> (usize, tonic::Status) {
    let mut client = server.vectors().await;
    for id in first.. {
        assert!(id < 5_000, "nothing is refused");
        if let Err(status) = client.upsert(upsert("default", id, 4_000)).await {
            return (id - first, status);
        }
    }
    unreachable!()
}

async fn reads_and_deletes_go_on(server: &Server, records: usize) {
    assert_eq!(count(server, "default").await, records as u64);
    assert_eq!(server.get("/vector/1").await.0, 200);
    let query: Vec<usize> = (0..4_000).collect();
    let (status, hits) = server.post("/search/vector?top_k=2", json!({"vector": query})).await;
    assert_eq!((status, hits.as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(server.get("/readyz").await.0, 200, "a full disk is no reason to be restarted");
    assert_eq!(server.delete("/vector/0").await.0, 200, "what makes room is let through");
    assert_eq!(count(server, "default").await, records as u64 - 1);
}

async fn writes_work_again(server: &Server) {
    let mut refused = None;
    for _ in 0..1500 {
        match server.vectors().await.upsert(upsert("default", 0, 4_000)).await {
            Ok(_) => return,
            Err(status) => refused = Some(status),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still refused half a minute after room was made: {refused:?}");
}

#[tokio::test]
async fn on_a_disk_that_is_nearly_full_writes_are_refused_early_and_come_back_by_themselves() {
    const MIN: u64 = 24 << 20;
    // A log allocates so much ahead at the most, at any moment.
    const ALLOCATION_STEP_BYTES: u64 = 16 << 20;
    let (folder, elsewhere) = (data_folder(), data_folder());
    let Some(disk) = SmallDisk::mount(folder.path(), 64 << 20) else {
        return skip("a small disk cannot be mounted here: it needs root");
    };
    disk.fill(20 << 20);
    let data = folder.path().join("data");
    let server = serve(&data, &MIN.to_string());
    let (acknowledged, refused) = write_until_refused(&server, 0).await;
    assert!(acknowledged > 10, "{acknowledged}");
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::ResourceExhausted, "DISK_LOW"));
    assert!(refused.get_details_retry_info().is_some());
    for part in ["bytes free", "asks for 160", "25165824 are kept free"] {
        assert!(refused.message().contains(part), "no {part:?} in {}", refused.message());
    }
    let disk_now = rustix::fs::statvfs(folder.path()).unwrap();
    let free_bytes = disk_now.f_bavail * disk_now.f_frsize;
    assert!(free_bytes + ALLOCATION_STEP_BYTES + (1 << 20) >= MIN, "{free_bytes} bytes are left");
    // Something else takes up still more.
    disk.fill(26 << 20);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (status, body) = server.post("/vector?collection=new", json!({"id": "x", "vector": [1, 1]})).await;
    assert_eq!((status, &body["code"]), (507, &json!("DISK_LOW")), "a new collection: {body}");
    // An import waits for room as long as it was told to, and says why.
    let line = json!({"id": "imported", "vector": vec![1; 4_000]}).to_string();
    fs::write(elsewhere.path().join("lines.jsonl"), line).unwrap();
    let import =
        |retry_s| ["import", "lines.jsonl", "-c", "default", "--server", &server.address, "--retry-s", retry_s];
    let (status, _, said) = run(&import("0"), elsewhere.path());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("DISK_LOW"), "{said}");
    reads_and_deletes_go_on(&server, acknowledged).await;

    disk.make_room();
    let (status, _, said) = run(&import("10"), elsewhere.path());
    assert_eq!(status, Some(0), "{said}");
    writes_work_again(&server).await;
    assert_eq!(server.post("/vector?collection=new", json!({"id": "x", "vector": [1, 1]})).await.0, 200);
    assert!(server.terminate().await.success());
    assert_eq!(count(&serve(&data, "0"), "default").await, acknowledged as u64 + 1);
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_acknowledged_that_is_not_there_and_the_log_goes_on_when_there_is_room() {
    let folder = data_folder();
    let Some(disk) = SmallDisk::mount(folder.path(), 12 << 20) else {
        return skip("a small disk cannot be mounted here: it needs root");
    };
    disk.fill(4 << 20);
    let data = folder.path().join("data");
    let server = serve(&data, "0");
    let (acknowledged, refused) = write_until_refused(&server, 0).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::ResourceExhausted, "NO_SPACE_LEFT"));
    let (status, body) = server.post("/vector?collection=new", json!({"id": "x", "vector": [1, 1]})).await;
    assert_eq!((status, &body["code"]), (507, &json!("NO_SPACE_LEFT")), "a new collection: {body}");
    assert_eq!(count(&server, "default").await, acknowledged as u64);
    assert_eq!(server.get("/vector/1").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 200);

    // Killed while it is full: what was acknowledged is there, and what was refused is not.
    server.kill();
    let server = serve(&data, "0");
    assert_eq!(count(&server, "default").await, acknowledged as u64);
    disk.make_room();
    writes_work_again(&server).await;
    let (more, _) = write_until_refused(&server, acknowledged).await;
    assert!(more > 10, "{more}");
    server.kill();
    assert_eq!(count(&serve(&data, "0"), "default").await, (acknowledged + more) as u64);
}

fn run(arguments: &[&str], data: &Path) -> (Option<i32>, String, String) {
    let output = vectron(data).args(arguments).stdout(Stdio::piped()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_damaged_log_is_examined_and_repaired_when_the_loss_is_accepted() {
    let folder = data_folder();
    let data = folder.path().join("data");
    let server = Server::start(&data, Texts::Away);
    for id in 0..10 {
        server.vectors().await.upsert(upsert("default", id, 2)).await.unwrap();
    }
    let (status, _, said) = run(&["repair"], folder.path());
    assert_eq!(status, Some(1), "while it is served");
    assert!(said.contains("in use by process"), "{said}");
    server.terminate().await;
    let (status, said, _) = run(&["repair"], folder.path());
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("collection default: whole, 11 operations") && said.contains("2 logs: every one opens"),
        "{said}"
    );

    let collection = fs::read_dir(data.join("collections")).unwrap().next().unwrap().unwrap().path();
    let file = collection.join("log").join("00000000000000000001.log");
    let mut bytes = fs::read(&file).unwrap();
    bytes[5 * 4096 + 60] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    let (status, said, _) = run(&["repair", "-c", "default"], folder.path());
    assert_eq!(status, Some(3), "{said}");
    let shown = Path::new("data").join(file.strip_prefix(&data).unwrap());
    for part in
        [&*shown.to_string_lossy(), "offset    20480", "sequence  5", "at least 7 operations", "nothing was changed"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let (status, said, _) = run(&["repair", "--json"], folder.path());
    assert_eq!(status, Some(3), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["opens"], report["logs"].as_array().unwrap().len()), (&json!(false), 2));
    let (of_catalogue, mut log) = (&report["logs"][0], report["logs"][1].clone());
    assert_eq!((&of_catalogue["owner"], &of_catalogue["state"]), (&json!("catalogue"), &json!("whole")));
    assert_eq!((&of_catalogue["operations"], of_catalogue.get("file")), (&json!(1), None));
    assert!(log["reason"].as_str().unwrap().contains("checksum"), "{log}");
    let fields = log.as_object_mut().unwrap();
    fields.remove("reason");
    let expected = json!({
        "owner": "collection", "collection": "default", "folder": shown.parent().unwrap(), "opens": false, "state": "damaged",
        "operations": 4, "file": shown, "offset": 20480, "sequence": 5, "operations_lost_min": 7, "mending": "not_asked",
    });
    assert_eq!(log, expected);
    let (_, help, _) = run(&["repair", "--help"], folder.path());
    for field in expected.as_object().unwrap().keys().chain(of_catalogue.as_object().unwrap().keys()) {
        assert!(help.contains(field.as_str()), "{field} is not explained in\n{help}");
    }

    let (status, said, _) = run(&["repair", "--accept-loss"], folder.path());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("damaged-") && said.contains("lost      at least 7 operations"), "{said}");
    let server = Server::start(&data, Texts::Away);
    assert_eq!(server.get("/").await.1["status"], json!("ok"));
    let (_, ids) = server.get("/vectors").await;
    assert_eq!(ids, Value::from(vec!["0", "1", "2"]));
    server.vectors().await.upsert(upsert("default", 3, 2)).await.unwrap();
    server.terminate().await;

    // Without its catalogue nothing is served, and who starts it is told what there is to do.
    let catalogue = data.join("catalogue").join("00000000000000000001.log");
    let mut bytes = fs::read(&catalogue).unwrap();
    bytes[4096 + 60] ^= 0x10;
    fs::write(&catalogue, &bytes).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--embedding-url", common::AWAY];
    let (status, _, said) = run(&serve, folder.path());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("the catalogue: log file") && said.contains("vectron repair"), "{said}");
    let (status, said, _) = run(&["repair", "--accept-loss"], folder.path());
    assert_eq!(status, Some(0), "{said}");
    let recovered = said.lines().find_map(|line| line.split_once("is now ")).unwrap().1;
    let server = Server::start(&data, Texts::Away);
    assert_eq!(count(&server, recovered).await, 4);
}
