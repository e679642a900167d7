//! Providers that are down, slow, busy or wrong: what the caller sees of each, as gRPC code and reason.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes};
use axum::response::Response;
use common::provider::{DIMENSION, Provider, Seen, answer_json, answer_with, entry, good, retry_delay_ms, serve, told};
use common::{Served, components, request};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

/// Soon tried again, soon given up.
const HASTE: &str = "try_time_max_ms = 300\ntime_max_ms = 2000";
/// Time enough on a slow machine, and less than the provider asks for where it says when to come back.
const PATIENCE: &str = "time_max_ms = 20000";

async fn refused(served: &Served) -> Status {
    served.grpc().embed(request(&["ab", "abcd"])).await.unwrap_err()
}

/// What the caller of one call sees where the provider answers so; and how often it was asked.
async fn seen_of(answer: impl Fn(Seen) -> Response + Clone + Send + Sync + 'static) -> (Status, usize) {
    seen_within(PATIENCE, answer).await
}

async fn seen_within(
    limits: &str,
    answer: impl Fn(Seen) -> Response + Clone + Send + Sync + 'static,
) -> (Status, usize) {
    let provider = Provider::start(move |seen| std::future::ready(answer(seen))).await;
    let served = serve(&[entry("m", provider.address, limits)]).await;
    let status = refused(&served).await;
    assert!(status.message().starts_with("model `m`: http://127.0.0.1:"), "{status:?}");
    (status, provider.seen().len())
}

fn is(status: &Status, code: Code, reason: &str, says: &str) {
    assert_eq!(told(status), (code, reason.to_owned()), "{status:?}");
    assert!(status.message().contains(says), "expected `{says}` in {status:?}");
}

fn answer_of(embeddings: Value) -> Response {
    let embeddings = embeddings.as_array().unwrap().iter().enumerate();
    let data: Vec<_> = embeddings.map(|(index, embedding)| json!({"index": index, "embedding": embedding})).collect();
    answer_json(200, json!({"data": data}))
}

#[tokio::test]
async fn down() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let served = serve(&[entry("m", gone, PATIENCE)]).await;
    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "Connection refused");
    assert_eq!(retry_delay_ms(&status), Some(5000));
    let (http, answer) = served.post("/embed", r#"{"text": "x"}"#).await;
    assert_eq!((http, answer["code"].as_str()), (503, Some("PROVIDER_UNAVAILABLE")), "{answer}");
}

#[tokio::test]
async fn slow_to_answer() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let served = serve(&[entry("m", provider.address, HASTE)]).await;
    let since = Instant::now();
    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "no whole answer within 0.");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!((2..=3).contains(&provider.seen().len()), "it was tried again");
}

#[tokio::test]
async fn slow_in_the_body() {
    let body = || {
        let pieces = tokio_stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{\"data\": ["))]);
        Body::from_stream(pieces.chain(tokio_stream::pending()))
    };
    let (status, tries) = seen_within(HASTE, move |_| answer_with(200, "application/json", body())).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "no whole answer within 0.");
    assert!(tries > 1);
}

#[tokio::test]
async fn error_whose_body_does_not_end_is_told_by_its_status() {
    let body = || Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>());
    let provider = Provider::start(move |_| std::future::ready(answer_with(401, "application/json", body()))).await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let since = Instant::now();
    let status = refused(&served).await;
    is(&status, Code::FailedPrecondition, "PROVIDER_KEY_REFUSED", "it answered 401");
    assert_eq!(provider.seen().len(), 1, "a key is not refused less the second time");
    assert!(since.elapsed() < Duration::from_secs(14), "{:?}", since.elapsed());
}

