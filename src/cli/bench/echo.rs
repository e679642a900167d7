//! The ceiling: the contract's service behind the same port, which does nothing.
//!
//! It decodes what a client sends and answers with messages of the size that the store's have, through the generated
//! service, the same HTTP/2 settings and the same runtime. No layer of ours is around it: what the store does beyond
//! this, its own layers included, is what the store costs.
//!
//! Runs as a process of its own, as the store does. It takes one answer on standard input (its length in 4 bytes,
//! little-endian, then the message), writes its URL to standard output, and ends when its input is closed: so it never
//! outlives the process that started it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{ChildStdin, Stdio};

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_stream::{Stream, StreamExt};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use vectron_embedding::port::{self, PortOptions};

use super::BenchError;
use super::connection::Endpoint;
use super::process::{Process, this_binary};
use crate::pb::v1::vector_service_server::{VectorService, VectorServiceServer};
use crate::pb::v1::{
    self as pb, stream_search_response, stream_upsert_request as upsert, stream_upsert_response as upserted,
};
use crate::types::limits::{BATCH_RECORDS_MAX, MESSAGE_BYTES_MAX};

/// What `bench echo` takes.
#[derive(Clone, Debug, clap::Args)]
pub struct EchoOptions {
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Bytes of frames that may be unsettled on a stream.
    #[arg(long, default_value_t = Credit::default().bytes)]
    credit_bytes: u64,
    /// Frames that may be unsettled on a stream.
    #[arg(long, default_value_t = Credit::default().frames)]
    credit_frames: u32,
}

/// What a client may have unsettled on a stream of writes.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    /// Bytes of encoded frames.
    pub bytes: u64,
    /// Frames.
    pub frames: u32,
}

impl Default for Credit {
    fn default() -> Self {
        Self { bytes: 16 << 20, frames: 64 }
    }
}

/// Serves until standard input is closed.
pub async fn run(options: EchoOptions) -> Result<(), BenchError> {
    let search_response = read_answer(&mut io::stdin())?;
    let listener = TcpListener::bind(options.listen).await?;
    tell(&format!("http://{}", listener.local_addr()?))?;
    let credit = Credit { bytes: options.credit_bytes, frames: options.credit_frames };
    let service = VectorServiceServer::new(Echo { search_response, credit });
    let router = Routes::new(service.max_decoding_message_size(MESSAGE_BYTES_MAX)).into_axum_router();
    port::serve(router, port::accept(listener), &PortOptions::default(), input_closed()).await?;
    Ok(())
}

fn read_answer(input: &mut impl Read) -> Result<pb::SearchResponse, BenchError> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut message)?;
    Ok(pb::SearchResponse::decode(message.as_slice())?)
}

fn write_answer(answer: &pb::SearchResponse, output: &mut impl Write) -> Result<(), BenchError> {
    output.write_all(&u32::try_from(answer.encoded_len())?.to_le_bytes())?;
    output.write_all(&answer.encode_to_vec())?;
    Ok(output.flush()?)
}

fn tell(url: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{url}")?;
    output.flush()
}

/// Waits on a plain thread: a read of standard input cannot be given up.
async fn input_closed() {
    let (closed, waiting) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    let _ = waiting.await;
}

/// The service in a process of its own.
pub struct EchoProcess {
    endpoint: Endpoint,
    _input: ChildStdin,
    process: Process,
}

