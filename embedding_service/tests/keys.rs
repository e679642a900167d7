//! Keys of providers: taken from the environment, sent to the provider alone, and in no log, answer or error.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::process::{Process, binary};
use common::provider::{Provider, answer_json, answer_with, entry, good, write_models};
use common::request;
use serde_json::{Value, json};
use tonic::Code;
use vectron_embedding::client;
use vectron_embedding::pb::v1 as pb;

const KEY: &str = "sk-vErY-sEcReT-0123456789";

/// The real process, with these models.
fn start(folder: &Path, models: &Path, environment: &[(&str, &str)]) -> Process {
    let mut command = binary(folder);
    command.args(["--listen", "127.0.0.1:0", "--log", "trace", "--models"]).arg(models);
    command.env_remove("SOME_KEY").envs(environment.iter().copied());
    Process::start(command)
}

async fn embed(process: &Process, model_id: &str) -> Result<pb::EmbedResponse, tonic::Status> {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", process.address)).unwrap().connect_lazy();
    let embed = pb::EmbedRequest { model_id: model_id.to_owned(), ..request(&["x"]) };
    client(channel).embed(embed).await.map(tonic::Response::into_inner)
}

async fn get(process: &Process, path: &str) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    common::answer(http.get(format!("http://{}{path}", process.address))).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_sent_to_the_provider_and_shown_to_nobody_else() {
    let good_one = Provider::good().await;
    let refusing = Provider::start(|seen| async move {
        let sent = seen.headers["authorization"].to_str().unwrap().to_owned();
        answer_json(401, json!({"error": {"message": format!("Incorrect API key provided: {sent}")}}))
    })
    .await;
    let echoing = Provider::start(|seen| async move {
        answer_with(200, "text/html", format!("<html>{:?}</html>", seen.headers["authorization"].to_str().unwrap()))
    })
    .await;
    let failing = Provider::start(|seen| async move {
        answer_json(500, json!({"error": format!("with {}", seen.headers["authorization"].to_str().unwrap())}))
    })
    .await;
    let mistaken = Provider::start(|seen| async move {
        answer_json(200, json!({"data": format!("bad key {}", seen.headers["authorization"].to_str().unwrap())}))
    })
    .await;
    let elsewhere = Provider::good().await;
    let target = elsewhere.address;
    let redirecting = Provider::start(move |_| async move {
        let mut response = answer_with(307, "text/plain", "");
        response.headers_mut().insert("location", format!("http://{target}/v1/embeddings").parse().unwrap());
        response
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let keyed = |id: &str, provider: &Provider| entry(id, provider.address, "key_env = \"SOME_KEY\"\ntries_max = 1");
    let entries = [
        keyed("good", &good_one),
        keyed("refusing", &refusing),
        keyed("echoing", &echoing),
        keyed("failing", &failing),
        keyed("mistaken", &mistaken),
        keyed("redirecting", &redirecting),
    ];
    let process = start(folder.path(), &write_models(&folder, &entries), &[("SOME_KEY", KEY)]);

    embed(&process, "good").await.unwrap();
    assert_eq!(good_one.seen()[0].headers["authorization"], format!("Bearer {KEY}"));
    let mut answers = vec![get(&process, "/models").await.to_string(), get(&process, "/health").await.to_string()];
    for (id, code, says) in [
        ("refusing", Code::FailedPrecondition, "it refuses the key of the environment variable SOME_KEY"),
        ("echoing", Code::Internal, "***"),
        ("failing", Code::Unavailable, "with Bearer ***"),
        ("mistaken", Code::Internal, "bad key Bearer ***"),
        ("redirecting", Code::Internal, "redirects are not followed"),
    ] {
        let status = embed(&process, id).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(says), "{status:?}");
        answers.push(format!("{status:?}"));
    }
    assert!(elsewhere.seen().is_empty(), "neither the key nor the texts go where they were not sent");
    let log = process.stop();
    assert!(log.lines().count() > 50 && log.contains("TRACE"), "all is logged");
    for told in answers.iter().chain([&log]) {
        assert!(!told.contains(KEY), "{}", told.lines().find(|line| line.contains(KEY)).unwrap());
        assert!(!told.contains("0123456789"), "not a part of it either");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn model_without_a_key_says_which_one_it_wants() {
    let provider = Provider::good().await;
    let folder = tempfile::tempdir().unwrap();
    let entries = [entry("m", provider.address, "key_env = \"SOME_KEY\"")];
    let models = write_models(&folder, &entries);
    let process = start(folder.path(), &models, &[("SOME_KEY", "")]);
    let status = embed(&process, "m").await.unwrap_err();
    assert_eq!(common::provider::told(&status), (Code::FailedPrecondition, "PROVIDER_NO_KEY".to_owned()));
    assert!(status.message().contains("SOME_KEY is not set"), "{status:?}");
    let model = &get(&process, "/models").await["models"]["m"];
    assert_eq!((model["state"].as_str(), model["loaded"].as_bool()), (Some("no_key"), Some(false)));
    assert!(model["state_reason"].as_str().unwrap().contains("SOME_KEY"), "{model}");
    assert_eq!(get(&process, "/health").await["status"], "no_key");
    assert!(provider.seen().is_empty());
    process.stop();

    // From `.env` it is as good.
    std::fs::write(folder.path().join(".env"), format!("SOME_KEY={KEY}\n")).unwrap();
    let process = start(folder.path(), &models, &[]);
    embed(&process, "m").await.unwrap();
    assert_eq!(provider.seen()[0].headers["authorization"], format!("Bearer {KEY}"));
    assert!(!process.stop().contains(KEY));
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_serves_where_there_is_no_key() {
    let (first, second) = (Provider::good().await, Provider::start(|seen| async move { good(&seen) }).await);
    let folder = tempfile::tempdir().unwrap();
    let entries = [
        entry("first", first.address, "key_env = \"SOME_KEY\"\nspace = \"s\"\nfallback = [\"second\"]"),
        entry("second", second.address, "space = \"s\""),
    ];
    let process = start(folder.path(), &write_models(&folder, &entries), &[]);
    assert_eq!(embed(&process, "").await.unwrap().model_id, "second");
    assert!(first.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_of_the_environment_sees_nothing_that_goes_to_this_machine() {
    let (provider, proxy) = (Provider::good().await, Provider::good().await);
    let folder = tempfile::tempdir().unwrap();
    let models = write_models(&folder, &[entry("m", provider.address, "key_env = \"SOME_KEY\"")]);
    let proxy_url = format!("http://{}", proxy.address);
    let environment =
        [("SOME_KEY", KEY), ("http_proxy", &proxy_url), ("HTTP_PROXY", &proxy_url), ("NO_PROXY", ""), ("no_proxy", "")];
    let process = start(folder.path(), &models, &environment);
    embed(&process, "m").await.unwrap();
    assert_eq!((provider.seen().len(), proxy.seen().len()), (1, 0));
}
