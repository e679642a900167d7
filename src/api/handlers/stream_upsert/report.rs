//! The third stage: what is settled is told.
//!
//! Marks are merged while the client reads slowly; refusals are told one by one.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::write::{Appended, Written};
use super::{CREDIT_BYTES, Session, Told, frame};
use crate::api::error::{ApiError, Reason};
use crate::collection::{Answer, Applied, Outcome, Refusal};
use crate::pb::v1 as pb;
use crate::types::Sequence;

impl Session {
    /// Ends where there is no more. Where the log has failed, or nobody reads, it tells nothing more, but it still waits
    /// until every frame in the log is decided: the next connection goes on from there.
    pub(super) async fn report(&self, mut written: mpsc::Receiver<Written>) -> Result<(), ApiError> {
        let mut mark = pb::StreamProgress::default();
        let mut told = Ok(());
        while let Some(item) = written.recv().await {
            if told.is_err() {
                item.decided().await;
                continue;
            }
            told = self.report_one(item, &mut mark, &written).await;
            if let Err(error) = &told {
                self.given_up.send_replace(Some(error.clone()));
            }
        }
        told
    }

    async fn report_one(
        &self,
        item: Written,
        mark: &mut pb::StreamProgress,
        written: &mpsc::Receiver<Written>,
    ) -> Result<(), ApiError> {
        match item {
            Written::Frame(appended) => {
                if let Some(refused) = self.settle(appended, mark).await? {
                    self.tell(Told::Refused(refused)).await?;
                }
                self.tell_mark(mark, written.is_empty()).await
            }
            Written::Finish(answer) => {
                if mark.settled_frame > 0 {
                    self.tell_mark(mark, true).await?;
                }
                let finished = finished(wait(answer).await?)?;
                self.tell(Told::Finished(finished)).await
            }
        }
    }

    /// Waits until the frame is settled. The credit is given back before the client learns of it.
    async fn settle(
        &self,
        appended: Appended,
        mark: &mut pb::StreamProgress,
    ) -> Result<Option<pb::FrameRefused>, ApiError> {
        let Appended { number, answer, fault, held } = appended;
        let outcome = wait(answer).await?;
        self.unsettled.remove(held.bytes);
        drop(held);
        mark.settled_frame = number;
        mark.credit_bytes = CREDIT_BYTES as u64;
        match outcome {
            Ok(Applied::Upserted { sequence, truncated_ids, .. }) => {
                mark.sequence = sequence.0;
                mark.truncated_ids.extend(truncated_ids.iter().map(|id| id.as_str().to_owned()));
                Ok(None)
            }
            Ok(Applied::FrameRefused { sequence }) => {
                mark.sequence = sequence.0;
                let fault = fault.ok_or_else(|| mixed_up("a frame"))?;
                Ok(Some(frame::to_refused(number, &fault)))
            }
            Ok(_) => Err(mixed_up("a frame")),
            // Not settled: the mark was forgotten, because too many other streams were written to.
            Err(refusal @ Refusal::FrameOutOfOrder { .. }) => Err(refusal.into()),
            Err(refusal) => {
                let Sequence(sequence) = self.collection.stream_mark(&self.stream_id).sequence;
                mark.sequence = sequence;
                Ok(Some(frame::to_refused(number, &frame::decided(&refusal))))
            }
        }
    }

    /// Where more is on its way, a mark that finds no room is merged into the next.
    async fn tell_mark(&self, mark: &mut pb::StreamProgress, is_last: bool) -> Result<(), ApiError> {
        if is_last {
            return self.tell(Told::Progress(std::mem::take(mark))).await;
        }
        let message = pb::StreamUpsertResponse { message: Some(Told::Progress(mark.clone())) };
        match self.answers.try_send(Ok(message)) {
            Ok(()) => {
                *mark = pb::StreamProgress::default();
                Ok(())
            }
            Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(super::left()),
        }
    }
}

async fn wait(answer: Answer) -> Result<Outcome, ApiError> {
    let lost = |_| ApiError::new(Reason::Internal, "the thread that applies writes has ended; restart the server");
    Ok(answer.await.map_err(lost)??)
}

fn finished(outcome: Outcome) -> Result<pb::StreamFinished, ApiError> {
    match outcome? {
        Applied::StreamFinished { sequence, settled_frame, refused_count } => {
            Ok(pb::StreamFinished { settled_frame, sequence: sequence.0, refused_count })
        }
        _ => Err(mixed_up("a finish")),
    }
}

fn mixed_up(what: &str) -> ApiError {
    ApiError::new(Reason::Internal, format_args!("{what} was answered as something else"))
}
