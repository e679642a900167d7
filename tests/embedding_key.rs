//! A store whose embedding service asks for a key: the real process of the store, and the real service with a file of
//! principals.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::time::SystemTime;

use common::{Server, Texts};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;
use vectron::pb::v1 as pb;
use vectron_embedding::auth::{ApiKey, AuthMode, AuthOptions, Name, PrincipalsFile, Scopes};
use vectron_embedding::{EmbeddingService, Listener, Options};

/// A service that knows two keys: one that may embed, and one that may only look.
async fn guarded_service(folder: &Path) -> (String, ApiKey, ApiKey) {
    let file = PrincipalsFile::new(folder.join("principals.toml"));
    let add = |name: &str, scope: &str| {
        let (name, scopes) = (Name::try_from(name.to_owned()).unwrap(), Scopes::read([scope]).unwrap());
        file.change(|all| all.add_key(name, Some(scopes), None, SystemTime::now())).unwrap()
    };
    let (embeds, looks) = (add("store", "embed"), add("reader", "models:read"));
    let auth = AuthOptions { auth_file: Some(file.path().to_owned()), auth: AuthMode::On, ..AuthOptions::default() };
    let options = Options { auth, ..common::embedding_options() };
    let service = EmbeddingService::start(&options).unwrap();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), "--listen", &options.auth).await.unwrap();
    let url = format!("http://{}", listener.address());
    tokio::spawn(async move { service.serve_tcp(listener, std::future::pending()).await.unwrap() });
    (url, embeds, looks)
}

fn store(data: &Path, url: &str, key: &str) -> std::process::Command {
    let mut command = common::vectron(&std::env::temp_dir());
    command.args(["serve", "--listen", "127.0.0.1:0", "--embedding-url", url, "--log", "trace", "--data"]).arg(data);
    command.env("VECTRON_EMBEDDING_API_KEY", key);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn store_shows_its_key_and_names_the_variable_where_it_is_refused() {
    let folder = common::data_folder();
    let (url, embeds, looks) = guarded_service(folder.path()).await;
    let unknown = ApiKey::generate().unwrap();
    for (index, (key, says)) in [
        (embeds.expose(), None),
        ("", Some("expected a key or a token")),
        (unknown.expose(), Some("there is no such API key")),
        (looks.expose(), Some("needs the scope `embed`")),
    ]
    .into_iter()
    .enumerate()
    {
        let data = folder.path().join(index.to_string());
        let server = Server::run(store(&data, &url, key), Texts::Away);
        let (status, answer) = server.post("/upsert-text", json!({"id": "1", "text": "a cat"})).await;
        let Some(says) = says else {
            assert_eq!(status, 200, "{answer}");
            let (_, found) = server.post("/search/text", json!({"text": "a sleeping pet"})).await;
            assert_eq!(found["results"][0]["id"], "1");
            assert!(server.logged().contains("TRACE") && !server.logged().contains(&key[21..]));
            continue;
        };
        assert_eq!((status, &answer["code"]), (503, &json!("EMBEDDING_KEY_REFUSED")), "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("VECTRON_EMBEDDING_API_KEY") && message.contains(says), "{message}");
        let record = pb::RecordInput { id: "1".to_owned(), text: Some("a cat".to_owned()), ..Default::default() };
        let collection = "default".to_owned();
        let upsert =
            pb::UpsertRequest { collection, records: vec![record], create_missing: true, ..Default::default() };
        let status = server.vectors().await.upsert(upsert).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(status.get_details_error_info().unwrap().reason, "EMBEDDING_KEY_REFUSED");
    }
}

#[test]
fn key_that_cannot_be_sent_ends_the_start() {
    let folder = common::data_folder();
    let (status, said) = common::run_to_end(store(folder.path(), common::AWAY, "two words"));
    assert!(!status.success());
    assert!(said.contains("VECTRON_EMBEDDING_API_KEY holds characters that no key has"), "{said}");
    assert!(!said.contains("two words"), "{said}");
}
