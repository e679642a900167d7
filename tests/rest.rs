//! The REST door through a real socket: the documented endpoints, and every way to get them wrong.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use common::{Server, Texts, answer, data_folder, http};
use serde_json::{Value, json};

#[tokio::test]
async fn vectors_are_stored_found_listed_and_deleted() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let metadata = json!({"n": 9007199254740993_i64, "nested": {"list": [1, 2.5, null, "x"]}});
    let (status, body) =
        server.post("/vector", json!({"id": "a/b c", "vector": [1.0, 2.0, 0.5], "metadata": metadata})).await;
    assert_eq!((status, &body), (200, &json!({"success": true, "message": "stored \"a/b c\"", "count": 1})));
    server.post("/vector", json!({"id": "z", "vector": [-1, 0, 0]})).await;

    let (status, body) = server.get("/vector/a%2Fb%20c").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&body["id"], &body["vector"], &body["success"]),
        (&json!("a/b c"), &json!([1.0, 2.0, 0.5]), &json!(true))
    );
    assert_eq!(body["metadata"], metadata);
    assert_eq!(server.get("/vector/a/b%20c").await.0, 200, "a slash need not be escaped");

    let (status, body) = server.post("/search/vector?top_k=1", json!({"vector": [1, 2, 0.5]})).await;
    assert_eq!((status, body.as_array().unwrap().len(), &body[0]["id"]), (200, 1, &json!("a/b c")));
    assert!((body[0]["score"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(
        server.post("/search/vector", json!({"vector": [1, 2, 0.5], "top_k": 2})).await.1.as_array().unwrap().len(),
        2
    );

    assert_eq!(server.get("/vectors").await, (200, json!(["a/b c", "z"])));
    let (_, root) = server.get("/").await;
    assert_eq!(
        (&root["name"], &root["status"], &root["collections"], &root["vectors"]),
        (&json!("vectron"), &json!("ok"), &json!(1), &json!(2))
    );
    assert_eq!(server.delete("/vector/z").await.1, json!({"success": true, "message": "deleted \"z\"", "count": 1}));
    let (status, body) = server.delete("/vector/z").await;
    assert_eq!((status, &body["success"], &body["code"]), (404, &json!(false), &json!("RECORD_NOT_FOUND")));
    let (status, body) = server.get("/vector/z").await;
    assert_eq!((status, &body["success"]), (404, &json!(false)));
}

#[tokio::test]
async fn all_ids_are_streamed_and_pages_are_linked() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(server.post("/vector?collection=many", json!({"id": "0", "vector": [1]})).await.0, 200);
    let mut client = server.vectors().await;
    use vectron::pb::v1 as pb;
    let record = |n: usize| pb::RecordInput {
        id: format!("{n:05} ü"),
        vector: Some(pb::Vector {
            components: Some(pb::vector::Components::Floats(pb::FloatArray { values: vec![1.0] })),
            space: String::new(),
        }),
        ..Default::default()
    };
    let records = (0..2500).map(record).collect();
    client.upsert(pb::UpsertRequest { collection: "many".into(), records, ..Default::default() }).await.unwrap();
    client
        .delete(pb::DeleteRequest {
            collection: "many".into(),
            selector: Some(pb::delete_request::Selector::Ids(pb::RecordKeys {
                keys: vec![pb::RecordKey { id: "0".into(), if_version: None }],
            })),
            ..Default::default()
        })
        .await
        .unwrap();

    let expected: Vec<String> = (0..2500).map(|n| format!("{n:05} ü")).collect();
    assert_eq!(server.get("/vectors?collection=many").await, (200, json!(expected)));

    let mut path = "/vectors?collection=many&limit=999".to_owned();
    let mut found: Vec<Value> = Vec::new();
    let mut pages = 0;
    loop {
        let response = http().get(server.url(&path)).send().await.unwrap();
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        found.extend(response.text().await.map(|body| serde_json::from_str::<Vec<Value>>(&body).unwrap()).unwrap());
        pages += 1;
        let Some(link) = link else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!((pages, json!(found)), (3, json!(expected)));
}

#[tokio::test]
async fn texts_are_stored_and_found_by_meaning_beside_raw_vectors() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    // A vector of three numbers first: the texts get a space of their own.
    assert_eq!(server.post("/vector", json!({"id": "raw", "vector": [1, 2, 3]})).await.0, 200);
    for (id, text) in [
        ("pets", "The cat sleeps on the warm windowsill."),
        ("markets", "Shares fell sharply after the central bank raised interest rates."),
        ("cooking", "Simmer the tomatoes with garlic and basil for twenty minutes."),
        ("rust", "The borrow checker makes data races impossible at compile time."),
    ] {
        let body = json!({"id": id, "text": text, "metadata": {"kind": id}});
        assert_eq!(
            server.post("/upsert-text", body).await.1,
            json!({"success": true, "message": format!("stored {id:?}"), "count": 1})
        );
    }
    for (query, expected) in [
        ("kitten having a nap", "pets"),
        ("stock market crash", "markets"),
        ("pasta sauce recipe", "cooking"),
        ("memory safe programming language", "rust"),
    ] {
        let (status, body) = server.post("/search/text?top_k=3", json!({"text": query})).await;
        assert_eq!((status, &body["query"], &body["success"]), (200, &json!(query), &json!(true)));
        let results = body["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["id"]), (3, &json!(expected)), "{body}");
        assert_eq!(results[0]["metadata"]["kind"], json!(expected));
        assert!(results[0]["text"].is_string());
    }
    let filter = json!({"in": {"field": "kind", "values": ["cooking", "rust"]}});
    let (_, body) = server.post("/search/text", json!({"text": "kitten having a nap", "filter": filter})).await;
    let mut kinds: Vec<_> = body["results"].as_array().unwrap().iter().map(|hit| &hit["metadata"]["kind"]).collect();
    kinds.sort_by_key(|kind| kind.to_string());
    assert_eq!(kinds, ["cooking", "rust"], "{body}");
    // The text's own vector finds it too, in the space of its dimension.
    let (_, embedded) = server.post("/embed", json!({"text": "The cat sleeps on the warm windowsill."})).await;
    assert_eq!((&embedded["dimensions"], &embedded["model_id"]), (&json!(384), &json!("minilm")));
    let (_, hits) = server.post("/search/vector?top_k=1", json!({"vector": embedded["embedding"]})).await;
    assert_eq!(hits[0]["id"], json!("pets"));
    assert!(hits[0]["score"].as_f64().unwrap() > 0.9999);
    let (_, raw) = server.post("/search/vector", json!({"vector": [1, 2, 3]})).await;
    assert_eq!((raw.as_array().unwrap().len(), &raw[0]["id"]), (1, &json!("raw")));
}

#[tokio::test]
async fn a_text_beyond_the_models_limit_is_stored_whole_and_said_to_be_cut() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    let text = "lorem ipsum ".repeat(500);
    let (status, body) = server.post("/upsert-text", json!({"id": "long", "text": text})).await;
    assert_eq!((status, &body["truncated"]), (200, &json!(true)));
    assert!(body["message"].as_str().unwrap().contains("only the beginning was embedded"));
    assert_eq!(server.get("/vector/long").await.1["text"], json!(text));
}

/// What is wrong with a request, and what the answer must say.
struct Wrong {
    path: &'static str,
    body: Value,
    status: u16,
    code: &'static str,
    says: &'static [&'static str],
}

