//! Measures the service in this process, as `vectron serve` runs it: texts to embeddings, tokenization included.
//!
//! `cargo run --release -p vectron-embedding --example embed -- --precision int8 texts.txt` with one text in each line;
//! `--rounds 5` measures five times, `--out vectors.f32` writes the embeddings as f32, one text after the other. With
//! `--interactive` it waits for a line on its standard input before each round, and ends with it: so it can take turns with
//! others (see `benches/peers/embed.py`). Weights are looked for as the service does it.

#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use tonic::transport::Channel;
use vectron_embedding::pb::v1::{EmbedRequest, StreamEmbedRequest};
use vectron_embedding::{EmbeddingService, Options, client};

/// Texts of a request.
const REQUEST_TEXTS: usize = 256;

#[derive(Parser)]
struct Arguments {
    /// A file with one text in each line.
    texts: PathBuf,
    /// How often all texts are embedded.
    #[arg(long, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// Wait for a line on the standard input before each round, for as long as lines come.
    #[arg(long)]
    interactive: bool,
    /// Where the embeddings of the last round are written.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// All embeddings one after the other as f32, little endian, and the tokens of all texts.
struct Embedded {
    vectors: Vec<u8>,
    tokens: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let texts: Vec<String> = fs::read_to_string(&arguments.texts)?.lines().map(str::to_owned).collect();
    let started = Instant::now();
    // What is measured has to be embedded each time.
    let options = Options { cache_bytes_max: 0, ..arguments.options };
    let service = EmbeddingService::start(&options)?;
    let channel = service.in_memory_channel();
    embed(&channel, &["warm up".to_owned()]).await?;
    println!("ready after {} ms, {} MB resident", started.elapsed().as_millis(), resident_mb()?);

    let mut turns = io::stdin().lock().lines();
    let mut last = None;
    for round in 0.. {
        if arguments.interactive {
            if turns.next().transpose()?.is_none() {
                break;
            }
        } else if round == arguments.rounds {
            break;
        }
        let started = Instant::now();
        let embedded = embed(&channel, &texts).await?;
        let seconds = started.elapsed().as_secs_f64();
        let (texts_rate, tokens_rate) = (texts.len() as f64 / seconds, embedded.tokens as f64 / seconds);
        println!("{texts_rate:.0} texts/s, {tokens_rate:.0} tokens/s, {} MB resident", resident_mb()?);
        io::stdout().flush()?;
        last = Some(embedded);
    }
    if let (Some(file), Some(embedded)) = (arguments.out, last) {
        fs::write(file, embedded.vectors)?;
    }
    Ok(())
}

/// All texts on one stream, as an import sends them.
async fn embed(channel: &Channel, texts: &[String]) -> Result<Embedded, Box<dyn Error>> {
    let requests: Vec<_> = (0..)
        .zip(texts.chunks(REQUEST_TEXTS))
        .map(|(batch_index, texts)| {
            let embed = Some(EmbedRequest { texts: texts.to_vec(), ..Default::default() });
            StreamEmbedRequest { batch_index, embed, ..Default::default() }
        })
        .collect();
    let mut answered: Vec<Vec<u8>> = vec![Vec::new(); requests.len()];
    let mut tokens = 0;
    let mut answers = client(channel.clone()).stream_embed(tokio_stream::iter(requests)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Some(error) = answer.error {
            return Err(error.message.into());
        }
        let response = answer.response.ok_or("an answer has embeddings or an error")?;
        tokens += response.embeddings.iter().map(|embedding| u64::from(embedding.tokens)).sum::<u64>();
        let place = answered.get_mut(usize::try_from(answer.batch_index)?).ok_or("an answer to no request")?;
        *place = response.embeddings.iter().flat_map(|embedding| embedding.f32_le.iter().copied()).collect();
    }
    Ok(Embedded { vectors: answered.concat(), tokens })
}

/// What this process holds in memory, where the system says so.
fn resident_mb() -> Result<u64, Box<dyn Error>> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}