impl EchoProcess {
    /// Starts it with the answer that it gives to every search.
    pub fn start(search_response: &pb::SearchResponse, credit: Credit) -> Result<Self, BenchError> {
        let mut command = this_binary()?;
        command.args(["bench", "echo", "--credit-bytes", &credit.bytes.to_string()]);
        command.args(["--credit-frames", &credit.frames.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command)?;
        let no_pipe = "the echo service has no pipe";
        let mut input = process.child().stdin.take().ok_or(no_pipe)?;
        let output = process.child().stdout.take().ok_or(no_pipe)?;
        write_answer(search_response, &mut input)?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        Ok(Self { endpoint: Endpoint::parse(url.trim())?, _input: input, process })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

struct Echo {
    search_response: pb::SearchResponse,
    credit: Credit,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn nothing<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the echo service only takes part in benchmarks"))
}

#[tonic::async_trait]
impl VectorService for Echo {
    type StreamUpsertStream = Answers<pb::StreamUpsertResponse>;
    type StreamSearchStream = Answers<pb::StreamSearchResponse>;

    async fn search(&self, _: Request<pb::SearchRequest>) -> Result<Response<pb::SearchResponse>, Status> {
        Ok(Response::new(self.search_response.clone()))
    }

    async fn stream_search(
        &self,
        request: Request<Streaming<pb::StreamSearchRequest>>,
    ) -> Result<Response<Self::StreamSearchStream>, Status> {
        let response = self.search_response.clone();
        let answers = request.into_inner().map(move |query| {
            let result = Some(stream_search_response::Result::Response(response.clone()));
            Ok(pb::StreamSearchResponse { query_index: query?.query_index, result })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn stream_upsert(
        &self,
        request: Request<Streaming<pb::StreamUpsertRequest>>,
    ) -> Result<Response<Self::StreamUpsertStream>, Status> {
        let mut stream = Forgetful { credit: self.credit, settled_frame: 0 };
        let answers = request.into_inner().map(move |message| stream.answer(message?));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn upsert(&self, _: Request<pb::UpsertRequest>) -> Result<Response<pb::UpsertResponse>, Status> {
        nothing()
    }

    async fn get(&self, _: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        nothing()
    }

    async fn delete(&self, _: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        nothing()
    }

    async fn list(&self, _: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        nothing()
    }

    async fn count(&self, _: Request<pb::CountRequest>) -> Result<Response<pb::CountResponse>, Status> {
        nothing()
    }
}

/// A stream of writes that settles each frame by forgetting it.
struct Forgetful {
    credit: Credit,
    settled_frame: u64,
}

impl Forgetful {
    fn answer(&mut self, request: pb::StreamUpsertRequest) -> Result<pb::StreamUpsertResponse, Status> {
        let credit_bytes = self.credit.bytes;
        let message = match request.message.ok_or_else(|| Status::invalid_argument("an empty message"))? {
            upsert::Message::Open(_) => {
                let limits = pb::StreamLimits {
                    credit_bytes,
                    frame_bytes_max: credit_bytes,
                    frame_records_max: BATCH_RECORDS_MAX as u32,
                    credit_frames: self.credit.frames,
                    ..Default::default()
                };
                let opened = pb::StreamOpened { resume_from: 1, limits: Some(limits), ..Default::default() };
                upserted::Message::Opened(opened)
            }
            upsert::Message::Frame(frame) if frame.frame == self.settled_frame + 1 && !frame.records.is_empty() => {
                self.settled_frame = frame.frame;
                let settled_frame = self.settled_frame;
                upserted::Message::Progress(pb::StreamProgress { settled_frame, credit_bytes, ..Default::default() })
            }
            upsert::Message::Frame(frame) => {
                let (expected, got) = (self.settled_frame + 1, frame.frame);
                return Err(Status::invalid_argument(format!("expected frame {expected}, but got {got}")));
            }
            upsert::Message::Finish(_) => {
                let settled_frame = self.settled_frame;
                upserted::Message::Finished(pb::StreamFinished { settled_frame, ..Default::default() })
            }
        };
        Ok(pb::StreamUpsertResponse { message: Some(message) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_passes_the_pipe_unchanged() {
        let hit = pb::Hit { record: Some(pb::Record { id: "a".to_owned(), ..Default::default() }), score: 0.5 };
        let answer = pb::SearchResponse { hits: vec![hit], sequence: 7, ..Default::default() };
        let mut pipe = Vec::new();
        write_answer(&answer, &mut pipe).unwrap();
        assert_eq!(read_answer(&mut pipe.as_slice()).unwrap(), answer);
        assert!(read_answer(&mut &pipe[..pipe.len() - 1]).is_err());
    }
}
