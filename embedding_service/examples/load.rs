//! Puts a running service under a load of calls over gRPC, of one text each or of several, and tells what it did. Have the
//! service keep no embeddings (`--cache-bytes-max 0`), or it is the cache that is measured. At rates far beyond what the
//! service can do, this program wants the processor as well: `nice -n 19` leaves it to the service.
//!
//! `cargo run --release -p vectron-embedding --example load -- http://127.0.0.1:8000 texts.txt closed --callers 64`:
//! each caller calls again when it has its answer.
//! `… open --per-second 8000 --deadline-ms 10000`: calls come as they come, as many as are told, answered or not.

#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use vectron_embedding::client;
use vectron_embedding::pb::v1::EmbedRequest;

const HEALTH_PERIOD: Duration = Duration::from_millis(100);

#[derive(Parser)]
struct Arguments {
    /// The service, as http://HOST:PORT.
    url: String,
    /// One text in each line; taken one after the other, again and again.
    file: String,
    #[command(subcommand)]
    load: Load,
    /// How long.
    #[arg(long, default_value_t = 10, global = true)]
    seconds: u64,
    /// Texts of a call.
    #[arg(long, default_value_t = 1, global = true)]
    texts: usize,
    /// Connections that calls take in turn. One holds 1,024 calls in flight.
    #[arg(long, default_value_t = 4, global = true)]
    connections: usize,
    /// The service's process, on this machine, whose memory is told.
    #[arg(long, global = true)]
    pid: Option<u32>,
}

#[derive(Subcommand)]
enum Load {
    /// Callers that wait for their answers.
    Closed {
        #[arg(long)]
        callers: usize,
    },
    /// Calls at a rate.
    Open {
        /// Texts that come in a second.
        #[arg(long)]
        per_second: f64,
        #[arg(long, default_value_t = 10_000)]
        deadline_ms: u64,
    },
}

/// Makes calls, each with the next text.
#[derive(Clone)]
struct Caller {
    channels: Arc<Vec<Channel>>,
    texts: Arc<Vec<String>>,
    /// Texts of a call.
    batch: usize,
    /// Calls made.
    next: Arc<AtomicUsize>,
}

/// What became of a call.
struct Outcome {
    code: Code,
    time: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let texts: Vec<String> = fs::read_to_string(&arguments.file)?.lines().map(str::to_owned).collect();
    if texts.is_empty() {
        return Err(format!("{}: expected one text in each line, got none", arguments.file).into());
    }
    let mut channels = Vec::new();
    for _ in 0..arguments.connections.max(1) {
        channels.push(Channel::from_shared(arguments.url.clone())?.connect().await?);
    }
    let caller = Caller {
        channels: Arc::new(channels),
        texts: Arc::new(texts),
        batch: arguments.texts.max(1),
        next: Arc::default(),
    };
    // The first call may wait for the model.
    let first = caller.call(None).await;
    if first.code != Code::Ok {
        return Err(format!("the first call was answered with {:?}", first.code).into());
    }

    let time = Duration::from_secs(arguments.seconds);
    let health = tokio::spawn(watch_health(arguments.url.trim_start_matches("http://").to_owned(), time));
    let memory = tokio::spawn(watch_memory(arguments.pid, time));
    let started = Instant::now();
    let outcomes = match arguments.load {
        Load::Closed { callers } => closed(&caller, callers, started + time).await,
        Load::Open { per_second, deadline_ms } => {
            open(&caller, per_second, Duration::from_millis(deadline_ms), started + time).await
        }
    };
    report(&outcomes, caller.batch, started.elapsed());
    println!("/health: {}", quantiles(health.await??));
    if let Some(mib) = memory.await? {
        println!("memory: at most {mib} MiB");
    }
    Ok(())
}

impl Caller {
    async fn call(&self, deadline: Option<Duration>) -> Outcome {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let first = number * self.batch;
        let texts = (first..first + self.batch).map(|index| self.texts[index % self.texts.len()].clone()).collect();
        let mut request = Request::new(EmbedRequest { texts, ..Default::default() });
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let started = Instant::now();
        let answer = client(self.channels[number % self.channels.len()].clone()).embed(request).await;
        Outcome { code: answer.map_or_else(|status: Status| status.code(), |_| Code::Ok), time: started.elapsed() }
    }
}

async fn closed(caller: &Caller, callers: usize, end: Instant) -> Vec<Outcome> {
    let run = |caller: Caller| async move {
        let mut outcomes = Vec::new();
        while Instant::now() < end {
            outcomes.push(caller.call(None).await);
        }
        outcomes
    };
    let running: Vec<_> = (0..callers).map(|_| tokio::spawn(run(caller.clone()))).collect();
    let mut outcomes = Vec::new();
    for caller in running {
        outcomes.extend(caller.await.unwrap_or_default());
    }
    outcomes
}

async fn open(caller: &Caller, per_second: f64, deadline: Duration, end: Instant) -> Vec<Outcome> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let started = Instant::now();
    let mut sent = 0_u64;
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while Instant::now() < end {
        ticks.tick().await;
        let due = (started.elapsed().as_secs_f64() * per_second / caller.batch as f64) as u64;
        for _ in sent..due {
            let (caller, sender) = (caller.clone(), sender.clone());
            tokio::spawn(async move { sender.send(caller.call(Some(deadline)).await) });
        }
        sent = due;
    }
    drop(sender);
    let mut outcomes = Vec::new();
    while let Some(outcome) = receiver.recv().await {
        outcomes.push(outcome);
    }
    outcomes
}

fn report(outcomes: &[Outcome], batch: usize, time: Duration) {
    let answered = outcomes.iter().filter(|outcome| outcome.code == Code::Ok);
    let rate = (answered.clone().count() * batch) as f64 / time.as_secs_f64();
    println!("answered: {rate:.0} texts/s in {:.1} s; {}", time.as_secs_f64(), quantiles(answered.map(|one| one.time)));
    let mut codes: Vec<Code> = outcomes.iter().map(|outcome| outcome.code).filter(|code| *code != Code::Ok).collect();
    codes.sort_by_key(|code| i32::from(*code));
    codes.dedup();
    for code in codes {
        let those = outcomes.iter().filter(|outcome| outcome.code == code);
        println!("{code:?}: {}; {}", those.clone().count(), quantiles(those.map(|one| one.time)));
    }
}

fn quantiles(times: impl IntoIterator<Item = Duration>) -> String {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    format!("{} calls, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", times.len(), at(0.5), at(0.99), at(1.0))
}

/// How long `GET /health` took, again and again, each on a connection of its own.
async fn watch_health(address: String, time: Duration) -> std::io::Result<Vec<Duration>> {
    let end = Instant::now() + time;
    let mut times = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(format!("/health: {}", String::from_utf8_lossy(&answer))));
        }
        times.push(started.elapsed());
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
    Ok(times)
}

/// The most memory that the process had resident, in MiB.
async fn watch_memory(pid: Option<u32>, time: Duration) -> Option<u64> {
    let pid = pid?;
    let end = Instant::now() + time;
    let mut most = None;
    while Instant::now() < end {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        most = most.max(Some(kib / 1024));
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
    most
}
