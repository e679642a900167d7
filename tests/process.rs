//! The process: how it starts and ends, what it does where it may not start, and what survives kill -9.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Server, Texts, command, data_folder, run_to_end, vectron};
use serde_json::json;
use vectron::pb::v1 as pb;

fn upsert(first: usize, count: usize, durability: pb::Durability) -> pb::UpsertRequest {
    let record = |n: usize| pb::RecordInput {
        id: format!("{n:08}"),
        vector: Some(pb::Vector {
            components: Some(pb::vector::Components::Floats(pb::FloatArray { values: vec![n as f32, 1.0] })),
            space: String::new(),
        }),
        ..Default::default()
    };
    pb::UpsertRequest {
        collection: "default".into(),
        records: (first..first + count).map(record).collect(),
        durability: durability.into(),
        create_missing: true,
        ..Default::default()
    }
}

/// The log file of the only collection.
fn log_file(data: &Path) -> PathBuf {
    let collection = fs::read_dir(data.join("collections")).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<PathBuf> =
        fs::read_dir(collection.join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

async fn count(server: &Server) -> u64 {
    let request = pb::CountRequest { collection: "default".into(), ..Default::default() };
    server.vectors().await.count(request).await.unwrap().into_inner().record_count
}

#[tokio::test]
async fn kill_minus_nine_during_a_load_loses_no_acknowledged_batch_and_halves_none() {
    const BATCH: usize = 50;
    let data = data_folder();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::new(AtomicUsize::new(0));
    for round in 0..5_u64 {
        let server = Server::start(data.path(), Texts::Away);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (acknowledged, next, url) = (acknowledged.clone(), next.clone(), server.url(""));
                tokio::spawn(async move {
                    let Ok(channel) = tonic::transport::Channel::from_shared(url).unwrap().connect().await else {
                        return;
                    };
                    let mut client = pb::vector_service_client::VectorServiceClient::new(channel);
                    // A killed process leaves what the operating system has: buffered writes survive it as well.
                    let durability = if writer % 2 == 0 { pb::Durability::Durable } else { pb::Durability::Buffered };
                    loop {
                        let first = next.fetch_add(BATCH, Ordering::SeqCst);
                        if client.upsert(upsert(first, BATCH, durability)).await.is_err() {
                            return;
                        }
                        acknowledged.lock().unwrap().push(first);
                    }
                })
            })
            .collect();
        // Under way, however slow the machine is; then at a moment that differs from round to round.
        let before = acknowledged.lock().unwrap().len();
        while acknowledged.lock().unwrap().len() < before + 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(7 * round)).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }

        let server = Server::start(data.path(), Texts::Away);
        let (_, ids) = server.get("/vectors").await;
        let ids: std::collections::HashSet<usize> =
            ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
        let acknowledged = acknowledged.lock().unwrap();
        for first in acknowledged.iter() {
            assert!(
                (*first..first + BATCH).all(|id| ids.contains(&id)),
                "round {round}: batch {first} was acknowledged"
            );
        }
        for first in (0..next.load(Ordering::SeqCst)).step_by(BATCH) {
            let there = (first..first + BATCH).filter(|id| ids.contains(id)).count();
            assert!(there == 0 || there == BATCH, "round {round}: {there} records of batch {first}");
        }
        drop(server);
    }
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_success() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    server.post("/upsert-text", json!({"id": "a", "text": "hello"})).await;
    let log = server.log.clone();
    assert!(server.terminate().await.success());
    assert!(log.lock().unwrap().iter().any(|line| line.contains("every log is synced")));
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(count(&server).await, 1);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let data = data_folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut taken_port = vectron(data.path());
    taken_port.args(["--listen", &address, "--embedding-url", common::AWAY, "--data"]).arg(data.path().join("d"));
    let (status, said) = run_to_end(taken_port);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains(&address) && said.contains("in use") && said.contains("--listen"), "{said}");
    assert!(!data.path().join("d").exists(), "nothing was made");
}

#[test]
fn a_data_folder_in_use_names_the_process() {
    let data = data_folder();
    let _server = Server::start(data.path(), Texts::Away);
    let (status, said) = run_to_end(command(data.path(), Texts::Away));
    assert_eq!(status.code(), Some(1));
    let folder = data.path().to_string_lossy();
    assert!(said.contains(&*folder) && said.contains("in use by process"), "{said}");
}

