//! `/openapi.json` is what is answered: each endpoint is asked, and its answers are held against their schemas.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;

use common::auth::Guarded;
use common::provider::{Provider, entry, serve};
use serde_json::{Map, Value, json};

/// What the description says, and which endpoints were asked.
struct Described {
    api: Value,
    asked: BTreeSet<String>,
}

impl Described {
    /// Holds an answer against what is described of it.
    fn check(&mut self, endpoint: &str, status: u16, kind: &str, answer: &Value) {
        let (method, path) = endpoint.split_once(' ').unwrap();
        self.asked.insert(endpoint.to_owned());
        let responses = &self.api["paths"][path][method.to_lowercase()]["responses"];
        let described = responses.get(status.to_string()).or(responses.get("default"));
        let described = described.unwrap_or_else(|| panic!("{endpoint}: {status} is not described: {responses}"));
        let essence = kind.split(';').next().unwrap();
        let Some(schema) = described["content"][essence].get("schema") else {
            panic!("{endpoint}: {status} as {essence} is not described: {described}")
        };
        let mut whole = Map::new();
        whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        whole.insert("components".to_owned(), self.api["components"].clone());
        whole.insert("properties".to_owned(), json!({ "answer": schema }));
        let mut whole = Value::Object(whole);
        refuse_what_is_not_described(&mut whole);
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let whole_answer = json!({ "answer": answer });
        let told: Vec<String> =
            validator.iter_errors(&whole_answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(told.is_empty(), "{endpoint}, {status}: {}\nin {answer}", told.join("\n"));
    }
}

/// Wherever a schema describes fields, in it or in one that it names, others than these are a mistake. Not of the parts of a
/// schema that are put together, which do not know each other's fields.
fn refuse_what_is_not_described(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(refuse_what_is_not_described),
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                match (name.as_str(), value) {
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(only_what_is_described),
                    ("items" | "additionalProperties", value) => only_what_is_described(value),
                    (_, value) => refuse_what_is_not_described(value),
                }
            }
        }
        _ => {}
    }
}

fn only_what_is_described(schema: &mut Value) {
    refuse_what_is_not_described(schema);
    if let Value::Object(object) = schema
        && ["$ref", "properties", "allOf", "oneOf"].iter().any(|name| object.contains_key(*name))
    {
        object.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}

async fn told(request: reqwest::RequestBuilder) -> (u16, String, Value) {
    let response = request.send().await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    (status, kind, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_as_it_is_described() {
    let provider = Provider::good().await;
    let served = serve(&[
        entry("m", provider.address, ""),
        entry("no-key", provider.address, "key_env = \"VECTRON_NO_SUCH_KEY\""),
    ])
    .await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (_, api) = served.get("/openapi.json").await;
    let mut described = Described { api, asked: BTreeSet::new() };
    let url = |path: &str| format!("http://{}{path}", served.address);

    for (path, asked, expected) in [
        ("/health", "/health", 200),
        ("/livez", "/livez", 200),
        ("/readyz", "/readyz", 200),
        ("/models", "/models", 200),
        ("/models", "/models?x=1", 400),
        ("/v1/models", "/v1/models", 200),
        ("/v1/models", "/v1/models?x=1", 400),
        ("/v1/models/{id}", "/v1/models/m", 200),
        ("/v1/models/{id}", "/v1/models/nope", 404),
        ("/metrics", "/metrics", 200),
        ("/openapi.json", "/openapi.json", 200),
        ("/docs", "/docs", 200),
    ] {
        let (status, kind, answer) = told(client.get(url(asked))).await;
        assert_eq!(status, expected, "{asked}: {answer}");
        described.check(&format!("GET {path}"), status, &kind, &answer);
    }
    let pairs = json!([{"query": "a", "document": "b"}, {"query": "c", "document": "d"}]);
    for (path, body, expected) in [
        ("/embed", json!({"text": "x"}), 200),
        ("/embed", json!({"text": ""}), 400),
        ("/embed", json!({"text": "x", "model_id": "no-key"}), 503),
        ("/embed", json!({"text": "x", "model_id": "nope"}), 404),
        ("/batch-embed", json!({"texts": ["x", "y"], "input_type": "query"}), 200),
        ("/batch-embed", json!({"texts": "x"}), 400),
        ("/benchmark", json!({"repeats": 1, "pairs": pairs}), 200),
        ("/benchmark", json!({"repeats": 100}), 400),
        ("/auth/token", json!({"api_key": "x"}), 409),
        ("/v1/embeddings", json!({"input": "x"}), 200),
        ("/v1/embeddings", json!({"input": ["x", "y"], "encoding_format": "base64"}), 200),
        ("/v1/embeddings", json!({"input": ""}), 400),
    ] {
        let request = client.post(url(path)).header("content-type", "application/json").body(body.to_string());
        let (status, kind, answer) = told(request).await;
        assert_eq!(status, expected, "{path}: {answer}");
        described.check(&format!("POST {path}"), status, &kind, &answer);
    }

    let guarded = Guarded::start(&[]).await;
    let key = guarded.add_key(&["ann"]);
    guarded.wait_until_let_in(&key).await;
    let url = |path: &str| format!("http://{}{path}", guarded.address);
    let form = "application/x-www-form-urlencoded";
    for (kind, body, expected) in [
        ("application/json", json!({ "api_key": key }).to_string(), 200),
        ("application/json", json!({"api_key": "x", "scopes": ["nobodys"]}).to_string(), 400),
        ("application/json", json!({"api_key": "x"}).to_string(), 401),
        (form, "grant_type=password&username=ann&password=x".to_owned(), 400),
    ] {
        let (status, kind, answer) =
            told(client.post(url("/auth/token")).header("content-type", kind).body(body)).await;
        assert_eq!(status, expected, "{answer}");
        described.check("POST /auth/token", status, &kind, &answer);
    }
    // Who may not read models is told less of health.
    for (path, expected) in [("/health", 200), ("/openapi.json", 401), ("/metrics", 401), ("/v1/models", 401)] {
        let (status, kind, answer) = told(client.get(url(path))).await;
        assert_eq!(status, expected, "{answer}");
        described.check(&format!("GET {path}"), status, &kind, &answer);
    }
    let token = described.api["paths"]["/auth/token"]["post"]["requestBody"]["content"].as_object().unwrap();
    assert!(token.contains_key("application/json") && token.contains_key(form), "{token:?}");

    let all = described.api["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    assert_eq!(described.asked, all.collect());
}

/// Else the test above could not fail.
#[test]
fn answer_with_a_field_that_is_not_described_is_a_mistake() {
    let api = |token: Value| {
        json!({
            "components": {"schemas": {"Token": token, "Row": {"type": "object", "properties": {"a": {"type": "integer"}}}}},
            "paths": {"/t": {"get": {"responses": {"200": {"content": {"application/json": {
                "schema": {"$ref": "#/components/schemas/Token"}
            }}}}}}},
        })
    };
    let rows = json!({"type": "array", "items": {"$ref": "#/components/schemas/Row"}});
    let token = json!({"type": "object", "required": ["rows"], "properties": {"rows": rows}});
    for (answer, is_right) in [
        (json!({"rows": [{"a": 1}]}), true),
        (json!({"rows": [], "scope": "embed"}), false),
        (json!({"rows": [{"b": 1}]}), false),
        (json!({}), false),
    ] {
        let mut described = Described { api: api(token.clone()), asked: BTreeSet::new() };
        let check = std::panic::AssertUnwindSafe(|| described.check("GET /t", 200, "application/json", &answer));
        assert_eq!(std::panic::catch_unwind(check).is_ok(), is_right, "{answer}");
    }
}
