//! What orchestration relies on: health, readiness, reflection, and an end that lets requests finish.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::future::Future;
use std::time::Duration;

use axum::response::Response;
use axum::routing::MethodRouter;
use common::provider::{Provider, entry, serve};
use common::{Served, options, put_weights, request};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;
use vectron_embedding::port;

const SERVICE: &str = "vectron.embedding.v1.EmbeddingService";

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.to_owned() }
}

#[tokio::test]
async fn weights_put_into_place_heal_a_model_that_failed() {
    let cache = tempfile::tempdir().unwrap();
    let served = Served::start_with(&options(cache.path())).await;
    let mut health = HealthClient::new(served.channel());
    for name in ["", SERVICE] {
        let status = health.check(service(name)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing);
    }
    let mut watch = health.watch(service(SERVICE)).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(served.get("/readyz").await.0, 503);
    assert_eq!(served.get("/livez").await.0, 200);

    let failed = served.grpc().embed(request(&["x"])).await.unwrap_err();
    assert_eq!(failed.code(), Code::FailedPrecondition);
    put_weights(cache.path());
    tokio::time::sleep(Duration::from_millis(5200)).await;
    served.grpc().embed(request(&["x"])).await.unwrap();

    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for name in ["", SERVICE] {
        let status = health.check(service(name)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let (http, answer) = served.get("/health").await;
    assert_eq!((http, answer["status"].as_str()), (200, Some("healthy")), "{answer}");
    assert_eq!(answer["models"]["minilm"], "ready");
    assert_eq!(served.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn model_that_failed_heals_without_a_request() {
    let cache = tempfile::tempdir().unwrap();
    let served = Served::start_with(&options(cache.path())).await;
    while served.get("/health").await.1["status"] != "failed" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(served.get("/readyz").await.0, 503);
    put_weights(cache.path());
    let healed = async {
        while served.get("/readyz").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healed).await.unwrap();
}

#[tokio::test]
async fn fallback_that_serves_is_healthy() {
    let provider = Provider::good().await;
    let no_key = "key_env = \"VECTRON_TEST_NO_SUCH_KEY\"\nspace = \"s\"\nfallback = [\"n\"]";
    let entries = [entry("m", provider.address, no_key), entry("n", provider.address, "space = \"s\"")];
    let served = serve(&entries).await;
    let (http, answer) = served.get("/health").await;
    assert_eq!((http, &answer["status"], &answer["models"]["m"]), (200, &"healthy".into(), &"no_key".into()));
    assert!(answer["message"].as_str().unwrap().contains("VECTRON_TEST_NO_SUCH_KEY"), "{answer}");
    assert_eq!(served.embed(&["x"]).await.model_id, "n");
}

#[tokio::test]
async fn unknown_service_is_answered_as_the_protocol_says() {
    let served = Served::start().await;
    let mut health = HealthClient::new(served.channel());
    assert_eq!(health.check(service("other")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(service("other")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
}

#[tokio::test]
async fn first_call_waits_for_the_model() {
    let served = Served::start().await;
    // At once after the start: the weights are still being read.
    let answer = served.embed(&["patience"]).await;
    assert_eq!(answer.embeddings.len(), 1);
}

#[tokio::test]
async fn end_waits_for_requests_but_not_for_watchers() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let mut health = HealthClient::new(served.channel());
    let mut watch = health.watch(service("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let text = "word ".repeat(200);
    let mut client = served.grpc();
    let large = request(&vec![text.as_str(); 24]);
    let running = tokio::spawn(async move { client.embed(large).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.is_finished(), "the call is meant to be running when the service stops");

    served.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(9), served.server).await.unwrap().unwrap();
    assert_eq!(running.await.unwrap().unwrap().into_inner().embeddings.len(), 24);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none());
    tokio::task::spawn_blocking(move || served.service.shutdown()).await.unwrap();
}

#[tokio::test]
async fn service_that_was_shut_down_refuses() {
    let served = Served::start().await;
    served.embed(&["load it"]).await;
    let service = served.service.clone();
    tokio::task::spawn_blocking(move || service.shutdown()).await.unwrap();
    for texts in [&["x"][..], &["x", "y"]] {
        let status = served.grpc().embed(request(texts)).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "the service is stopping"));
    }
    assert_eq!(served.get("/readyz").await, (503, "stopping\n".into()));
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let served = Served::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut v1 = ServerReflectionClient::new(served.channel());
    let mut answers = v1.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [SERVICE, "vectron.embedding.v1.AuthService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            SERVICE.to_owned(),
        )),
    };
    let mut v1alpha = v1alpha::server_reflection_client::ServerReflectionClient::new(served.channel());
    let mut answers = v1alpha.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let file = matches!(
        answer,
        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file) if !file.file_descriptor_proto.is_empty()
    );
    assert!(file);
}

#[tokio::test]
async fn port_that_is_taken_says_what_to_do() {
    let served = Served::start().await;
    let error = port::bind(served.address, "--listen").await.unwrap_err().to_string();
    let expected = format!("cannot listen on {}: address in use; choose another with --listen", served.address);
    assert_eq!(error, expected);
}

#[tokio::test]
async fn panic_in_a_handler_is_an_answer() {
    let options = port::PortOptions::default();
    let (url, _) = serve_one(axum::routing::any(mistake), options, std::future::pending()).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 500);
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body["code"], "INTERNAL");
    let answer = http.post(&url).header("content-type", "application/grpc").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &http::HeaderValue::from(13)));
}

#[tokio::test]
async fn requests_that_are_not_waited_for_at_the_end_are_told_so() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let never = axum::routing::any(move || {
        arrived.send(()).unwrap();
        std::future::pending::<()>()
    });
    let options = port::PortOptions { drain_time_max: Duration::from_millis(100), ..port::PortOptions::default() };
    let (stop, stopped) = oneshot::channel::<()>();
    let (url, server) = serve_one(never, options, async { stopped.await.unwrap() }).await;

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let rest = tokio::spawn(http.get(&url).send());
    let grpc = tokio::spawn(http.post(&url).header("content-type", "application/grpc").send());
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    stop.send(()).unwrap();
    let answer = rest.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (503, &http::HeaderValue::from(1)));
    assert!(answer.headers().contains_key("seen"));
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(body["code"], "NOT_READY");
    let answer = grpc.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &http::HeaderValue::from(14)));
    server.await.unwrap();
}

async fn mistake() -> &'static str {
    panic!("on purpose")
}

/// A port with one endpoint: its URL, and the end of the server.
async fn serve_one(
    endpoint: MethodRouter,
    options: port::PortOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (String, JoinHandle<()>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = port::bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    let url = format!("http://{}/it", listener.local_addr().unwrap());
    let router = port::with_common_layers(axum::Router::new().route("/it", endpoint), &[]);
    // What forms or counts answers stands around the common layers.
    let router = router.layer(axum::middleware::map_response(async |mut response: Response| {
        response.headers_mut().insert("seen", http::HeaderValue::from(1));
        response
    }));
    let server = async move { port::serve(router, port::accept(listener), &options, shutdown).await.unwrap() };
    (url, tokio::spawn(server))
}
