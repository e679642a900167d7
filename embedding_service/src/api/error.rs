//! Errors as callers see them, and the one table from each to its gRPC and its HTTP status.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};

use super::limits::PAGE_SIZE_MAX;
use super::texts::{Names, TextsError};
use crate::auth::Refusal;
use crate::engine::EngineError;
use crate::figures;
use crate::port::Failure;
use crate::provider::{ErrorKind, ProviderError};

/// A comparison takes seconds with one local model, minutes with slow providers.
const COMPARISON_PATIENCE: Duration = Duration::from_secs(15);

/// What went wrong. Says what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// A call's texts are not what a call may have.
    #[error(transparent)]
    Texts(#[from] TextsError),
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
    /// The engine has not embedded the texts.
    #[error(transparent)]
    Engine(EngineError),
    /// The service stops.
    #[error("the service is stopping")]
    Stopping,
    /// Our own mistake.
    #[error("the service made a mistake: {what}; its log has more")]
    Internal {
        /// What happened.
        what: &'static str,
    },
}

impl ApiError {
    /// The machine-readable reason.
    pub(super) fn reason(&self) -> &'static str {
        self.codes().0
    }

    /// The table: reason, gRPC code, HTTP status.
    fn codes(&self) -> (&'static str, Code, StatusCode) {
        match self {
            Self::Texts(TextsError::None) => ("NO_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::Texts(TextsError::TooMany { .. }) => {
                ("TOO_MANY_TEXTS", Code::InvalidArgument, StatusCode::BAD_REQUEST)
            }
            Self::Texts(TextsError::Empty { .. } | TextsError::TooLong { .. })
            | Self::Engine(EngineError::TextRefused { .. }) => {
                ("INVALID_TEXT", Code::InvalidArgument, StatusCode::BAD_REQUEST)
            }
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
            Self::Engine(EngineError::Full { .. } | EngineError::TooLate { .. }) => {
                ("OVERLOADED", Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS)
            }
            Self::StreamUnread { .. } => ("STREAM_IDLE", Code::DeadlineExceeded, StatusCode::REQUEST_TIMEOUT),
            Self::Stopping | Self::Engine(EngineError::Stopping) => {
                ("NOT_READY", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Internal { .. } | Self::Engine(EngineError::Lost) => {
                ("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// Which of the call's texts is at fault, where one is.
    fn text(&self) -> Option<usize> {
        match self {
            Self::Engine(EngineError::TextRefused { index, .. }) => Some(*index),
            Self::Provider { error, .. } => error.text,
            _ => None,
        }
    }

    /// The same error for a call of which only some texts were embedded: `place` tells where each of them is among all.
    pub(super) fn among_all(self, place: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Engine(EngineError::TextRefused { index, reason }) => {
                Self::Engine(EngineError::TextRefused { index: place(index), reason })
            }
            Self::Provider { id, mut error } => {
                error.text = error.text.map(place);
                Self::Provider { id, error }
            }
            other => other,
        }
    }

    /// The field of the request that is wrong.
    fn field(&self, names: Names) -> Option<String> {
        let field = match self {
            Self::Texts(error) => return Some(error.field(names)),
            _ if let Some(index) = self.text() => return Some(names.text(index)),
            Self::Provider { error, .. } if error.kind == ErrorKind::TextsRefused => names.texts,
            Self::UnknownModel { .. } | Self::TwoModels { .. } => names.model,
            Self::UnknownInputType { .. } => "input_type",
            Self::Refused(Refusal::UnknownScope(_)) => "scopes",
            Self::NoCredential => "credential",
            Self::GrantType => "grant_type",
            Self::UnknownStreamOrder { .. } => "order",
            Self::PageSize { .. } => "page_size",
            Self::PageToken { .. } => "page_token",
            Self::Comparison { field, .. } => field,
            _ => return None,
        };
        Some(field.to_owned())
    }

    /// What was expected and what came, in the words of the caller's door.
    pub(super) fn message(&self, names: Names) -> String {
        match (self, self.text()) {
            (Self::Texts(error), _) => error.message(names),
            (Self::Engine(EngineError::TextRefused { reason, .. }), Some(index)) => {
                format!("{} {reason}", names.text(index))
            }
            (Self::Provider { id, error }, Some(index)) => format!("model `{id}`: {}: {error}", names.text(index)),
            _ => self.to_string(),
        }
    }

    /// What there is no room for here, where that is why.
    fn no_room_for(&self) -> &'static str {
        match self {
            Self::Engine(EngineError::Full { unit, .. }) => unit,
            Self::Engine(EngineError::TooLate { .. }) => "time",
            Self::ModelNoRoom { .. } => "memory",
            _ => "",
        }
    }

    /// After which time another try makes sense.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ModelLoading { .. }
            | Self::ModelNoRoom { .. }
            | Self::Stopping
            | Self::Engine(EngineError::Stopping) => Some(Duration::from_secs(1)),
            Self::Engine(EngineError::Full { retry_after, .. } | EngineError::TooLate { retry_after, .. }) => {
                Some(*retry_after)
            }
            // Weights that are put into place heal it, also offline: the next call after so long looks again (`model::slot`).
            Self::ModelFailed { .. } => Some(Duration::from_secs(6)),
            Self::ComparisonRuns => Some(COMPARISON_PATIENCE),
            Self::Provider { error, .. } => error.come_back_after(),
            Self::Refused(Refusal::TooManyAttempts { retry_after }) => Some(*retry_after),
            _ => None,
        }
    }
}

impl ApiError {
    /// As the caller's door tells it. Each error that a caller is told comes by here, once.
    pub(super) fn told(self, names: Names) -> Failure {
        let (reason, code, _) = self.codes();
        if code == Code::ResourceExhausted {
            figures::call_refused(reason, self.no_room_for());
        }
        let resource = match &self {
            Self::UnknownModel { id, .. } => Some(("model", id.clone())),
            _ => None,
        };
        let (field, retry_after) = (self.field(names).map(Box::from), self.retry_after());
        Failure { field, resource, retry_after, ..Failure::new(self.codes(), self.message(names)) }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        error.told(Names::CONTRACT)
    }
}

/// There is one way to say that the service stops.
impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Stopping => Self::Stopping,
            other => Self::Engine(other),
        }
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
