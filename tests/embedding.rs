//! The store's client of the embedding service: streams that survive a broken connection, and services that are wrong,
//! old, busy or silent.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Empty, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use vectron::embedding::{Embedded, EmbeddingClient, EmbeddingKey, InputType};
use vectron_embedding::auth::AuthOptions;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::pb::v1::embedding_service_server::{EmbeddingService as Service, EmbeddingServiceServer};
use vectron_embedding::{EmbeddingService, Listener};

const PATIENCE: Duration = Duration::from_secs(60);

/// The real service on a runtime of its own, so that it can be killed.
async fn serve(address: SocketAddr) -> (Runtime, SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    let runtime = Runtime::new().unwrap();
    let listener = loop {
        let bound = async move { Listener::bind(address, "--listen", &AuthOptions::default()).await };
        match runtime.spawn(bound).await.unwrap() {
            Ok(listener) => break listener,
            Err(error) => assert!(Instant::now() < deadline, "the one before does not go: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let address = listener.address();
    runtime.spawn(async move {
        let service = EmbeddingService::start(&common::embedding_options()).unwrap();
        service.serve_tcp(listener, std::future::pending()).await.unwrap();
    });
    (runtime, address)
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn connect(address: SocketAddr) -> EmbeddingClient {
    EmbeddingClient::connect(&format!("http://{address}"), EmbeddingKey::default(), PATIENCE).unwrap()
}

fn texts(batch: usize, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("text {index} of batch {batch}")).collect()
}

fn assert_same(got: &Embedded, expected: &Embedded) {
    assert_eq!((&got.model, got.embeddings.len()), (&expected.model, expected.embeddings.len()));
    for (got, expected) in got.embeddings.iter().zip(&expected.embeddings) {
        let pairs = got.vector.components().iter().zip(expected.vector.components());
        assert!(pairs.into_iter().all(|(got, expected)| (got - expected).abs() < 1e-6));
    }
}

#[tokio::test]
async fn batches_of_a_stream_have_the_embeddings_of_single_calls() {
    let service = EmbeddingService::start(&common::embedding_options()).unwrap();
    let client = EmbeddingClient::in_process(service.in_memory_channel(), PATIENCE);
    let stream = client.stream("", InputType::Document);
    // The first is cut into three parts.
    let counts = [1100, 1, 3, 20, 1];
    let answers: Vec<_> = (0..).zip(counts).map(|(batch, count)| stream.embed(texts(batch, count))).collect();
    for ((batch, count), answer) in (0..).zip(counts).zip(answers) {
        let expected = client.embed(texts(batch, count), "minilm", InputType::Document).await.unwrap();
        assert_same(&answer.await.unwrap(), &expected);
    }

    let unknown = client.stream("gpt", InputType::Query).embed(texts(0, 1)).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
    assert!(unknown.message.contains("the models are minilm"), "{unknown}");
}

#[tokio::test]
async fn service_that_is_killed_and_started_again_answers_everything() {
    let (runtime, address) = serve(any_port()).await;
    let client = connect(address);
    let stream = client.stream("", InputType::Document);
    let mut answers = (0..60).map(|batch| stream.embed(texts(batch, 10 + batch))).collect::<Vec<_>>().into_iter();
    let mut first = answers.next().unwrap().await;
    runtime.shutdown_background();
    let (runtime, _) = serve(address).await;
    for batch in 0..60 {
        let expected = client.embed(texts(batch, 10 + batch), "", InputType::Document).await.unwrap();
        assert_same(&first.unwrap(), &expected);
        let Some(next) = answers.next() else { break };
        first = next.await;
    }
    runtime.shutdown_background();

    // Away for good: told after some tries. And a stream that was given up begins anew.
    let away = stream.embed(texts(0, 1)).await.unwrap_err();
    assert_eq!(away.code, Code::Unavailable);
    assert!(away.message.contains(&address.to_string()), "{away}");
    let (runtime, _) = serve(address).await;
    stream.embed(texts(0, 1)).await.unwrap();
    runtime.shutdown_background();
}

/// What a scripted service does with the request that it got as its nth.
type Script = fn(usize, pb::StreamEmbedRequest) -> Act;

enum Act {
    Say(pb::StreamEmbedResponse),
    End(Status),
    Ignore,
}

/// A service that does what a test wants.
#[derive(Clone)]
struct Scripted {
    script: Script,
    asked: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Scripted {
    async fn serve(script: Script) -> (Self, EmbeddingClient) {
        Self::serve_with(script, PATIENCE).await
    }

    async fn serve_with(script: Script, timeout: Duration) -> (Self, EmbeddingClient) {
        let service = Self { script, asked: Arc::default(), open: Arc::default() };
        let incoming = TcpIncoming::bind(any_port()).unwrap();
        let url = format!("http://{}", incoming.local_addr().unwrap());
        let routes = Server::builder().add_service(EmbeddingServiceServer::new(service.clone()));
        tokio::spawn(routes.serve_with_incoming(incoming));
        (service, EmbeddingClient::connect(&url, EmbeddingKey::default(), timeout).unwrap())
    }
}

#[tonic::async_trait]
impl Service for Scripted {
    async fn embed(&self, _: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }

    type StreamEmbedStream = UnboundedReceiverStream<Result<pb::StreamEmbedResponse, Status>>;

    async fn stream_embed(
        &self,
        requests: Request<Streaming<pb::StreamEmbedRequest>>,
    ) -> Result<Response<Self::StreamEmbedStream>, Status> {
        let (answers, received) = mpsc::unbounded_channel();
        let service = self.clone();
        let mut requests = requests.into_inner();
        tokio::spawn(async move {
            service.open.fetch_add(1, Ordering::SeqCst);
            while let Some(Ok(request)) = requests.next().await {
                let nth = service.asked.fetch_add(1, Ordering::SeqCst);
                let answer = match (service.script)(nth, request) {
                    Act::Say(answer) => Ok(answer),
                    Act::End(status) => Err(status),
                    Act::Ignore => continue,
                };
                let is_end = answer.is_err();
                let _ = answers.send(answer);
                if is_end {
                    break;
                }
            }
            service.open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Response::new(UnboundedReceiverStream::new(received)))
    }

    async fn list_models(&self, _: Request<pb::ListModelsRequest>) -> Result<Response<pb::ListModelsResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }

    async fn get_model(&self, _: Request<pb::GetModelRequest>) -> Result<Response<pb::GetModelResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }

    type BenchmarkModelsStream = Empty<Result<pb::BenchmarkModelsResponse, Status>>;

    async fn benchmark_models(
        &self,
        _: Request<pb::BenchmarkModelsRequest>,
    ) -> Result<Response<Self::BenchmarkModelsStream>, Status> {
        Err(Status::unimplemented("streams only"))
    }
}

/// The right answer: every text has its length as its only component.
fn right(request: &pb::StreamEmbedRequest) -> pb::StreamEmbedResponse {
    let texts = &request.embed.as_ref().unwrap().texts;
    let embedding = |text: &String| pb::Embedding {
        f32_le: (text.len() as f32).to_le_bytes().to_vec().into(),
        ..Default::default()
    };
    let response =
        pb::EmbedResponse { embeddings: texts.iter().map(embedding).collect(), dimension: 1, ..Default::default() };
    pb::StreamEmbedResponse { batch_index: request.batch_index, response: Some(response), error: None }
}

fn refusal(request: &pb::StreamEmbedRequest, code: Code, retry_after_ms: u32) -> Act {
    let error = pb::StreamEmbedError {
        code: code.into(),
        message: "as scripted".to_owned(),
        retry_after_ms,
        ..Default::default()
    };
    Act::Say(pb::StreamEmbedResponse { batch_index: request.batch_index, response: None, error: Some(error) })
}

/// A status as the service itself sends it.
fn told(code: Code, message: &str) -> Act {
    let details = ErrorDetails::with_error_info("REASON", "vectron", []);
    Act::End(Status::with_error_details(code, message, details))
}

#[tokio::test]
async fn batch_that_is_refused_fails_alone() {
    let (_service, client) = Scripted::serve(|nth, request| match nth {
        1 => refusal(&request, Code::InvalidArgument, 0),
        _ => Act::Say(right(&request)),
    })
    .await;
    let stream = client.stream("", InputType::Document);
    let [first, second, third] = [1, 2, 3].map(|count| stream.embed(texts(0, count)));
    assert_eq!(first.await.unwrap().embeddings.len(), 1);
    let error = second.await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.starts_with("as scripted (the embedding service http://"), "{error}");
    assert_eq!(third.await.unwrap().embeddings.len(), 3);
}

#[tokio::test]
async fn busy_service_is_asked_again_when_it_says() {
    let (service, client) = Scripted::serve(|nth, request| match nth {
        0 | 2 => refusal(&request, Code::ResourceExhausted, 150),
        _ => Act::Say(right(&request)),
    })
    .await;
    let started = Instant::now();
    let embedded = client.stream("", InputType::Document).embed(texts(0, 2)).await.unwrap();
    assert_eq!(embedded.embeddings.len(), 2);
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert!(service.asked.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn wrong_answers_are_refused_and_the_next_batch_is_sent_on_a_new_stream() {
    let (_service, client) = Scripted::serve(|nth, request| {
        let mut answer = right(&request);
        match nth {
            0 => answer.batch_index += 7,
            1 => answer.response.as_mut().unwrap().embeddings.clear(),
            2 => answer.response = None,
            _ => {}
        }
        Act::Say(answer)
    })
    .await;
    let stream = client.stream("", InputType::Document);
    for expected in ["it answered batch 7 where", "0 embeddings for 1 texts", "neither embeddings nor an error"] {
        let error = stream.embed(texts(0, 1)).await.unwrap_err();
        assert_eq!(error.code, Code::Internal);
        assert!(error.message.contains(expected), "{error}");
    }
    stream.embed(texts(0, 1)).await.unwrap();
}

#[tokio::test]
async fn old_service_is_told_clearly_and_at_once() {
    let (service, client) = Scripted::serve(|_, _| told(Code::Unimplemented, "StreamEmbed is not built yet")).await;
    let error = client.stream("", InputType::Document).embed(texts(0, 1)).await.unwrap_err();
    assert_eq!(error.code, Code::Unimplemented);
    assert!(error.message.starts_with("StreamEmbed is not built yet (the embedding service http://"), "{error}");
    assert_eq!(service.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn service_that_stops_again_and_again_is_given_up() {
    let (service, client) = Scripted::serve(|_, _| told(Code::Unavailable, "the service is stopping")).await;
    let error = client.stream("", InputType::Document).embed(texts(0, 1)).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert_eq!(service.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn progress_between_broken_connections_is_enough() {
    // Every stream answers two batches and breaks at the third.
    let (service, client) = Scripted::serve(|nth, request| match nth % 3 {
        2 => told(Code::Unavailable, "the service is stopping"),
        _ => Act::Say(right(&request)),
    })
    .await;
    let stream = client.stream("", InputType::Document);
    let answers: Vec<_> = (0..16).map(|_| stream.embed(texts(0, 1))).collect();
    for answer in answers {
        answer.await.unwrap();
    }
    assert!(service.asked.load(Ordering::SeqCst) >= 16 + 7);
}

#[tokio::test]
async fn silent_service_is_given_up_after_the_timeout() {
    let timeout = Duration::from_secs(1);
    let script: Script = |nth, request| if nth < 16 { Act::Ignore } else { Act::Say(right(&request)) };
    let (_service, client) = Scripted::serve_with(script, timeout).await;
    let stream = client.stream("", InputType::Document);
    let started = Instant::now();
    let answers: Vec<_> = (0..17).map(|_| stream.embed(texts(0, 1))).collect();
    for (index, answer) in answers.into_iter().enumerate() {
        let answer = answer.await;
        if index == 16 {
            answer.expect("it was not on its way yet");
            break;
        }
        let error = answer.unwrap_err();
        assert_eq!(error.code, Code::DeadlineExceeded);
        assert!(error.message.contains("did not answer within 1s") && started.elapsed() >= timeout, "{error}");
    }
}

#[tokio::test]
async fn stream_that_nobody_is_interested_in_ends_at_the_service_too() {
    let (service, client) = Scripted::serve(|_, _| Act::Ignore).await;
    let stream = client.stream("", InputType::Document);
    let answer = stream.embed(texts(0, 1));
    wait_until(|| service.asked.load(Ordering::SeqCst) == 1).await;
    drop((stream, answer));
    wait_until(|| service.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn batches_are_answered_after_the_stream_was_dropped() {
    let (service, client) = Scripted::serve(|_, request| Act::Say(right(&request))).await;
    let stream = client.stream("", InputType::Document);
    let answers: Vec<_> = (0..40).map(|_| stream.embed(texts(0, 600))).collect();
    drop(stream);
    for answer in answers {
        assert_eq!(answer.await.unwrap().embeddings.len(), 600);
    }
    wait_until(|| service.open.load(Ordering::SeqCst) == 0).await;
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
