//! The numbers: right ones, the same however texts are grouped, cut where they are too long.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::{Served, cache_with_weights, components, distance, options, request};
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::{Options, Precision};

/// Five definitions of WordNet 3.0 (Copyright 2006 by Princeton University, used by its licence with this notice), and
/// the first components of their embeddings by sentence-transformers' all-MiniLM-L6-v2, which were stored as f16.
const REFERENCE: [(&str, [f32; 8]); 5] = [
    (
        "living thing, animate thing: a living (or once living) entity",
        [-0.05933, -0.00938, -0.02533, 0.04108, -0.01145, -0.02843, 0.07556, -0.07263],
    ),
    (
        "luge: a racing sled for one or two people",
        [-0.05463, 0.006, 0.00168, 0.04178, -0.06378, 0.01793, 0.04233, 0.05945],
    ),
    (
        "Revolutionary Proletarian Nucleus, Revolutionary Proletarian Initiative Nuclei, NIPR: a clandestine group of \
         leftist extremists who oppose Italy's labor policies and foreign policy; responsible for bombing building in \
         the historic center of Rome from 2000 to 2002",
        [-0.05585, -0.0061, -0.04581, -0.00709, 0.00907, 0.00476, 0.06403, 0.03873],
    ),
    (
        "bactericide, bacteriacide: any chemical agent that destroys bacteria",
        [-0.00868, 0.00848, 0.01218, 0.03128, 0.0135, 0.05646, -0.00011, 0.1236],
    ),
    (
        "fiery, igneous: like or suggestive of fire; \"a fiery desert wind\"; \"an igneous desert atmosphere\"",
        [0.04141, -0.0067, 0.00177, 0.05588, 0.06003, 0.00959, 0.06616, -0.06567],
    ),
];

fn in_f32(model_cache: &Path) -> Options {
    Options { precision: Some(Precision::F32), ..options(model_cache) }
}

#[tokio::test]
async fn embeddings_are_those_of_the_reference() {
    let cache = cache_with_weights();
    let served = Served::start_with(&in_f32(cache.path())).await;
    let answer = served.embed(&REFERENCE.map(|(text, _)| text)).await;
    assert_eq!((answer.model_id.as_str(), answer.dimension), ("minilm", 384));
    for ((text, expected), embedding) in REFERENCE.iter().zip(&answer.embeddings) {
        let got = components(embedding);
        assert_eq!(got.len(), 384);
        assert!(distance(&got[..8], expected) < 1e-4, "{text}: {:?}, expected {expected:?}", &got[..8]);
        let length: f32 = got.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{text}: length {length}");
    }
    let times = answer.times.unwrap();
    assert!(times.inference_us > 0 && times.tokenize_us > 0, "{times:?}");
}

#[tokio::test]
async fn embeddings_in_bytes_are_the_default_and_near_and_have_a_fingerprint_of_their_own() {
    let cache = cache_with_weights();
    let exact = Served::start_with(&in_f32(cache.path())).await;
    let in_bytes = Served::start_with(&options(cache.path())).await;
    let texts = REFERENCE.map(|(text, _)| text);
    let (exact, in_bytes) = (exact.embed(&texts).await, in_bytes.embed(&texts).await);
    assert_ne!(exact.fingerprint, in_bytes.fingerprint);
    for (exact, in_bytes) in exact.embeddings.iter().zip(&in_bytes.embeddings) {
        let (exact, in_bytes) = (components(exact), components(in_bytes));
        let cosine: f32 = exact.iter().zip(&in_bytes).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999, "cosine {cosine}");
        assert!(distance(&exact, &in_bytes) > 0.0, "nothing was computed in bytes");
    }
}

#[tokio::test]
async fn text_has_the_same_embedding_alone_and_in_a_batch() {
    let served = Served::start().await;
    let long = "many words make a long text ".repeat(30);
    let texts: Vec<&str> = REFERENCE.iter().map(|(text, _)| *text).chain(["x", &long, " ", "ünïcödé 漢字"]).collect();
    let together = served.embed(&texts).await;
    for (text, embedding) in texts.iter().zip(&together.embeddings) {
        let alone = served.embed(&[text]).await;
        let apart = distance(&components(&alone.embeddings[0]), &components(embedding));
        assert!(apart < 1e-5, "{text:?}: {apart} apart");
        assert_eq!(alone.embeddings[0].tokens, embedding.tokens);
    }
}

