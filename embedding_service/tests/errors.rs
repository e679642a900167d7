//! Every mistake that a caller can make, through both doors: the code, the reason, and what the message says.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Served, options, request};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vectron_embedding::pb::v1 as pb;

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?} has no ErrorInfo"));
    assert_eq!(info.domain, "vectron");
    info.reason
}

#[tokio::test]
async fn mistakes_in_texts_are_refused_by_both_doors() {
    let served = Served::start().await;
    let over = "x".repeat((1 << 20) + 1);
    let many = vec!["x"; 2049];
    let cases: [(&str, Vec<&str>, &str); 4] = [
        ("NO_TEXTS", vec![], "expected 1 to 2048, got none"),
        ("TOO_MANY_TEXTS", many, "expected 1 to 2048, got 2049"),
        ("INVALID_TEXT", vec!["x", ""], "texts[1] is empty: expected 1 byte to 1 MiB"),
        ("INVALID_TEXT", vec![&over], "texts[0] has 1048577 bytes: expected 1 byte to 1 MiB"),
    ];
    for (expected, texts, says) in cases {
        let status = served.grpc().embed(request(&texts)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, expected));
        assert!(status.message().contains(says), "{status:?}");
        assert!(status.get_details_bad_request().unwrap().field_violations[0].field.starts_with("texts"));

        let body = serde_json::json!({ "texts": texts }).to_string();
        let (http, answer) = served.post("/batch-embed", body).await;
        assert_eq!((http, answer["code"].as_str(), answer["success"].as_bool()), (400, Some(expected), Some(false)));
        assert!(answer["message"].as_str().unwrap().contains(says), "{answer}");
    }

    let (http, answer) = served.post("/embed", r#"{"text": ""}"#).await;
    assert_eq!((http, answer["details"]["field"].as_str()), (400, Some("text")), "{answer}");
}

