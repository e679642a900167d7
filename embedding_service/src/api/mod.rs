//! Both doors over the same handlers: gRPC with health and reflection, and REST.

mod compare;
mod error;
mod grpc;
mod guard;
mod handlers;
mod health;
mod limits;
mod rest;
mod sending;
mod stream;
mod texts;
mod token;

use std::sync::Arc;

use axum::{Router, middleware};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET as REFLECTION;
use tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET as REFLECTION_V1ALPHA;

pub(crate) use handlers::Handlers;
pub(crate) use limits::{BODY_BYTES_MAX, MESSAGE_BYTES_MAX};

use crate::auth::Auth;
use crate::figures;
use crate::pb::DESCRIPTOR_SET;
use crate::pb::v1::auth_service_server::AuthServiceServer;
use crate::pb::v1::embedding_service_server::EmbeddingServiceServer;
use crate::port::{self, Figures};

/// Everything that the port answers. A gRPC message may have up to `message_bytes_max` bytes. Without `auth` nobody is asked
/// for a key.
pub(crate) fn router(
    handlers: Handlers,
    auth: Option<Arc<Auth>>,
    stopping: watch::Receiver<bool>,
    figures: Figures,
    message_bytes_max: usize,
) -> Router {
    let tokens = token::TokenApi { auth: auth.clone() };
    let health = health::HealthApi { default_model: handlers.models.readiness(), stopping: stopping.clone() };
    let embedding = grpc::EmbeddingApi { handlers: handlers.clone(), stopping: stopping.clone() };
    let embedding = EmbeddingServiceServer::new(embedding)
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH)
    };
    let ours = "build.rs wrote the descriptor set";

    let routes = Routes::from(rest::router(handlers, tokens.clone(), stopping, figures))
        .add_service(embedding)
        .add_service(AuthServiceServer::new(tokens).max_decoding_message_size(token::TOKEN_REQUEST_BYTES_MAX))
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1().expect(ours))
        .add_service(reflection().build_v1alpha().expect(ours));
    let router = routes.into_axum_router();
    let guarded = match auth {
        Some(auth) => guard::guarded(router, auth),
        None => port::refuse_other_sites(router),
    };
    let services = [DESCRIPTOR_SET, HEALTH, REFLECTION, REFLECTION_V1ALPHA];
    let answering = port::with_common_layers(guarded, &services)
        .layer(middleware::from_fn(rest::told_as_openai))
        .layer(middleware::map_response(sending::in_pieces));
    port::count_requests(answering, figures::REQUESTS, &services)
}
