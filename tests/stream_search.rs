//! StreamSearch through a real socket: many queries in flight, each with its own answer, error and deadline.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use common::{Server, Texts, data_folder};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;
use vectron::pb::v1::search_request::Query;
use vectron::pb::v1::stream_search_response::Result as Outcome;
use vectron::pb::v1::vector::Components;

const DEADLINE_EXCEEDED: i32 = Code::DeadlineExceeded as i32;

fn vector(values: &[f32]) -> pb::Vector {
    pb::Vector {
        components: Some(Components::Floats(pb::FloatArray { values: values.to_vec() })),
        space: String::new(),
    }
}

fn search(values: &[f32]) -> pb::SearchRequest {
    pb::SearchRequest { collection: "c".into(), query: Some(Query::Vector(vector(values))), ..Default::default() }
}

fn text(text: &str) -> pb::SearchRequest {
    let query = Query::Text(pb::TextQuery { text: text.into(), model_id: String::new() });
    pb::SearchRequest { collection: "c".into(), query: Some(query), ..Default::default() }
}

async fn fill(server: &Server, records: impl IntoIterator<Item = pb::RecordInput>) {
    let request = pb::UpsertRequest {
        collection: "c".into(),
        records: records.into_iter().collect(),
        create_missing: true,
        ..Default::default()
    };
    server.vectors().await.upsert(request).await.unwrap();
}

fn record(id: &str, values: &[f32]) -> pb::RecordInput {
    pb::RecordInput { id: id.into(), vector: Some(vector(values)), ..Default::default() }
}

type Queries = mpsc::Sender<pb::StreamSearchRequest>;

async fn open(server: &Server) -> (Queries, Streaming<pb::StreamSearchResponse>) {
    let (queries, sent) = mpsc::channel(1_000);
    let answers = server.vectors().await.stream_search(ReceiverStream::new(sent)).await.unwrap().into_inner();
    (queries, answers)
}

async fn ask(queries: &Queries, query_index: u64, search: pb::SearchRequest, deadline_ms: u32) {
    queries.send(pb::StreamSearchRequest { query_index, search: Some(search), deadline_ms }).await.unwrap();
}

/// Every answer by its index, until the stream ends.
async fn all(mut answers: Streaming<pb::StreamSearchResponse>) -> BTreeMap<u64, Outcome> {
    let mut by_index = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(by_index.insert(answer.query_index, answer.result.unwrap()).is_none(), "one answer for each query");
    }
    by_index
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    match outcome {
        Outcome::Response(response) => {
            response.hits.iter().map(|hit| hit.record.as_ref().unwrap().id.as_str()).collect()
        }
        Outcome::Error(error) => panic!("{error:?}"),
    }
}

fn error(outcome: &Outcome) -> (i32, &str) {
    match outcome {
        Outcome::Response(response) => panic!("{response:?}"),
        Outcome::Error(error) => (error.code, error.reason.as_str()),
    }
}

#[tokio::test]
async fn every_query_of_a_stream_has_the_answer_that_search_gives() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    fill(&server, (0..300).map(|i| record(&format!("r{i}"), &[(i as f32).sin(), (i as f32).cos(), i as f32 / 300.0])))
        .await;
    let query = |i: u64| pb::SearchRequest {
        top_k: Some(1 + (i % 7) as u32),
        ..search(&[(i as f32).cos(), 1.0, (i as f32 / 10.0).sin()])
    };
    let (queries, answers) = open(&server).await;
    tokio::spawn(async move {
        for i in 0..2_000 {
            ask(&queries, i, query(i), 0).await;
        }
    });
    let answers = all(answers).await;
    assert_eq!(answers.len(), 2_000);
    let mut client = server.vectors().await;
    for i in (0..2_000).step_by(97) {
        let alone = client.search(query(i)).await.unwrap().into_inner();
        assert_eq!(answers[&i], Outcome::Response(alone), "query {i}");
    }
}