#[tokio::test]
async fn every_mistake_is_told_and_changes_nothing() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Embedded);
    server.post("/vector", json!({"id": "a", "vector": [1, 2, 3]})).await;
    server.post("/upsert-text", json!({"id": "t", "text": "hello"})).await;
    let before = server.get("/").await;
    let long_id = "x".repeat(513);
    let wrong = |path, body, status, code, says| Wrong { path, body, status, code, says };
    let cases = [
        wrong(
            "/vector",
            json!({"id": "b", "vector": [1, 2]}),
            400,
            "DIMENSION_MISMATCH",
            &["dimension 2", "raw-3 (dimension 3)", "minilm (dimension 384)"],
        ),
        wrong(
            "/vector",
            json!({"id": "b", "vector": [1, 2], "space": "raw-3"}),
            400,
            "DIMENSION_MISMATCH",
            &["raw-3", "dimension 3", "dimension 2"],
        ),
        wrong(
            "/vector",
            json!({"id": "b", "vector": [1, 2, 3], "space": "nope"}),
            404,
            "SPACE_NOT_FOUND",
            &["nope", "raw-3"],
        ),
        wrong("/vector", json!({"id": "b", "vector": [0, 0, 0]}), 400, "ZERO_VECTOR", &["zero vector", "raw-3"]),
        wrong("/vector", json!({"id": "b", "vector": []}), 400, "INVALID_VECTOR", &["1 to 65536", "0"]),
        wrong("/vector", json!({"id": "b", "vector": [1e39, 0, 0]}), 400, "MALFORMED_JSON", &["out of range"]),
        wrong("/vector", json!({"id": "", "vector": [1, 2, 3]}), 400, "INVALID_ID", &["1 to 512 bytes", "empty"]),
        wrong("/vector", json!({"id": long_id, "vector": [1, 2, 3]}), 400, "INVALID_ID", &["1 to 512 bytes", "513"]),
        wrong(
            "/vector",
            json!({"id": 7, "vector": [1, 2, 3]}),
            400,
            "MALFORMED_JSON",
            &["expected a string", "line 1"],
        ),
        wrong("/vector", json!({"id": "b"}), 400, "MALFORMED_JSON", &["missing field `vector`"]),
        wrong("/vector", json!({"id": "b", "vectr": [1]}), 400, "MALFORMED_JSON", &["vectr"]),
        wrong(
            "/vector",
            json!({"id": "b", "vector": [1, 2, 3], "metadata": {"n": 18446744073709551615_u64}}),
            400,
            "INVALID_METADATA",
            &["metadata.n", "2^63"],
        ),
        wrong(
            "/vector?collection=a/b",
            json!({"id": "b", "vector": [1, 2, 3]}),
            400,
            "INVALID_ARGUMENT",
            &["a/b", "A-Z a-z"],
        ),
        wrong("/upsert-text", json!({"id": "b", "text": ""}), 400, "INVALID_TEXT", &["1 to 1048576 bytes", "empty"]),
        wrong(
            "/upsert-text",
            json!({"id": "b", "text": "x".repeat(1_048_577)}),
            400,
            "INVALID_TEXT",
            &["1048576", "1048577"],
        ),
        wrong(
            "/upsert-text",
            json!({"id": "b", "text": "x", "model_id": "nope"}),
            404,
            "MODEL_NOT_FOUND",
            &["nope", "minilm"],
        ),
        wrong("/embed", json!({"text": ""}), 400, "INVALID_TEXT", &["empty"]),
        wrong("/search/vector?top_k=0", json!({"vector": [1, 2, 3]}), 400, "INVALID_TOP_K", &["1 to 10000", "0"]),
        wrong(
            "/search/vector?top_k=1000000",
            json!({"vector": [1, 2, 3]}),
            400,
            "INVALID_TOP_K",
            &["1 to 10000", "1000000"],
        ),
        wrong(
            "/search/vector?top_k=x",
            json!({"vector": [1, 2, 3]}),
            400,
            "INVALID_ARGUMENT",
            &["query string", "top_k"],
        ),
        wrong("/search/vector", json!({"vector": [1, 2]}), 400, "DIMENSION_MISMATCH", &["dimension 2"]),
        wrong("/search/vector", json!({"vector": [0, 0, 0]}), 400, "ZERO_VECTOR", &["zero vector"]),
        wrong(
            "/search/vector?collection=nope",
            json!({"vector": [1]}),
            404,
            "COLLECTION_NOT_FOUND",
            &["nope", "default"],
        ),
        wrong("/search/text?collection=nope", json!({"text": "x"}), 404, "COLLECTION_NOT_FOUND", &["nope"]),
        wrong("/search/text", json!({"text": "x", "model_id": "nope"}), 404, "MODEL_NOT_FOUND", &["nope"]),
        wrong("/search/text", json!({"text": "x", "filter": {}}), 400, "INVALID_FILTER", &["filter", "all_of"]),
        wrong(
            "/vector?colection=other",
            json!({"id": "b", "vector": [1, 2, 3]}),
            400,
            "INVALID_ARGUMENT",
            &["colection"],
        ),
        wrong("/embed?model=minilm", json!({"text": "x"}), 400, "INVALID_ARGUMENT", &["model"]),
        wrong("/vector", json!({"id": "b", "vector": [1e19, 1, 1]}), 400, "INVALID_VECTOR", &["9e18", "9.99"]),
        wrong("/benchmark", json!({"dimension": 5000}), 400, "INVALID_ARGUMENT", &["1 to 4096", "5000"]),
        wrong("/nope", json!({}), 404, "ROUTE_NOT_FOUND", &["/nope", "/search/text"]),
        wrong("/vectors", json!({}), 405, "METHOD_NOT_ALLOWED", &["/vectors", "POST"]),
    ];
    for Wrong { path, body, status, code, says } in cases {
        let shown: String = body.to_string().chars().take(80).collect();
        let (got_status, got) = server.post(path, body).await;
        assert_eq!(
            (got_status, &got["code"], &got["success"]),
            (status, &json!(code), &json!(false)),
            "{path} {shown}: {got}"
        );
        for part in says {
            assert!(got["message"].as_str().unwrap().contains(part), "{path} {shown}: no {part:?} in {got}");
        }
        assert!(got["details"].is_object(), "{got}");
    }
    assert_eq!(server.get("/").await, before, "nothing changed");
    assert_eq!(server.get("/vectors").await.1, json!(["a", "t"]));
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_apart() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let client = http();
    let post = |content_type: &str, body: String| {
        client.post(server.url("/vector")).header("content-type", content_type).body(body)
    };
    let (status, body) = answer(post("application/x-www-form-urlencoded", "{}".into())).await;
    assert_eq!((status, &body["code"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")));
    assert!(body["message"].as_str().unwrap().contains("application/json"), "{body}");
    let (status, body) = answer(post("application/json", r#"{"id": "a", "vector": [1, NaN]}"#.into())).await;
    assert_eq!((status, &body["code"]), (400, &json!("MALFORMED_JSON")));
    assert!(body["message"].as_str().unwrap().contains("line 1 column"), "{body}");
    let (status, body) = answer(post("application/json", "[".repeat(100_000))).await;
    assert_eq!((status, &body["code"]), (400, &json!("MALFORMED_JSON")));
    let (status, body) = answer(post("application/json", " ".repeat((16 << 20) + 1))).await;
    assert_eq!((status, &body["code"]), (413, &json!("MESSAGE_TOO_LARGE")));
    assert!(body["message"].as_str().unwrap().contains("16777216"), "{body}");
    assert_eq!(server.post("/vector?collection=c", json!({"id": "a", "vector": [1]})).await.0, 200, "it still serves");
}

#[tokio::test]
async fn the_benchmark_reports_every_part() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (status, body) = server
        .post("/benchmark", json!({"vector_count": 300, "dimension": 16, "search_count": 5, "test_persistence": true}))
        .await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        body["params"],
        json!({"vector_count": 300, "dimension": 16, "search_count": 5, "test_persistence": true})
    );
    for part in ["single_durable", "batch", "buffered"] {
        assert!(body["insert"][part]["per_second"].as_f64().unwrap() > 0.0, "{body}");
    }
    assert_eq!((&body["search"]["calls"], &body["persistence"]["verified"]), (&json!(5), &json!(true)));
    assert_eq!(server.get("/").await.1["collections"], json!(0), "user data were not touched");
}

#[tokio::test]
async fn probes_answer() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    assert_eq!(server.get("/livez").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn the_description_names_every_endpoint_with_its_fields() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    let (status, api) = server.get("/openapi.json").await;
    assert_eq!((status, &api["info"]["title"]), (200, &json!("Vectron")));
    for (path, method) in [
        ("/", "get"),
        ("/vector", "post"),
        ("/vector/{id}", "get"),
        ("/vector/{id}", "delete"),
        ("/vectors", "get"),
        ("/upsert-text", "post"),
        ("/embed", "post"),
        ("/search/vector", "post"),
        ("/search/text", "post"),
        ("/benchmark", "post"),
    ] {
        assert!(api["paths"][path][method].is_object(), "{method} {path} is not described");
    }
    let fields = &api["components"]["schemas"]["UpsertText"]["properties"];
    for field in ["id", "text", "model_id", "metadata"] {
        assert!(fields[field].is_object(), "{field} is not described: {fields}");
    }
    let (status, page) = server.get("/docs").await;
    assert!(status == 200 && page.as_str().unwrap().contains("openapi.json"));
}

#[tokio::test]
async fn requests_and_records_are_counted() {
    let data = data_folder();
    let server = Server::start(data.path(), Texts::Away);
    server.post("/vector?collection=counted", json!({"id": "a", "vector": [1]})).await;
    server.post("/vector?collection=counted", json!({"id": "", "vector": [1]})).await;
    server.get("/nowhere/at/all").await;
    server.vectors().await.count(vectron::pb::v1::CountRequest::default()).await.unwrap_err();
    let too_large = vectron::pb::v1::UpsertRequest { collection: "x".repeat(65 << 20), ..Default::default() };
    server.vectors().await.upsert(too_large).await.unwrap_err();
    let (_, figures) = server.get("/metrics").await;
    let figures = figures.as_str().unwrap();
    for line in [
        r#"vectron_requests_total{door="rest",route="/vector",code="200"} 1"#,
        r#"vectron_requests_total{door="rest",route="/vector",code="400"} 1"#,
        r#"vectron_requests_total{door="rest",route="none",code="404"} 1"#,
        r#"vectron_requests_total{door="grpc",route="/vectron.v1.VectorService/Count",code="3"} 1"#,
        r#"vectron_requests_total{door="grpc",route="/vectron.v1.VectorService/Upsert",code="8"} 1"#,
        r#"vectron_collection_records{collection="counted"} 1"#,
        r#"vectron_collection_checkpoint_failures{collection="counted"} 0"#,
        r#"vectron_collection_read_only{collection="counted"} 0"#,
        r#"vectron_collection_checkpoint_age_seconds{collection="counted"} 0."#,
        r#"vectron_collection_parts_bytes{collection="counted"} 0"#,
        "vectron_collections_damaged 0",
        "vectron_disk_free_bytes ",
    ] {
        assert!(figures.contains(line), "no {line} in\n{figures}");
    }
}
