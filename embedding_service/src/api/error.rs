//! Errors as callers see them, and the one table from each to its gRPC and its HTTP status.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};

use super::limits::{PAGE_SIZE_MAX, TEXT_BYTES_MAX, TEXTS_MAX};
use crate::auth::Refusal;
use crate::figures;
use crate::port::Failure;
use crate::provider::{ErrorKind, ProviderError};

/// A comparison takes seconds with one local model, minutes with slow providers.
const COMPARISON_PATIENCE: Duration = Duration::from_secs(15);

/// What went wrong. Says what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A call without texts.
    #[error("texts: expected 1 to {TEXTS_MAX}, got none")]
    NoTexts,
    /// A call with too many texts.
    #[error("texts: expected 1 to {TEXTS_MAX}, got more")]
    TooManyTexts,
    /// A text of no bytes.
    #[error("{field} is empty: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)")]
    EmptyText {
        /// Which one.
        field: String,
    },
    /// A text of too many bytes.
    #[error("{field} has {bytes} bytes: expected 1 byte to 1 MiB ({TEXT_BYTES_MAX} bytes)")]
    TextTooLong {
        /// Which one.
        field: String,
        /// How long it is.
        bytes: usize,
    },
    /// A text that the model's tokenizer refuses.
    #[error("{field} {reason}")]
    TextRefused {
        /// Which one.
        field: String,
        /// Why.
        reason: String,
    },
    /// A model that the registry does not have.
    #[error("there is no model `{id}`; the models are {}", known.join(", "))]
    UnknownModel {
        /// What was asked for.
        id: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The model is named twice, in the query and in the body, and differently.
    #[error("model_id is `{query}` in the query and `{body}` in the body: expected one of them, or the same twice")]
    TwoModels {
        /// In the query.
        query: String,
        /// In the body.
        body: String,
    },
    /// A value of `input_type` that the contract does not have.
    #[error("input_type: expected 0 (default), 1 (document) or 2 (query), got {value}")]
    UnknownInputType {
        /// What came.
        value: i32,
    },
    /// A stream whose client has left its answers alone.
    #[error("the stream's answers were dropped: nothing was read of them for {} s", time_max.as_secs())]
    StreamUnread {
        /// For how long it may.
        time_max: Duration,
    },
    /// A value of `order` that the contract does not have.
    #[error("order: expected 0 (default), 1 (in turn) or 2 (as ready), got {value}")]
    UnknownStreamOrder {
        /// What came.
        value: i32,
    },
    /// A page of too many models.
    #[error("page_size: expected 1 to {PAGE_SIZE_MAX}, or 0 for the default, got {size}")]
    PageSize {
        /// What came.
        size: u32,
    },
    /// A page token that no answer has given.
    #[error("page_token `{token}` is none that was given in `next_page_token`")]
    PageToken {
        /// What came.
        token: String,
    },
    /// The model is still being loaded.
    #[error("the model `{id}` is still being loaded; try again")]
    ModelLoading {
        /// Which one.
        id: String,
    },
    /// The model could not be loaded.
    #[error("the model `{id}` cannot be used: {reason}")]
    ModelFailed {
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// Models that are in use have the memory that the model needs.
    #[error("the model `{id}` cannot be used now: {reason}; models that are in use have the rest; try again")]
    ModelNoRoom {
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// The model's provider has not embedded the texts.
    #[error("model `{id}`: {error}")]
    Provider {
        /// Which model.
        id: String,
        /// Why.
        error: ProviderError,
    },
    /// Models cannot be compared on what was given.
    #[error("{what}")]
    Comparison {
        /// Which field.
        field: String,
        /// What was expected and what came.
        what: String,
    },
    /// A comparison of models is running.
    #[error("a comparison of models is running, and two would measure each other; try again")]
    ComparisonRuns,
    /// The caller is not let in, or is given no token.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A token is asked for without a credential.
    #[error("expected `api_key`, or `username` and `password`, and not both")]
    NoCredential,
    /// A form that is no password grant.
    #[error("grant_type: expected `password`; API keys are sent as JSON, {{\"api_key\": …}}")]
    GrantType,
    /// No room in the queue.
    #[error("too much is waiting: {queued} {unit} of at most {queued_max}, and this call has {wanted}; try again")]
    QueueFull {
        /// Of this call.
        wanted: usize,
        /// Waiting.
        queued: usize,
        /// What may wait.
        queued_max: usize,
        /// Of what.
        unit: &'static str,
        /// When there is room, at the present rate.
        retry_after: Duration,
    },
    /// The queue takes longer than the caller waits.
    #[error(
        "too much is waiting: it takes {:.1} s, and this call has {:.1} s; try again",
        wait.as_secs_f32(), left.as_secs_f32()
    )]
    TooLate {
        /// For what waits.
        wait: Duration,
        /// Until the deadline.
        left: Duration,
        /// When the call would be in time, at the present rate.
        retry_after: Duration,
    },
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// Part of the contract, but not built.
    #[error("{rpc} is not built yet")]
    NotBuilt {
        /// Which RPC.
        rpc: &'static str,
    },
    /// Our own mistake.
    #[error("the service made a mistake: {what}; its log has more")]
    Internal {
        /// What happened.
        what: &'static str,
    },
}

