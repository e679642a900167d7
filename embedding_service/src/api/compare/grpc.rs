//! BenchmarkModels.

use std::pin::Pin;

use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::super::error::ApiError;
use super::super::handlers::Handlers;
use super::{Compare, Event, Running, start};
use crate::pb::v1 as pb;
use crate::pb::v1::benchmark_models_response::Message;

/// The answers of a comparison.
pub(in crate::api) type Answers = Pin<Box<dyn Stream<Item = Result<pb::BenchmarkModelsResponse, Status>> + Send>>;

/// Starts a comparison; it ends when its answers are dropped.
pub(in crate::api) fn answers(
    handlers: &Handlers,
    request: pb::BenchmarkModelsRequest,
    stopping: watch::Receiver<bool>,
) -> Result<Answers, ApiError> {
    let Running { model_ids, setting, events } = start(handlers, request.into(), stopping)?;
    let started = tokio_stream::once(Ok(Message::Started(setting.started(model_ids))));
    let events = ReceiverStream::new(events).map(|event| event.map(Message::from));
    let answer = |message: Result<Message, ApiError>| {
        let message = message.map_err(Status::from)?;
        Ok(pb::BenchmarkModelsResponse { message: Some(message) })
    };
    Ok(Box::pin(started.chain(events).map(answer)))
}

impl From<pb::BenchmarkModelsRequest> for Compare {
    fn from(request: pb::BenchmarkModelsRequest) -> Self {
        Self {
            model_ids: request.model_ids,
            model_ids_field: "model_ids",
            samples: request.samples.into_iter().map(Into::into).collect(),
            pairs: request.pairs.into_iter().map(Into::into).collect(),
            repeats: request.repeats as usize,
        }
    }
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        match event {
            Event::Progress { model_id, progress } => Self::Progress(pb::BenchmarkProgress {
                model_id,
                texts_done: count(progress.texts_done),
                texts_total: count(progress.texts_total),
                stage: pb::BenchmarkStage::from(progress.stage).into(),
            }),
            Event::Result(report) => Self::Result((*report).into()),
        }
    }
}
