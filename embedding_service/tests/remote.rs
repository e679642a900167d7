//! `compare --server` and services that ask for a key or speak TLS: the real binary, the real service, and before it a proxy
//! with TLS, as it stands in a network that nobody trusts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::auth::Guarded;
use common::process::binary;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate for 127.0.0.1, and the PEM of who has signed it.
fn certificate() -> (ServerConfig, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, pem)
}

/// Takes TLS off before the service at `address`; returns its own address.
async fn proxy(config: ServerConfig, address: String) -> String {
    let (listener, acceptor) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let own = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                // A client that does not know the certificate leaves here.
                let Ok(mut outside) = acceptor.accept(socket).await else { return };
                let mut inside = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    own
}

async fn compare(folder: &Path, url: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = binary(folder);
    command.args(["compare", "--models", "m", "--repeats", "1", "--server", url]).envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn key_is_shown_over_tls_to_whom_the_system_knows() {
    let service = Guarded::start(&[]).await;
    let key = service.add_key(&["ann", "--scopes", "admin"]);
    service.wait_until_let_in(&key).await;
    let folder = tempfile::tempdir().unwrap();
    let ((config, pem), (_, of_others)) = (certificate(), certificate());
    let (known, unknown) = (folder.path().join("known.pem"), folder.path().join("unknown.pem"));
    std::fs::write(&known, pem).unwrap();
    std::fs::write(&unknown, of_others).unwrap();
    let (known, unknown) = (known.to_str().unwrap(), unknown.to_str().unwrap());
    let plain = format!("http://{}", service.address);
    let encrypted = format!("https://{}", proxy(config, service.address.clone()).await);
    let wrong = format!("vek_{}_{}", "0".repeat(16), "0".repeat(64));
    let (with_password, of_another_kind) =
        (plain.replace("http://", "http://ann:secret@"), plain.replace("http:", "ftp:"));
    // 1: it did not come to an answer; 2: what was given cannot be used.
    for (url, certificates, key, expected, says) in [
        (&encrypted, known, key.as_str(), 0, None),
        (&plain, known, &key, 0, None),
        (&encrypted, known, &wrong, 1, Some("there is no such API key")),
        (&encrypted, unknown, &key, 1, Some("invalid peer certificate")),
        (&plain, known, "", 1, Some("expected a key or a token")),
        (&plain, known, "two words", 2, Some("VECTRON_EMBEDDING_API_KEY holds characters that no key has")),
        (&with_password, known, &key, 2, Some("has a user or a password: expected none")),
        (&of_another_kind, known, &key, 2, Some("expected http://host:port or https://host:port")),
    ] {
        let environment = [("SSL_CERT_FILE", certificates), ("VECTRON_EMBEDDING_API_KEY", key)];
        let (code, said) = compare(folder.path(), url, &environment).await;
        assert_eq!(code, expected, "{url}: {said}");
        assert!(said.contains(says.unwrap_or("m")), "{url}: {said}");
        assert!(!said.contains("secret") && (key.is_empty() || !said.contains(key)), "{said}");
    }
}
