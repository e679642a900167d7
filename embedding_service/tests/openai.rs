//! `/v1`, as OpenAI's clients speak it. The Python client itself: tests/examples/run.py.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::provider::{Provider, answer_json, entry, serve};
use common::{Served, components, distance};
use serde_json::{Value, json};

fn floats(answer: &Value, index: usize) -> Vec<f32> {
    serde_json::from_value(answer["data"][index]["embedding"].clone()).unwrap()
}

#[tokio::test]
async fn embeddings_are_those_of_the_other_doors_as_floats_and_as_base64() {
    let served = Served::start().await;
    let expected = served.embed(&["a cat", "a dog"]).await;
    let (status, answer) = served.post("/v1/embeddings", r#"{"input": ["a cat", "a dog"], "model": "minilm"}"#).await;
    assert_eq!((status, &answer["object"], &answer["model"]), (200, &json!("list"), &json!("minilm")));
    assert_eq!(answer["usage"], json!({"prompt_tokens": 8, "total_tokens": 8}));
    for (index, expected) in expected.embeddings.iter().enumerate() {
        let told = &answer["data"][index];
        assert_eq!((&told["object"], &told["index"]), (&json!("embedding"), &json!(index)));
        assert!(distance(&floats(&answer, index), &components(expected)) < 1e-6);
    }

    let body = r#"{"input": "a cat", "model": "minilm", "encoding_format": "base64", "dimensions": 384, "user": "u",
                  "input_type": "query"}"#;
    let (status, answer) = served.post("/v1/embeddings", body).await;
    assert_eq!(status, 200, "{answer}");
    let bytes = BASE64_STANDARD.decode(answer["data"][0]["embedding"].as_str().unwrap()).unwrap();
    assert_eq!((bytes.len(), answer["usage"]["total_tokens"].as_u64()), (4 * 384, Some(4)));
    let (packed, _) = bytes.as_chunks::<4>();
    let unpacked: Vec<f32> = packed.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert!(distance(&unpacked, &components(&expected.embeddings[0])) < 1e-6);
}