#[tokio::test]
async fn callers_deadline_is_kept() {
    let provider = Provider::start(|_| std::future::pending()).await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let mut call = tonic::Request::new(request(&["x"]));
    call.set_timeout(Duration::from_millis(200));
    let since = Instant::now();
    let status = served.grpc().embed(call).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[tokio::test]
async fn cut_in_the_body() {
    let body = || {
        let first = tokio_stream::once(Ok(Bytes::from_static(b"{\"data\": [")));
        let cable = tokio_stream::once(()).then(|()| async {
            // Not before the first piece is on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(std::io::Error::other("the cable"))
        });
        Body::from_stream(first.chain(cable))
    };
    let (status, tries) = seen_of(move |_| answer_with(200, "application/json", body())).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "body");
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn busy_without_a_word_when_to_come_back() {
    let (status, tries) = seen_of(|_| answer_json(429, json!({"error": {"message": "Rate limit reached"}}))).await;
    is(&status, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED", "429 Too Many Requests: Rate limit reached");
    assert_eq!((tries, retry_delay_ms(&status)), (3, Some(5000)));
}

#[tokio::test]
async fn busy_and_says_when_to_come_back() {
    // Too late for this request: it is not waited for, but told.
    let later = |value: String| {
        move |_| {
            let mut response = answer_json(429, json!({"message": "slow down"}));
            response.headers_mut().insert("retry-after", value.parse().unwrap());
            response
        }
    };
    let (status, tries) = seen_of(later("30".to_owned())).await;
    is(&status, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED", "slow down");
    assert_eq!((tries, retry_delay_ms(&status)), (1, Some(30_000)));
    let date = httpdate(SystemTime::now() + Duration::from_secs(100));
    let (status, tries) = seen_of(later(date)).await;
    let delay = retry_delay_ms(&status).unwrap();
    assert!(tries == 1 && (95_000..=100_000).contains(&delay), "{status:?}");

    // Soon enough: waited for.
    let provider = Provider::start(|seen| async move {
        let mut response = answer_json(429, json!({"message": "slow down"}));
        response.headers_mut().insert("retry-after", "1".parse().unwrap());
        if seen.number == 0 { response } else { good(&seen) }
    })
    .await;
    let served = serve(&[entry("m", provider.address, PATIENCE)]).await;
    let since = Instant::now();
    served.embed(&["x"]).await;
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(provider.seen().len(), 2);
}

/// As `date` writes it, in the way of HTTP.
fn httpdate(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%a, %d %b %Y %H:%M:%S GMT"])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn nothing_left_on_the_account() {
    let told = json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}});
    let (status, tries) = seen_of(move |_| answer_json(429, told.clone())).await;
    is(&status, Code::ResourceExhausted, "PROVIDER_QUOTA_EXHAUSTED", "You exceeded your current quota");
    assert_eq!((tries, retry_delay_ms(&status)), (1, None));
}

#[tokio::test]
async fn failed_once() {
    let provider = Provider::start(|seen| async move {
        if seen.number == 0 { answer_json(500, json!({"error": "oops"})) } else { good(&seen) }
    })
    .await;
    let served = serve(&[entry("m", provider.address, PATIENCE)]).await;
    assert_eq!(components(&served.embed(&["abc"]).await.embeddings[0])[0], 3.0);
    assert_eq!(provider.seen().len(), 2);
}

#[tokio::test]
async fn fails_always_then_recovers() {
    let provider = Provider::start(|seen| async move {
        // Five failures open the breaker, the sixth is the first probe's.
        if seen.number < 6 { answer_json(500, json!({"error": "oops"})) } else { good(&seen) }
    })
    .await;
    let served = serve(&[entry("m", provider.address, PATIENCE)]).await;
    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "500 Internal Server Error: oops");
    assert_eq!(provider.seen().len(), 3);

    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "500 Internal Server Error: oops");
    assert_eq!(provider.seen().len(), 5, "the sixth was not sent");
    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "failed again and again, and is left alone for");
    assert_eq!(provider.seen().len(), 5, "nobody is asked");
    assert!((1000..=5000).contains(&retry_delay_ms(&status).unwrap()), "{status:?}");
    let (_, models) = served.get("/models").await;
    let remark = models["models"]["m"]["state_reason"].as_str().unwrap();
    assert!(remark.contains("failed again and again"), "{models}");

    // Half open: the probe fails, and the rest is twice as long.
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let status = refused(&served).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "500 Internal Server Error: oops");
    assert_eq!(provider.seen().len(), 6);
    let status = refused(&served).await;
    assert!((6000..=10_000).contains(&retry_delay_ms(&status).unwrap()), "{status:?}");
    assert_eq!(provider.seen().len(), 6);
    tokio::time::sleep(Duration::from_millis(10_100)).await;
    served.embed(&["x"]).await;
    served.embed(&["x"]).await;
    assert!(served.get("/models").await.1["models"]["m"]["state_reason"].is_null());
}

#[tokio::test]
async fn wrong_count() {
    let (status, tries) = seen_of(|_| answer_of(json!([[1, 2, 3, 4]]))).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "1 embeddings for 2 texts");
    assert_eq!(tries, 1, "the same again would be no better");
}

