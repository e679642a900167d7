//! StreamUpsert: frames in, each one atomic record of the log; marks and refusals out.
//!
//! A stream runs through three stages, each in the order of the frames: *intake* reads and checks frames and hands their
//! texts to be embedded, *write* places them and appends them to the log, *report* waits until they are settled and tells.
//! Frames overtake nobody; embedding and syncing overlap.
//!
//! Bounds: of a stream, `CREDIT_BYTES` and `CREDIT_FRAMES` of frames that are unsettled; of all streams, `BUDGET_BYTES`,
//! beyond which nothing more is read. A client that does not read its answers is given up after `READ_PATIENCE`. What
//! had reached the log when a stream ends, however it ends, is settled; what had not is not, and the mark says which.

mod frame;
mod intake;
mod registry;
mod report;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::api::convert::{invalid, read_durability, read_model_id};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking, read_name};
use crate::collection::{Collection, Created, FrameRefusal};
use crate::database::DatabaseError;
use crate::pb::v1 as pb;
use crate::pb::v1::stream_upsert_request::Message as Sent;
use crate::pb::v1::stream_upsert_response::Message as Told;
use crate::storage::log::Durability;
use crate::types::limits::BATCH_RECORDS_MAX;
use crate::types::{CollectionName, StreamId};

use registry::{Lease, OpenStreams};

/// Bytes of frames of one stream that may be unsettled.
const CREDIT_BYTES: usize = 16 << 20;
/// Frames of one stream that may be unsettled.
const CREDIT_FRAMES: usize = 1_024;
/// Bytes of one frame.
const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of unsettled frames of all streams; half of what a collection may have waiting, so that streams do not make other
/// writes fail.
const BUDGET_BYTES: usize = 128 << 20;
/// `open` has to come within this time.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// A stream on which nothing comes for so long, while nothing is unsettled, is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// A client that has not read an answer for so long is given up.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Answers that wait for the connection; further marks are merged into the last.
const ANSWERS_WAITING_MAX: usize = 8;

type Answers = mpsc::Sender<Result<pb::StreamUpsertResponse, Status>>;

/// What all streams share; clones share it too.
#[derive(Clone)]
pub struct Streams {
    open: OpenStreams,
    budget: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: OpenStreams::default(), budget: Arc::new(Semaphore::new(BUDGET_BYTES)) }
    }
}

/// An open stream, as its three stages share it.
struct Session {
    collection: Arc<Collection>,
    stream_id: StreamId,
    durability: Durability,
    model_id: String,
    create_missing: bool,
    handlers: Handlers,
    lease: Lease,
    stopping: watch::Receiver<bool>,
    unsettled: Unsettled,
    answers: Answers,
    /// Set by the last stage where nothing more can be settled or told.
    given_up: watch::Sender<Option<ApiError>>,
}

/// Frames that were taken in and that no answer has covered yet.
#[derive(Default)]
struct Unsettled {
    bytes: AtomicUsize,
    frames: AtomicUsize,
}

/// What `open` says.
struct Open {
    name: CollectionName,
    stream_id: StreamId,
    durability: Durability,
    model_id: String,
    create_missing: bool,
}

impl Handlers {
    /// `VectorService.StreamUpsert`. Answers at once; everything else, errors too, comes on the stream.
    pub fn stream_upsert<S>(
        &self,
        requests: S,
    ) -> impl Stream<Item = Result<pb::StreamUpsertResponse, Status>> + Send + use<S>
    where
        S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin + 'static,
    {
        let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
        let handlers = self.clone();
        tokio::spawn(async move {
            if let Err(error) = handlers.run_stream(requests, answers.clone()).await {
                // By now the stream holds nothing but this. Nobody is there any more, where it fails.
                let _ = timeout(READ_PATIENCE, answers.send(Err(error.into()))).await;
            }
        });
        ReceiverStream::new(waiting)
    }

    async fn run_stream<S>(&self, mut requests: S, answers: Answers) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin,
    {
        let Some(open) = read_open(&mut requests).await? else { return Ok(()) };
        let collection = self.collection_of_stream(&open).await?;
        let lease = self.streams.open.lease(open.name, open.stream_id.clone()).await?;
        let session = Session {
            collection,
            stream_id: open.stream_id,
            durability: open.durability,
            model_id: open.model_id,
            create_missing: open.create_missing,
            handlers: self.clone(),
            lease,
            stopping: self.stopping.subscribe(),
            unsettled: Unsettled::default(),
            answers,
            given_up: watch::Sender::new(None),
        };
        session.run(requests).await
    }

    async fn collection_of_stream(&self, open: &Open) -> Result<Arc<Collection>, ApiError> {
        let database = self.database()?.clone();
        match database.get(open.name.as_str()) {
            Err(DatabaseError::NotFound { .. }) if open.create_missing => {}
            found => return Ok(found?),
        }
        let name = open.name.clone();
        blocking(move || match database.create(&name, Created::default(), None) {
            // Another writer was faster.
            Err(DatabaseError::AlreadyExists { .. }) => Ok(database.get(name.as_str())?),
            created => Ok(created?),
        })
        .await
    }
}

