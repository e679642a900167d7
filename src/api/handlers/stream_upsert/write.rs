//! The second stage: embeddings are waited for, records placed, frames appended to the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tonic::Code;

use super::intake::{Content, Held, Incoming, TakenIn};
use super::{Session, frame};
use crate::api::error::ApiError;
use crate::api::handlers::place::Placement;
use crate::collection::{Answer, Change, FrameFault, Operation, StreamFrame};
use crate::storage::log::LogError;

/// The log is tried again after this, where it is full.
const FULL_DELAY: Duration = Duration::from_millis(5);

/// What the report stage gets.
pub(super) enum Written {
    Frame(Appended),
    Finish(Answer),
}

/// A frame that is in the log, but not settled yet.
pub(super) struct Appended {
    pub number: u64,
    pub answer: Answer,
    pub fault: Option<Arc<FrameFault>>,
    pub held: Held,
}

impl Written {
    /// Waits until the log has decided, whatever it is.
    pub(super) async fn decided(self) {
        let (Written::Frame(Appended { answer, .. }) | Written::Finish(answer)) = self;
        let _ = answer.await;
    }
}

/// The same answer, once it has come.
async fn decided(answer: Answer) -> Answer {
    let (sender, receiver) = oneshot::channel();
    if let Ok(outcome) = answer.await {
        let _ = sender.send(outcome);
    }
    receiver
}

impl Session {
    /// Ends where there is no more, or a frame cannot be written now. No later frame is written then.
    pub(super) async fn write(
        &self,
        mut taken_in: mpsc::Receiver<TakenIn>,
        written: mpsc::Sender<Written>,
    ) -> Result<(), ApiError> {
        while let Some(item) = taken_in.recv().await {
            let written_item = match item {
                TakenIn::Frame(incoming) => Written::Frame(self.append_frame(incoming).await?),
                TakenIn::Finish => {
                    let operation = Operation::new(Change::StreamFinished(self.stream_id.clone()));
                    Written::Finish(self.append(operation).await?)
                }
            };
            // The stage below outlives this one.
            let _ = written.send(written_item).await;
        }
        Ok(())
    }

    async fn append_frame(&self, incoming: Incoming) -> Result<Appended, ApiError> {
        let Incoming { number, content, held } = incoming;
        let change = match content {
            Ok(content) => self.place(content).await?,
            Err(fault) => Err(fault),
        };
        let (change, fault) = match change {
            Ok(change) => (change, None),
            Err(fault) => {
                let fault = Arc::new(fault);
                (Change::FrameRefused(fault.clone()), Some(fault))
            }
        };
        let adds_space = matches!(&change, Change::Upserted(upserted) if !upserted.spaces.is_empty());
        let stream_frame = Some(StreamFrame { stream_id: self.stream_id.clone(), frame: number });
        let mut answer = self.append(Operation { change, stream_frame, request_key: None }).await?;
        if adds_space {
            // The next frame is placed among the spaces as they then are.
            answer = decided(answer).await;
        }
        Ok(Appended { number, answer, fault, held })
    }

    /// A fault is the frame's own. An error is not: the frame is not settled by it, and can be sent again.
    async fn place(&self, content: Content) -> Result<Result<Change, FrameFault>, ApiError> {
        let Content { records, embedded } = content;
        let embedded = match embedded {
            None => None,
            Some(answer) => {
                let answer = tokio::select! {
                    answer = answer => answer,
                    halt = self.halted() => return Err(halt),
                };
                match answer {
                    Ok(embedded) => Some(embedded),
                    Err(error) if error.code == Code::InvalidArgument => return Ok(Err(frame::whole(&error.into()))),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let view = self.collection.view();
        let mut faults = frame::Faults::default();
        let upserted = Placement::new(&view, self.create_missing).place(
            records,
            embedded,
            |index: usize, id: &str, error: ApiError| {
                faults.add(index, id, &error);
                Ok(())
            },
        )?;
        Ok(match faults.into_fault() {
            None => Ok(Change::Upserted(upserted)),
            Some(fault) => Err(fault),
        })
    }

    /// Waits for room in the log: a stream is there to be held back.
    async fn append(&self, operation: Operation) -> Result<Answer, ApiError> {
        loop {
            match self.collection.submit(operation.clone(), self.durability) {
                Err(LogError::Full { .. }) => {}
                submitted => return Ok(submitted?),
            }
            tokio::select! {
                () = tokio::time::sleep(FULL_DELAY) => {}
                halt = self.halted() => return Err(halt),
            }
        }
    }
}
