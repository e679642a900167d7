//! `AdminService.DownloadSnapshot`: an archive in chunks, as fast as the client reads.

use std::io::{self, Write};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{CHUNK_BYTES_MAX, CHUNKS_WAITING_MAX, IDLE_TIME_MAX, read_snapshot_name, to_snapshot};
use crate::api::convert::invalid;
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking};
use crate::pb::v1 as pb;

type Sent = Result<pb::DownloadSnapshotResponse, Status>;

impl Handlers {
    /// `AdminService.DownloadSnapshot`.
    pub async fn download_snapshot(
        &self,
        request: pb::DownloadSnapshotRequest,
    ) -> Result<ReceiverStream<Sent>, ApiError> {
        let name = read_snapshot_name(&request.snapshot_name)?;
        let database = self.database()?.clone();
        let transfer = self.transfer()?;
        let offset = request.offset_bytes;
        let archive = blocking(move || Ok(database.open_snapshot(&name, offset == 0)?)).await?;
        let archive_bytes = archive.bytes();
        if offset > archive_bytes {
            let message = format_args!("expected at most {archive_bytes}, the length of the archive, but got {offset}");
            return Err(invalid("offset_bytes", message));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        let runtime = Handle::current();
        task::spawn_blocking(move || {
            // The turn goes with the work.
            let _transfer = transfer;
            let header = pb::DownloadSnapshotResponse {
                archive_bytes,
                snapshot: Some(to_snapshot(archive.info.clone())),
                ..Default::default()
            };
            let mut chunks = Chunks { sender, runtime, pending: Vec::with_capacity(CHUNK_BYTES_MAX) };
            let sent = chunks
                .send(Ok(header))
                .and_then(|()| archive.write(offset, &mut chunks))
                .and_then(|()| chunks.send_pending());
            match sent {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    let message = format_args!("snapshot {:?} cannot be sent: {error}", archive.info.name);
                    // Nobody may be reading any more.
                    let _ = chunks.send(Err(ApiError::new(Reason::Internal, message).into()));
                }
                _ => {}
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// A writer whose bytes go to the client.
struct Chunks {
    sender: mpsc::Sender<Sent>,
    runtime: Handle,
    pending: Vec<u8>,
}

impl Chunks {
    /// A broken pipe where the client has left, or reads nothing.
    fn send(&mut self, sent: Sent) -> io::Result<()> {
        let taken = self.runtime.block_on(timeout(IDLE_TIME_MAX, self.sender.send(sent)));
        match taken {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn send_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.pending, Vec::with_capacity(CHUNK_BYTES_MAX));
        self.send(Ok(pb::DownloadSnapshotResponse { chunk: chunk.into(), ..Default::default() }))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES_MAX - self.pending.len());
        self.pending.extend_from_slice(&bytes[..taken]);
        if self.pending.len() == CHUNK_BYTES_MAX {
            self.send_pending()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
