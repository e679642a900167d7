//! A start with little memory, through the real process: it neither dies nor loops.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Server, Texts, command, data_folder};
use serde_json::json;
use vectron::pb::v1 as pb;

const ROWS: usize = 3_000;
const DIMENSION: usize = 64;

fn vector(row: usize) -> Vec<f32> {
    (0..DIMENSION).map(|component| (((row * DIMENSION + component) as f32) * 0.7).sin()).collect()
}

fn upsert(collection: &str, rows: std::ops::Range<usize>) -> pb::UpsertRequest {
    let record = |row| {
        let components = Some(pb::vector::Components::Floats(pb::FloatArray { values: vector(row) }));
        let vector = Some(pb::Vector { components, ..Default::default() });
        pb::RecordInput { id: row.to_string(), vector, ..Default::default() }
    };
    let records = rows.map(record).collect();
    pb::UpsertRequest { collection: collection.to_owned(), records, create_missing: true, ..Default::default() }
}

/// Files of parts, with this extension.
fn parts(data: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for collection in fs::read_dir(data.join("collections")).unwrap() {
        let Ok(parts) = fs::read_dir(collection.unwrap().path().join("parts")) else { continue };
        found.extend(parts.map(|part| part.unwrap().path()).filter(|path| path.extension().unwrap() == extension));
    }
    found
}

/// A folder with a collection whose graph is built, and one that is all in its log. Returns the bytes of the first one's files.
async fn filled(data: &Path) -> u64 {
    let server = Server::start(data, Texts::Away);
    let mut client = server.vectors().await;
    for first in (0..ROWS).step_by(500) {
        client.upsert(upsert("large", first..first + 500)).await.unwrap();
    }
    client.upsert(upsert("small", 0..3)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while parts(data, "graph").is_empty() {
        assert!(Instant::now() < deadline, "no graph was built");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(client);
    assert!(server.terminate().await.success());
    let files = parts(data, "rows").into_iter().chain(parts(data, "graph"));
    files.map(|file| fs::metadata(file).unwrap().len()).sum()
}

async fn first_ids(server: &Server, collection: &str) -> Vec<String> {
    let path = format!("/search/vector?top_k=3&collection={collection}");
    let (status, hits) = server.post(&path, json!({"vector": vector(2)})).await;
    assert_eq!(status, 200, "{hits}");
    hits.as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap().to_owned()).collect()
}

fn start_with(data: &Path, bytes: u64) -> Server {
    let mut command = command(data, Texts::Away);
    command.arg("--memory-bytes-max").arg(bytes.to_string());
    Server::run(command, Texts::Away)
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_left_in_its_file_or_not_served() {
    let data = data_folder();
    let bytes = filled(data.path()).await;

    let roomy = start_with(data.path(), bytes);
    let expected = first_ids(&roomy, "large").await;
    assert_eq!(expected[0], "2");
    assert!(!roomy.logged().contains("too little memory"), "{}", roomy.logged());
    assert!(roomy.terminate().await.success());

    // Without its vectors it fits.
    let narrow = start_with(data.path(), bytes - 1);
    assert_eq!(first_ids(&narrow, "large").await, expected);
    assert!(narrow.logged().contains("too little memory: vectors stay in their file"), "{}", narrow.logged());
    let stored: Vec<f32> =
        serde_json::from_value(narrow.get("/vector/2?collection=large").await.1["vector"].clone()).unwrap();
    assert_eq!(stored, vector(2));
    assert!(narrow.terminate().await.success());

    // It does not fit at all: it says so, and the other one is served.
    let least = bytes - (ROWS * DIMENSION * 4) as u64;
    let tiny = start_with(data.path(), least - 1);
    assert_eq!(first_ids(&tiny, "small").await[0], "2");
    let (status, body) = tiny.post("/search/vector?collection=large", json!({"vector": vector(2)})).await;
    let message = body["message"].as_str().unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(message.contains(&format!("needs about {least} bytes of memory")), "{message}");
    assert!(message.contains("--memory-bytes-max"), "{message}");
    assert!(tiny.terminate().await.success());

    // Nothing was lost by it.
    assert_eq!(first_ids(&start_with(data.path(), bytes), "large").await, expected);
}
