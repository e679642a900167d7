//! Models that providers run, when all is well: each provider's protocol, prompts and input types, requests of what a
//! provider takes, tokens, fallbacks.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::provider::{Provider, answer_json, entry, good, serve, told};
use common::{components, request};
use serde_json::json;
use tonic::Code;
use vectron_embedding::pb::v1 as pb;

fn of(model_id: &str, texts: &[&str], input_type: pb::InputType) -> pb::EmbedRequest {
    pb::EmbedRequest { model_id: model_id.to_owned(), input_type: input_type.into(), ..request(texts) }
}

#[tokio::test]
async fn openai_is_asked_as_documented() {
    let provider = Provider::good().await;
    let prompts = "query_prompt = \"q: \"\ndocument_prompt = \"d: \"\nask_dimension = true";
    let served = serve(&[entry("m", provider.address, prompts)]).await;
    let answer = served.grpc().embed(of("m", &["ab", "abcd"], pb::InputType::Query)).await.unwrap().into_inner();
    assert_eq!((answer.model_id.as_str(), answer.dimension, answer.fingerprint.len()), ("m", 4, 32));
    let embeddings: Vec<_> = answer.embeddings.iter().map(components).collect();
    assert_eq!(embeddings, [[5.0, 0.0, 0.0, 1.0], [7.0, 1.0, 0.0, 1.0]]);
    // 10 tokens of 5 and 7 bytes.
    assert_eq!(answer.embeddings.iter().map(|one| one.tokens).collect::<Vec<_>>(), [4, 6]);
    assert!(answer.times.unwrap().inference_us > 0);

    served.grpc().embed(of("", &["x"], pb::InputType::Unspecified)).await.unwrap();
    let seen = provider.seen();
    assert_eq!(seen[0].path, "/v1/embeddings");
    assert!(!seen[0].headers.contains_key("authorization"), "no key is named");
    let expected = json!({"model": "m-1", "input": ["q: ab", "q: abcd"], "encoding_format": "float", "dimensions": 4});
    assert_eq!(seen[0].body, expected);
    assert_eq!(seen[1].body["input"], json!(["d: x"]));
}

#[tokio::test]
async fn cohere_is_asked_as_documented() {
    let provider = Provider::start(|seen| async move {
        let count = seen.body["texts"].as_array().unwrap().len();
        answer_json(
            200,
            json!({
                "id": "da6e531f", "texts": seen.body["texts"], "response_type": "embeddings_by_type",
                "embeddings": {"float": vec![[0.5, 0.5, 0.5, 0.5]; count]},
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2 * count}}
            }),
        )
    })
    .await;
    let cohere = entry("c", provider.address, "").replace("\"openai\"", "\"cohere\"").replace("/v1", "");
    let served = serve(&[cohere]).await;
    let texts = vec!["x"; 100];
    let answer = served.grpc().embed(of("c", &texts, pb::InputType::Query)).await.unwrap().into_inner();
    assert_eq!(answer.embeddings.len(), 100);
    assert_eq!(answer.embeddings.iter().map(|one| one.tokens).sum::<u32>(), 200);
    served.grpc().embed(of("c", &["y"], pb::InputType::Document)).await.unwrap();

    let mut seen = provider.seen();
    let last = seen.pop().unwrap();
    assert_eq!(last.path, "/v2/embed");
    let expected = json!({
        "model": "c-1", "texts": ["y"], "input_type": "search_document", "embedding_types": ["float"], "truncate": "END"
    });
    assert_eq!(last.body, expected);
    let mut counts: Vec<_> = seen.iter().map(|seen| seen.body["texts"].as_array().unwrap().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [4, 96], "at most 96 texts in one request");
    assert!(seen.iter().all(|seen| seen.body["input_type"] == "search_query"));
}

