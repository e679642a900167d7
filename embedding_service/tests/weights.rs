//! Accidents with weights: missing, damaged, of another kind, and hubs that are silent, wrong or well.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::process::binary;
use common::{FILES, Served, cache_with_weights, options, request, weights};
use tonic::Code;
use vectron_embedding::Options;
use vectron_embedding::model::{Sha256Hex, WeightsError};

/// Why a call cannot be answered, in a service that has these options.
async fn failure(options: &Options) -> String {
    let served = Served::start_with(options).await;
    let status = served.grpc().embed(request(&["x"])).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let (http, answer) = served.post("/embed", r#"{"text": "x"}"#).await;
    assert_eq!((http, answer["code"].as_str()), (503, Some("MODEL_FAILED")), "{answer}");
    let (http, health) = served.get("/health").await;
    assert_eq!((http, health["status"].as_str()), (503, Some("failed")), "{health}");
    status.message().to_owned()
}

#[tokio::test]
async fn damaged_weights_are_refused_by_hash() {
    let cache = cache_with_weights();
    let file = cache.path().join("minilm/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    bytes[50_000_000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let found = Sha256Hex::of(&bytes);
    let message = failure(&options(cache.path())).await;
    for part in ["model.safetensors is damaged", found.as_str(), "expected 53aa51172d142c89"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains(&*cache.path().to_string_lossy()), "{message}");
}

#[tokio::test]
async fn missing_weights_say_what_helps() {
    let cache = tempfile::tempdir().unwrap();
    let message = failure(&options(cache.path())).await;
    for part in ["--offline", "vectron-embedding models pull minilm"] {
        assert!(message.contains(part), "{message}");
    }
    // Whoever calls learns nothing of this machine's folders; the log and the command line say where it was looked.
    for part in [&*cache.path().to_string_lossy(), "make weights", "looked in"] {
        assert!(!message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn another_architecture_is_refused_by_name() {
    let cache = cache_with_weights();
    let file = cache.path().join("minilm/config.json");
    let config = fs::read_to_string(&file).unwrap().replace(r#""model_type": "bert""#, r#""model_type": "mpnet""#);
    fs::remove_file(&file).unwrap();
    fs::write(&file, &config).unwrap();
    let registry = registry_with(cache.path(), "config.json", &Sha256Hex::of(config.as_bytes()));
    let message = failure(&Options { models_file: Some(registry), ..options(cache.path()) }).await;
    assert!(message.contains("model_type in config.json is `mpnet`; supported is `bert`"), "{message}");
}

#[tokio::test]
async fn embeddings_that_are_not_finite_fail_their_calls() {
    let cache = cache_with_weights();
    let file = cache.path().join("minilm/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let head_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let head: serde_json::Value = serde_json::from_slice(&bytes[8..8 + head_bytes]).unwrap();
    let name = |prefix: &str| format!("{prefix}encoder.layer.5.output.LayerNorm.weight");
    let tensor = ["", "bert."].into_iter().find_map(|prefix| head.get(name(prefix))).unwrap();
    let [start, end] = [0, 1].map(|i| 8 + head_bytes + tensor["data_offsets"][i].as_u64().unwrap() as usize);
    // Finite, so that the model is loaded; what they are multiplied with makes them infinite.
    for number in bytes[start..end].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::MAX.to_le_bytes());
    }
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bytes).unwrap();
    let registry = registry_with(cache.path(), "model.safetensors", &Sha256Hex::of(&bytes));
    let options = Options {
        models_file: Some(registry),
        precision: Some(vectron_embedding::Precision::F32),
        cache_bytes_max: 1 << 20,
        ..options(cache.path())
    };
    let served = Served::start_with(&options).await;
    // Twice: what failed is not remembered.
    for _ in 0..2 {
        let status = served.grpc().embed(common::request(&["a", "b"])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
        let (status, body) = served.post("/embed", r#"{"text": "a"}"#).await;
        assert_eq!(status, 500, "{body}");
    }
}

/// The built-in registry, but with another hash for one file.
fn registry_with(folder: &Path, name: &str, hash: &Sha256Hex) -> PathBuf {
    let line = |line: &str| {
        if line.starts_with(&format!("\"{name}\"")) {
            format!("\"{name}\" = \"{hash}\"\n")
        } else {
            format!("{line}\n")
        }
    };
    let path = folder.join("models.toml");
    fs::write(&path, include_str!("../models.toml").lines().map(line).collect::<String>()).unwrap();
    path
}

#[test]
fn hub_that_does_not_answer_fails_within_five_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let error = pull(cache.path(), silent.local_addr().unwrap()).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(error.contains("no answer within 4.5 s"), "{error}");
    assert!(error.contains("HF_ENDPOINT"), "{error}");
    assert!(!cache.path().join("minilm").exists());
}

#[test]
fn hub_that_answers_is_pulled_from() {
    let cache = tempfile::tempdir().unwrap();
    let hub = serve_files(|name| fs::read(weights().join(name)).ok());
    pull(cache.path(), hub).unwrap();
    for name in FILES {
        let there = fs::read(cache.path().join("minilm").join(name)).unwrap();
        assert!(there == fs::read(weights().join(name)).unwrap(), "{name} differs");
    }
    let left = fs::read_dir(cache.path().join("minilm")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn model_that_the_hub_says_is_another_is_refused_before_its_weights_come() {
    let cache = tempfile::tempdir().unwrap();
    let dense = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#;
    let hub = serve_files(move |name| match name {
        "modules.json" => Some(dense.into()),
        "1_Pooling/config.json" => Some("{}".into()),
        name => fs::read(weights().join(name)).ok(),
    });
    let error = pull(cache.path(), hub).unwrap_err();
    assert!(error.contains("modules.json: the model has a module `sentence_transformers.models.Dense`"), "{error}");
    assert!(cache.path().join("minilm/1_Pooling/config.json").exists());
    assert!(!cache.path().join("minilm/model.safetensors").exists());
    // And where they are on disk.
    for name in FILES {
        let _ = fs::copy(weights().join(name), cache.path().join("minilm").join(name));
    }
    let error = pull(cache.path(), SocketAddr::from(([127, 0, 0, 1], 9))).unwrap_err();
    assert!(error.contains("models.Dense"), "{error}");
}

/// A hub that sends on to `other` what is asked for with the token, and the headers of all that it was asked for.
fn hub_with_token(token: &'static str, other: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let writing = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            let is_let_in =
                head.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: Bearer {token}")));
            writing.lock().unwrap().push(head.join("\n"));
            let answer = match other {
                Some(other) if is_let_in => format!("302 Found\r\nlocation: http://{other}{path}"),
                Some(_) => "401 Unauthorized".to_owned(),
                None => "404 Not Found".to_owned(),
            };
            let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (address, seen)
}

#[test]
fn token_goes_to_the_hub_alone_and_is_asked_for_by_name() {
    const TOKEN: &str = "hf_s3cretT0ken";
    let (elsewhere, seen_elsewhere) = hub_with_token(TOKEN, None);
    let (hub, seen) = hub_with_token(TOKEN, Some(elsewhere));
    let cache = tempfile::tempdir().unwrap();
    let pull = |token: &str| {
        let mut command = binary(cache.path());
        command.args(["models", "pull", "minilm", "--log", "trace", "--hub-endpoint", &format!("http://{hub}")]);
        command.env("VECTRON_MODEL_CACHE", cache.path()).env("VECTRON_OFFLINE", "0").env("HF_TOKEN", token);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    for (token, says) in [
        ("", "the hub answered 401 Unauthorized: the repository asks for a token, or is not there; set HF_TOKEN"),
        ("hf_0therS3cret", "401 Unauthorized: expected HF_TOKEN to be a token that may read the repository"),
        ("hf_0ther S3cret", "HF_TOKEN holds characters that no token has"),
    ] {
        let told = pull(token);
        assert!(told.contains(says) && !told.contains("HF_ENDPOINT"), "{told}");
        assert!(!told.contains("S3cret"), "{told}");
    }
    assert!(!seen.lock().unwrap()[0].to_lowercase().contains("authorization"), "none is sent where there is none");
    assert!(seen_elsewhere.lock().unwrap().is_empty());

    let told = pull(TOKEN);
    assert!(told.contains("the hub answered 404") && !told.contains("s3cretT0ken"), "{told}");
    let seen = seen_elsewhere.lock().unwrap();
    assert!(!seen.is_empty() && !seen.concat().to_lowercase().contains("authorization"), "{seen:?}");
}

#[test]
fn cache_of_the_hubs_own_tools_is_where_they_say_it_is() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("elsewhere/models--sentence-transformers--all-MiniLM-L6-v2/snapshots");
    fs::create_dir_all(&snapshot).unwrap();
    let commit = snapshot.join("c9745ed1d9f207416be6d2e6f8de32d1f16199bf");
    std::os::unix::fs::symlink(weights(), &commit).unwrap();
    let list = |variable: &str, value: &str| {
        let mut command = binary(cache.path());
        let output = command.args(["models", "list", "minilm"]).env(variable, value).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(list("HF_HUB_CACHE", "elsewhere").contains("elsewhere/models--sentence-transformers"));
    assert!(list("HF_HUB_CACHE", "").contains("no weights on disk"));
    fs::rename(cache.path().join("elsewhere"), cache.path().join("hub")).unwrap();
    assert!(list("HF_HUB_CACHE", "").contains("hub/models--sentence-transformers"), "HF_HOME is this folder");

    // Whatever is asked for, nothing is fetched.
    let empty = tempfile::tempdir().unwrap();
    let pull = |value: &str| {
        let mut command = binary(empty.path());
        command
            .args(["models", "pull", "minilm", "--hub-endpoint", "http://127.0.0.1:9"])
            .env_remove("VECTRON_OFFLINE");
        String::from_utf8(command.env("HF_HUB_OFFLINE", value).output().unwrap().stderr).unwrap()
    };
    for (value, says) in [("1", "HF_HUB_OFFLINE"), ("YES", "HF_HUB_OFFLINE"), ("0", "127.0.0.1:9"), ("", "127.0.0.1:9")]
    {
        assert!(pull(value).contains(says), "{value}: {}", pull(value));
    }
}

#[test]
fn hub_that_sends_something_else_is_refused_and_nothing_is_left() {
    let cache = tempfile::tempdir().unwrap();
    let hub = serve_files(|_| Some(b"something else".to_vec()));
    let error = pull(cache.path(), hub).unwrap_err();
    assert!(error.contains("config.json: what came has the SHA-256"), "{error}");
    assert!(error.contains("expected 953f9c0d463486b1"), "{error}");
    assert!(!cache.path().join("minilm").exists());
}

#[test]
fn what_was_fetched_whole_is_kept_for_the_next_try() {
    let cache = tempfile::tempdir().unwrap();
    let hub = serve_files(|name| fs::read(weights().join(name)).ok().filter(|_| name != "model.safetensors"));
    let error = pull(cache.path(), hub).unwrap_err();
    assert!(error.contains("the hub answered 404"), "{error}");
    assert!(error.contains("(lacks model.safetensors)"), "{error}");
    let hub = serve_files(|name| (name == "model.safetensors").then(|| fs::read(weights().join(name)).unwrap()));
    pull(cache.path(), hub).unwrap();
}

fn pull(cache: &Path, hub: SocketAddr) -> Result<(), String> {
    let options = Options { offline: false, hub_endpoint: format!("http://{hub}/"), ..options(cache) };
    let registry = options.registry().unwrap();
    let pulled = options.weights_source().unwrap().obtain(registry.get("minilm").unwrap().local().unwrap());
    pulled.map(|_| ()).map_err(|error: WeightsError| error.to_string())
}

/// A hub that has of minilm what `content` has.
fn serve_files(content: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    const FOLDER: &str = "/sentence-transformers/all-MiniLM-L6-v2/resolve/c9745ed1d9f207416be6d2e6f8de32d1f16199bf/";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let first = lines.next().unwrap();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = first.split(' ').nth(1).unwrap();
            let body = path.strip_prefix(FOLDER).and_then(&content);
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // The client may have left.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

#[test]
fn damaged_folder_is_passed_over_where_another_is_whole() {
    let cache = cache_with_weights();
    fs::rename(cache.path().join("minilm"), cache.path().join("sentence-transformers_all-MiniLM-L6-v2")).unwrap();
    put_damaged(cache.path());
    let options = options(cache.path());
    let registry = options.registry().unwrap();
    let files = options.weights_source().unwrap().obtain(registry.get("minilm").unwrap().local().unwrap()).unwrap();
    assert_eq!(files.folder, cache.path().join("sentence-transformers_all-MiniLM-L6-v2"));
}

#[test]
fn damaged_file_is_fetched_again() {
    let cache = cache_with_weights();
    put_damaged(cache.path());
    let hub = serve_files(|name| (name == "config.json").then(|| fs::read(weights().join(name)).unwrap()));
    pull(cache.path(), hub).unwrap();
    let hub = serve_files(|_| None);
    put_damaged(cache.path());
    let error = pull(cache.path(), hub).unwrap_err();
    for part in ["config.json is damaged", "the hub answered 404", "remove ", "models pull minilm"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn two_that_fetch_at_once_both_have_the_files() {
    let cache = tempfile::tempdir().unwrap();
    // The other one is done before the first answer.
    let folder = cache.path().join("minilm");
    let hub = serve_files(move |_| {
        for name in FILES {
            fs::copy(weights().join(name), folder.join(name)).unwrap();
        }
        None
    });
    pull(cache.path(), hub).unwrap();
}

#[tokio::test]
async fn files_that_are_no_model_are_not_pinned() {
    let cache = tempfile::tempdir().unwrap();
    let hub = serve_files(|name| FILES.contains(&name).then(|| b"<html>please log in</html>".to_vec()));
    let unpinned = include_str!("../models.toml").replacen("[model.files]", "[ignored]", 1);
    let (before, rest) = unpinned.split_once("[ignored]").unwrap();
    let (_, after) = rest.split_once("[[model]]").unwrap();
    let models = cache.path().join("models.toml");
    fs::write(&models, format!("{before}[[model]]{after}")).unwrap();
    let options = Options { models_file: Some(models), ..options(cache.path()) };
    let fetching = Options { offline: false, hub_endpoint: format!("http://{hub}/"), ..options.clone() };
    let message = failure(&fetching).await;
    let folder = cache.path().join("minilm");
    assert!(message.contains("to get others") && !message.contains(&*cache.path().to_string_lossy()), "{message}");
    assert!(folder.join("config.json").exists() && !folder.join("SHA256SUMS").exists());

    fs::remove_dir_all(&folder).unwrap();
    common::put_weights(cache.path());
    Served::start_with(&options).await.embed(&["x"]).await;
    assert!(folder.join("SHA256SUMS").exists());
}

/// A minilm whose config.json is another's.
fn put_damaged(cache: &Path) {
    let folder = cache.join("minilm");
    fs::create_dir_all(&folder).unwrap();
    for name in FILES {
        if !folder.join(name).exists() {
            fs::write(folder.join(name), "").unwrap();
        }
    }
    fs::remove_file(folder.join("config.json")).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
}