#[tokio::test]
async fn a_log_damaged_in_the_middle_is_refused_by_name_and_the_rest_is_served() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = server.vectors().await;
    for first in 0..10 {
        client.upsert(upsert(first, 1, pb::Durability::Durable)).await.unwrap();
    }
    server.terminate().await;
    let file = log_file(data.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[5 * 4096 + 60] ^= 0x10;
    fs::write(&file, &bytes).unwrap();

    let server = Server::start(data.path(), Texts::Away);
    let (status, body) = server.get("/vectors").await;
    assert_eq!((status, &body["code"]), (500, &json!("COLLECTION_DAMAGED")));
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains(&*file.to_string_lossy())
            && message.contains("offset 20480")
            && message.contains("sequence 5"),
        "{message}"
    );
    assert_eq!(server.post("/vector", json!({"id": "x", "vector": [1, 1]})).await.0, 500, "nothing is written to it");
    assert_eq!(server.get("/").await.1["status"], json!("degraded"));
    let got =
        server.collections().await.get_collection(pb::GetCollectionRequest { name: "default".into() }).await.unwrap();
    assert_eq!(got.into_inner().collection.unwrap().state(), pb::CollectionState::Damaged);
    assert_eq!(server.post("/vector?collection=other", json!({"id": "x", "vector": [1, 1]})).await.0, 200);
    assert_eq!(fs::read(&file).unwrap(), bytes, "the damaged file is left as it is");
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_told() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let mut client = server.vectors().await;
    for first in 0..5 {
        client.upsert(upsert(first, 1, pb::Durability::Buffered)).await.unwrap();
    }
    server.kill();
    let file = log_file(data.path());
    let bytes = fs::read(&file).unwrap();
    // What a power cut does to the last group: its second half never reached the disk.
    let last = bytes.chunks(4096).rposition(|block| block.iter().any(|&byte| byte != 0)).unwrap();
    let mut torn = bytes.clone();
    torn[last * 4096 + 50..].fill(0);
    fs::write(&file, &torn).unwrap();

    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(count(&server).await, 4);
    let logged = server.logged();
    assert!(logged.contains("torn") && logged.contains(&*file.to_string_lossy()), "{logged}");
    server.vectors().await.upsert(upsert(4, 1, pb::Durability::Durable)).await.unwrap();
    server.kill();
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(count(&server).await, 5);
}

#[tokio::test]
async fn without_an_embedding_service_vectors_are_served_and_texts_are_refused() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(server.post("/vector", json!({"id": "v", "vector": [1, 2]})).await.0, 200);
    for (path, body) in [
        ("/upsert-text", json!({"id": "t", "text": "hello"})),
        ("/search/text", json!({"text": "hello"})),
        ("/embed", json!({"text": "hello"})),
    ] {
        let (status, answer) = server.post(path, body).await;
        assert_eq!((status, &answer["code"]), (503, &json!("EMBEDDING_UNAVAILABLE")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("refused"), "{answer}");
    }
    assert_eq!(server.post("/search/vector", json!({"vector": [1, 2]})).await.0, 200);
    assert_eq!(server.get("/vectors").await.1, json!(["v"]));
    // A collection is not made for a text that cannot be embedded.
    assert_eq!(server.post("/upsert-text?collection=new", json!({"id": "t", "text": "hello"})).await.0, 503);
    assert_eq!(server.get("/").await.1["collections"], json!(1));
}

