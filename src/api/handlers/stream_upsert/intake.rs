//! The first stage: frames are read, checked, and their texts handed to be embedded.

use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::{CREDIT_BYTES, CREDIT_FRAMES, FRAME_BYTES_MAX, IDLE_TIME_MAX, Sent, Session, broken, frame};
use crate::api::convert::NewRecord;
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::place::texts_to_embed;
use crate::collection::FrameFault;
use crate::embedding::{EmbedAnswer, EmbedStream, InputType};
use crate::pb::v1 as pb;

/// What the write stage gets.
pub(super) enum TakenIn {
    Frame(Incoming),
    Finish,
}

/// A frame that was taken in.
pub(super) struct Incoming {
    pub number: u64,
    pub content: Result<Content, FrameFault>,
    pub held: Held,
}

/// The room that a frame takes up until it is settled.
pub(super) struct Held {
    pub bytes: usize,
    pub _budget: OwnedSemaphorePermit,
}

/// Records, and the embeddings to come of those that are texts alone.
pub(super) struct Content {
    pub records: Vec<NewRecord>,
    pub embedded: Option<EmbedAnswer>,
}

impl Session {
    /// Ends where the client has no more, breaks a rule, or must not go on. What was taken in before is still written.
    pub(super) async fn take_in<S>(
        &self,
        mut requests: S,
        resume_from: u64,
        taken_in: mpsc::Sender<TakenIn>,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin,
    {
        let embedder = self.embedder();
        let mut expected = resume_from;
        loop {
            let request = tokio::select! {
                request = self.next_request(&mut requests) => request?,
                halt = self.halted() => return Err(halt),
                // The stage below could not write, and says why.
                () = taken_in.closed() => return Ok(()),
            };
            let item = match request {
                None => return Ok(()),
                Some(Sent::Frame(frame)) => {
                    let incoming = self.take_frame(frame, expected, &embedder).await?;
                    expected += 1;
                    TakenIn::Frame(incoming)
                }
                Some(Sent::Finish(pb::StreamFinish {})) => {
                    let _ = taken_in.send(TakenIn::Finish).await;
                    return Ok(());
                }
                Some(Sent::Open(_)) => return Err(ApiError::new(Reason::StreamProtocol, "the stream is open already")),
            };
            if taken_in.send(item).await.is_err() {
                return Ok(());
            }
        }
    }

    fn embedder(&self) -> EmbedStream {
        let view = self.collection.view();
        let model_id = if self.model_id.is_empty() { view.default_model_id() } else { &self.model_id };
        self.handlers.embedding.stream(model_id, InputType::Document)
    }

    /// `None` where the client has closed its side.
    async fn next_request<S>(&self, requests: &mut S) -> Result<Option<Sent>, ApiError>
    where
        S: Stream<Item = Result<pb::StreamUpsertRequest, Status>> + Send + Unpin,
    {
        loop {
            match timeout(IDLE_TIME_MAX, requests.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(request))) => {
                    let empty = || ApiError::new(Reason::StreamProtocol, "expected `frame` or `finish`");
                    return request.message.ok_or_else(empty).map(Some);
                }
                Ok(Some(Err(status))) => return Err(broken(&status)),
                Err(_) if self.unsettled.frames() > 0 => {}
                Err(_) => {
                    let seconds = IDLE_TIME_MAX.as_secs();
                    let message = format_args!("nothing came for {seconds} s; open the stream again to go on");
                    return Err(ApiError::new(Reason::StreamIdle, message));
                }
            }
        }
    }

    async fn take_frame(
        &self,
        frame: pb::UpsertFrame,
        expected: u64,
        embedder: &EmbedStream,
    ) -> Result<Incoming, ApiError> {
        if frame.frame != expected {
            let message = format_args!("expected frame {expected}, but got {}", frame.frame);
            return Err(ApiError::new(Reason::FrameOutOfOrder, message));
        }
        let bytes = frame.encoded_len();
        self.check_credit(bytes)?;
        self.handlers.admit(bytes)?;
        // Waited for in turn with all other streams; meanwhile nothing more is read of this one.
        let budget = tokio::select! {
            budget = self.handlers.streams.budget.clone().acquire_many_owned(bytes as u32) => budget,
            halt = self.halted() => return Err(halt),
        };
        let held = Held { bytes, _budget: budget.map_err(|closed| ApiError::new(Reason::Internal, closed))? };
        self.unsettled.add(bytes);
        let content = frame::read(frame.records).map(|records| {
            let texts = texts_to_embed(&records);
            let embedded = (!texts.is_empty()).then(|| embedder.embed(texts));
            Content { records, embedded }
        });
        Ok(Incoming { number: expected, content, held })
    }

    fn check_credit(&self, bytes: usize) -> Result<(), ApiError> {
        if bytes > FRAME_BYTES_MAX {
            let message = format_args!("a frame has at most {FRAME_BYTES_MAX} bytes, but this one has {bytes}");
            return Err(ApiError::new(Reason::MessageTooLarge, message));
        }
        let (unsettled_bytes, unsettled_frames) = (self.unsettled.bytes(), self.unsettled.frames());
        if unsettled_bytes + bytes <= CREDIT_BYTES && unsettled_frames < CREDIT_FRAMES {
            return Ok(());
        }
        let message = format_args!(
            "{unsettled_frames} frames with {unsettled_bytes} bytes are unsettled, and {bytes} bytes more came: a stream              may have {CREDIT_FRAMES} frames and {CREDIT_BYTES} bytes unsettled; wait for `progress`"
        );
        Err(ApiError::new(Reason::CreditExceeded, message))
    }
}