/// In memory they are many times as large as in the body: they are counted, and no more of them kept than it takes to refuse.
#[tokio::test]
async fn millions_of_texts_are_refused_as_too_many() {
    let served = Served::start().await;
    let list = format!("[\"\"{}]", ",\"\"".repeat(5_000_000));
    for (path, field) in [("/batch-embed", "texts"), ("/v1/embeddings", "input"), ("/benchmark", "models")] {
        let (http, answer) = served.post(path, format!("{{\"{field}\": {list}}}")).await;
        let answer = answer.to_string();
        assert!(http == 400 && answer.contains(field) && answer.contains("expected"), "{path}: {answer}");
        assert!(answer.contains("got 5000001") && answer.len() < 500, "{path}: {answer}");
        let (http, answer) = served.post(path, list.clone()).await;
        assert!(http == 400 && answer.to_string().contains("expected an object, got an array"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn unknown_model_is_refused_with_those_there_are() {
    let served = Served::start().await;
    let unknown = pb::EmbedRequest { model_id: "gpt".to_owned(), ..request(&["x"]) };
    let status = served.grpc().embed(unknown).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "MODEL_NOT_FOUND"));
    assert!(status.message().starts_with("there is no model `gpt`; the models are minilm, bge-small, "), "{status:?}");
    let get = pb::GetModelRequest { model_id: "gpt".to_owned() };
    assert_eq!(served.grpc().get_model(get).await.unwrap_err().code(), Code::NotFound);

    for (path, body) in [("/embed?model_id=gpt", r#"{"text": "x"}"#), ("/embed", r#"{"text": "x", "model_id": "gpt"}"#)]
    {
        let (http, answer) = served.post(path, body).await;
        assert_eq!((http, answer["code"].as_str()), (404, Some("MODEL_NOT_FOUND")), "{answer}");
        assert_eq!(answer["details"]["model"], "gpt");
        assert!(answer["message"].as_str().unwrap().contains("minilm"), "{answer}");
    }
    let (http, answer) = served.post("/embed?model_id=minilm", r#"{"text": "x", "model_id": "gpt"}"#).await;
    assert_eq!((http, answer["code"].as_str()), (400, Some("INVALID_ARGUMENT")), "{answer}");
}

#[tokio::test]
async fn unknown_input_type_is_refused_and_known_ones_are_not() {
    let served = Served::start().await;
    for input_type in 0..=2 {
        served.grpc().embed(pb::EmbedRequest { input_type, ..request(&["x"]) }).await.unwrap();
    }
    let status = served.grpc().embed(pb::EmbedRequest { input_type: 3, ..request(&["x"]) }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn models_are_listed_by_page() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let list = |page_size, token: &str| pb::ListModelsRequest { page_size, page_token: token.to_owned() };
    let page = served.grpc().list_models(list(1, "")).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "minilm");
    let [model] = page.models.try_into().unwrap();
    assert_eq!((model.id.as_str(), model.provider.as_str(), model.dimension), ("minilm", "local", 384));
    assert_eq!(model.precision, "int8");
    assert_eq!((model.is_default, model.state(), model.tokens_max), (true, pb::ModelState::Ready, 256));
    assert_eq!(model.fingerprint.len(), 32);
    let rest = served.grpc().list_models(list(0, "minilm")).await.unwrap().into_inner();
    assert_eq!((rest.models[0].id.as_str(), rest.next_page_token.as_str()), ("bge-small", ""));
    assert_eq!((rest.models[0].state(), rest.models[0].is_default), (pb::ModelState::NotLoaded, false));
    let last = served.grpc().list_models(list(0, &rest.models.last().unwrap().id)).await.unwrap().into_inner();
    assert!(last.models.is_empty());

    let status = served.grpc().list_models(list(1001, "")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    let status = served.grpc().list_models(list(0, "never given")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));

    let (http, models) = served.get("/models").await;
    assert_eq!((http, models["default"].as_str()), (200, Some("minilm")));
    let minilm = &models["models"]["minilm"];
    assert_eq!(minilm["precision"], "int8");
    assert_eq!((minilm["dimensions"].as_u64(), minilm["loaded"].as_bool()), (Some(384), Some(true)), "{models}");
    assert_eq!(minilm["model_name"], "sentence-transformers/all-MiniLM-L6-v2");
}

/// What a body may hold is nowhere else; what nobody looks at is refused by its name.
#[tokio::test]
async fn names_in_the_query_that_nobody_looks_at_are_refused() {
    let served = Served::start().await;
    for path in ["/models", "/v1/models", "/v1/models/minilm"] {
        let (http, answer) = served.get(&format!("{path}?limit=1")).await;
        let named = (&answer["details"]["field"], &answer["error"]["param"]);
        assert!(http == 400 && (named.0 == "limit" || named.1 == "limit"), "{path}: {answer}");
        assert!(answer.to_string().contains("the query string: expected none, got `limit`"), "{path}: {answer}");
        assert_eq!(served.get(&format!("{path}?")).await.0, 200, "{path}");
    }
    for path in ["/embed", "/batch-embed", "/benchmark", "/auth/token"] {
        let (http, answer) = served.post(&format!("{path}?text=x"), "{}").await;
        assert_eq!((http, &answer["details"]["field"]), (400, &serde_json::json!("text")), "{path}: {answer}");
    }
    for path in ["/livez", "/metrics", "/docs", "/openapi.json"] {
        assert_eq!(served.get(&format!("{path}?x=1")).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn packed_body_is_refused_by_its_encoding() {
    let served = Served::start().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, encoding, expected) in [
        ("/embed", "gzip", 415),
        ("/v1/embeddings", "br", 415),
        ("/benchmark", "gzip", 415),
        ("/embed", "identity", 200),
    ] {
        let request = client.post(format!("http://{}{path}", served.address)).body(r#"{"text": "x"}"#);
        let request = request.header("content-type", "application/json").header("content-encoding", encoding);
        let (http, answer) = common::answer(request).await;
        assert_eq!(http, expected, "{path}: {answer}");
        assert!(http == 200 || answer.to_string().contains(&format!("but got {encoding}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn mistakes_in_rest_bodies_say_what_is_expected() {
    let served = Served::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let (http, answer) = served.post_as(kind, "/embed", r#"{"text": "x"}"#).await;
        assert_eq!((http, answer["code"].as_str()), (415, Some("UNSUPPORTED_MEDIA_TYPE")));
        assert!(answer["message"].as_str().unwrap().contains("expected `content-type: application/json`"), "{answer}");
    }

    let (http, answer) = served.post("/embed", "{\n  \"text\": nope\n}").await;
    assert_eq!((http, answer["code"].as_str()), (400, Some("MALFORMED_JSON")));
    assert!(answer["message"].as_str().unwrap().contains("line 2 column 12"), "{answer}");

    for (body, says) in [
        (r#"{"txt": "x"}"#, "unknown field `txt`, expected one of `text`, `normalize`, `model_id`"),
        (r#"{"normalize": true}"#, "missing field `text`"),
        (r#"["x", null, null]"#, "expected an object, got an array"),
        (r#""x""#, "expected an object, got a string"),
        (r#"{"text": 3}"#, "invalid type: integer `3`, expected a string"),
    ] {
        let (http, answer) = served.post("/embed", body).await;
        assert_eq!(http, 400);
        assert!(answer["message"].as_str().unwrap().contains(says), "{answer}");
    }

    let (http, answer) = served.post("/embed?model=minilm", r#"{"text": "x"}"#).await;
    assert_eq!((http, answer["code"].as_str()), (400, Some("INVALID_ARGUMENT")), "{answer}");
    let (http, answer) = served.post("/embed", vec![b' '; (16 << 20) + 1]).await;
    assert_eq!((http, answer["code"].as_str()), (413, Some("MESSAGE_TOO_LARGE")), "{answer}");
}

#[tokio::test]
async fn what_does_not_exist_is_answered_in_the_callers_language() {
    let served = Served::start().await;
    let (http, answer) = served.get("/nope").await;
    assert_eq!((http, answer["code"].as_str()), (404, Some("ROUTE_NOT_FOUND")));
    assert!(answer["message"].as_str().unwrap().contains("POST /batch-embed"), "{answer}");
    let (http, answer) = served.get("/embed").await;
    assert_eq!((http, answer["code"].as_str()), (405, Some("METHOD_NOT_ALLOWED")));

    let mut client = tonic::client::Grpc::new(served.channel());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/no.such.Service/Method");
    let codec = tonic_prost::ProstCodec::<pb::GetModelRequest, pb::GetModelResponse>::default();
    let request = tonic::Request::new(pb::GetModelRequest::default());
    let status = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "ROUTE_NOT_FOUND"));
    assert!(status.message().contains("/no.such.Service/Method"), "{status:?}");
}

#[tokio::test]
async fn unknown_method_of_a_known_service_is_named() {
    let served = Served::start().await;
    let mut client = tonic::client::Grpc::new(served.channel());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/vectron.embedding.v1.EmbeddingService/Enbed");
    let codec = tonic_prost::ProstCodec::<pb::GetModelRequest, pb::GetModelResponse>::default();
    let status = client.unary(tonic::Request::new(pb::GetModelRequest::default()), path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "ROUTE_NOT_FOUND"));
    assert!(status.message().contains("EmbeddingService/Enbed"), "{status:?}");
}

#[tokio::test]
async fn message_of_another_kind_is_the_callers_mistake() {
    let served = Served::start().await;
    let mut client = tonic::client::Grpc::new(served.channel());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/vectron.embedding.v1.EmbeddingService/Embed");
    // Its field 1 is a number where Embed has texts.
    let other = pb::ListModelsRequest { page_size: 7, ..Default::default() };
    let codec = tonic_prost::ProstCodec::<pb::ListModelsRequest, pb::EmbedResponse>::default();
    let status = client.unary(tonic::Request::new(other), path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "MALFORMED_MESSAGE"), "{status:?}");
}

#[tokio::test]
async fn deadline_that_passes_is_named_and_texts_count_while_the_model_loads() {
    // A hub that never answers: the model is loading for some seconds.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let served = Served::start_with(&vectron_embedding::Options {
        offline: false,
        hub_endpoint: format!("http://{}", silent.local_addr().unwrap()),
        embedding_queue_bytes: 10,
        ..options(cache.path())
    })
    .await;
    let path = "/vectron.embedding.v1.EmbeddingService/Embed";
    // A message of one text of six bytes, as gRPC frames it.
    let waiting = served.post_grpc(path, "3000m", b"\0\0\0\0\x08\x0a\x06abcdef");
    let second = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        served.grpc().embed(request(&["abcdef"])).await.unwrap_err()
    };
    let (first, second) = tokio::join!(waiting, second);
    assert_eq!((first.code(), reason(&first).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{first:?}");
    assert_eq!((second.code(), reason(&second).as_str()), (Code::ResourceExhausted, "OVERLOADED"), "{second:?}");
}

#[tokio::test]
async fn full_queue_is_refused_with_a_hint() {
    let cache = common::cache_with_weights();
    let served = Served::start_with(&vectron_embedding::Options {
        embedding_threads: 1,
        embedding_batch_tokens: 256,
        embedding_queue_tokens: 2000,
        ..options(cache.path())
    })
    .await;
    served.embed(&["load it"]).await;
    // More than the whole queue, and as nothing waits, let in. It holds the thread for a while.
    let text = "word ".repeat(300);
    let hold = || {
        let (mut client, large) = (served.grpc(), request(&vec![text.as_str(); 200]));
        tokio::spawn(async move { client.embed(large).await })
    };
    let mut busy = hold();
    // It is in the queue when its texts are split into tokens, which takes longer on a busy machine; until then a small
    // call may pass, and be in its way.
    let status = loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        if let Err(status) = served.grpc().embed(request(&["x"])).await {
            break status;
        }
        if busy.is_finished() {
            busy = hold();
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"), "{status:?}");
    assert!(status.get_details_retry_info().is_some());
    let (http, answer) = served.post("/embed", r#"{"text": "x"}"#).await;
    assert_eq!((http, answer["code"].as_str()), (429, Some("OVERLOADED")), "{answer}");
    assert!((1..=60).contains(&answer["details"]["retry_after_s"].as_u64().unwrap()), "{answer}");

    // Once the caller leaves, there is room again.
    busy.abort();
    let _ = busy.await;
    for _ in 0..600 {
        if served.grpc().embed(request(&["x"])).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the caller left 30 s ago, and its texts still fill the queue");
}

#[tokio::test]
async fn call_that_would_wait_longer_than_its_caller_is_refused_at_once() {
    let cache = common::cache_with_weights();
    let served = Served::start_with(&vectron_embedding::Options {
        embedding_threads: 1,
        embedding_batch_tokens: 256,
        ..options(cache.path())
    })
    .await;
    let text = "word ".repeat(300);
    served.embed(&[&text]).await;
    // Some seconds of work, in front of a call of as many texts.
    let hold = tokio::spawn({
        let (mut client, large) = (served.grpc(), request(&vec![text.as_str(); 600]));
        async move { client.embed(large).await }
    });
    let within = |texts: usize, time: std::time::Duration| {
        let (mut client, text) = (served.grpc(), text.clone());
        async move {
            let mut call = tonic::Request::new(request(&vec![text.as_str(); texts]));
            call.set_timeout(time);
            client.embed(call).await
        }
    };
    let refused = loop {
        let answer = within(600, std::time::Duration::from_millis(500)).await;
        let status = answer.expect_err("it cannot be done in half a second");
        // Until the first call is in the queue, the second passes, and its time runs out.
        if status.code() == Code::ResourceExhausted {
            break status;
        }
        assert!(!hold.is_finished(), "it is over already");
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"), "{refused:?}");
    assert!(refused.message().contains("this call has"), "{refused:?}");
    let hint = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(hint.as_secs_f32() > 0.02 && hint.as_secs() <= 60, "{hint:?}");
    // Calls take turns: a single text is done in time.
    within(1, std::time::Duration::from_secs(5)).await.unwrap();
    hold.abort();
}

#[tokio::test]
async fn texts_of_a_rest_caller_that_hangs_up_are_not_embedded() {
    use tokio::io::AsyncWriteExt;
    let cache = common::cache_with_weights();
    let served =
        Served::start_with(&vectron_embedding::Options { embedding_threads: 1, ..options(cache.path()) }).await;
    served.embed(&["load it"]).await;
    let body = serde_json::json!({"texts": vec!["word ".repeat(300); 1000]}).to_string();
    let head = format!(
        "POST /batch-embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut caller = tokio::net::TcpStream::connect(served.address).await.unwrap();
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(body.as_bytes()).await.unwrap();
    let queued = async || {
        let (_, figures) = served.get("/metrics").await;
        let figures = figures.as_str().unwrap().to_owned();
        let line = figures.lines().find(|line| line.starts_with("vectron_embedding_queue_bytes ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    while queued().await < 1e6 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(caller);
    let left = std::time::Instant::now();
    while queued().await > 1e6 {
        assert!(left.elapsed().as_secs() < 30, "its texts are still held");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_hold_their_part_of_the_budget() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cache = common::cache_with_weights();
    let kept = vectron_embedding::Options { cache_bytes_max: 1 << 20, ..options(cache.path()) };
    let served = Served::start_with(&kept).await;
    served.embed(&["a"]).await;
    let body = serde_json::json!({"texts": vec!["a"; 2048]}).to_string();
    let head = format!(
        "POST /batch-embed HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let of_an_answer = 2048.0 * 384.0 * 16.0;
    let held = async || {
        let (_, figures) = served.get("/metrics").await;
        let figures = figures.as_str().unwrap().to_owned();
        let line = figures.lines().find(|line| line.starts_with("vectron_embedding_queue_bytes ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };

    let mut callers = Vec::new();
    for _ in 0..4 {
        // What the kernel keeps of an answer is little.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut caller = socket.connect(served.address).await.unwrap();
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(body.as_bytes()).await.unwrap();
        // The answer has begun.
        caller.read_exact(&mut [0; 8]).await.unwrap();
        callers.push(caller);
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(held().await >= 4.0 * of_an_answer, "{}", held().await);

    let mut answer = Vec::new();
    let mut reader = callers.pop().unwrap();
    // The connection stays open, so that the answer's end is not that of the stream.
    while answer.len() < 2_000_000 || !answer.ends_with(b"}") {
        assert!(reader.read_buf(&mut answer).await.unwrap() > 0, "cut after {} bytes", answer.len());
    }
    let left = std::time::Instant::now();
    while (held().await - 3.0 * of_an_answer).abs() > 1e6 {
        assert!(left.elapsed().as_secs() < 30, "{}", held().await);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(callers);
    let left = std::time::Instant::now();
    while held().await > 0.0 {
        assert!(left.elapsed().as_secs() < 30, "what they hold is not given back");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
