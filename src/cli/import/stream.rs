//! One stream: opened, fed as far as the server's credit goes, and finished.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::sending::{Sending, Stop};
use crate::cli::exit::Failure;
use crate::pb::v1 as pb;
use crate::pb::v1::stream_upsert_request::Message as Say;
use crate::pb::v1::stream_upsert_response::Message as Answer;

/// From `open` to its answer.
const OPEN_TIME_MAX: Duration = Duration::from_secs(30);
/// Messages between here and the connection: the server's credit is what bounds them.
const MESSAGES_AHEAD: usize = 2;

type Sayings = mpsc::Sender<pb::StreamUpsertRequest>;
type Answers = Streaming<pb::StreamUpsertResponse>;

impl Sending {
    /// Makes the server forget what it knows of an earlier import of the same file.
    pub async fn forget(&mut self) -> Result<(), Failure> {
        let failed = |stop| match stop {
            Stop::Broken(status) => status.into(),
            Stop::Fatal(failure) => failure,
        };
        let (says, mut answers, opened) = self.open_stream().await.map_err(failed)?;
        if opened.resume_from == 1 {
            return Ok(());
        }
        // A stream that has ended says why in its answer.
        let _ = says.send(saying(Say::Finish(pb::StreamFinish {}))).await;
        match next(&mut answers).await.map_err(failed)? {
            Answer::Finished(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a stream and goes on from where the server is; returns when everything is settled and finished.
    pub(super) async fn stream(&mut self) -> Result<(), Stop> {
        let (says, mut answers, opened) = self.open_stream().await?;
        if self.opened(opened)? {
            return Ok(());
        }
        self.is_finishing = false;
        let mut is_open = true;
        loop {
            if self.repairs_are_due() {
                self.go_through_refused().await?;
                continue;
            }
            if !self.is_finishing && self.is_done()? {
                self.is_finishing = true;
                is_open &= says.send(saying(Say::Finish(pb::StreamFinish {}))).await.is_ok();
            }
            let may_send = is_open && self.next_to_send().is_some();
            tokio::select! {
                answer = next(&mut answers) => match answer? {
                    Answer::Progress(progress) => self.settle(progress),
                    Answer::Refused(refused) => self.refuse(refused)?,
                    Answer::Finished(_) if self.is_finishing => return Ok(()),
                    other => return Err(unexpected(&other).into()),
                },
                permit = says.reserve(), if may_send => match permit {
                    Ok(permit) => permit.send(saying(Say::Frame(self.send_next()?))),
                    // The answers say why.
                    Err(_) => is_open = false,
                },
                read = self.reads.recv(), if self.wants_more() => self.take(read)?,
            }
        }
    }

    async fn open_stream(&mut self) -> Result<(Sayings, Answers, pb::StreamOpened), Stop> {
        let (says, said) = mpsc::channel(MESSAGES_AHEAD);
        let open = async {
            // There is room for the first message.
            let _ = says.send(saying(Say::Open(self.open.clone()))).await;
            let mut answers = self.client.stream_upsert(ReceiverStream::new(said)).await?.into_inner();
            let answer = next(&mut answers).await?;
            Ok::<_, Stop>((answers, answer))
        };
        let late = |_| Stop::Broken(Status::deadline_exceeded("the server does not answer"));
        match tokio::time::timeout(OPEN_TIME_MAX, open).await.map_err(late)?? {
            (answers, Answer::Opened(opened)) => Ok((says, answers, opened)),
            (_, other) => Err(unexpected(&other).into()),
        }
    }
}

async fn next(answers: &mut Answers) -> Result<Answer, Stop> {
    match answers.message().await? {
        Some(pb::StreamUpsertResponse { message: Some(answer) }) => Ok(answer),
        Some(_) => Err(Failure::new("the server has sent a message of a kind that this version does not know").into()),
        None => Err(Stop::Broken(Status::unavailable("the server has closed the stream"))),
    }
}

fn saying(message: Say) -> pb::StreamUpsertRequest {
    pb::StreamUpsertRequest { message: Some(message) }
}

fn unexpected(answer: &Answer) -> Failure {
    let kind = match answer {
        Answer::Opened(_) => "opened",
        Answer::Progress(_) => "progress",
        Answer::Refused(_) => "refused",
        Answer::Finished(_) => "finished",
    };
    Failure::new(format_args!("the server has sent `{kind}`, which was not expected here"))
}
