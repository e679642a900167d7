//! StreamEmbed: order, errors of single batches, clients that do not read or go away, and the end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Served, cache_with_weights, components, distance, options, request};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use vectron_embedding::client;
use vectron_embedding::pb::v1 as pb;

/// A batch of a stream.
fn batch(batch_index: u64, texts: &[&str]) -> pb::StreamEmbedRequest {
    pb::StreamEmbedRequest { batch_index, embed: Some(request(texts)), ..Default::default() }
}

/// An open stream: what is sent into the channel goes to the service.
async fn open(served: &Served) -> (mpsc::UnboundedSender<pb::StreamEmbedRequest>, Streaming<pb::StreamEmbedResponse>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let answers = served.grpc().stream_embed(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
    (sender, answers)
}

async fn stream(served: &Served, requests: Vec<pb::StreamEmbedRequest>) -> Vec<pb::StreamEmbedResponse> {
    let answers = served.grpc().stream_embed(tokio_stream::iter(requests)).await.unwrap().into_inner();
    answers.collect::<Result<_, Status>>().await.unwrap()
}

/// Some 200 tokens.
fn long_text() -> String {
    "word ".repeat(200)
}

#[tokio::test]
async fn small_batches_are_answered_in_order_with_the_numbers_of_embed() {
    let served = Served::start().await;
    let texts: Vec<String> = (0..150).map(|i| format!("text {i} {}", "and more ".repeat(i % 7))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = served.embed(&texts).await;
    // 100 batches of one or two texts; the numbers of the batches are the client's own.
    let mut left = &texts[..];
    let mut requests = Vec::new();
    for index in 0..100 {
        let (first, rest) = left.split_at(1 + index as usize % 2);
        requests.push(batch(1000 - index, first));
        left = rest;
    }
    assert!(left.is_empty());

    let answers = stream(&served, requests).await;
    let indexes: Vec<u64> = answers.iter().map(|answer| answer.batch_index).collect();
    assert_eq!(indexes, (901..=1000).rev().collect::<Vec<_>>());
    let responses: Vec<_> = answers.into_iter().map(|answer| answer.response.unwrap()).collect();
    assert!(responses.iter().all(|response| response.fingerprint == expected.fingerprint));
    let embeddings: Vec<_> = responses.into_iter().flat_map(|response| response.embeddings).collect();
    assert_eq!(embeddings.len(), 150);
    for (got, expected) in embeddings.iter().zip(&expected.embeddings) {
        assert!(distance(&components(got), &components(expected)) < 1e-6);
        assert_eq!(got.tokens, expected.tokens);
    }
}

#[tokio::test]
async fn answers_as_ready_pass_those_in_front_and_leave_the_others_in_turn() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let long = long_text();
    let large = vec![long.as_str(); 60];
    let as_ready = |request| pb::StreamEmbedRequest { order: pb::StreamEmbedOrder::AsReady.into(), ..request };
    let requests = vec![
        batch(0, &large),
        as_ready(batch(1, &large)),
        as_ready(batch(2, &["short"])),
        batch(3, &["short"]),
        as_ready(batch(4, &[""])),
        pb::StreamEmbedRequest { order: 7, ..batch(5, &["short"]) },
    ];
    let answers = stream(&served, requests).await;
    let told: Vec<u64> = answers.iter().map(|answer| answer.batch_index).collect();
    let place = |index: u64| told.iter().position(|told| *told == index).unwrap();
    assert_eq!(told.len(), 6);
    assert!(place(2) < place(0) && place(2) < place(1) && place(4) < place(0), "{told:?}");
    assert!(place(0) < place(3) && place(3) < place(5), "{told:?}");
    let reason = |index: u64| answers[place(index)].error.as_ref().map(|error| error.reason.as_str());
    assert_eq!((reason(2), reason(4), reason(5)), (None, Some("INVALID_TEXT"), Some("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn answers_as_ready_all_come_before_the_end_of_a_service_that_stops() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let (requests, mut answers) = open(&served).await;
    let long = long_text();
    for index in 0..4 {
        let batch = batch(index, &vec![long.as_str(); 20]);
        requests.send(pb::StreamEmbedRequest { order: pb::StreamEmbedOrder::AsReady.into(), ..batch }).unwrap();
    }
    assert!(answers.message().await.unwrap().is_some());
    let Served { stop, server, .. } = served;
    stop.send(()).unwrap();
    let mut answered = 1;
    let end = loop {
        match answers.message().await {
            Ok(Some(_)) => answered += 1,
            Ok(None) => panic!("it ended as if the client had"),
            Err(status) => break status,
        }
    };
    assert_eq!((answered, end.code()), (4, Code::Unavailable), "{end:?}");
    drop(requests);
    server.await.unwrap();
}

#[tokio::test]
async fn error_of_a_batch_is_told_and_the_stream_goes_on() {
    let served = Served::start().await;
    let with = |batch_index, embed| pb::StreamEmbedRequest { batch_index, embed: Some(embed), ..Default::default() };
    let many = vec!["x"; 2049];
    let requests = vec![
        batch(0, &["first"]),
        batch(1, &[]),
        with(2, pb::EmbedRequest { model_id: "gpt".to_owned(), ..request(&["x"]) }),
        batch(3, &["between"]),
        with(4, pb::EmbedRequest { input_type: 9, ..request(&["x"]) }),
        batch(5, &["x", ""]),
        pb::StreamEmbedRequest { batch_index: 6, ..Default::default() },
        batch(7, &many),
        batch(8, &["last"]),
    ];
    let answers = stream(&served, requests).await;
    let told: Vec<_> = answers
        .iter()
        .map(|answer| {
            assert!(answer.response.is_some() != answer.error.is_some(), "{answer:?}");
            let reason = answer.error.as_ref().map_or("", |error| error.reason.as_str());
            (answer.batch_index, answer.error.as_ref().map_or(0, |error| error.code), reason)
        })
        .collect();
    let (invalid, not_found) = (Code::InvalidArgument.into(), Code::NotFound.into());
    let expected: [(u64, i32, &str); 9] = [
        (0, 0, ""),
        (1, invalid, "NO_TEXTS"),
        (2, not_found, "MODEL_NOT_FOUND"),
        (3, 0, ""),
        (4, invalid, "INVALID_ARGUMENT"),
        (5, invalid, "INVALID_TEXT"),
        (6, invalid, "NO_TEXTS"),
        (7, invalid, "TOO_MANY_TEXTS"),
        (8, 0, ""),
    ];
    assert_eq!(told, expected);
    assert!(answers[5].error.as_ref().unwrap().message.contains("texts[1] is empty"), "{:?}", answers[5]);
}

#[tokio::test]
async fn model_that_cannot_be_loaded_is_told_with_a_hint() {
    let cache = tempfile::tempdir().unwrap();
    let served = Served::start_with(&options(cache.path())).await;
    let answers = stream(&served, vec![batch(3, &["x"])]).await;
    let error = answers[0].error.as_ref().unwrap();
    assert_eq!(
        (answers.len(), error.code, error.reason.as_str()),
        (1, Code::FailedPrecondition.into(), "MODEL_FAILED")
    );
    assert_eq!(error.retry_after_ms, 6000);
}

#[tokio::test]
async fn client_that_never_reads_is_held_back() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    // 64 texts of 16 KiB: a request fills the service's window, and an answer that of this client.
    let channel = Channel::from_shared(format!("http://{}", served.address)).unwrap();
    let mut client = client(channel.initial_stream_window_size(65_535).connect_lazy());
    let padded = format!("x{}", " ".repeat(16 << 10));
    let texts = vec![padded.as_str(); 64];
    let pulled = Arc::new(AtomicUsize::new(0));
    let requests: Vec<_> = (0..60).map(|index| batch(index, &texts)).collect();
    let counted = tokio_stream::iter(requests).map({
        let pulled = pulled.clone();
        move |request| {
            pulled.fetch_add(1, Ordering::SeqCst);
            request
        }
    });
    let mut answers = client.stream_embed(counted).await.unwrap().into_inner();

    // Until it stands still: 16 that are taken in, and the few that fit the windows and the buffers on the way.
    let mut before = usize::MAX;
    while before != pulled.load(Ordering::SeqCst) {
        before = pulled.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    assert!((16..=24).contains(&before), "{before} of 60 were taken from the client");
    // Others do not notice.
    served.embed(&["somebody else"]).await;
    for index in 0..60 {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.batch_index, answer.response.unwrap().embeddings.len()), (index, 64));
    }
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn batches_wait_for_room_and_leave_half_of_it_to_single_calls() {
    let cache = cache_with_weights();
    let served = Served::start_with(&vectron_embedding::Options {
        embedding_threads: 1,
        embedding_batch_tokens: 256,
        embedding_queue_tokens: 1000,
        embedding_queue_bytes: 2 * 4 * (1000 + 8 * 384),
        ..options(cache.path())
    })
    .await;
    served.embed(&["load it"]).await;
    let text = long_text();
    let (sender, answers) = open(&served).await;
    // One batch is as much as waiting ones may hold together, of tokens and of bytes.
    for index in 0..20 {
        sender.send(batch(index, &[&text, &text, &text, &text])).unwrap();
    }
    drop(sender);
    let streamed = tokio::spawn(answers.collect::<Result<Vec<_>, Status>>());
    let mut single = 0;
    while !streamed.is_finished() {
        served.grpc().embed(request(&[&text])).await.expect("single calls have the other half");
        single += 1;
    }
    let answers = streamed.await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| answer.error.is_none()), "{answers:?}");
    assert_eq!(answers.len(), 20);
    assert!(single > 1, "{single} calls meanwhile");
}

#[tokio::test]
async fn client_that_leaves_frees_its_part_of_the_budgets() {
    let cache = cache_with_weights();
    let served = Served::start_with(&vectron_embedding::Options {
        embedding_threads: 1,
        embedding_batch_tokens: 256,
        embedding_queue_tokens: 200_000,
        embedding_queue_bytes: 1_000_000,
        ..options(cache.path())
    })
    .await;
    served.embed(&["load it"]).await;
    let text = long_text();
    let texts = vec![text.as_str(); 400];
    let (sender, answers) = open(&served).await;
    for index in 0..3 {
        sender.send(batch(index, &texts)).unwrap();
    }
    // Needs all bytes that there are: only where nobody holds any.
    let padded = format!("all{}", " ".repeat(1_000_000));
    let all = [padded.as_str(), "of it"];
    let mut refused = false;
    for _ in 0..2000 {
        refused =
            served.grpc().embed(request(&all)).await.is_err_and(|status| status.code() == Code::ResourceExhausted);
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused, "the stream's texts are in flight");
    drop((sender, answers));
    for _ in 0..600 {
        if served.grpc().embed(request(&all)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the client left 30 s ago, and its texts still hold the budget");
}

#[tokio::test]
async fn message_that_is_too_large_ends_the_stream_after_what_came_before() {
    let served = Served::start().await;
    let text = "x".repeat(1 << 20);
    let large = batch(1, &vec![text.as_str(); 17]);
    let (sender, mut answers) = open(&served).await;
    sender.send(batch(0, &["before"])).unwrap();
    sender.send(large).unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().batch_index, 0);
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
    served.embed(&["after"]).await;
}

#[tokio::test]
async fn service_that_stops_answers_what_it_took_in_and_ends_its_streams() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let (_idle_sender, mut idle) = open(&served).await;
    let (sender, mut answers) = open(&served).await;
    let text = long_text();
    for index in 0..100 {
        sender.send(batch(index, &[text.as_str()])).unwrap();
    }
    for index in 0..3 {
        assert_eq!(answers.message().await.unwrap().unwrap().batch_index, index);
    }
    served.stop.send(()).unwrap();

    let mut answered = 3;
    let status = loop {
        match answers.message().await {
            Ok(answer) => {
                let answer = answer.expect("the end is told");
                assert_eq!((answer.batch_index, answer.error), (answered, None));
                answered += 1;
            }
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "the service is stopping"), "{status:?}");
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert!((3..60).contains(&answered), "{answered} batches were answered");
    assert_eq!(idle.message().await.unwrap_err().code(), Code::Unavailable);
    tokio::time::timeout(Duration::from_secs(9), served.server).await.unwrap().unwrap();
}
