//! Probes and figures for whoever keeps the process running.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::api::handlers::Handlers;
use crate::api::metrics;

/// The process answers.
pub async fn livez() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

/// Recovery is done, everything can be written to, and the server is not about to stop.
pub async fn readyz(State(handlers): State<Handlers>) -> Response {
    match handlers.readiness() {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(error) => error.into_response(),
    }
}

/// All figures of the store, for Prometheus.
pub async fn metrics(State(handlers): State<Handlers>) -> Response {
    let statistics = handlers.statistics().await.ok();
    metrics::answer(handlers.figures(), statistics)
}
