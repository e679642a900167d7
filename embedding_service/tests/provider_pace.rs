//! Providers that take less than they are asked for, at once or in a time: what they are asked, and who waits for whom.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::{Duration, Instant};

use axum::response::Response;
use common::provider::{Provider, Seen, answer_json, entry, good, retry_delay_ms, serve, told};
use common::{Served, components, request};
use serde_json::json;
use tokio::time::sleep;
use tonic::{Code, Request, Status};
use vectron_embedding::pb::v1 as pb;

fn inputs(seen: &Seen) -> Vec<String> {
    seen.body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn refusal(status: u16, message: &str) -> Response {
    answer_json(status, json!({"error": {"message": message, "code": null}}))
}

async fn embed(served: &Served, text: &str) -> Result<pb::EmbedResponse, Status> {
    served.grpc().embed(request(&[text])).await.map(tonic::Response::into_inner)
}

async fn embed_within(served: &Served, time: Duration) -> Result<pb::EmbedResponse, Status> {
    let mut call = Request::new(request(&["x"]));
    call.set_timeout(time);
    served.grpc().embed(call).await.map(tonic::Response::into_inner)
}

async fn asked(provider: &Provider) {
    while provider.seen().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn server_that_takes_fewer_texts_than_models_toml_says_is_asked_for_fewer() {
    for status in [413, 422, 400] {
        let provider = Provider::start(move |seen| async move {
            match inputs(&seen).len() {
                0..=32 => good(&seen),
                count => refusal(status, &format!("batch size {count} > maximum allowed batch size 32")),
            }
        })
        .await;
        let served = serve(&[entry("m", provider.address, "")]).await;
        let texts: Vec<String> = (1..=100).map(|length| "x".repeat(length)).collect();
        let answer = served.embed(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let lengths: Vec<f32> = answer.embeddings.iter().map(|one| components(one)[0]).collect();
        assert_eq!(lengths, (1..=100).map(|length| length as f32).collect::<Vec<_>>());
        assert_eq!(provider.seen().len(), 7, "100, 50, 25, 25, 50, 25, 25");
    }
}

#[tokio::test]
async fn text_that_is_too_long_is_named_and_the_others_are_not_blamed() {
    let provider = Provider::start(|seen| async move {
        if inputs(&seen).iter().any(|text| text.len() > 50) {
            return refusal(400, "This model's maximum context length is 50 tokens");
        }
        good(&seen)
    })
    .await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let long = "x".repeat(51);
    let status = served.grpc().embed(request(&["a", "b", "c", "d", "e", &long, "g", "h"])).await.unwrap_err();
    assert_eq!(told(&status), (Code::InvalidArgument, "PROVIDER_REFUSED_TEXTS".to_owned()));
    assert!(status.message().contains("texts[5]: http://127.0.0.1"), "{status:?}");
}

#[tokio::test]
async fn refusal_that_no_other_texts_would_change_is_the_operators() {
    let provider = Provider::start(|_| async { refusal(400, "API key not valid") }).await;
    let up = Provider::good().await;
    let first = entry("first", provider.address, "");
    let second = entry("second", provider.address, "space = \"s\"\nfallback = [\"third\"]");
    let served = serve(&[first, second, entry("third", up.address, "space = \"s\"")]).await;
    let status = served.grpc().embed(request(&["x"; 64])).await.unwrap_err();
    assert_eq!(told(&status), (Code::FailedPrecondition, "PROVIDER_REFUSED".to_owned()), "{status:?}");
    assert_eq!(provider.seen().len(), 7, "one for each halving");
    let embed = pb::EmbedRequest { model_id: "second".to_owned(), ..request(&["x"]) };
    assert_eq!(served.grpc().embed(embed).await.unwrap().into_inner().model_id, "third");
}

#[tokio::test]
async fn wait_for_a_turn_ends_with_the_time_of_the_request() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let served = serve(&[entry("m", provider.address, "requests_max = 1\ntime_max_ms = 800\ntries_max = 1")]).await;
    let since = Instant::now();
    let first = tokio::spawn({
        let mut client = served.grpc();
        async move { client.embed(request(&["first"])).await }
    });
    asked(&provider).await;
    let status = embed(&served, "second").await.unwrap_err();
    assert_eq!(told(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()), "{status:?}");
    assert_eq!((retry_delay_ms(&status), provider.seen().len()), (Some(1000), 1));
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(told(&first.await.unwrap().unwrap_err()).1, "PROVIDER_UNAVAILABLE");
}

#[tokio::test]
async fn nobody_waits_for_a_pause_of_somebody_else() {
    let provider = Provider::start(|seen| async move {
        if seen.number == 0 { answer_json(500, json!({"error": "oops"})) } else { good(&seen) }
    })
    .await;
    let served = serve(&[entry("m", provider.address, "requests_max = 1")]).await;
    let first = tokio::spawn({
        let mut client = served.grpc();
        async move { client.embed(request(&["first"])).await }
    });
    asked(&provider).await;
    embed(&served, "second").await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(provider.seen().iter().map(inputs).collect::<Vec<_>>().concat(), ["first", "second", "first"]);
}

#[tokio::test]
async fn word_when_to_come_back_is_kept_by_all() {
    let busy = |seconds: &'static str| {
        move |seen: Seen| async move {
            let mut response = answer_json(429, json!({"message": "slow down"}));
            response.headers_mut().insert("retry-after", seconds.parse().unwrap());
            if seen.number == 0 { response } else { good(&seen) }
        }
    };
    let provider = Provider::start(busy("1")).await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let since = Instant::now();
    let calls = ["a", "b", "c"].map(|text| {
        let mut client = served.grpc();
        tokio::spawn(async move { client.embed(request(&[text])).await.unwrap() })
    });
    asked(&provider).await;
    sleep(Duration::from_millis(100)).await;
    embed(&served, "d").await.unwrap();
    assert!(since.elapsed() > Duration::from_millis(900), "{:?}", since.elapsed());
    for call in calls {
        call.await.unwrap();
    }

    // Later than a request may take: nobody is asked.
    let provider = Provider::start(busy("60")).await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    embed(&served, "a").await.unwrap_err();
    let status = embed(&served, "b").await.unwrap_err();
    assert_eq!(told(&status), (Code::ResourceExhausted, "PROVIDER_RATE_LIMITED".to_owned()));
    assert!((50_000..=60_000).contains(&retry_delay_ms(&status).unwrap()), "{status:?}");
    assert_eq!(provider.seen().len(), 1);
}

#[tokio::test]
async fn provider_that_is_always_busy_is_left_alone() {
    let provider = Provider::start(|_| async { answer_json(429, json!({"message": "slow down"})) }).await;
    let served = serve(&[entry("m", provider.address, "tries_max = 1")]).await;
    for _ in 0..5 {
        assert_eq!(told(&embed(&served, "x").await.unwrap_err()).1, "PROVIDER_RATE_LIMITED");
    }
    let status = embed(&served, "x").await.unwrap_err();
    assert!(status.message().contains("is left alone for"), "{status:?}");
    assert_eq!(provider.seen().len(), 5);
}

#[tokio::test]
async fn provider_that_hangs_is_found_out_by_callers_of_less_patience() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let served = serve(&[entry("m", provider.address, "requests_max = 8")]).await;
    let call = || embed_within(&served, Duration::from_secs(4));
    let (a, b, c, d, e) = tokio::join!(call(), call(), call(), call(), call());
    for status in [a, b, c, d, e] {
        // Whose clock strikes first, the caller's or the service's, does not matter.
        let code = status.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    }
    let status = call().await.unwrap_err();
    assert_eq!(told(&status), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()), "{status:?}");
    assert_eq!(provider.seen().len(), 5);
}

#[tokio::test]
async fn fallback_has_a_part_of_the_callers_time() {
    let (hanging, up) = (Provider::start(|_| std::future::pending()).await, Provider::good().await);
    let first = entry("first", hanging.address, "space = \"s\"\nfallback = [\"second\"]");
    let served = serve(&[first, entry("second", up.address, "space = \"s\"")]).await;
    let since = Instant::now();
    let answer = embed_within(&served, Duration::from_secs(3)).await.unwrap();
    assert_eq!(answer.model_id, "second");
    assert!(since.elapsed() >= Duration::from_millis(1450), "{:?}", since.elapsed());
    // Of callers in such haste no number says that the provider fails.
    for _ in 0..6 {
        embed_within(&served, Duration::from_millis(1500)).await.unwrap();
    }
    assert_eq!(hanging.seen().len(), 7);
}