#[tokio::test]
async fn a_query_that_is_wrong_or_late_fails_alone() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    fill(&server, [record("a", &[1.0, 2.0])]).await;
    let (queries, mut answers) = open(&server).await;
    // Waits for a write that never comes.
    ask(&queries, 1, pb::SearchRequest { min_sequence: 1_000, ..search(&[1.0, 0.0]) }, 50).await;
    ask(&queries, 2, search(&[1.0, 0.0]), 0).await;
    ask(&queries, 3, search(&[1.0, 0.0, 0.0]), 0).await;
    ask(&queries, 4, pb::SearchRequest { collection: "nope".into(), ..search(&[1.0, 0.0]) }, 0).await;
    ask(&queries, 5, pb::SearchRequest { top_k: Some(0), ..search(&[1.0, 0.0]) }, 0).await;
    queries.send(pb::StreamSearchRequest { query_index: 6, ..Default::default() }).await.unwrap();
    ask(&queries, 7, pb::SearchRequest { filter: Some(pb::Filter::default()), ..search(&[1.0, 0.0]) }, 0).await;
    ask(&queries, 8, text("an embedding service that is away"), 30_000).await;
    ask(&queries, 9, search(&[0.0, 0.0]), 0).await;
    drop(queries);
    let first = answers.message().await.unwrap().unwrap();
    assert_ne!(first.query_index, 1, "an answer that is ready does not wait for one that is not");
    let mut answers = all(answers).await;
    answers.insert(first.query_index, first.result.unwrap());
    assert_eq!(ids(&answers[&2]), ["a"]);
    assert_eq!(error(&answers[&1]), (DEADLINE_EXCEEDED, "QUERY_TIMEOUT"));
    assert_eq!(error(&answers[&3]), (Code::InvalidArgument as i32, "DIMENSION_MISMATCH"));
    assert_eq!(error(&answers[&4]), (Code::NotFound as i32, "COLLECTION_NOT_FOUND"));
    assert_eq!(error(&answers[&5]), (Code::InvalidArgument as i32, "INVALID_TOP_K"));
    assert_eq!(error(&answers[&6]), (Code::InvalidArgument as i32, "INVALID_ARGUMENT"));
    assert_eq!(error(&answers[&7]), (Code::InvalidArgument as i32, "INVALID_FILTER"));
    assert_eq!(error(&answers[&8]), (Code::Unavailable as i32, "EMBEDDING_UNAVAILABLE"));
    assert_eq!(error(&answers[&9]), (Code::InvalidArgument as i32, "ZERO_VECTOR"));
}

#[tokio::test]
async fn texts_and_long_searches_are_answered_beside_short_ones() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let texts = ["a red apple", "a fast train", "the stock market"];
    let texts = texts.map(|text| pb::RecordInput { id: text.into(), text: Some(text.into()), ..Default::default() });
    fill(&server, texts).await;
    // More numbers than are searched in place.
    for part in 0..4 {
        let rows = (0..1_000)
            .map(|i| record(&format!("{part}-{i}"), &[vec![1.0 + i as f32], vec![part as f32; 299]].concat()));
        fill(&server, rows).await;
    }
    let (queries, answers) = open(&server).await;
    for i in 0..40 {
        ask(&queries, 3 * i, text("fruit"), 0).await;
        ask(&queries, 3 * i + 1, search(&[vec![1.0], vec![0.0; 299]].concat()), 0).await;
        let in_the_texts_space = vec![1.0; 384];
        ask(&queries, 3 * i + 2, pb::SearchRequest { top_k: Some(3), ..search(&in_the_texts_space) }, 0).await;
    }
    drop(queries);
    let answers = all(answers).await;
    assert_eq!(answers.len(), 120);
    for i in 0..40 {
        assert_eq!(ids(&answers[&(3 * i)])[0], "a red apple");
        assert_eq!(ids(&answers[&(3 * i + 1)]).len(), 10);
        assert_eq!(ids(&answers[&(3 * i + 2)]).len(), 3);
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_from_and_holds_up_nobody() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let large =
        |i: usize| pb::RecordInput { text: Some("x".repeat(1 << 20)), ..record(&format!("{i}"), &[1.0, i as f32]) };
    fill(&server, (0..20).map(large)).await;
    let (deaf, answers) = open(&server).await;
    // Each answer has 20 MiB: those of all would have 20 GiB.
    for i in 0..1_000 {
        ask(&deaf, i, pb::SearchRequest { top_k: Some(20), ..search(&[1.0, 0.0]) }, 0).await;
    }
    let mut client = server.vectors().await;
    for _ in 0..50 {
        let request = pb::SearchRequest { top_k: Some(1), ..search(&[1.0, 0.0]) };
        assert_eq!(client.search(request).await.unwrap().into_inner().hits.len(), 1);
    }
    let peak = server.peak_memory_kb();
    assert!(peak < 400 << 10, "{peak} KB");
    drop((deaf, answers));
}

#[tokio::test]
async fn a_server_that_stops_answers_what_it_took_and_says_so() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    fill(&server, [record("a", &[1.0, 2.0])]).await;
    let (queries, mut answers) = open(&server).await;
    ask(&queries, 1, search(&[1.0, 0.0]), 0).await;
    assert_eq!(answers.message().await.unwrap().unwrap().query_index, 1);
    let (end, ended) = tokio::join!(answers.message(), server.terminate());
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().map(|info| info.reason).as_deref(), Some("NOT_READY"));
    assert!(ended.success());
}