#[tokio::test]
async fn missing_weights_while_offline_are_told_with_what_to_do() {
    let data = data_folder();
    let mut command = vectron(data.path());
    command.args(["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0", "--offline"]);
    command.args(["--data", "d", "--model-cache", "empty", "--hub-home", "none"]);
    let server = Server::run(command, Texts::Away);
    assert_eq!(server.post("/vector", json!({"id": "v", "vector": [1, 2]})).await.0, 200);
    let (status, answer) = server.post("/upsert-text", json!({"id": "t", "text": "hello"})).await;
    assert_eq!((status, &answer["code"]), (503, &json!("EMBEDDING_UNAVAILABLE")));
    let message = answer["message"].as_str().unwrap();
    for part in ["minilm", "offline", "models pull minilm"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert!(!message.contains("empty") && !message.contains("make weights"), "{message}");
}

#[tokio::test]
async fn a_store_uses_an_embedding_service_elsewhere_and_finds_it_again() {
    let (data, other) = (data_folder(), data_folder());
    let embedding = Server::start(other.path(), Texts::Embedded);
    let url = format!("http://{}", embedding.embedding_address.clone().unwrap());
    let mut command = vectron(data.path());
    command.args(["--listen", "127.0.0.1:0", "--data", "d", "--embedding-url", &url]);
    let server = Server::run(command, Texts::Away);
    assert_eq!(server.post("/upsert-text", json!({"id": "t", "text": "a quick fox"})).await.0, 200);
    assert_eq!(server.post("/search/text", json!({"text": "animal"})).await.1["results"][0]["id"], json!("t"));
    embedding.kill();
    assert_eq!(server.post("/search/text", json!({"text": "animal"})).await.0, 503);
    assert_eq!(server.get("/vector/t").await.0, 200);
}

#[test]
fn help_teaches_and_wrong_arguments_are_told() {
    let data = data_folder();
    let help = vectron(data.path()).arg("--help").stdout(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for part in
        ["serve", "--listen", "--data", "--embedding-url", "--offline", "Examples:", "vectron import", "Exit codes"]
    {
        assert!(text.contains(part), "no {part} in --help");
    }
    for (arguments, code, says) in [
        (["--listen", "nowhere"], 2, "--listen"),
        (["--embedding-url", "localhost:8000"], 1, "http://127.0.0.1:8000"),
        (["--embedding-url", "ftp://localhost:8000"], 1, "http://127.0.0.1:8000"),
    ] {
        let mut wrong = vectron(data.path());
        wrong.args(arguments);
        if arguments[0] != "--listen" {
            wrong.args(["--listen", "127.0.0.1:0"]);
        }
        let (status, said) = run_to_end(wrong);
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(said.contains(arguments[1]) && said.contains(says), "{said}");
    }
}

/// Never arguments, which everybody on the machine can read.
const SECRETS: [&str; 5] =
    ["VECTRON_EMBEDDING_API_KEY", "VECTRON_JWT_SECRET", "OPENAI_API_KEY", "COHERE_API_KEY", "HF_TOKEN"];

#[tokio::test]
async fn the_template_of_settings_works_as_it_is_and_names_real_settings() {
    let data = data_folder();
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("env.template");
    fs::copy(&template, data.path().join(".env")).unwrap();
    let mut command = vectron(data.path());
    // Ports of its own, since those of the template may be taken here; everything else is as it stands.
    command.args(["--listen", "127.0.0.1:0", "--embedding-listen", "127.0.0.1:0", "--offline"]);
    let server = Server::run(command, Texts::Away);
    assert_eq!(server.post("/vector", json!({"id": "v", "vector": [1, 2]})).await.0, 200);
    assert!(data.path().join("data").is_dir(), "the template's folder is used");

    let help = vectron(data.path()).arg("--help").stdout(std::process::Stdio::piped()).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for line in fs::read_to_string(&template).unwrap().lines() {
        let setting = line.trim_start_matches("# ").split('=').next().unwrap();
        if line.contains('=') && setting.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            // Of some `--help` does not show what they are set to.
            let told = [format!("[env: {setting}="), format!("[env: {setting}]")];
            let is_known = told.iter().any(|told| help.contains(told)) || SECRETS.contains(&setting);
            assert!(is_known, "{setting} is no setting");
        }
    }
}

#[tokio::test]
async fn until_the_logs_are_read_nothing_is_served_and_everybody_is_told() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let data = data_folder();
    // A pipe in place of earlier Vectron's file: the start waits for whoever writes to it.
    let pipe = data.path().join("index.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut server = Server::listening(command(data.path(), Texts::Away));

    assert_eq!(server.get("/livez").await.0, 200);
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, &body["code"]), (503, &json!("NOT_READY")));
    let (status, body) = server.post("/vector", json!({"id": "x", "vector": [1]})).await;
    assert_eq!((status, &body["code"]), (503, &json!("NOT_READY")));
    assert_eq!(server.get("/").await.1["status"], json!("starting"));
    let mut health = HealthClient::new(server.channel().await);
    let request = || HealthCheckRequest { service: "vectron.v1.VectorService".into() };
    assert_eq!(health.check(request()).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let mut watch = health.watch(request()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);

    fs::write(&pipe, r#"[{"id": "old", "vector": [1, 2, 3]}]"#).unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.wait_for_log("vectron::server: ready after");
    assert_eq!(server.get("/vectors").await, (200, json!(["old"])));
    assert_eq!(server.get("/readyz").await.0, 200);
}
