//! A provider whose answer has no end takes no memory for it.
//!
//! One test, alone in its process, since it looks at the memory of all of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use common::provider::{Provider, answer_with, entry, serve, told};
use common::request;
use tonic::Code;

/// The most bytes of memory that this process has had so far.
fn memory_most() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn answer_without_end_is_cut_off() {
    let before = memory_most();
    let body = || {
        let mebibyte = Bytes::from(vec![b' '; 1 << 20]);
        Body::from_stream(tokio_stream::iter((0..1024).map(move |_| Ok::<_, Infallible>(mebibyte.clone()))))
    };
    let provider = Provider::start(move |_| std::future::ready(answer_with(200, "application/json", body()))).await;
    let served = serve(&[entry("m", provider.address, "")]).await;
    let status = served.grpc().embed(request(&["ab", "abcd"])).await.unwrap_err();
    assert_eq!(told(&status), (Code::Internal, "PROVIDER_ANSWER".to_owned()), "{status:?}");
    assert!(status.message().contains("bytes, and was cut off"), "{status:?}");
    assert_eq!(provider.seen().len(), 1);
    let grown = memory_most() - before;
    assert!(grown < 200 << 20, "{grown} bytes");
}
