//! One stream of writes: keeps as much unsettled as the server's credit allows, and reads what was settled meanwhile.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use h2::SendStream;
use prost::Message;
use prost::bytes::Bytes;

use super::frames::Frames;
use super::load::Load;
use super::window::Window;
use crate::cli::bench::BenchError;
use crate::cli::bench::connection::{Call, Connection, Endpoint, Receiving};
use crate::cli::bench::echo::Credit;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::messages::framed;
use crate::pb::v1::{
    self as pb, stream_upsert_request::Message as ToServer, stream_upsert_response::Message as FromServer,
};

/// A stream that the server has opened.
pub struct StreamClient {
    load: Arc<Load>,
    sending: SendStream<Bytes>,
    receiving: Receiving,
    /// Held, since the connection ends with its last user.
    _connection: Connection,
    credit: Credit,
    frames: Frames,
    rows: Range<u64>,
}

/// What came of a stream.
pub struct Written {
    /// When the first frame was sent.
    pub began: Instant,
    /// When the last one was settled.
    pub ended: Instant,
    /// Bytes of all frames.
    pub bytes: u64,
    /// One for each frame.
    pub latencies: Latencies,
    /// The sequence at which everything is visible.
    pub sequence: u64,
    /// What the server allowed.
    pub credit: Credit,
}

impl StreamClient {
    /// Opens the stream that writes these rows.
    pub async fn open(
        load: Arc<Load>,
        mut connection: Connection,
        endpoint: &Endpoint,
        rows: Range<u64>,
    ) -> Result<Self, BenchError> {
        let (mut sending, mut receiving) = connection.open_call(&Call::new(endpoint, "StreamUpsert")).await?;
        let open = pb::StreamOpen {
            stream_id: format!("bench-{:012}", rows.start),
            collection: load.collection.clone(),
            durability: load.durability.into(),
            ..Default::default()
        };
        sending.send_data(request(ToServer::Open(open)), false)?;
        let opened = match receive(&mut receiving).await? {
            FromServer::Opened(opened) => opened,
            other => return Err(format!("a stream was opened, and the server said {other:?}").into()),
        };
        let limits = opened.limits.unwrap_or_default();
        let frames = Frames::new(&load.vectors, load.encoding);
        let records = load.frame_records.min(rows.end - rows.start);
        let bytes = frames.frame_bytes(u64::MAX, records);
        if records > u64::from(limits.frame_records_max)
            || bytes > limits.frame_bytes_max
            || bytes > limits.credit_bytes
        {
            let message = format!("frames of {records} records and {bytes} bytes are beyond the server's {limits:?}");
            return Err(format!("{message}; choose fewer with --frame-records").into());
        }
        let credit = Credit { bytes: limits.credit_bytes, frames: limits.credit_frames };
        Ok(Self { load, sending, receiving, _connection: connection, credit, frames, rows })
    }

    /// Writes all rows, and ends the stream.
    pub async fn run(mut self) -> Result<Written, BenchError> {
        let Range { start: mut next_row, end: rows_end } = self.rows.clone();
        let mut unsettled_row = next_row;
        let mut window = Window::new(self.credit);
        let (mut frame_count, mut bytes, mut sequence) = (0, 0, 0);
        let mut outgoing: Option<Outgoing> = None;
        let began = Instant::now();
        let mut ended = began;
        while unsettled_row < rows_end {
            if outgoing.is_none() && next_row < rows_end {
                let records = self.load.frame_records.min(rows_end - next_row);
                frame_count += 1;
                let frame = self.frames.frame(&self.load.vectors, frame_count, next_row, records);
                bytes += frame.frame_bytes;
                next_row += records;
                outgoing = Some(Outgoing { rest: frame.request, frame_bytes: frame.frame_bytes, has_begun: false });
            }
            let may_send = outgoing.as_ref().is_some_and(|frame| frame.has_begun || window.admits(frame.frame_bytes));
            if !may_send && window.is_empty() {
                return Err("nothing is unsettled, and the server's credit is less than one frame".into());
            }
            if let Some(frame) = outgoing.as_ref().filter(|_| may_send) {
                self.sending.reserve_capacity(frame.rest.len());
            }
            tokio::select! {
                more = self.receiving.more() => {
                    if !more? {
                        return Err("the server ended a stream of writes".into());
                    }
                    ended = Instant::now();
                    while let Some(message) = self.receiving.arrived()? {
                        let progress = progress_of(read(message)?)?;
                        sequence = progress.sequence;
                        let frames = window.settle(progress.settled_frame, progress.credit_bytes, ended)?;
                        let rows = (frames as u64 * self.load.frame_records).min(rows_end - unsettled_row);
                        unsettled_row += rows;
                        self.load.rows_settled.fetch_add(rows, Ordering::Relaxed);
                    }
                }
                room = capacity(&mut self.sending), if may_send => {
                    let room = room?;
                    outgoing = match outgoing.take() {
                        Some(frame) => frame.send(room, &mut self.sending, &mut window)?,
                        None => None,
                    };
                }
            }
        }
        self.finish(frame_count).await?;
        let latencies = window.into_latencies();
        Ok(Written { began, ended, bytes, latencies, sequence, credit: self.credit })
    }

    async fn finish(&mut self, frame_count: u64) -> Result<(), BenchError> {
        self.sending.send_data(request(ToServer::Finish(pb::StreamFinish {})), true)?;
        match receive(&mut self.receiving).await? {
            FromServer::Finished(finished) if finished.settled_frame == frame_count && finished.refused_count == 0 => {
                Ok(())
            }
            other => Err(format!("{frame_count} frames were sent, and the server finished with {other:?}").into()),
        }
    }
}

/// A frame that the connection has not taken whole yet.
struct Outgoing {
    rest: Bytes,
    frame_bytes: u64,
    has_begun: bool,
}

impl Outgoing {
    /// Sends as much as there is room for; returns what is left. The clock of a frame begins with its first byte.
    fn send(
        mut self,
        room: usize,
        sending: &mut SendStream<Bytes>,
        window: &mut Window,
    ) -> Result<Option<Self>, BenchError> {
        if !self.has_begun {
            window.sent(self.frame_bytes, Instant::now());
            self.has_begun = true;
        }
        sending.send_data(self.rest.split_to(room.min(self.rest.len())), false)?;
        Ok((!self.rest.is_empty()).then_some(self))
    }
}

/// Waits until the connection takes more of this stream, and tells how many bytes.
async fn capacity(sending: &mut SendStream<Bytes>) -> Result<usize, BenchError> {
    loop {
        match sending.capacity() {
            0 => poll_fn(|context| sending.poll_capacity(context)).await.ok_or("the server closed a stream")??,
            bytes => return Ok(bytes),
        };
    }
}

fn request(message: ToServer) -> Bytes {
    framed(&pb::StreamUpsertRequest { message: Some(message) })
}

async fn receive(receiving: &mut Receiving) -> Result<FromServer, BenchError> {
    read(receiving.message().await?.ok_or("the server ended a stream of writes")?)
}

fn read(message: Bytes) -> Result<FromServer, BenchError> {
    Ok(pb::StreamUpsertResponse::decode(message)?.message.ok_or("the server sent an empty message")?)
}

fn progress_of(message: FromServer) -> Result<pb::StreamProgress, BenchError> {
    match message {
        FromServer::Progress(progress) => Ok(progress),
        FromServer::Refused(refused) => {
            let (frame, reason, message) = (refused.frame, refused.reason, refused.message);
            Err(format!("the server refused frame {frame}: {reason}: {message}").into())
        }
        other => Err(format!("frames were sent, and the server said {other:?}").into()),
    }
}