impl Session {
    async fn run<S>(self, requests: S) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin,
    {
        let resume_from = self.tell_opened().await?;
        // Neither channel holds more than the credit allows, and the end.
        let (taken_in, to_write) = mpsc::channel(CREDIT_FRAMES + 1);
        let (written, to_report) = mpsc::channel(CREDIT_FRAMES + 1);
        let (took_in, wrote, reported) = tokio::join!(
            self.take_in(requests, resume_from, taken_in),
            self.write(to_write, written),
            self.report(to_report)
        );
        // What broke further down is why the stages above have ended. Nothing of this stream is on its way to the log any more.
        reported.and(wrote).and(took_in)
    }

    async fn tell_opened(&self) -> Result<u64, ApiError> {
        let mark = self.collection.stream_mark(&self.stream_id);
        let resume_from = mark.settled_frame + 1;
        let refused = mark.refused.iter().map(|(frame, refusal)| to_refused(*frame, refusal)).collect();
        self.tell(Told::Opened(pb::StreamOpened {
            resume_from,
            limits: Some(pb::StreamLimits {
                credit_bytes: CREDIT_BYTES as u64,
                frame_bytes_max: FRAME_BYTES_MAX as u64,
                frame_records_max: BATCH_RECORDS_MAX as u32,
                credit_frames: CREDIT_FRAMES as u32,
                idle_timeout_s: IDLE_TIME_MAX.as_secs() as u32,
            }),
            refused,
            refused_count: mark.refused_count,
        }))
        .await?;
        Ok(resume_from)
    }

    /// Puts an answer where the connection takes it from; gives the client up if it does not read.
    async fn tell(&self, message: Told) -> Result<(), ApiError> {
        let response = pb::StreamUpsertResponse { message: Some(message) };
        match timeout(READ_PATIENCE, self.answers.send(Ok(response))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(left()),
            Err(_) => Err(not_read()),
        }
    }

    /// Waits until the stream must not go on: the client has left, another connection has the stream, the server stops, or
    /// the last stage has given up.
    async fn halted(&self) -> ApiError {
        let mut stopping = self.stopping.clone();
        let mut given_up = self.given_up.subscribe();
        tokio::select! {
            () = self.answers.closed() => left(),
            () = self.lease.taken_over() => self.lease.taken_over_error(),
            _ = stopping.wait_for(|&stopping| stopping) => {
                ApiError::new(Reason::NotReady, "the server is stopping; open the stream again to go on")
                    .with_retry_after(Duration::from_secs(1))
            }
            error = given_up.wait_for(Option::is_some) => match error.map(|error| error.clone()) {
                Ok(Some(error)) => error,
                _ => left(),
            },
        }
    }
}

impl Unsettled {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.frames.fetch_sub(1, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn frames(&self) -> usize {
        self.frames.load(Ordering::Relaxed)
    }
}

/// `None` where the client has closed its side without a word.
async fn read_open<S>(requests: &mut S) -> Result<Option<Open>, ApiError>
where
    S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin,
{
    let patience = OPEN_PATIENCE.as_secs();
    let first = timeout(OPEN_PATIENCE, requests.next()).await.map_err(|_| {
        ApiError::new(Reason::StreamIdle, format_args!("expected `open` within {patience} s, but nothing came"))
    })?;
    let open = match first {
        None => return Ok(None),
        Some(Err(status)) => return Err(broken(&status)),
        Some(Ok(pb::StreamUpsertRequest { message: Some(Sent::Open(open)) })) => open,
        Some(Ok(_)) => return Err(ApiError::new(Reason::StreamProtocol, "expected `open` as the first message")),
    };
    Ok(Some(Open {
        name: read_name("open.collection", &open.collection)?,
        stream_id: StreamId::new(&open.stream_id).map_err(|error| invalid("open.stream_id", error))?,
        durability: read_durability(open.durability)?,
        model_id: read_model_id("open.model_id", &open.model_id)?,
        create_missing: open.create_missing,
    }))
}

/// A frame that was refused, as it is told.
fn to_refused(frame: u64, refusal: &FrameRefusal) -> pb::FrameRefused {
    match refusal {
        FrameRefusal::Faulty(fault) => frame::to_refused(frame, fault),
        FrameRefusal::Decided(refusal) => frame::to_refused(frame, &frame::decided(refusal)),
    }
}

/// Nobody reads this; it ends the stages.
fn left() -> ApiError {
    ApiError::new(Reason::StreamIdle, "the client has left")
}

fn not_read() -> ApiError {
    let seconds = READ_PATIENCE.as_secs();
    let message = format_args!("no answer was read for {seconds} s; open the stream again to go on");
    ApiError::new(Reason::StreamIdle, message)
}

/// What the transport says of a message that it could not read, or of a connection that broke.
fn broken(status: &Status) -> ApiError {
    let reason = match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => Reason::MessageTooLarge,
        tonic::Code::Internal | tonic::Code::InvalidArgument => Reason::StreamProtocol,
        _ => Reason::StreamIdle,
    };
    ApiError::new(reason, format_args!("a message of the stream could not be read: {}", status.message()))
}