impl ApiError {
    /// The same error for a call that has `text` where the handlers see `texts[0]`.
    pub(super) fn of_single_text(self) -> Self {
        let field = "text".to_owned();
        match self {
            Self::EmptyText { .. } => Self::EmptyText { field },
            Self::TextTooLong { bytes, .. } => Self::TextTooLong { field, bytes },
            Self::TextRefused { reason, .. } => Self::TextRefused { field, reason },
            other => other,
        }
    }

    /// The machine-readable reason.
    pub(super) fn reason(&self) -> &'static str {
        self.codes().0
    }

    /// The table: reason, gRPC code, HTTP status.
    fn codes(&self) -> (&'static str, Code, StatusCode) {
        match self {
            Self::NoTexts => ("NO_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TooManyTexts => ("TOO_MANY_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::EmptyText { .. } => ("INVALID_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TextTooLong { .. } => ("INVALID_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::TextRefused { .. } => ("INVALID_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::UnknownModel { .. } => ("MODEL_NOT_FOUND", Code::NotFound, StatusCode::NOT_FOUND),
            Self::TwoModels { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::UnknownInputType { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::UnknownStreamOrder { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::PageSize { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::PageToken { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::Comparison { .. } => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::ComparisonRuns => ("COMPARISON_RUNS", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
            Self::ModelLoading { .. } => ("MODEL_LOADING", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::ModelFailed { .. } => ("MODEL_FAILED", Code::FailedPrecondition, StatusCode::SERVICE_UNAVAILABLE),
            Self::ModelNoRoom { .. } => ("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
            Self::Provider { error, .. } => match error.kind {
                ErrorKind::NoKey => ("PROVIDER_NO_KEY", Code::FailedPrecondition, StatusCode::SERVICE_UNAVAILABLE),
                ErrorKind::KeyRefused => {
                    ("PROVIDER_KEY_REFUSED", Code::FailedPrecondition, StatusCode::SERVICE_UNAVAILABLE)
                }
                ErrorKind::Unavailable => ("PROVIDER_UNAVAILABLE", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
                ErrorKind::RateLimited => {
                    ("PROVIDER_RATE_LIMITED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS)
                }
                ErrorKind::QuotaExhausted => {
                    ("PROVIDER_QUOTA_EXHAUSTED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS)
                }
                ErrorKind::Overloaded => ("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
                ErrorKind::TextsRefused => ("PROVIDER_REFUSED_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
                ErrorKind::Refused => ("PROVIDER_REFUSED", Code::FailedPrecondition, StatusCode::BAD_GATEWAY),
                ErrorKind::WrongAnswer => ("PROVIDER_ANSWER", Code::Internal, StatusCode::BAD_GATEWAY),
            },
            Self::Refused(refusal) => match refusal {
                Refusal::Missing => ("CREDENTIAL_MISSING", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::Malformed { .. } => ("CREDENTIAL_MALFORMED", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::WrongKey => ("API_KEY_WRONG", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::KeyRevoked { .. } => ("API_KEY_REVOKED", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::KeyExpired { .. } => ("API_KEY_EXPIRED", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::WrongToken => ("TOKEN_WRONG", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::TokenExpired => ("TOKEN_EXPIRED", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::TokenRevoked => ("TOKEN_REVOKED", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::WrongCredential => ("CREDENTIAL_WRONG", Code::Unauthenticated, StatusCode::UNAUTHORIZED),
                Refusal::NotAllowed { .. } => ("SCOPE_MISSING", Code::PermissionDenied, StatusCode::FORBIDDEN),
                Refusal::MoreScopes { .. } => ("SCOPE_MISSING", Code::PermissionDenied, StatusCode::FORBIDDEN),
                Refusal::UnknownScope(_) => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
                Refusal::TooManyAttempts { .. } => {
                    ("TOO_MANY_ATTEMPTS", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS)
                }
                Refusal::Off => ("AUTH_OFF", Code::FailedPrecondition, StatusCode::CONFLICT),
                Refusal::Internal => ("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
            },
            Self::NoCredential => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::GrantType => ("INVALID_ARGUMENT", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::QueueFull { .. } | Self::TooLate { .. } => {
                ("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS)
            }
            Self::StreamUnread { .. } => ("STREAM_IDLE", Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT),
            Self::Stopping => ("NOT_READY", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::NotBuilt { .. } => ("NOT_IMPLEMENTED", Code::Unimplemented, StatusCode::NOT_IMPLEMENTED),
            Self::Internal { .. } => ("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The field of the request that is wrong.
    fn field(&self) -> Option<&str> {
        match self {
            Self::NoTexts | Self::TooManyTexts => Some("texts"),
            Self::Provider { error, .. } if error.kind == ErrorKind::TextsRefused => Some("texts"),
            Self::EmptyText { field } | Self::TextTooLong { field, .. } | Self::TextRefused { field, .. } => {
                Some(field)
            }
            Self::UnknownModel { .. } | Self::TwoModels { .. } => Some("model_id"),
            Self::UnknownInputType { .. } => Some("input_type"),
            Self::Refused(Refusal::UnknownScope(_)) => Some("scopes"),
            Self::NoCredential => Some("credential"),
            Self::GrantType => Some("grant_type"),
            Self::UnknownStreamOrder { .. } => Some("order"),
            Self::PageSize { .. } => Some("page_size"),
            Self::PageToken { .. } => Some("page_token"),
            Self::Comparison { field, .. } => Some(field),
            _ => None,
        }
    }

    /// What there is no room for here, where that is why.
    fn no_room_for(&self) -> &'static str {
        match self {
            Self::QueueFull { unit, .. } => unit,
            Self::TooLate { .. } => "time",
            Self::ModelNoRoom { .. } => "memory",
            _ => "",
        }
    }

    /// After which time another try makes sense.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ModelLoading { .. } | Self::ModelNoRoom { .. } | Self::Stopping => Some(Duration::from_secs(1)),
            Self::QueueFull { retry_after, .. } | Self::TooLate { retry_after, .. } => Some(*retry_after),
            Self::ModelFailed { .. } => Some(Duration::from_secs(6)),
            Self::ComparisonRuns => Some(COMPARISON_PATIENCE),
            Self::Provider { error, .. } => error.come_back_after(),
            Self::Refused(Refusal::TooManyAttempts { retry_after }) => Some(*retry_after),
            _ => None,
        }
    }
}

/// Each error that a caller is told comes by here, once.
impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let (reason, code, _) = error.codes();
        if code == Code::ResourceExhausted {
            figures::call_refused(reason, error.no_room_for());
        }
        let resource = match &error {
            ApiError::UnknownModel { id, .. } => Some(("model", id.clone())),
            _ => None,
        };
        let (field, retry_after) = (error.field().map(Box::from), error.retry_after());
        Failure { field, resource, retry_after, ..Failure::new(error.codes(), error.to_string()) }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Failure::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Failure::from(self).into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1 asks for it.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
