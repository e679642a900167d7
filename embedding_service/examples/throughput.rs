//! Measures a running service: texts per second of Embed over gRPC, from one caller and from several.
//!
//! `cargo run --release -p vectron-embedding --example throughput -- http://127.0.0.1:8000 texts.txt [batch] [callers]`
//! with one text in each line of `texts.txt`.

#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, fs};

use tonic::transport::Channel;
use vectron_embedding::client;
use vectron_embedding::pb::v1::EmbedRequest;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, file, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput URL FILE [texts of a call] [callers]".into());
    };
    let number = |index: usize, default: usize| rest.get(index).map_or(Ok(default), |text| text.parse());
    let (batch, callers) = (number(0, 256)?, number(1, 1)?);

    let texts: Vec<String> = fs::read_to_string(file)?.lines().map(str::to_owned).collect();
    let calls: Arc<Vec<Vec<String>>> = Arc::new(texts.chunks(batch).map(<[String]>::to_vec).collect());
    let channel = Channel::from_shared(url.clone())?.connect().await?;
    // The first call may wait for the model.
    client(channel.clone()).embed(EmbedRequest { texts: vec!["warm up".to_owned()], ..Default::default() }).await?;

    let started = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..callers {
        let (mut client, calls, next) = (client(channel.clone()), calls.clone(), next.clone());
        running.push(tokio::spawn(async move {
            let mut latencies_us = Vec::new();
            while let Some(texts) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let called = Instant::now();
                client.embed(EmbedRequest { texts: texts.clone(), ..Default::default() }).await?;
                latencies_us.push(called.elapsed().as_micros());
            }
            Ok::<_, tonic::Status>(latencies_us)
        }));
    }
    let mut latencies_us = Vec::new();
    for caller in running {
        latencies_us.extend(caller.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    latencies_us.sort_unstable();
    println!(
        "{} texts, {batch} a call, {callers} callers: {:.0} texts/s; a call took {} us in the median, {} us at most",
        texts.len(),
        texts.len() as f64 / seconds,
        latencies_us[latencies_us.len() / 2],
        latencies_us.last().unwrap_or(&0),
    );
    Ok(())
}
