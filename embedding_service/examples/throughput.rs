//! Measures a running service over gRPC: texts per second of Embed, from one caller and from several, or of StreamEmbed.
//!
//! `cargo run --release -p vectron-embedding --example throughput -- http://127.0.0.1:8000 texts.txt [batch] [callers]`
//! with one text in each line of `texts.txt`; no callers (0) means one stream.

#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, fs};

use tonic::transport::Channel;
use vectron_embedding::client;
use vectron_embedding::pb::v1::{EmbedRequest, StreamEmbedRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, file, rest @ ..] = arguments.as_slice() else {
        return Err("usage: throughput URL FILE [texts of a call] [callers]".into());
    };
    let number = |index: usize, default: usize| rest.get(index).map_or(Ok(default), |text| text.parse());
    let (batch, callers) = (number(0, 256)?, number(1, 1)?);

    let texts: Vec<String> = fs::read_to_string(file)?.lines().map(str::to_owned).collect();
    let calls: Vec<Vec<String>> = texts.chunks(batch).map(<[String]>::to_vec).collect();
    let channel = Channel::from_shared(url.clone())?.connect().await?;
    // The first call may wait for the model.
    client(channel.clone()).embed(request(vec!["warm up".to_owned()])).await?;

    let started = Instant::now();
    let what = if callers == 0 {
        stream(channel, calls).await?;
        "one stream".to_owned()
    } else {
        let mut latencies_us = call(channel, calls, callers).await?;
        latencies_us.sort_unstable();
        let (median, most) = (latencies_us[latencies_us.len() / 2], latencies_us[latencies_us.len() - 1]);
        format!("{callers} callers (a call took {median} us in the median, {most} us at most)")
    };
    let per_second = texts.len() as f64 / started.elapsed().as_secs_f64();
    println!("{} texts in batches of {batch} from {what}: {per_second:.0} texts/s", texts.len());
    Ok(())
}

fn request(texts: Vec<String>) -> EmbedRequest {
    EmbedRequest { texts, ..Default::default() }
}

/// All batches on one stream, sent as fast as the service reads.
async fn stream(channel: Channel, calls: Vec<Vec<String>>) -> Result<(), Box<dyn Error>> {
    let count = calls.len();
    let requests = (0..).zip(calls).map(|(batch_index, texts)| StreamEmbedRequest {
        batch_index,
        embed: Some(request(texts)),
        ..Default::default()
    });
    let mut answers = client(channel).stream_embed(tokio_stream::iter(requests)).await?.into_inner();
    let mut answered = 0;
    while let Some(answer) = answers.message().await? {
        if let Some(error) = answer.error {
            return Err(error.message.into());
        }
        answered += 1;
    }
    if answered != count { Err(format!("{answered} of {count} batches were answered").into()) } else { Ok(()) }
}

/// Each caller has one call in flight. Returns how long each took.
async fn call(channel: Channel, calls: Vec<Vec<String>>, callers: usize) -> Result<Vec<u128>, Box<dyn Error>> {
    let calls = Arc::new(calls);
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..callers {
        let (mut client, calls, next) = (client(channel.clone()), calls.clone(), next.clone());
        running.push(tokio::spawn(async move {
            let mut latencies_us = Vec::new();
            while let Some(texts) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let called = Instant::now();
                client.embed(request(texts.clone())).await?;
                latencies_us.push(called.elapsed().as_micros());
            }
            Ok::<_, tonic::Status>(latencies_us)
        }));
    }
    let mut latencies_us = Vec::new();
    for caller in running {
        latencies_us.extend(caller.await??);
    }
    Ok(latencies_us)
}
