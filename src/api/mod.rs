//! Both doors of the store: gRPC and REST on one port, thin over the same handlers.
//!
//! A handler exists once and speaks the contract's messages. What the engine refuses is told by the one table in
//! `error`. Layers around the handlers, not the handlers, do tracing and limits.

pub mod convert;
mod error;
mod grpc;
mod handlers;
pub mod metrics;
mod rest;

use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_health::server::HealthReporter;
use tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET as REFLECTION;
use tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET as REFLECTION_V1ALPHA;
use vectron_embedding::port;

pub use error::{ApiError, Reason};
pub use handlers::{Handlers, SearchPool};

use crate::pb::DESCRIPTOR_SET;

/// The gRPC services by name, as the health service knows them.
pub const SERVICES: [&str; 3] = ["vectron.v1.AdminService", "vectron.v1.CollectionService", "vectron.v1.VectorService"];

/// What the health service calls readiness: recovery is done, everything can be written to, and the server is not stopping.
/// The other names say whether the service answers at all.
pub const READY: &str = "vectron.ready";

/// Everything that the store answers on its port. The reporter says to health checks when it is ready.
pub async fn router(handlers: Handlers) -> (axum::Router, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES.into_iter().chain([READY, ""]) {
        reporter.set_service_status(service, tonic_health::ServingStatus::NotServing).await;
    }
    let grpc = grpc::routes(handlers.clone()).add_service(health).into_axum_router();
    let routes = rest::routes(handlers).merge(grpc.reset_fallback()).fallback(rest::fallback);
    let services = [DESCRIPTOR_SET, HEALTH, REFLECTION, REFLECTION_V1ALPHA];
    let router = port::count_requests(
        port::with_common_layers(port::refuse_other_sites(routes), &services),
        metrics::REQUESTS,
        &services,
    );
    (router, reporter)
}
