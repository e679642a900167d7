//! The standard health service (`grpc.health.v1`): serving means that the default model is loaded, or that its provider can
//! be asked, or that this holds for one of its fallbacks.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::catalogue::Readiness;

const SERVICES: [&str; 2] = ["", "vectron.embedding.v1.EmbeddingService"];

/// Serves `grpc.health.v1.Health`.
pub(super) struct HealthApi {
    pub(super) default_model: Readiness,
    pub(super) stopping: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Health for HealthApi {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Status::not_found(format!("there is no service `{service}` here")));
        }
        Ok(answer(status(&self.default_model, &self.stopping)).into())
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    /// Says the status at once, then each time it changes, and ends when the service stops: an open stream would hold
    /// up the end. For an unknown service the protocol asks for SERVICE_UNKNOWN instead of an error.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = SERVICES.contains(&request.into_inner().service.as_str());
        let (mut default_model, mut stopping) = (self.default_model.clone(), self.stopping.clone());
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let now = if known { status(&default_model, &stopping) } else { ServingStatus::ServiceUnknown };
                if last != Some(now) && sender.send(Ok(answer(now))).await.is_err() {
                    return;
                }
                last = Some(now);
                if *stopping.borrow() {
                    return;
                }
                let changed = tokio::select! {
                    changed = default_model.changed() => changed,
                    changed = stopping.changed() => changed,
                    () = sender.closed() => return,
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

fn status(default_model: &Readiness, stopping: &watch::Receiver<bool>) -> ServingStatus {
    if default_model.is_ready() && !*stopping.borrow() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
