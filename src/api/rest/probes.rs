//! Probes and figures for whoever keeps the process running.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::api::error::{ApiError, Reason};
use crate::api::handlers::Handlers;
use crate::api::metrics;

/// The process answers.
pub async fn livez() -> (StatusCode, &'static str) {
    (StatusCode::OK, "ok\n")
}

/// Recovery is done.
pub async fn readyz(State(handlers): State<Handlers>) -> Response {
    match handlers.is_ready() {
        true => (StatusCode::OK, "ok\n").into_response(),
        false => ApiError::new(Reason::NotReady, "the server is starting: it still reads its logs").into_response(),
    }
}

/// All figures, for Prometheus.
pub async fn metrics(State(handlers): State<Handlers>) -> impl IntoResponse {
    let statistics = handlers.statistics().await.ok();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(handlers.figures(), statistics))
}
