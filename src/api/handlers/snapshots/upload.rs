//! `AdminService.UploadSnapshot`: an archive in chunks, as fast as the disk takes it.

use std::io::{self, Read};

use prost::bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::{CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX, IDLE_TIME_MAX, read_snapshot_name, to_snapshot};
use crate::api::convert::invalid;
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking};
use crate::pb::v1 as pb;
use crate::types::limits::ARCHIVE_BYTES_MAX;

impl Handlers {
    /// `AdminService.UploadSnapshot`.
    pub async fn upload_snapshot<S>(&self, mut requests: S) -> Result<pb::UploadSnapshotResponse, ApiError>
    where
        S: Stream<Item = Result<pb::UploadSnapshotRequest, Status>> + Send + Unpin,
    {
        let database = self.database()?.clone();
        let transfer = self.transfer()?;
        let header = self.next_message(&mut requests).await?;
        let header = header.ok_or_else(|| invalid("snapshot_name", "must be set, in the first message"))?;
        let name = read_snapshot_name(&header.snapshot_name)?;
        let archive_bytes = header.archive_bytes;
        if !(1..=ARCHIVE_BYTES_MAX).contains(&archive_bytes) {
            let message = format_args!("expected 1 to {ARCHIVE_BYTES_MAX}, but got {archive_bytes}");
            return Err(invalid("archive_bytes", message));
        }
        if !header.chunk.is_empty() {
            return Err(invalid("chunk", "comes from the second message on"));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let taking = blocking(move || {
            // The turn goes with the work: who leaves in the middle has it cleaned up behind them.
            let _transfer = transfer;
            let archive = Chunks { receiver, chunk: Bytes::new() };
            Ok(database.receive_snapshot(&name, archive, archive_bytes)?)
        });
        // Where this future is dropped, the sender is too: the archive then breaks off, and nothing of it is left.
        let (fed, taken) = tokio::join!(self.feed(requests, sender), taking);
        match (fed, taken) {
            (_, Ok(info)) => Ok(pb::UploadSnapshotResponse { snapshot: Some(to_snapshot(info)) }),
            // It broke off because of that.
            (Err(error), Err(_)) => Err(error),
            (Ok(()), Err(error)) => Err(error),
        }
    }

    /// Hands chunks on until the client has no more, breaks a rule, or they are not wanted any more.
    async fn feed<S>(&self, mut requests: S, sender: mpsc::Sender<Bytes>) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<pb::UploadSnapshotRequest, Status>> + Send + Unpin,
    {
        loop {
            let message = tokio::select! {
                message = self.next_message(&mut requests) => message?,
                // It was refused: the answer says why.
                () = sender.closed() => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            if message.chunk.len() > CHUNK_BYTES_MAX {
                let got = message.chunk.len();
                return Err(invalid("chunk", format_args!("expected at most {CHUNK_BYTES_MAX} bytes, but got {got}")));
            }
            if !message.snapshot_name.is_empty() || message.archive_bytes != 0 {
                return Err(invalid("snapshot_name", "belongs into the first message, as does `archive_bytes`"));
            }
            if sender.send(message.chunk).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn next_message<S>(&self, requests: &mut S) -> Result<Option<pb::UploadSnapshotRequest>, ApiError>
    where
        S: Stream<Item = Result<pb::UploadSnapshotRequest, Status>> + Send + Unpin,
    {
        let mut stopping = self.stopping.subscribe();
        let message = tokio::select! {
            message = timeout(IDLE_TIME_MAX, requests.next()) => message,
            _ = stopping.wait_for(|&stopping| stopping) => {
                return Err(ApiError::new(Reason::NotReady, "the server is stopping; send the snapshot again"));
            }
        };
        let seconds = IDLE_TIME_MAX.as_secs();
        let message =
            message.map_err(|_| ApiError::new(Reason::StreamIdle, format_args!("nothing came for {seconds} s")))?;
        message.transpose().map_err(|status| {
            ApiError::new(
                Reason::StreamIdle,
                format_args!("the stream has ended before the archive: {}", status.message()),
            )
        })
    }
}

/// A reader of what the client sends. It ends where nobody sends any more.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let bytes = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..bytes]);
        Ok(bytes)
    }
}