#[tokio::test]
async fn another_order_is_put_right() {
    let provider = Provider::start(|_| async {
        let data = json!([{"index": 1, "embedding": [2, 0, 0, 0]}, {"index": 0, "embedding": [1, 0, 0, 0]}]);
        answer_json(200, json!({"data": data}))
    })
    .await;
    let served = serve(&[entry("m", provider.address, PATIENCE)]).await;
    let answer = served.embed(&["a", "b"]).await;
    assert_eq!(answer.embeddings.iter().map(|one| components(one)[0]).collect::<Vec<_>>(), [1.0, 2.0]);
}

#[tokio::test]
async fn same_index_twice() {
    let data = json!([{"index": 0, "embedding": [1, 0, 0, 0]}, {"index": 0, "embedding": [1, 0, 0, 0]}]);
    let (status, _) = seen_of(move |_| answer_json(200, json!({"data": data}))).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "the index 0 where 1 was to come");
}

#[tokio::test]
async fn wrong_dimension() {
    let (status, _) = seen_of(|_| answer_of(json!([[1, 2, 3], [1, 2, 3]]))).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "embedding 0 has 3 components: expected 4");
}

#[tokio::test]
async fn no_numbers() {
    let (status, _) = seen_of(|_| answer_of(json!([[1, 2, 3, null], [1, 2, 3, 4]]))).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "invalid type: null, expected f32");
    let nan = r#"{"data": [{"index": 0, "embedding": [NaN, 0, 0, 0]}, {"index": 1, "embedding": [0, 0, 0, 0]}]}"#;
    let (status, _) = seen_of(move |_| answer_with(200, "application/json", nan)).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "a wrong answer: expected");
    let (status, _) = seen_of(|_| answer_of(json!([[1e39, 2, 3, 4], [1, 2, 3, 4]]))).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "number out of range");
}

#[tokio::test]
async fn page_instead_of_json() {
    let page = "<!DOCTYPE html>\n<html><title>Please log in</title></html>";
    let (status, tries) = seen_of(move |_| answer_with(200, "text/html; charset=utf-8", page)).await;
    is(
        &status,
        Code::Internal,
        "PROVIDER_ANSWER",
        "expected JSON, got `text/html; charset=utf-8`, which begins: <!DOCTYPE",
    );
    assert!(tries == 1 && status.message().contains("Please log in"), "{status:?}");
    let (status, tries) = seen_of(move |_| answer_with(502, "text/html", page)).await;
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "502 Bad Gateway, with something else than JSON");
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn answer_that_says_that_it_is_too_long_is_not_begun() {
    let told = || {
        let mut response = answer_with(
            200,
            "application/json",
            Body::from_stream(tokio_stream::pending::<Result<Bytes, Infallible>>()),
        );
        response.headers_mut().insert("content-length", (1u64 << 30).into());
        response
    };
    let (status, _) = seen_of(move |_| told()).await;
    is(&status, Code::Internal, "PROVIDER_ANSWER", "it has 1073741824 bytes: expected at most");
}

#[tokio::test]
async fn unknown_model_or_address() {
    let (status, tries) = seen_of(|_| answer_json(404, json!({"error": "model 'm-1' not found"}))).await;
    is(&status, Code::FailedPrecondition, "PROVIDER_REFUSED", "404 Not Found: model 'm-1' not found");
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn key_is_asked_for_where_none_is_named() {
    let (status, tries) = seen_of(|_| answer_json(401, json!({"error": {"message": "who are you?"}}))).await;
    is(
        &status,
        Code::FailedPrecondition,
        "PROVIDER_KEY_REFUSED",
        "asks for a key; name its environment variable as `key_env`",
    );
    assert_eq!(tries, 1);
}

#[tokio::test]
async fn batch_of_which_one_request_fails_fails_as_a_whole() {
    let provider = Provider::start(|seen| async move {
        if seen.body["input"] == json!(["bad"]) { answer_json(500, json!({"error": "oops"})) } else { good(&seen) }
    })
    .await;
    let served =
        serve(&[entry("m", provider.address, &format!("{PATIENCE}\nrequest_texts_max = 1\ntries_max = 2"))]).await;
    let status = served.grpc().embed(request(&["a", "bad", "b"])).await.unwrap_err();
    is(&status, Code::Unavailable, "PROVIDER_UNAVAILABLE", "oops");
    assert_eq!(served.embed(&["a", "b"]).await.embeddings.len(), 2);
    assert_eq!(DIMENSION, 4, "the answers above have four components");
}
