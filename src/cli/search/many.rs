//! Many queries on one stream. Answers may overtake each other; they are printed in the order of the queries.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Search;
use crate::cli::console::{Console, results};
use crate::cli::exit::{Ended, Exit, Failure};
use crate::pb::v1 as pb;
use crate::pb::v1::stream_search_response::Result as Answer;
use crate::pb::v1::vector_service_client::VectorServiceClient;

/// Queries that wait for their answers at once. Bounds what is kept while one answer is late.
const QUERIES_MAX: usize = 64;

/// Searches for every line of standard input. A query that fails is told, and the others go on.
pub async fn run(options: &Search, mut client: VectorServiceClient<Channel>, console: &Console) -> Ended {
    let started = Instant::now();
    let mut lines = read_lines();
    let (asks, asked) = mpsc::channel(QUERIES_MAX);
    let mut asks = Some(asks);
    let mut answers = client.stream_search(ReceiverStream::new(asked)).await?.into_inner();
    let mut out = results();
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut waiting: BTreeMap<u64, Answer> = BTreeMap::new();
    let (mut asked_count, mut printed_count, mut failed_count) = (0_u64, 0_u64, 0_u64);
    loop {
        tokio::select! {
            line = lines.recv(), if asks.is_some() && texts.len() < QUERIES_MAX => match line {
                Some(line) => {
                    let text = line.map_err(|error| Failure::file("read", "standard input", &error))?;
                    let search = Some(options.request(options.text_query(text.clone())));
                    let ask = pb::StreamSearchRequest { query_index: asked_count, search, deadline_ms: 0 };
                    texts.insert(asked_count, text);
                    asked_count += 1;
                    // There is room for as many as may wait. A stream that has ended says why in its answers.
                    if let Some(asks) = &asks {
                        let _ = asks.send(ask).await;
                    }
                }
                None => asks = None,
            },
            answer = answers.message() => match answer? {
                Some(answer) => {
                    if let Some(result) = answer.result {
                        waiting.insert(answer.query_index, result);
                    }
                }
                None if asks.is_none() && texts.is_empty() => break,
                None => return Err(Failure::new("the server has ended the stream before all queries were answered")),
            },
        }
        while let Some(answer) = waiting.remove(&printed_count) {
            let text = texts.remove(&printed_count).unwrap_or_default();
            printed_count += 1;
            match answer {
                Answer::Response(response) => {
                    if !options.json {
                        let gap = if printed_count > 1 { "\n" } else { "" };
                        writeln!(out, "{gap}{text}")?;
                    }
                    options.print(&mut out, Some(&text), response, console)?;
                }
                Answer::Error(error) => {
                    failed_count += 1;
                    let pb::QueryError { reason, message, .. } = error;
                    console.complain(format_args!("line {printed_count}: {message} [{reason}]"));
                }
            }
        }
        if waiting.is_empty() && texts.is_empty() {
            // A person, or a program, may wait for these answers before it asks on.
            out.flush()?;
        }
    }
    out.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    let failed = if failed_count > 0 { format!(", {failed_count} of them failed") } else { String::new() };
    let queries = if asked_count == 1 { "query" } else { "queries" };
    console
        .say(format_args!("{asked_count} {queries} in {seconds:.2} s ({:.0}/s){failed}", asked_count as f64 / seconds));
    Ok(Exit::complete_if(failed_count == 0))
}

/// Standard input can only be waited for on a thread of its own.
fn read_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(QUERIES_MAX);
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if line.as_ref().is_ok_and(|line| line.trim().is_empty()) {
                continue;
            }
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
