//! The figures of this process: one recorder for all services in it, and the count of requests.
//!
//! A process has one recorder, whichever of its services asks for it first; names tell the services apart, and each port
//! gives those of its own service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use metrics::{counter, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tonic::Status;

use super::methods::Methods;

/// Gauges that nobody sets any more are those of something that is gone.
const GAUGE_IDLE_MAX: Duration = Duration::from_secs(60);
/// What histograms were told is kept, 16 bytes for each number, until it is counted: by whoever reads the figures, or by a
/// thread, where nobody does.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);
/// Of every histogram whose name ends in `_seconds`: from a search of a small collection to a large batch of texts.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
/// Of every histogram whose name ends in `_tokens`.
const TOKENS: [f64; 10] = [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0];

/// What reads the figures of this process.
#[derive(Clone)]
pub struct Figures {
    handle: PrometheusHandle,
}

/// The names of the figures of a service's requests.
#[derive(Debug, Clone, Copy)]
pub struct RequestFigures {
    /// A counter, by door (grpc or rest), route and code.
    pub requests: &'static str,
    /// A histogram of seconds until the head of the answer, by door and route.
    pub seconds: &'static str,
}

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
pub enum FiguresError {
    /// Another recorder is there.
    #[error("nothing can be counted: {0}; expected a process that has no recorder of another kind")]
    Recorder(#[from] BuildError),
    /// There is no thread for what histograms were told.
    #[error("nothing can be counted: no thread can be started for it: {0}")]
    Thread(#[from] io::Error),
}

impl Figures {
    /// Those of this process, which are set up by the first who asks.
    pub fn of_this_process() -> Result<Self, FiguresError> {
        static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
        // Held while the recorder is built, so that nobody builds a second one.
        let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*recorder {
            return Ok(Self { handle: handle.clone() });
        }
        let handle = PrometheusBuilder::new()
            .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE_MAX))
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_tokens".to_owned()), &TOKENS)?
            .install_recorder()?;
        let kept = handle.clone();
        thread::Builder::new().name("figures".to_owned()).spawn(move || {
            loop {
                thread::sleep(UPKEEP_PERIOD);
                kept.run_upkeep();
            }
        })?;
        *recorder = Some(handle.clone());
        Ok(Self { handle })
    }

    /// The figures whose names `is_wanted`, in the text format of Prometheus, as the answer to `GET /metrics`.
    pub fn answer(&self, is_wanted: impl Fn(&str) -> bool) -> Response {
        self.handle.run_upkeep();
        let mut text = String::new();
        for line in self.handle.render().lines() {
            let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
            if !line.is_empty() && is_wanted(name) {
                text.push_str(line);
                text.push('\n');
            }
        }
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    }
}

/// What requests are counted with.
#[derive(Clone)]
struct Counting {
    figures: RequestFigures,
    methods: Arc<Methods>,
}

/// Counts the requests of `router`, whose gRPC services are those of the encoded `FileDescriptorSet`s. Outermost, so that
/// what is counted is what clients see.
pub fn count_requests(router: Router, figures: RequestFigures, descriptor_sets: &[&[u8]]) -> Router {
    let methods = Arc::new(Methods::of(descriptor_sets));
    router.layer(middleware::from_fn_with_state(Counting { figures, methods }, count))
}

/// Routes are those of the router, and methods those of the contract, never what the client sent: their number is bounded.
async fn count(State(Counting { figures, methods }): State<Counting>, request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        // A gRPC service is one route with a wildcard.
        Some(matched) if matched.as_str().ends_with("/{*rest}") => {
            methods.known(request.uri().path()).map(str::to_owned)
        }
        Some(matched) => Some(matched.as_str().to_owned()),
        None => None,
    };
    let route = route.unwrap_or_else(|| "none".to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    let (door, code) = match grpc_code(response.headers()) {
        Some(code) => ("grpc", code),
        None => ("rest", response.status().as_u16().to_string()),
    };
    counter!(figures.requests, "door" => door, "route" => route.clone(), "code" => code).increment(1);
    histogram!(figures.seconds, "door" => door, "route" => route).record(started.elapsed());
    response
}

/// The code where the head of the answer has it, which is so for every unary call that failed; else 0.
fn grpc_code(headers: &HeaderMap) -> Option<String> {
    let is_grpc = headers.get(header::CONTENT_TYPE)?.as_bytes().starts_with(b"application/grpc");
    let code = headers.get(Status::GRPC_STATUS).and_then(|code| code.to_str().ok()).unwrap_or("0");
    is_grpc.then(|| code.to_owned())
}
