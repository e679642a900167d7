//! The real process ends in time, whatever waits in its queue.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::process::binary;
use common::{cache_with_weights, request};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;
use tonic::transport::Channel;
use vectron_embedding::client;

/// What requests have to drain and the last answers to be sent, and what a batch may take on a machine that others use too.
const END_MAX: Duration = Duration::from_secs(10 + 2 + 18);

async fn queue_tokens(http: &reqwest::Client, url: &str) -> f64 {
    let told = http.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let line = told.lines().find_map(|line| line.strip_prefix("vectron_embedding_queue_tokens "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn full_queue_does_not_hold_up_the_end() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cache = cache_with_weights();
    let mut command = binary(cache.path());
    command.args(["--listen", "127.0.0.1:0", "--embedding-threads", "1", "--model-cache"]).arg(cache.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let url = loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it has ended");
        if let Some((_, address)) = line.split_once("listens on ") {
            break address.split(' ').next().unwrap().to_owned();
        }
    };

    // Far more than can be run in the time to drain; at once, so that none is refused for those in front of it.
    let words = "word ".repeat(240);
    let texts: Vec<String> = (0..900).map(|number| format!("{number} {words}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let call = |_| {
        let channel = Channel::from_shared(url.clone()).unwrap().connect_lazy();
        let (mut client, request) = (client(channel), request(&texts));
        tokio::spawn(async move { client.embed(request).await })
    };
    let calls: Vec<_> = (0..4).map(call).collect();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    while queue_tokens(&http, &url).await < 500_000.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let started = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap(), rest)
    });
    let (status, log) = ended.await.unwrap();
    let time = started.elapsed();
    assert!(status.success() && log.contains("were still running"), "too little to do, or not:\n{log}");
    assert!(time < END_MAX, "{time:?}");
    for call in calls {
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().starts_with("the service is stopping"), "{status:?}");
    }
}
