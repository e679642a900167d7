//! The figure of a principals' file that cannot be taken up is there as long as that is so.
//!
//! One test, alone in its process, since it meddles with a figure.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Served, options};
use vectron_embedding::Options;
use vectron_embedding::auth::{AuthOptions, Open};

const STALE: &str = "vectron_embedding_principals_stale";
const PATIENCE: Duration = Duration::from_secs(30);

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

async fn stale(served: &Served) -> Option<String> {
    let (status, figures) = served.get("/metrics").await;
    assert_eq!(status, 200, "{figures}");
    let lines = figures.as_str().unwrap().lines();
    lines.filter_map(|line| line.strip_prefix(STALE)).map(|value| value.trim().to_owned()).next()
}

async fn wait_until_stale_is(served: &Served, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = stale(served).await;
        if now.as_deref() == Some(expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{now:?}, expected {expected}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn stale_principals_are_told_at_every_look_until_they_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("principals.toml");
    write(&path, "principal = []\n");
    let auth = AuthOptions { auth_file: Some(path.clone()), auth_open: vec![Open::Metrics], ..AuthOptions::default() };
    let served = Served::start_with(&Options { auth, ..options(folder.path()) }).await;
    assert_eq!(stale(&served).await.as_deref(), Some("0"));
    write(&path, "[[principal]\n");
    wait_until_stale_is(&served, "1").await;
    // A gauge that nobody sets goes away after a minute. That this one is set by each look is seen sooner by one that is wrong.
    for _ in 0..2 {
        metrics::gauge!(STALE).set(7.0);
        assert_eq!(stale(&served).await.as_deref(), Some("1"));
    }
    write(&path, "principal = []\n");
    wait_until_stale_is(&served, "0").await;
}
