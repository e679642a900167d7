//! Keys and tokens at the doors of the real process: who is let in, who is refused and by which name, and that changes of the
//! file take effect while it runs. A model that a provider runs stands for all, so that no weights are needed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::auth::{Guarded, SECRET, forged};
use serde_json::json;
use tonic::Code;
use tonic::metadata::MetadataValue;
use vectron_embedding::pb::v1 as pb;
use vectron_embedding::pb::v1::auth_service_client::AuthServiceClient;

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_name_at_both_doors() {
    let service = Guarded::start(&["--auth-token-s", "1"]).await;
    let key = service.add_key(&["ann"]);
    let reader = service.add_key(&["reader", "--scopes", "models:read"]);
    let brief = service.add_key(&["ann", "--expires", "1s"]);
    let revoked = service.add_key(&["ann"]);
    service.auth(&["revoke", id_of(&revoked)]);
    service.wait_until_taken_up(&revoked, "API_KEY_REVOKED").await;
    let (status, token) = service.post("/auth/token", None, json!({"api_key": key})).await;
    assert_eq!((status, token["expires_in"].as_u64()), (200, Some(1)), "{token}");
    let token = token["access_token"].as_str().unwrap().to_owned();
    tokio::time::sleep(Duration::from_millis(2100)).await;

    let id = id_of(&key);
    let claims = |exp: u64| json!({"iss": "vectron-embedding", "sub": "ann", "iat": 1, "exp": exp, "scope": "admin", "credential": format!("key:{id}")});
    let later = 4_000_000_000;
    let flipped = format!("vek_{id}_{}", "0".repeat(64));
    let cases = [
        (None, "CREDENTIAL_MISSING"),
        (Some("vek_".to_owned()), "CREDENTIAL_MALFORMED"),
        (Some("what".to_owned()), "CREDENTIAL_MALFORMED"),
        (Some(flipped), "API_KEY_WRONG"),
        (Some(brief), "API_KEY_EXPIRED"),
        (Some(revoked), "API_KEY_REVOKED"),
        (Some(token), "TOKEN_EXPIRED"),
        (Some(forged("HS256", &claims(later), b"another secret of thirty-two bytes")), "TOKEN_WRONG"),
        (Some(forged("none", &claims(later), b"")), "TOKEN_WRONG"),
        (Some(forged("HS512", &claims(later), SECRET.as_bytes())), "TOKEN_WRONG"),
        (Some(reader), "SCOPE_MISSING"),
    ];
    for (credential, name) in cases {
        let (http, code) =
            if name == "SCOPE_MISSING" { (403, Code::PermissionDenied) } else { (401, Code::Unauthenticated) };
        let rest = service.embed_rest(credential.as_deref()).await.unwrap_err();
        assert_eq!((rest.status, rest.reason.as_str()), (http, name), "{rest:?}");
        assert_eq!(rest.asks_for_bearer, http == 401, "{rest:?}");
        let grpc = service.embed_grpc(credential.as_deref()).await.unwrap_err();
        assert_eq!(common::provider::told(&grpc), (code, name.to_owned()));
        if let Some(credential) = credential.filter(|credential| credential.len() > 30) {
            let secret = &credential[credential.len() - 30..];
            assert!(!rest.message.contains(secret) && !grpc.message().contains(secret), "{rest:?}");
        }
    }
    // The forgery itself is well made: with the right secret it is let in, and allows what the key does.
    let good = forged("HS256", &claims(later), SECRET.as_bytes());
    service.embed_rest(Some(&good)).await.unwrap();
    let refused = service.post("/benchmark", Some(&good), json!({})).await;
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!("SCOPE_MISSING")), "no more than the key");

    let log = service.stop();
    let secrets = [&key[21..], &good[good.len() - 30..], SECRET];
    assert!(log.contains("TRACE"), "all is logged");
    for secret in secrets {
        assert!(!log.contains(secret), "{}", log.lines().find(|line| line.contains(secret)).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_and_token_are_let_in_at_both_doors_and_probes_need_none() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann", "--scopes", "embed,models:read"]);
    service.wait_until_let_in(&key).await;
    service.embed_grpc(Some(&key)).await.unwrap();
    assert_eq!(service.get_with("/models", "x-api-key", &key).await.0, 200);

    let channel = service.channel();
    let mut tokens = AuthServiceClient::new(channel.clone());
    let credential = Some(pb::issue_token_request::Credential::ApiKey(key.clone()));
    let request = pb::IssueTokenRequest { credential, scopes: vec!["models:read".to_owned()] };
    let issued = tokens.issue_token(request).await.unwrap().into_inner();
    assert_eq!((issued.token_type.as_str(), issued.expires_in_s), ("bearer", 3600));
    assert!(!format!("{issued:?}").contains(&issued.access_token));
    assert_eq!(service.get("/models", Some(&issued.access_token)).await.0, 200);
    let refused = service.embed_grpc(Some(&issued.access_token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "it was asked for less");
    let credential = Some(pb::issue_token_request::Credential::ApiKey(key.clone()));
    let request = pb::IssueTokenRequest { credential, scopes: vec!["admin".to_owned()] };
    assert_eq!(tokens.issue_token(request).await.unwrap_err().code(), Code::PermissionDenied);

    for path in ["/health", "/livez", "/readyz"] {
        assert_ne!(service.get(path, None).await.0, 401, "{path}");
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    for path in ["/models", "/embed", "/metrics", "/nothing", "/", "/auth/token/"] {
        let (status, body) = service.get(path, None).await;
        assert_eq!((status, &body["code"]), (401, &json!("CREDENTIAL_MISSING")), "{path}");
    }
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let status = service.call(&path, None).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{path}");
    }
    let open = Guarded::start(&["--auth-open", "metrics,reflection"]).await;
    assert_ne!(open.get("/metrics", None).await.0, 401);
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert_ne!(open.call(path, None).await.code(), Code::Unauthenticated);
    assert_eq!(open.get("/openapi.json", None).await.0, 401);
    let (status, page) = open.get("/docs", None).await;
    assert!(
        status == 200 && page.as_str().is_some_and(|page| page.contains("fetch('openapi.json', { headers")),
        "{page}"
    );
    assert_eq!(service.get("/openapi.json", Some(&key)).await.0, 200);
    let open = Guarded::start(&["--auth-open", "docs"]).await;
    for path in ["/docs", "/openapi.json"] {
        assert_eq!(open.get(path, None).await.0, 200, "{path}");
    }
    assert_eq!(open.get("/metrics", None).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn path_that_nothing_answers_is_told_as_without_keys_to_whoever_has_one() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann", "--scopes", "embed"]);
    service.wait_until_let_in(&key).await;
    for path in ["/nothing", "/", "/docs/nothing", "/embed/", "/a.B/C"] {
        let (status, answer) = service.get(path, Some(&key)).await;
        assert_eq!((status, &answer["code"]), (404, &json!("ROUTE_NOT_FOUND")), "{path}: {answer}");
        assert_eq!(service.get(path, None).await.0, 401, "{path}");
    }
    for path in ["/a.B/C", "/vectron.embedding.v1.EmbeddingService/Thought"] {
        assert_eq!(service.call(path, Some(&key)).await.code(), Code::Unimplemented, "{path}");
        assert_eq!(service.call(path, None).await.code(), Code::Unauthenticated, "{path}");
    }
    for path in ["/models", "/benchmark", "/v1/models/m", "/openapi.json"] {
        assert_eq!(service.get(path, Some(&key)).await.0, 403, "{path}");
    }
}

#[test]
fn who_is_refused_has_no_byte_of_the_body_read() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let service = runtime.block_on(Guarded::start(&[]));
    for path in [
        "/embed",
        "/batch-embed",
        "/vectron.embedding.v1.EmbeddingService/Embed",
        "/vectron.embedding.v1.EmbeddingService/StreamEmbed",
    ] {
        let mut socket = TcpStream::connect(&service.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8000000000\r\nexpect: 100-continue\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(std::str::from_utf8(&answer).unwrap(), "HTTP/1.1 401", "and no 100 before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_is_taken_up_while_it_runs_and_a_broken_one_is_not() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann"]);
    service.wait_until_let_in(&key).await;
    let (_, token) = service.post("/auth/token", None, json!({"api_key": key})).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    service.embed_rest(Some(&token)).await.unwrap();

    let file = service.folder.path().join("principals.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("[[principal]]", "[[principal]")).unwrap();
    service.hang_up();
    service.wait_for_log("the principals stay as they were").await;
    service.embed_rest(Some(&key)).await.unwrap();
    std::fs::write(&file, &good).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    service.wait_for_log("others could read it; mend it with `chmod 600").await;
    service.embed_rest(Some(&key)).await.unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    service.auth(&["revoke", id_of(&key)]);
    service.wait_until_taken_up(&key, "API_KEY_REVOKED").await;
    let refused = service.embed_rest(Some(&token)).await.unwrap_err();
    assert_eq!(refused.reason, "TOKEN_REVOKED", "a token ends with its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn password_is_changed_for_a_token_and_ends_with_it() {
    let service = Guarded::start(&[]).await;
    service.set_password("ann", "correct horse battery");
    service.wait_for_log("1 principals, 0 keys, 1 passwords").await;
    let login = json!({"username": "ann", "password": "correct horse battery", "scopes": ["embed"]});
    let (status, answer) = service.post("/auth/token", None, login.clone()).await;
    assert_eq!(
        (status, &answer["token_type"], &answer["expires_in"]),
        (200, &json!("bearer"), &json!(3600)),
        "{answer}"
    );
    let token = answer["access_token"].as_str().unwrap().to_owned();
    service.embed_rest(Some(&token)).await.unwrap();
    assert_eq!(service.get("/models", Some(&token)).await.0, 403);

    let form = "grant_type=password&username=ann&password=correct+horse%20battery&scope=models%3Aread&client_id=";
    let (status, answer) = service.post_form("/auth/token", form).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(service.get("/models", answer["access_token"].as_str()).await.0, 200);
    assert_eq!(answer["scope"], "models:read");
    for (form, error) in [
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("username=ann&password=x", "invalid_request"),
        ("grant_type=password&username=ann", "invalid_request"),
        ("grant_type=password&username=ann&password=wrong", "invalid_grant"),
        ("grant_type=password&username=ann&password=correct+horse%20battery&scope=admin", "invalid_scope"),
        ("grant_type=password&username=ann&password=correct+horse%20battery&scope=what", "invalid_scope"),
    ] {
        let (status, answer) = service.post_form("/auth/token", form).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{answer}");
        let description = answer["error_description"].as_str().unwrap();
        assert!(!description.is_empty() && description.is_ascii() && !description.contains('"'), "{description}");
        assert!(answer["code"].is_string() && answer["success"] == false, "{answer}");
    }

    // One answer for all causes.
    let unknown = format!("vek_{}_{}", "0".repeat(16), "0".repeat(64));
    for wrong in [
        json!({"username": "ann", "password": "correct horse"}),
        json!({"username": "nobody", "password": "correct horse"}),
        json!({"api_key": unknown}),
        json!({"api_key": "what"}),
    ] {
        let (status, answer) = service.post("/auth/token", None, wrong).await;
        assert_eq!((status, &answer["code"]), (401, &json!("CREDENTIAL_WRONG")));
        assert_eq!(answer["message"], "expected a good API key, or a user name with its password");
    }
    let (status, _) = service.post("/auth/token", None, json!({"username": "ann"})).await;
    assert_eq!(status, 400);
    let much = json!({"username": "ann", "password": "x".repeat(20_000)});
    assert_eq!(service.post("/auth/token", None, much).await.0, 413);

    service.set_password("ann", "another one entirely");
    service.wait_until_taken_up(&token, "TOKEN_REVOKED").await;
    assert_eq!(service.post("/auth/token", None, login).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_limited_for_names_that_exist_and_that_do_not() {
    let service = Guarded::start(&[]).await;
    service.set_password("ann", "correct horse battery");
    service.wait_for_log("1 passwords").await;
    // Names may share a bucket, one in 4,096 pairs; not three times in a row.
    let fresh = ["nobody", "no-one", "none"];
    let limited = async |name: &str| {
        let mut wrong = 0;
        loop {
            let guess = json!({"username": name, "password": "guess"});
            let (status, answer) = service.post("/auth/token", None, guess).await;
            if status != 401 {
                break (wrong, status, answer);
            }
            wrong += 1;
            assert!(wrong < 30, "{name} is not limited");
        }
    };
    let of_somebody = limited("ann").await;
    let mut of_nobody = limited(fresh[0]).await;
    for name in &fresh[1..] {
        if of_nobody.0 == 0 {
            of_nobody = limited(name).await;
        }
    }
    for (wrong, status, answer) in [of_somebody, of_nobody] {
        assert_eq!((status, &answer["code"]), (429, &json!("TOO_MANY_ATTEMPTS")), "{answer}");
        assert!((1..=6).contains(&answer["details"]["retry_after_s"].as_u64().unwrap()), "{answer}");
        assert!(wrong >= 10, "{wrong}");
    }
    let password = pb::PasswordCredential { username: "ann".to_owned(), password: "guess".to_owned() };
    assert!(!format!("{password:?}").contains("guess"));
    let credential = Some(pb::issue_token_request::Credential::Password(password));
    let request = pb::IssueTokenRequest { credential, scopes: Vec::new() };
    assert!(!format!("{request:?}").contains("guess"));
    let status = AuthServiceClient::new(service.channel()).issue_token(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(common::provider::retry_delay_ms(&status).is_some_and(|delay| delay > 0), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_keep_nobody_from_a_token() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann"]);
    service.wait_until_let_in(&key).await;
    for number in 0..300 {
        // Of strangers, and of somebody who has seen the id.
        let id = if number % 2 == 0 { id_of(&key).to_owned() } else { format!("{number:016x}") };
        let wrong = json!({"api_key": format!("vek_{id}_{}", "0".repeat(64))});
        assert_eq!(service.post("/auth/token", None, wrong).await.0, 401);
    }
    assert_eq!(service.post("/auth/token", None, json!({"api_key": key})).await.0, 200);

    let (_, figures) = service.get("/metrics", Some(&key)).await;
    let figures = figures.as_str().unwrap();
    assert!(figures.contains(r#"vectron_embedding_auth_refused_total{reason="CREDENTIAL_WRONG"} 300"#), "{figures}");
    assert!(figures.contains("vectron_embedding_principals_stale 0"), "{figures}");
    let log = service.stop();
    let refused = format!("refused the key {} from 127.0.0.1: ", id_of(&key));
    assert!(
        log.contains(&refused),
        "{}",
        log.lines().filter(|line| line.contains("refused")).collect::<Vec<_>>().join("\n")
    );
    assert!(log.contains("ann was given a token for `embed models:read`, good for 3600 s"));
    let lines = log.lines().filter(|line| line.contains(" refused ")).count();
    assert!((10..100).contains(&lines), "{lines} of more than 300");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_ends_with_the_credential_that_it_was_opened_with() {
    let service = Guarded::start(&["--auth-token-s", "5"]).await;
    let key = service.add_key(&["ann"]);
    service.wait_until_let_in(&key).await;
    let (_, token) = service.post("/auth/token", None, json!({"api_key": key})).await;
    let token = token["access_token"].as_str().unwrap().to_owned();
    let open = async |credential: &str| {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        call.metadata_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        let batch = || pb::StreamEmbedRequest { embed: Some(common::request(&["x"])), ..Default::default() };
        sender.send(batch()).await.unwrap();
        let mut answers = vectron_embedding::client(service.channel()).stream_embed(call).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().unwrap().response.is_some());
        (sender, answers, batch())
    };
    let (expiring, revoked) = (open(&token).await, open(&key).await);
    tokio::time::sleep(Duration::from_millis(6100)).await;
    service.auth(&["revoke", id_of(&key)]);
    service.wait_until_taken_up(&key, "API_KEY_REVOKED").await;
    for ((sender, mut answers, batch), reason) in [(expiring, "TOKEN_EXPIRED"), (revoked, "API_KEY_REVOKED")] {
        sender.send(batch).await.unwrap();
        let status = answers.message().await.unwrap_err();
        assert_eq!(common::provider::told(&status), (Code::Unauthenticated, reason.to_owned()));
    }
    assert!(service.stop().contains("refused the principal ann from "));
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_clients_are_refused_in_their_form() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["admin", "--scopes", "admin"]);
    let reader = service.add_key(&["reader", "--scopes", "models:read"]);
    service.wait_until_let_in(&key).await;
    let weak = service.post("/v1/embeddings", Some(&reader), json!({"input": "x"})).await;
    let wrong = format!("vek_{}_{}", id_of(&key), "0".repeat(64));
    for ((status, answer), expected, kind, code) in [
        (service.get("/v1/models", None).await, 401, "authentication_error", "credential_missing"),
        (service.get("/v1/models", Some(&wrong)).await, 401, "authentication_error", "api_key_wrong"),
        (weak, 403, "permission_error", "scope_missing"),
        (service.get("/v1/nothing", Some(&key)).await, 404, "invalid_request_error", "route_not_found"),
        (service.get("/v1/embeddings", Some(&key)).await, 405, "invalid_request_error", "method_not_allowed"),
        (service.get("/v1/models/%ff", Some(&key)).await, 400, "invalid_request_error", "invalid_argument"),
    ] {
        let error = &answer["error"];
        assert_eq!((status, &error["type"], &error["code"]), (expected, &json!(kind), &json!(code)), "{answer}");
        assert!(error["message"].is_string() && error.get("param").is_some(), "{answer}");
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    }
    let (_, elsewhere) = service.get("/models", None).await;
    assert_eq!(elsewhere["code"], "CREDENTIAL_MISSING");
    let response = reqwest::get(format!("http://{}/v1/models", service.address)).await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}

#[test]
fn port_for_others_wants_a_file_or_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], environment: &[(&str, &str)], says: &str| {
        let output =
            common::process::binary(folder.path()).args(arguments).envs(environment.iter().copied()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        assert!(!stderr.contains("too short a secret"), "{stderr}");
    };
    let for_others = ["--listen", "0.0.0.0:0"];
    refused(&for_others, &[], "name the principals with --auth-file");
    refused(&["--listen", "127.0.0.1:0", "--auth", "on"], &[], "--auth on: expected the principals' file too");
    let with_file = ["--listen", "127.0.0.1:0", "--auth-file", "principals.toml"];
    refused(&with_file, &[], "make it with `vectron-embedding auth add-key NAME --auth-file principals.toml`");
    std::fs::write(folder.path().join("principals.toml"), "").unwrap();
    std::fs::set_permissions(folder.path().join("principals.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&with_file, &[], "mend it with `chmod 600 principals.toml`");
    std::fs::set_permissions(folder.path().join("principals.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(
        &with_file,
        &[("VECTRON_JWT_SECRET", "too short a secret")],
        "VECTRON_JWT_SECRET has 18 bytes: expected 32",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn off_is_said_in_the_log_and_there_are_no_tokens() {
    let service = Guarded::start_at("0.0.0.0:0", &["--auth", "off"]).await;
    service.wait_for_log("nobody is asked for a key: --auth off").await;
    service.embed_rest(None).await.unwrap();
    service.hang_up();
    tokio::time::sleep(Duration::from_millis(200)).await;
    service.embed_rest(None).await.expect("it has not ended");
    let with_file = Guarded::start(&["--auth", "off"]).await;
    with_file.wait_for_log("--auth off, whatever --auth-file names").await;
    let (status, answer) = service.post("/auth/token", None, json!({"api_key": "x"})).await;
    assert_eq!((status, &answer["code"]), (409, &json!("AUTH_OFF")));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_sent_twice_is_refused() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann"]);
    service.wait_until_let_in(&key).await;
    let mut request = tonic::Request::new(common::request(&["x"]));
    let value: MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
    request.metadata_mut().append("authorization", value.clone());
    request.metadata_mut().append("authorization", value);
    let status = vectron_embedding::client(service.channel()).embed(request).await.unwrap_err();
    assert_eq!(common::provider::told(&status).1, "CREDENTIAL_MALFORMED");
}

#[test]
fn commands_tell_what_they_did_and_keep_secrets_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| common::auth::auth(folder.path(), arguments, "");
    let (code, key, _) = run(&["add-key", "ann", "--scopes", "embed,benchmark", "--expires", "90d"]);
    let key = key.trim();
    assert_eq!((code, key.len()), (0, 85));
    let (code, _, stderr) = run(&["add-key", "ann", "--scopes", "admin"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("ann may do `embed benchmark`: a key cannot have `admin`"), "{stderr}");
    let (code, listed, _) = run(&["list"]);
    assert_eq!(code, 0);
    let start = format!("ann\tembed benchmark\tkey\t{}\t", id_of(key));
    assert!(listed.starts_with(&start) && listed.ends_with("\tgood\n"), "{listed}");
    let written = std::fs::read_to_string(folder.path().join("principals.toml")).unwrap();
    assert!(!listed.contains(&key[21..]) && !written.contains(&key[21..]));
    assert_eq!(run(&["revoke", id_of(key)]).0, 0);
    assert!(run(&["list"]).1.contains("\trevoked at 20"));
    let (code, _, stderr) = run(&["revoke", key]);
    assert_eq!(code, 2);
    assert!(stderr.contains("the id of a key: expected 16 digits"), "{stderr}");
    let refused = |arguments: &[&str], says: &str| {
        let (code, _, stderr) = run(arguments);
        assert!(code != 0 && stderr.contains(says) && !stderr.contains("panicked"), "{stderr}");
    };
    refused(&["add-key", "ann", "--expires", "8000y"], "a key is good for at most 100 years");
    refused(&["add-key", "ann", "--expires", "300000000000y"], "at most 100 years");
    assert_eq!(run(&["set-scopes", "ann", "embed,admin"]).0, 0);
    assert!(run(&["list"]).1.starts_with("ann\tembed benchmark\tkey\t"), "the key keeps what it was made with");
    assert_eq!(run(&["add-key", "ann", "--scopes", "admin"]).0, 0);
    assert_eq!(common::auth::auth(folder.path(), &["set-password", "bob"], "long enough\n").0, 0);
    refused(&["remove-password", "ann"], "ann has no password");
    assert_eq!(run(&["remove-password", "bob"]).0, 0);
    assert!(run(&["list"]).1.contains("bob\tembed models:read\t-\t"));
    refused(&["remove", "carl"], "there is no principal carl");
    refused(&["set-scopes", "carl", "embed"], "there is no principal carl");
    for name in ["ann", "bob"] {
        assert_eq!(run(&["remove", name]).0, 0);
    }
    assert_eq!(run(&["list"]), (0, String::new(), String::new()));
    let written = std::fs::read_to_string(folder.path().join("principals.toml")).unwrap();
    assert!(written.contains("principal = []"), "a running service takes nobody for nobody: {written}");
    let (code, _, stderr) = common::auth::auth(folder.path(), &["set-password", "bob"], "short\n");
    assert_eq!(code, 1);
    assert!(stderr.contains("expected a password of 8 or more characters, got 5"), "{stderr}");
}

fn id_of(key: &str) -> &str {
    &key[4..20]
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_models_to_those_who_may_read_them() {
    let service = Guarded::start(&[]).await;
    let (reader, other) =
        (service.add_key(&["reader", "--scopes", "models:read"]), service.add_key(&["other", "--scopes", "embed"]));
    service.wait_until_let_in(&other).await;
    let told = async |credential| {
        let (status, body) = service.get("/health", credential).await;
        assert_eq!((status, &body["status"]), (200, &json!("healthy")));
        body.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    for credential in [None, Some("vek_of_nobody"), Some(&other)] {
        assert_eq!(told(credential).await, ["status", "version"], "{credential:?}");
    }
    assert_eq!(told(Some(&reader)).await, ["default", "models", "status", "version"]);
}

/// A page can have a browser send this without asking; its comparisons would cost money at providers.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_start_nothing_where_nobody_is_asked() {
    let open = Guarded::start_at("127.0.0.1:0", &[]).await;
    for (path, kind) in [("/benchmark", "text/plain"), ("/auth/token", "text/plain"), ("/a.B/C", "application/grpc")] {
        let headers = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("content-type", kind)];
        let (status, reason) = open.post_with(path, &headers).await;
        let expected = if kind == "application/grpc" { (200, "7") } else { (403, "OTHER_SITE") };
        assert_eq!((status, reason.as_str()), expected, "{path}");
    }
    assert_eq!(open.get_with("/models", "sec-fetch-site", "cross-site").await.0, 200, "a link to it is followed");
    let own = format!("http://{}", open.address);
    assert_eq!(open.post_with("/benchmark", &[("origin", &own)]).await.0, 200);
    assert_eq!(open.post_with("/benchmark", &[]).await.0, 200);
}

/// Whoever thinks of names of methods must not fill the memory with figures of them.
#[tokio::test(flavor = "multi_thread")]
async fn figures_have_no_names_that_clients_think_of() {
    let open = Guarded::start_at("127.0.0.1:0", &[]).await;
    let guarded = Guarded::start(&["--auth-open", "metrics"]).await;
    for (service, code) in [(&open, "12"), (&guarded, "16")] {
        for thought_of in
            ["/vectron.embedding.v1.EmbeddingService/Thought", "/grpc.health.v1.Health/Thought", "/Thought/Of"]
        {
            service.call(thought_of, None).await;
            service.post(thought_of, None, json!({})).await;
        }
        service.call("/vectron.embedding.v1.EmbeddingService/GetModel", None).await;
        let (_, told) = service.get("/metrics", None).await;
        let told = told.as_str().unwrap();
        assert!(!told.contains("Thought"), "{told}");
        assert!(told.contains(&format!("door=\"grpc\",route=\"none\",code=\"{code}\"")), "{told}");
        assert!(told.contains("route=\"/vectron.embedding.v1.EmbeddingService/GetModel\""), "{told}");
    }
}
