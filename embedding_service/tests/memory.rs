//! The memory that models may take: who makes room for whom.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use common::{FILES, Served, options, request, weights};
use tonic::Code;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::{Options, Precision};

/// One minilm has some 91 MB in f32.
const TWO: usize = 200 << 20;

/// minilm four times, by other names; the first is the default.
async fn serve(models_memory_bytes_max: usize) -> (Served, tempfile::TempDir) {
    serve_in(Precision::F32, models_memory_bytes_max).await
}

async fn serve_in(precision: Precision, models_memory_bytes_max: usize) -> (Served, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let mut registry = "default = \"a\"\n".to_owned();
    for id in ["a", "b", "c", "d"] {
        std::fs::create_dir(cache.path().join(id)).unwrap();
        for name in FILES {
            std::os::unix::fs::symlink(weights().join(name), cache.path().join(id).join(name)).unwrap();
        }
        registry += &format!(
            "[[model]]\nid = \"{id}\"\nprovider = \"local\"\nmodel_name = \"a/b\"\nrevision = \"main\"\ndimension = 384\n\
             tokens_max = 256\npooling = \"mean\"\nnormalize = true\n"
        );
    }
    let file = cache.path().join("models.toml");
    std::fs::write(&file, registry).unwrap();
    let options = Options {
        models_file: Some(file),
        models_memory_bytes_max,
        precision: Some(precision),
        ..options(cache.path())
    };
    (Served::start_with(&options).await, cache)
}

async fn embed(served: &Served, model_id: &str) -> Result<pb::EmbedResponse, tonic::Status> {
    let embed = pb::EmbedRequest { model_id: model_id.to_owned(), ..request(&["x"]) };
    served.grpc().embed(embed).await.map(tonic::Response::into_inner)
}

async fn states(served: &Served) -> [String; 3] {
    let (_, models) = served.get("/models").await;
    ["a", "b", "c"].map(|id| models["models"][id]["state"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn model_used_longest_ago_makes_room_and_the_default_does_not() {
    let (served, cache) = serve(TWO).await;
    embed(&served, "a").await.unwrap();
    let first = embed(&served, "b").await.unwrap();
    assert_eq!(states(&served).await, ["ready", "ready", "not_loaded"]);
    embed(&served, "c").await.unwrap();
    assert_eq!(states(&served).await, ["ready", "not_loaded", "ready"]);
    let again = embed(&served, "b").await.unwrap();
    assert_eq!(states(&served).await, ["ready", "ready", "not_loaded"]);
    assert_eq!(first.embeddings[0].f32_le, again.embeddings[0].f32_le);
    // Nobody pinned these files: they were pinned by their first use.
    let pins = std::fs::read_to_string(cache.path().join("b/SHA256SUMS")).unwrap();
    assert_eq!((pins.lines().next(), pins.lines().count()), (Some("# a/b main"), 1 + FILES.len()), "{pins}");
}

#[tokio::test]
async fn models_in_turn_are_all_answered_while_there_is_room_for_one() {
    let (served, _cache) = serve(TWO).await;
    let call = |id: &'static str| {
        let served = &served;
        async move {
            for _ in 0..3 {
                embed(served, id).await.unwrap();
            }
        }
    };
    tokio::join!(call("b"), call("c"), call("a"));
}

#[tokio::test]
async fn model_that_never_fits_is_told_at_once() {
    let (served, _cache) = serve(100 << 20).await;
    embed(&served, "a").await.unwrap();
    let since = Instant::now();
    let status = embed(&served, "b").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("--models-memory-bytes-max"), "{status:?}");
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    assert_eq!(states(&served).await, ["ready", "failed", "not_loaded"]);
}

#[tokio::test]
async fn default_model_is_served_whatever_the_limit() {
    let (served, _cache) = serve(50 << 20).await;
    embed(&served, "a").await.unwrap();
    assert_eq!(embed(&served, "b").await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn words_of_int8_count_as_two_bytes() {
    // minilm has 47.7 MB of embeddings and 16.8 MB of products; with a byte for each of their weights two would have 118 MB.
    let (served, _cache) = serve_in(Precision::Int8, 125_000_000).await;
    embed(&served, "a").await.unwrap();
    assert_eq!(embed(&served, "b").await.unwrap_err().code(), Code::FailedPrecondition);
    let (served, _cache) = serve_in(Precision::Int8, 135_000_000).await;
    embed(&served, "a").await.unwrap();
    embed(&served, "b").await.unwrap();
}

#[tokio::test]
async fn no_more_models_leave_than_it_takes() {
    // Three of 65 MB.
    let (served, _cache) = serve_in(Precision::Int8, 200 << 20).await;
    for id in ["a", "b", "c"] {
        embed(&served, id).await.unwrap();
    }
    // b is in use, and still the one that was asked for longest ago: its room comes, but not at once.
    let texts = vec!["The cat sat on the mat. ".repeat(20); 600];
    let long = pb::EmbedRequest { texts, model_id: "b".to_owned(), ..request(&[]) };
    let mut client = served.grpc();
    let long = tokio::spawn(async move { client.embed(long).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    embed(&served, "c").await.unwrap();
    assert!(!long.is_finished(), "it is long enough");
    // On a slow machine it is longer than anybody waits for room, who then is to try again.
    while let Err(status) = embed(&served, "d").await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    let (_, models) = served.get("/models").await;
    let states = ["a", "b", "c", "d"].map(|id| models["models"][id]["state"].as_str().unwrap());
    assert_eq!(states, ["ready", "not_loaded", "ready", "ready"]);
    assert!(long.await.unwrap().is_ok(), "its call had the model until its end");
}
