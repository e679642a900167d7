//! One port: gRPC and REST on the same listener, over TCP or in memory.
//!
//! The tonic server hosts everything, so that deadlines (`grpc-timeout`) and HTTP/2 settings hold for gRPC; it accepts HTTP/1.1
//! too, for REST. What both doors have in common is here and knows nothing of what is served.
//!
//! Each layer forms or counts what those inside it answer, so their order matters. From the outside: `count_requests`; what a
//! service adds, such as another form of errors; `with_common_layers` (requests traced, panics answered, the stack's own statuses
//! named, messages that never end given up, the end told); who is let in (a service's own, or `refuse_other_sites`); the routes.

mod failure;
mod figures;
mod json;
mod leaving;
mod malformed;
mod methods;
mod site;
mod slow_message;
mod stack_status;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;

use methods::Methods;

pub use failure::{Failure, FailureBody};
pub use figures::{Figures, FiguresError, RequestFigures, count_requests};
pub use json::{AtMost, Json, JsonOrForm, NoParams, OptionalJson, Params, limit_bodies};
pub use site::refuse_other_sites;
pub use stack_status::{Deadline, name_status};

/// A page for people: it reads `openapi.json` beside it, and lets each endpoint be tried. It loads nothing from elsewhere.
pub const DOCS_PAGE: &str = include_str!("docs.html");

/// How connections are kept and ended.
#[derive(Debug, Clone)]
pub struct PortOptions {
    /// An HTTP/2 connection on which nothing moves is asked for a sign of life after this time.
    pub keepalive_interval: Duration,
    /// It is closed where none comes within this time.
    pub keepalive_timeout: Duration,
    /// What a client may send on a stream before it is read, in bytes.
    pub stream_window_bytes: u32,
    /// What a client may send on a connection before it is read, in bytes.
    pub connection_window_bytes: u32,
    /// Requests in flight on one connection.
    pub streams_max: u32,
    /// After the signal to stop, requests in flight have this long to end.
    pub drain_time_max: Duration,
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            streams_max: 1024,
            drain_time_max: Duration::from_secs(10),
        }
    }
}

/// Why a port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}; choose another with {option}", bind_reason(source))]
pub struct BindError {
    address: SocketAddr,
    option: &'static str,
    source: io::Error,
}

/// Listens on `address`, which the user chose with `option`.
pub async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, option, source })
}

fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// The connections that a listener accepts. Small answers are sent at once.
pub fn accept(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// What every port of ours does around its routes: messages that never end given up, statuses of the protocol stack named,
/// panics answered, requests traced, and at the end told that nobody waits for them. The gRPC services are those of the encoded
/// `FileDescriptorSet`s.
pub fn with_common_layers(router: Router, descriptor_sets: &[&[u8]]) -> Router {
    let methods = Arc::new(Methods::of(descriptor_sets));
    router
        .layer(middleware::from_fn(leaving::answer_when_left))
        .layer(middleware::from_fn_with_state(methods, slow_message::limit_message_time))
        .layer(middleware::from_fn(stack_status::name_stack_statuses))
        .layer(CatchPanicLayer::custom(|_| Panicked.into_response()))
        .layer(middleware::from_fn(answer_panic))
        .layer(TraceLayer::new_for_http().on_failure(()))
}

/// Serves `router` on the connections of `incoming` until `shutdown` comes, then drains. When the time for that is over, requests
/// without an answer are told UNAVAILABLE (503) where the router has the common layers, and streams are cut.
///
/// Returns early where `incoming` ends and the last connection is closed.
pub async fn serve<IO, E>(
    router: Router,
    incoming: impl Stream<Item = Result<IO, E>>,
    options: &PortOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<tonic::codegen::StdError>,
{
    let (stopped, stopping) = oneshot::channel();
    let (leave, left) = watch::channel(false);
    let router = router.layer(Extension(leaving::Left(left)));
    let server = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_concurrent_streams(options.streams_max)
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(incoming, async {
            shutdown.await;
            let _ = stopped.send(());
        });
    // A stream that its client keeps open would hold up the end for ever.
    let drained = async {
        match stopping.await {
            Ok(()) => tokio::time::sleep(options.drain_time_max).await,
            Err(_) => std::future::pending().await,
        }
        tracing::warn!("requests or streams were still running after {:?}; gave them up", options.drain_time_max);
        leave.send_replace(true);
        tokio::time::sleep(leaving::LAST_ANSWERS_TIME_MAX).await;
    };
    tokio::select! {
        result = server => result,
        () = drained => Ok(()),
    }
}

/// Which of the two kinds of client a request is from: what it understands as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `content-type: application/grpc…`.
    Grpc,
    /// Everything else.
    Rest,
}

impl Door {
    /// By content type.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if kind.starts_with(b"application/grpc") { Self::Grpc } else { Self::Rest }
    }

    fn answer(self, failure: Failure) -> Response {
        match self {
            Self::Grpc => tonic::Status::from(failure).into_http(),
            Self::Rest => failure.into_response(),
        }
    }
}

/// The answer where nothing is found: gRPC UNIMPLEMENTED, or JSON 404 that lists `endpoints`.
pub async fn not_found(request: Request, endpoints: &[&str]) -> Response {
    let door = Door::of(request.headers());
    let (method, path) = (request.method(), request.uri().path());
    door.answer(Failure::not_found(match door {
        Door::Grpc => format!("there is no method {path}"),
        Door::Rest => format!("there is no {method} {path}; there is {}", endpoints.join(", ")),
    }))
}

/// The answer where an endpoint does not take the method: JSON 405.
pub async fn method_not_allowed(request: Request, endpoints: &[&str]) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    Failure::method_not_allowed(format!("{path} does not take {method}; there is {}", endpoints.join(", ")))
}

/// Marks a response as made after a panic, for the layer that knows the door.
#[derive(Clone)]
struct Panicked;

impl IntoResponse for Panicked {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

async fn answer_panic(request: Request, next: Next) -> Response {
    let door = Door::of(request.headers());
    let response = next.run(request).await;
    if response.extensions().get::<Panicked>().is_none() {
        return response;
    }
    door.answer(Failure::internal("the service made a mistake; its log has more"))
}