#[tokio::test]
async fn null_is_the_default_and_texts_that_were_cut_are_told() {
    let served = Served::start().await;
    let long = "word ".repeat(600);
    let body = json!({"input": ["a", long, "b"], "encoding_format": null, "dimensions": null, "user": null, "model": null,
                      "input_type": null});
    let (status, answer) = served.post("/v1/embeddings", body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let told = |index: usize| answer["data"][index].get("truncated");
    assert_eq!([told(0), told(1), told(2)], [None, Some(&json!(true)), None]);
    let (_, answer) = served.post("/batch-embed", json!({"texts": ["a", long, "b", long]}).to_string()).await;
    assert_eq!((&answer["truncated"], &answer["truncated_indexes"]), (&json!(2), &json!([1, 3])));
}

#[tokio::test]
async fn mistakes_are_told_in_the_shape_of_openai() {
    let served = Served::start().await;
    let long = "x".repeat((1 << 20) + 1);
    let too_long = json!({"input": long, "model": "minilm"}).to_string();
    let too_many = json!({"input": vec!["x"; 2049]}).to_string();
    let cases = [
        (r#"{"input": "x", "model": "gpt"}"#, 404, "model", "model_not_found", "the models are minilm"),
        (r#"{"input": [1, 2, 3], "model": "minilm"}"#, 400, "input", "invalid_argument", "got tokens"),
        (r#"{"input": [[1, 2], [3]]}"#, 400, "input", "invalid_argument", "got tokens"),
        (r#"{"input": "x", "dimensions": 100}"#, 400, "dimensions", "invalid_argument", "expected 384"),
        (r#"{"input": []}"#, 400, "input", "no_texts", "input: expected 1 to 2048"),
        (r#"{"input": ["x", ""]}"#, 400, "input[1]", "invalid_text", "input[1] is empty"),
        (r#"{"input": ""}"#, 400, "input", "invalid_text", "input is empty"),
        (&too_long, 400, "input", "invalid_text", "input has 1048577 bytes"),
        (&too_many, 400, "input", "too_many_texts", "input: expected 1 to 2048, got 2049"),
        (r#"{"input": {"text": "x"}}"#, 400, "input", "malformed_json", "a text or a list of texts"),
        (r#"{"input": [["x"]]}"#, 400, "input[0]", "malformed_json", "expected a text"),
        (
            r#"{"input": "x", "dimensions": -1}"#,
            400,
            "dimensions",
            "malformed_json",
            "expected a whole number of 0 or more",
        ),
        (
            r#"{"input": "x", "encoding_format": "int8"}"#,
            400,
            "encoding_format",
            "malformed_json",
            "`float` or `base64`",
        ),
        (r#"{"input": "x", "stream": true}"#, 400, "stream", "malformed_json", "stream"),
        (r#"{"model": "minilm"}"#, 400, "input", "malformed_json", "input"),
        ("nonsense", 400, "", "malformed_json", "JSON"),
    ];
    for (body, expected_status, param, code, part) in cases {
        let (status, answer) = served.post("/v1/embeddings", body.to_owned()).await;
        let error = &answer["error"];
        let told = (status, error["param"].as_str().unwrap_or(""), error["code"].as_str().unwrap_or("none"));
        let body = &body[..body.len().min(100)];
        assert_eq!(told, (expected_status, param, code), "{body}: {answer}");
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {answer}");
    }
    for name in ["model", "model_id", "api-version"] {
        let (status, answer) = served.post(&format!("/v1/embeddings?{name}=bge-base"), r#"{"input": "x"}"#).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(name)), "{answer}");
    }
    let (status, answer) = served.post_as("text/plain", "/v1/embeddings", "{}").await;
    assert_eq!((status, &answer["error"]["code"]), (415, &json!("unsupported_media_type")));
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let served = Served::start().await;
    let (status, list) = served.get("/v1/models").await;
    let minilm = json!({"id": "minilm", "object": "model", "created": 0, "owned_by": "local"});
    assert_eq!((status, &list["object"], &list["data"][0]), (200, &json!("list"), &minilm));
    assert_eq!(served.get("/v1/models/minilm").await, (200, minilm));
    let (status, answer) = served.get("/v1/models/nope").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test]
async fn provider_that_takes_no_more_is_told_as_a_rate_limit_with_a_hint() {
    let provider = Provider::start(|_| async {
        let mut response = answer_json(429, json!({"error": {"message": "slow down"}}));
        response.headers_mut().insert("retry-after", "7".parse().unwrap());
        response
    })
    .await;
    let served = serve(&[entry("m", provider.address, "tries_max = 1")]).await;
    let url = format!("http://{}/v1/embeddings", served.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("content-type", "application/json").body(r#"{"input": "x"}"#);
    let response = request.send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let told = (response.status().as_u16(), header("retry-after"), header("retry-after-ms"));
    assert_eq!(told, (429, "7".to_owned(), "7000".to_owned()));
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(
        (&body["error"]["type"], &body["error"]["code"]),
        (&json!("rate_limit_error"), &json!("provider_rate_limited"))
    );
}

/// OpenAI's clients repeat what has one of these statuses, and wait in between, unless they are told that it is in vain.
#[tokio::test]
async fn clients_are_told_not_to_repeat_what_fails_again() {
    let nothing_left = Provider::start(|_| async {
        answer_json(429, json!({"error": {"message": "no", "code": "insufficient_quota"}}))
    });
    let unknown = Provider::start(|_| async { answer_json(404, json!({"error": {"message": "no such model"}})) });
    let down = Provider::start(|_| async { answer_json(500, json!({})) });
    let (nothing_left, unknown, down) = tokio::join!(nothing_left, unknown, down);
    let served = serve(&[
        entry("nothing-left", nothing_left.address, ""),
        entry("unknown", unknown.address, ""),
        entry("no-key", unknown.address, "key_env = \"VECTRON_NO_SUCH_KEY\""),
        entry("down", down.address, "tries_max = 1"),
    ])
    .await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |model: &str| {
        let body = json!({"input": "x", "model": model}).to_string();
        let request = client.post(format!("http://{}/v1/embeddings", served.address)).body(body);
        let response = request.header("content-type", "application/json").send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), header("x-should-retry"), header("retry-after"))
    };
    let never = Some("false".to_owned());
    assert_eq!(ask("nothing-left").await, (429, never.clone(), None));
    assert_eq!(ask("unknown").await, (502, never.clone(), None));
    assert_eq!(ask("no-key").await, (503, never, None));
    assert_eq!(ask("down").await, (503, None, Some("5".to_owned())));
    assert_eq!(ask("nobodys").await, (404, None, None), "that is not repeated anyway");
}

#[tokio::test]
async fn routes_are_described_and_the_page_loads_nothing_from_elsewhere() {
    let served = Served::start().await;
    let (status, described) = served.get("/openapi.json").await;
    assert_eq!((status, &described["openapi"]), (200, &json!("3.1.0")));
    let fields = &described["components"]["schemas"]["EmbeddingsBody"]["properties"];
    for field in ["input", "model", "encoding_format", "dimensions", "user", "input_type"] {
        assert!(fields.get(field).is_some(), "{field}: {fields}");
    }
    let (status, page) = served.get("/docs").await;
    let page = page.as_str().unwrap();
    assert!(status == 200 && page.contains("openapi.json") && page.contains("authorization"));
    assert!(!page.contains("//cdn") && !page.contains("http://") && !page.contains("https://"), "{page}");
}