#[tokio::test]
async fn huggingface_is_asked_as_documented() {
    let provider = Provider::start(|seen| async move {
        answer_json(200, json!(vec![[3.0, 4.0, 0.0, 0.0]; seen.body["inputs"].as_array().unwrap().len()]))
    })
    .await;
    let hf = entry("h", provider.address, "query_prompt = \"q: \"")
        .replace("\"openai\"", "\"huggingface\"")
        .replace("\"h-1\"", "\"org/name\"");
    let served = serve(&[hf]).await;
    let normalized = pb::EmbedRequest { normalize: Some(true), ..of("h", &["x"], pb::InputType::Query) };
    let answer = served.grpc().embed(normalized).await.unwrap().into_inner();
    assert_eq!(components(&answer.embeddings[0]), [0.6, 0.8, 0.0, 0.0]);
    assert_eq!(answer.embeddings[0].tokens, 0, "it says nothing of tokens");
    let seen = &provider.seen()[0];
    assert_eq!(seen.path, "/v1/models/org/name/pipeline/feature-extraction");
    assert_eq!(seen.body, json!({"inputs": ["q: x"], "truncate": true}));
}

#[tokio::test]
async fn rest_tells_input_types_and_states() {
    let provider = Provider::good().await;
    let served = serve(&[entry("m", provider.address, "query_prompt = \"q: \"")]).await;
    for (body, sent) in [
        (r#"{"text": "x", "input_type": "query"}"#, "q: x"),
        (r#"{"text": "x", "input_type": "document"}"#, "x"),
        (r#"{"text": "x"}"#, "x"),
    ] {
        let (http, answer) = served.post("/embed", body).await;
        assert_eq!((http, answer["model_id"].as_str()), (200, Some("m")), "{answer}");
        assert_eq!(provider.seen().last().unwrap().body["input"], json!([sent]));
    }
    let (http, answer) = served.post("/embed", r#"{"text": "x", "input_type": "question"}"#).await;
    assert_eq!(http, 400);
    assert!(answer["message"].as_str().unwrap().contains("expected `document` or `query`"), "{answer}");
    let (http, _) = served.post("/batch-embed", r#"{"texts": ["x"], "input_type": "query"}"#).await;
    assert_eq!((http, &provider.seen().last().unwrap().body["input"]), (200, &json!(["q: x"])));

    let (_, models) = served.get("/models").await;
    let model = &models["models"]["m"];
    assert_eq!((model["state"].as_str(), model["loaded"].as_bool()), (Some("ready"), Some(true)), "{models}");
    assert_eq!((model["provider"].as_str(), model["fingerprint"].as_str().map(str::len)), (Some("openai"), Some(32)));
    assert_eq!(served.get("/health").await.1["status"], "healthy");
}

#[tokio::test]
async fn texts_are_cut_and_requests_bounded_where_tokens_can_be_counted() {
    let provider = Provider::good().await;
    let more = "tokenizer = \"cl100k_base\"\nrequest_tokens_max = 150\nrequests_max = 1";
    let served = serve(&[entry("m", provider.address, more)]).await;
    let long = "word ".repeat(1000);
    let answer = served.embed(&[&long, "two words", &long]).await;
    let facts: Vec<_> = answer.embeddings.iter().map(|one| (one.tokens, one.truncated)).collect();
    assert_eq!(facts, [(100, true), (2, false), (100, true)]);
    let sent: Vec<_> = provider.seen().iter().map(|seen| seen.body["input"].as_array().unwrap().len()).collect();
    assert_eq!(sent, [2, 1], "102 tokens, then 100");
    // Of a million bytes only what is sent is tokenized.
    let huge = "x".repeat(1 << 20);
    let answer = served.embed(&[&huge]).await;
    assert!(answer.embeddings[0].truncated);
}

#[tokio::test]
async fn so_many_requests_run_at_once_and_answers_keep_their_order() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counting = (running.clone(), most.clone());
    let provider = Provider::start(move |seen| {
        let (running, most) = counting.clone();
        async move {
            most.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            // Later requests are answered sooner.
            tokio::time::sleep(Duration::from_millis(40u64.saturating_sub(seen.number as u64 * 4))).await;
            running.fetch_sub(1, Ordering::SeqCst);
            good(&seen)
        }
    })
    .await;
    let served = serve(&[entry("m", provider.address, "request_texts_max = 1\nrequests_max = 3")]).await;
    let texts: Vec<String> = (1..=10).map(|length| "x".repeat(length)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (first, second) = tokio::join!(served.embed(&texts), served.embed(&texts));
    for answer in [first, second] {
        let lengths: Vec<f32> = answer.embeddings.iter().map(|one| components(one)[0]).collect();
        assert_eq!(lengths, (1..=10).map(|length| length as f32).collect::<Vec<_>>());
    }
    assert_eq!((provider.seen().len(), most.load(Ordering::SeqCst)), (20, 3));
}

#[tokio::test]
async fn caller_that_leaves_takes_its_request_along() {
    struct Told(Arc<AtomicUsize>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let left = Arc::new(AtomicUsize::new(0));
    let counting = left.clone();
    let provider = Provider::start(move |_| {
        let told = Told(counting.clone());
        async move {
            let _told = told;
            std::future::pending().await
        }
    })
    .await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let mut client = served.grpc();
    let call = tokio::spawn(async move { client.embed(request(&["x"])).await });
    while provider.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call.abort();
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while left.load(Ordering::SeqCst) == 0 {
        assert!(tokio::time::Instant::now() < patience, "the request goes on without its caller");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn fallback_of_the_same_space_serves_and_says_so() {
    let down = Provider::start(|_| async { answer_json(503, json!({"error": {"message": "overloaded"}})) }).await;
    let up = Provider::good().await;
    let space = "space = \"s\"\ntries_max = 1";
    let first = entry("first", down.address, &format!("{space}\nfallback = [\"second\"]"));
    let served = serve(&[first, entry("second", up.address, space)]).await;
    let answer = served.embed(&["abc"]).await;
    assert_eq!((answer.model_id.as_str(), components(&answer.embeddings[0])[0]), ("second", 3.0));
    let models = served.grpc().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    assert_eq!((&models[0].fingerprint, &models[1].fingerprint), (&answer.fingerprint, &answer.fingerprint));
}

#[tokio::test]
async fn another_space_serves_the_rest_call_that_keeps_nothing_and_no_other() {
    let down = Provider::start(|_| async { answer_json(503, json!({"error": {"message": "overloaded"}})) }).await;
    let up = Provider::good().await;
    let first = entry("first", down.address, "tries_max = 1\nfallback_any_space = [\"second\"]");
    let served = serve(&[first, entry("second", up.address, "")]).await;
    let (http, answer) = served.post("/embed", r#"{"text": "abc"}"#).await;
    assert_eq!((http, answer["model_id"].as_str()), (200, Some("second")), "{answer}");
    let (http, answer) = served.post("/batch-embed", r#"{"texts": ["abc"]}"#).await;
    assert_eq!((http, answer["code"].as_str()), (503, Some("PROVIDER_UNAVAILABLE")), "{answer}");
    let status = served.grpc().embed(request(&["abc"])).await.unwrap_err();
    assert_eq!(told(&status), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
}

#[tokio::test]
async fn texts_that_a_provider_refuses_are_nobody_elses_either() {
    let refusing = Provider::start(|_| async {
        answer_json(400, json!({"error": {"message": "maximum context length is 8192 tokens", "code": null}}))
    })
    .await;
    let up = Provider::good().await;
    let first = entry("first", refusing.address, "space = \"s\"\nfallback = [\"second\"]");
    let served = serve(&[first, entry("second", up.address, "space = \"s\"")]).await;
    let status = served.grpc().embed(request(&["abc"])).await.unwrap_err();
    assert_eq!(told(&status), (Code::InvalidArgument, "PROVIDER_REFUSED_TEXTS".to_owned()));
    assert!(status.message().contains("maximum context length is 8192 tokens"), "{status:?}");
    assert_eq!((refusing.seen().len(), up.seen().len()), (1, 0));
}
