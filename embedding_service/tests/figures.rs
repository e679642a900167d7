//! `/metrics`: what was done is counted, under names that tell the services of a process apart.
//!
//! One test: all services of a process count together.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::provider::{Provider, answer_json, entry, good};
use common::{Served, cache_with_weights, options, request};
use serde_json::json;
use vectron_embedding::Options;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::port::Figures;

async fn figures(served: &Served) -> String {
    let (status, figures) = served.get("/metrics").await;
    assert_eq!(status, 200);
    figures.as_str().unwrap().to_owned()
}

/// The value of the figure whose line begins so.
fn value(figures: &str, name: &str) -> f64 {
    let line = figures.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{figures}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_is_done_is_counted() {
    let provider = Provider::start(|seen| async move {
        if seen.number == 0 { answer_json(503, json!({"error": {"message": "busy"}})) } else { good(&seen) }
    })
    .await;
    let folder = cache_with_weights();
    let models_file = folder.path().join("models.toml");
    std::fs::write(&models_file, [include_str!("../models.toml"), &entry("m", provider.address, "")].concat()).unwrap();
    let served = Served::start_with(&Options {
        models_file: Some(models_file),
        cache_bytes_max: 1 << 20,
        embedding_queue_bytes: 1000,
        ..options(folder.path())
    })
    .await;

    let told = figures(&served).await;
    for name in [
        "texts_total{model=\"minilm\"}",
        "tokens_total{model=\"m\"}",
        "cache_hits_total",
        "cache_misses_total",
        "callers_left_total",
        "rejected_total{reason=\"OVERLOADED\",no_room_for=\"bytes\"}",
    ] {
        assert_eq!(value(&told, &format!("vectron_embedding_{name}")), 0.0, "{name}");
    }

    served.embed(&["a cat", "a dog", "a cat"]).await;
    served.post("/embed", r#"{"text": "a cat"}"#).await;
    served.post("/embed", r#"{"text": ""}"#).await;
    let remote = |text: &str| pb::EmbedRequest { model_id: "m".to_owned(), ..request(&[text]) };
    served.grpc().embed(remote("one")).await.unwrap();

    let told = figures(&served).await;
    for (name, expected) in [
        ("texts_total{model=\"minilm\"}", 4.0),
        ("tokens_total{model=\"minilm\"}", 8.0),
        ("cache_hits_total", 2.0),
        ("cache_misses_total", 3.0),
        ("queue_tokens", 0.0),
        ("queue_bytes", 0.0),
        ("queue_seconds_count", 2.0),
        ("model_state{model=\"minilm\",state=\"ready\"}", 1.0),
        ("model_state{model=\"minilm\",state=\"loading\"}", 0.0),
        ("model_bytes{model=\"m\"}", 0.0),
        ("provider_resting{model=\"m\"}", 0.0),
        ("provider_calls_total{model=\"m\",provider=\"openai\",outcome=\"unavailable\"}", 1.0),
        ("provider_calls_total{model=\"m\",provider=\"openai\",outcome=\"ok\"}", 1.0),
        ("provider_retries_total{model=\"m\",provider=\"openai\"}", 1.0),
        ("requests_total{door=\"rest\",route=\"/embed\",code=\"200\"}", 1.0),
        ("requests_total{door=\"rest\",route=\"/embed\",code=\"400\"}", 1.0),
        ("requests_total{door=\"grpc\",route=\"/vectron.embedding.v1.EmbeddingService/Embed\",code=\"0\"}", 2.0),
    ] {
        assert_eq!(value(&told, &format!("vectron_embedding_{name}")), expected, "{name}");
    }
    assert!(value(&told, "vectron_embedding_cache_bytes") > 2.0 * 384.0 * 4.0);
    assert!(value(&told, "vectron_embedding_model_bytes{model=\"minilm\"}") > 50e6);
    assert!(value(&told, "vectron_embedding_inference_seconds_sum{model=\"minilm\"}") > 0.0);
    assert_eq!(value(&told, "vectron_embedding_batch_tokens_sum{model=\"minilm\"}"), 8.0);
    assert!(told.contains("# HELP vectron_embedding_texts_total Texts"), "{told}");

    // A call that has no room, beside one whose caller leaves.
    let large = "word ".repeat(190);
    let leaving = served.grpc();
    let waiting = tokio::spawn({
        // Each another, or they would be embedded once.
        let texts: Vec<String> = (0..120).map(|number| format!("{number} {large}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (mut leaving, request) = (leaving, request(&texts));
        async move { leaving.embed(request).await }
    });
    let refused = loop {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if let Err(status) = served.grpc().embed(request(&[&large])).await {
            break status;
        }
        assert!(!waiting.is_finished(), "it was over before a second call came");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    waiting.abort();
    let mut left = 0.0;
    for _ in 0..600 {
        let told = figures(&served).await;
        assert!(value(&told, "vectron_embedding_rejected_total{reason=\"OVERLOADED\",no_room_for=\"bytes\"}") >= 1.0);
        left = value(&told, "vectron_embedding_callers_left_total");
        if left > 0.0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(left, 1.0);

    // What another service of this process counts is not told at this port; and a second service counts beside the first.
    metrics::counter!("vectron_requests_total").increment(1);
    assert!(!figures(&served).await.contains("vectron_requests_total"));
    let second = Served::start_with(&options(folder.path())).await;
    second.embed(&["a cat"]).await;
    assert_eq!(value(&figures(&served).await, "vectron_embedding_texts_total{model=\"minilm\"}"), 5.0);
    assert!(Figures::of_this_process().is_ok());
}