#[tokio::test]
async fn text_is_cut_after_256_tokens_and_says_so() {
    let served = Served::start().await;
    let words = |count: usize| "word ".repeat(count);
    let (fits, longer, longest) = (words(254), words(255), words(200_000));
    let marks = served.embed(&["!".repeat(254).as_str(), "!".repeat(1 << 20).as_str()]).await.embeddings;
    assert_eq!((marks[1].tokens, marks[1].truncated), (256, true));
    assert!(distance(&components(&marks[0]), &components(&marks[1])) < 1e-5);
    let [fits, longer, longest] = served.embed(&[&fits, &longer, &longest]).await.embeddings.try_into().unwrap();
    // [CLS] and [SEP] count.
    assert_eq!((fits.tokens, fits.truncated), (256, false));
    assert_eq!((longer.tokens, longer.truncated), (256, true));
    assert_eq!((longest.tokens, longest.truncated), (256, true));
    assert!(distance(&components(&fits), &components(&longer)) < 1e-5);
    assert!(distance(&components(&fits), &components(&longest)) < 1e-5);
}

#[tokio::test]
async fn words_after_much_white_space_count() {
    let served = Served::start().await;
    // The tokenizer sees the text in growing parts.
    let padded = format!("one{}two", " ".repeat(100_000));
    let [plain, padded] = served.embed(&["one two", &padded]).await.embeddings.try_into().unwrap();
    assert_eq!((padded.tokens, padded.truncated), (4, false));
    assert!(distance(&components(&plain), &components(&padded)) < 1e-5);
}

#[tokio::test]
async fn length_is_kept_where_it_is_asked_for() {
    let served = Served::start().await;
    let scaled = components(&served.embed(&["a text"]).await.embeddings[0]);
    let raw = pb::EmbedRequest { normalize: Some(false), ..request(&["a text"]) };
    let raw = components(&served.grpc().embed(raw).await.unwrap().into_inner().embeddings[0]);
    let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!(length > 2.0, "length {length}");
    let rescaled: Vec<f32> = raw.iter().map(|x| x / length).collect();
    assert!(distance(&rescaled, &scaled) < 1e-6);
}

#[tokio::test]
async fn both_doors_give_the_same_numbers() {
    let served = Served::start().await;
    let over_grpc = components(&served.embed(&["two doors"]).await.embeddings[0]);
    let floats = |value: &serde_json::Value| -> Vec<f32> { serde_json::from_value(value.clone()).unwrap() };

    let (status, one) = served.post("/embed?model_id=minilm", r#"{"text": "two doors"}"#).await;
    assert_eq!(status, 200, "{one}");
    assert!(distance(&floats(&one["embedding"]), &over_grpc) < 1e-5);
    assert_eq!((one["dimension"].as_u64(), one["tokens"].as_u64()), (Some(384), Some(4)));
    assert_eq!((one["model_id"].as_str(), one["truncated"].as_bool()), (Some("minilm"), Some(false)));
    assert_eq!(one["text_hash"], "1ed07d7da8bf3d8b0978cfce39d885c23d93706981f4f60016435f064e550aa9");
    assert!(one["processing_time"].as_f64().unwrap() > 0.0);

    let (status, batch) =
        served.post("/batch-embed", r#"{"texts": ["other", "two doors"], "model_id": "minilm"}"#).await;
    assert_eq!(status, 200, "{batch}");
    assert!(distance(&floats(&batch["embeddings"][1]), &over_grpc) < 1e-5);
    assert_eq!((batch["count"].as_u64(), batch["dimension"].as_u64()), (Some(2), Some(384)));
}

#[tokio::test]
async fn channel_in_memory_carries_what_the_socket_carries_and_more() {
    let served = Served::start().await;
    let mut in_memory = vectron_embedding::client(served.service.in_memory_channel());
    let over_socket = served.embed(&["near"]).await;
    let near = in_memory.embed(request(&["near"])).await.unwrap().into_inner();
    assert_eq!(near.fingerprint, over_socket.fingerprint);
    assert!(distance(&components(&near.embeddings[0]), &components(&over_socket.embeddings[0])) < 1e-6);

    // 20 MiB: over the socket's limit for a message.
    let text = format!("start {}", " ".repeat(1 << 20 >> 1));
    let many = request(&vec![text.as_str(); 40]);
    assert_eq!(in_memory.embed(many.clone()).await.unwrap().into_inner().embeddings.len(), 40);
    let refused = served.grpc().embed(many).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("16777216"), "{refused}");
}

#[tokio::test]
async fn callers_at_once_get_their_own_answers() {
    let served = Served::start().await;
    let mut calls = Vec::new();
    for caller in 0..16 {
        let mut client = served.grpc();
        calls.push(tokio::spawn(async move {
            let texts: Vec<String> = (0..20).map(|i| format!("text {i} of caller {caller}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let together = client.embed(request(&texts)).await.unwrap().into_inner().embeddings;
            let last = client.embed(request(&texts[19..])).await.unwrap().into_inner().embeddings;
            distance(&components(&together[19]), &components(&last[0]))
        }));
    }
    for call in calls {
        assert!(call.await.unwrap() < 1e-5);
    }
}
