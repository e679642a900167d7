//! The one table of errors: each reason with its gRPC code and its HTTP status.
//!
//! How an error looks on the wire is the same for every service of ours: `vectron_embedding::port::Failure`.

use std::fmt::Display;
use std::io::ErrorKind;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tonic::{Code, Status};
use vectron_embedding::port::Failure;

use crate::collection::{NoPlace, Refusal};
use crate::database::DatabaseError;
use crate::database::snapshots::SnapshotError;
use crate::embedding::EmbedError;
use crate::storage::log::LogError;
use crate::types::SnapshotName;

/// Room on the disk is rarely made faster.
const LOW_SPACE_RETRY: Duration = Duration::from_secs(5);

/// Declares the reasons with their codes, so that none can lack them.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident, $status:ident;)*) => {
        /// Why a request fails.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The machine-readable name, the gRPC code and the HTTP status.
            pub fn codes(self) -> (&'static str, Code, StatusCode) {
                match self { $(Reason::$variant => ($name, Code::$code, StatusCode::$status),)* }
            }
        }
    };
}

reasons! {
    /// A field is missing or breaks its rules.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, BAD_REQUEST;
    /// An id is empty or too long.
    InvalidId = "INVALID_ID", InvalidArgument, BAD_REQUEST;
    /// A vector is empty, too long, or has a component that is no finite number.
    InvalidVector = "INVALID_VECTOR", InvalidArgument, BAD_REQUEST;
    /// A zero vector has no cosine.
    ZeroVector = "ZERO_VECTOR", InvalidArgument, BAD_REQUEST;
    /// A text is empty or too long.
    InvalidText = "INVALID_TEXT", InvalidArgument, BAD_REQUEST;
    /// Metadata are too large, too deep, or have a number that is not finite.
    InvalidMetadata = "INVALID_METADATA", InvalidArgument, BAD_REQUEST;
    /// A filter is no condition, or too large.
    InvalidFilter = "INVALID_FILTER", InvalidArgument, BAD_REQUEST;
    /// `top_k` is out of its range.
    InvalidTopK = "INVALID_TOP_K", InvalidArgument, BAD_REQUEST;
    /// No space takes vectors of this dimension.
    DimensionMismatch = "DIMENSION_MISMATCH", InvalidArgument, BAD_REQUEST;
    /// Several spaces do.
    AmbiguousSpace = "AMBIGUOUS_SPACE", InvalidArgument, BAD_REQUEST;
    /// The message is over the limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, PAYLOAD_TOO_LARGE;
    /// A frame of a stream is not the next one.
    FrameOutOfOrder = "FRAME_OUT_OF_ORDER", InvalidArgument, BAD_REQUEST;
    /// A stream did not begin with `open`, or went on after `finish`.
    StreamProtocol = "STREAM_PROTOCOL", InvalidArgument, BAD_REQUEST;
    /// More was sent than the credit of a stream allows.
    CreditExceeded = "CREDIT_EXCEEDED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// Another connection has opened the same stream.
    StreamTakenOver = "STREAM_TAKEN_OVER", Aborted, CONFLICT;
    /// Nothing came on a stream, or nothing was read from it, for too long.
    StreamIdle = "STREAM_IDLE", DeadlineExceeded, REQUEST_TIMEOUT;
    /// A query of a stream took longer than it was given.
    QueryTimeout = "QUERY_TIMEOUT", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// There is no such collection.
    CollectionNotFound = "COLLECTION_NOT_FOUND", NotFound, NOT_FOUND;
    /// There is no such space.
    SpaceNotFound = "SPACE_NOT_FOUND", NotFound, NOT_FOUND;
    /// There is no such model.
    ModelNotFound = "MODEL_NOT_FOUND", NotFound, NOT_FOUND;
    /// There is no such record.
    RecordNotFound = "RECORD_NOT_FOUND", NotFound, NOT_FOUND;
    /// There is no such snapshot.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND", NotFound, NOT_FOUND;
    /// A part of the contract that is not built yet.
    NotImplemented = "NOT_IMPLEMENTED", Unimplemented, NOT_IMPLEMENTED;
    /// The name is taken.
    CollectionExists = "COLLECTION_EXISTS", AlreadyExists, CONFLICT;
    /// There is a snapshot of this name.
    SnapshotExists = "SNAPSHOT_EXISTS", AlreadyExists, CONFLICT;
    /// Something else is being done with the snapshot.
    SnapshotBusy = "SNAPSHOT_BUSY", Aborted, CONFLICT;
    /// What was sent is no archive of a snapshot.
    InvalidArchive = "INVALID_ARCHIVE", InvalidArgument, BAD_REQUEST;
    /// Another space has this name.
    SpaceExists = "SPACE_EXISTS", AlreadyExists, CONFLICT;
    /// A record has another version than asked for.
    VersionMismatch = "VERSION_MISMATCH", Aborted, CONFLICT;
    /// The request id stands for another request.
    RequestIdReused = "REQUEST_ID_REUSED", FailedPrecondition, CONFLICT;
    /// The model's fingerprint is not the space's.
    ModelChanged = "MODEL_CHANGED", FailedPrecondition, CONFLICT;
    /// There are as many as there can be.
    LimitReached = "LIMIT_REACHED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// Too much is under way.
    Overloaded = "OVERLOADED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// The disk is full.
    NoSpaceLeft = "NO_SPACE_LEFT", ResourceExhausted, INSUFFICIENT_STORAGE;
    /// The disk is nearly full: what is left is kept for what makes room.
    DiskLow = "DISK_LOW", ResourceExhausted, INSUFFICIENT_STORAGE;
    /// The collection's log is damaged.
    CollectionDamaged = "COLLECTION_DAMAGED", DataLoss, INTERNAL_SERVER_ERROR;
    /// There is too little memory for the collection.
    MemoryLow = "MEMORY_LOW", ResourceExhausted, SERVICE_UNAVAILABLE;
    /// A snapshot does not verify.
    SnapshotDamaged = "SNAPSHOT_DAMAGED", DataLoss, INTERNAL_SERVER_ERROR;
    /// Writing to disk has failed, so the collection takes no more writes.
    CollectionReadOnly = "COLLECTION_READ_ONLY", Unavailable, SERVICE_UNAVAILABLE;
    /// The sequence was not reached in time.
    SequenceNotReached = "SEQUENCE_NOT_REACHED", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// The server is starting or stopping.
    NotReady = "NOT_READY", Unavailable, SERVICE_UNAVAILABLE;
    /// The embedding service, or its model, is away.
    EmbeddingUnavailable = "EMBEDDING_UNAVAILABLE", Unavailable, SERVICE_UNAVAILABLE;
    /// The embedding service asks for a key, and refuses the one that it was shown.
    EmbeddingKeyRefused = "EMBEDDING_KEY_REFUSED", FailedPrecondition, SERVICE_UNAVAILABLE;
    /// The embedding service took too long.
    EmbeddingTimeout = "EMBEDDING_TIMEOUT", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// Our own mistake.
    Internal = "INTERNAL", Internal, INTERNAL_SERVER_ERROR;
}

/// An error as both doors tell it.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// Why.
    pub reason: Reason,
    /// What was expected and what came.
    pub message: String,
    /// The field that is at fault.
    pub field: Option<String>,
    /// Type and name of what is missing or in the way.
    pub resource: Option<(&'static str, String)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error with a reason and a message.
    pub fn new(reason: Reason, message: impl Display) -> Self {
        Self { reason, message: message.to_string(), field: None, resource: None, retry_after: None }
    }

    /// A field that breaks its rules.
    pub fn field(reason: Reason, field: impl Into<String>, message: impl Display) -> Self {
        let field = field.into();
        Self { field: Some(field.clone()), ..Self::new(reason, format_args!("{field}: {message}")) }
    }

    fn with_resource(self, kind: &'static str, name: impl Into<String>) -> Self {
        Self { resource: Some((kind, name.into())), ..self }
    }

    /// For a try in a moment.
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let ApiError { reason, message, field, resource, retry_after } = error;
        Failure { field: field.map(Box::from), resource, retry_after, ..Failure::new(reason.codes(), message) }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        Failure::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Failure::from(self).into_response()
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        let reason = match &error {
            LogError::Full { .. } => Reason::Overloaded,
            LogError::NoSpace { .. } => Reason::NoSpaceLeft,
            LogError::Poisoned { .. } => Reason::CollectionReadOnly,
            LogError::Damaged { .. } | LogError::NewerFormat { .. } | LogError::Missing { .. } => {
                Reason::CollectionDamaged
            }
            // A collection's log is closed when it is dropped; at the end requests are finished before the logs are closed.
            LogError::Closed => Reason::CollectionNotFound,
            LogError::Io { error, .. } if error.kind() == ErrorKind::StorageFull => Reason::NoSpaceLeft,
            _ => Reason::Internal,
        };
        let error = match error {
            LogError::Closed => ApiError::new(reason, "the collection was dropped meanwhile"),
            error => ApiError::new(reason, error),
        };
        if reason == Reason::Overloaded { error.with_retry_after(Duration::from_secs(1)) } else { error }
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        let message = error.to_string();
        let new = |reason| ApiError::new(reason, &message);
        match error {
            DatabaseError::NotFound { name, .. } => new(Reason::CollectionNotFound).with_resource("collection", name),
            DatabaseError::AlreadyExists { name } => {
                new(Reason::CollectionExists).with_resource("collection", name.as_str())
            }
            DatabaseError::Damaged { name, .. } => new(Reason::CollectionDamaged).with_resource("collection", name),
            DatabaseError::NotLoaded { name, .. } => new(Reason::MemoryLow).with_resource("collection", name),
            DatabaseError::LowSpace(_) => new(Reason::DiskLow).with_retry_after(LOW_SPACE_RETRY),
            DatabaseError::ReadOnly { .. } => new(Reason::CollectionReadOnly),
            DatabaseError::TooMany => new(Reason::LimitReached),
            DatabaseError::RequestIdReused { .. } => new(Reason::RequestIdReused),
            DatabaseError::Collection(crate::collection::RecoverError::Refused(refusal)) => refusal.into(),
            DatabaseError::Collection(crate::collection::RecoverError::Log(error)) => error.into(),
            DatabaseError::Catalogue(crate::database::CatalogueError::Log(error)) => error.into(),
            _ => new(Reason::Internal),
        }
    }
}

impl From<SnapshotError> for ApiError {
    fn from(error: SnapshotError) -> Self {
        let message = error.to_string();
        let new = |reason| ApiError::new(reason, &message);
        let of = |reason, name: SnapshotName| new(reason).with_resource("snapshot", name.as_str());
        match error {
            SnapshotError::NotFound { name, .. } => of(Reason::SnapshotNotFound, name),
            SnapshotError::AlreadyExists { name } => of(Reason::SnapshotExists, name),
            SnapshotError::Busy { name } => of(Reason::SnapshotBusy, name).with_retry_after(Duration::from_secs(1)),
            SnapshotError::Damaged { name, .. } => of(Reason::SnapshotDamaged, name),
            SnapshotError::TooMany => new(Reason::LimitReached),
            SnapshotError::Archive { .. } | SnapshotError::BrokenOff { .. } => new(Reason::InvalidArchive),
            SnapshotError::NoSpace { .. } => new(Reason::NoSpaceLeft),
            SnapshotError::RequestIdReused { .. } => new(Reason::RequestIdReused),
            SnapshotError::Io { .. } => new(Reason::Internal),
            SnapshotError::Database(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let reason = match &refusal {
            Refusal::VersionMismatch { .. } => Reason::VersionMismatch,
            Refusal::RequestIdReused { .. } => Reason::RequestIdReused,
            Refusal::SpaceConflict { .. } | Refusal::ModelHasSpace { .. } => Reason::SpaceExists,
            Refusal::SecondRawSpace { .. } => Reason::DimensionMismatch,
            Refusal::TooManySpaces => Reason::LimitReached,
            Refusal::FrameOutOfOrder { .. } => Reason::FrameOutOfOrder,
        };
        let error = ApiError::new(reason, &refusal);
        match refusal {
            Refusal::VersionMismatch { id, .. } => error.with_resource("record", id.as_str()),
            Refusal::SpaceConflict { name, .. } => error.with_resource("space", name),
            _ => error,
        }
    }
}

impl From<NoPlace> for ApiError {
    fn from(error: NoPlace) -> Self {
        let reason = match &error {
            NoPlace::NoSuchSpace { .. } => Reason::SpaceNotFound,
            NoPlace::WrongDimension { .. } | NoPlace::NoSuchDimension { .. } => Reason::DimensionMismatch,
            NoPlace::Ambiguous { .. } => Reason::AmbiguousSpace,
        };
        ApiError::new(reason, error)
    }
}

impl From<EmbedError> for ApiError {
    fn from(error: EmbedError) -> Self {
        let reason = match error.code {
            Code::NotFound => Reason::ModelNotFound,
            Code::InvalidArgument => Reason::InvalidText,
            Code::ResourceExhausted => Reason::Overloaded,
            Code::DeadlineExceeded | Code::Cancelled => Reason::EmbeddingTimeout,
            Code::Unavailable | Code::FailedPrecondition => Reason::EmbeddingUnavailable,
            Code::Unauthenticated | Code::PermissionDenied => Reason::EmbeddingKeyRefused,
            Code::Unimplemented => Reason::NotImplemented,
            _ => Reason::Internal,
        };
        let message = match reason {
            Reason::EmbeddingUnavailable => format!("texts cannot be embedded now: {}", error.message),
            _ => error.message,
        };
        ApiError { retry_after: error.retry_after, ..ApiError::new(reason, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.codes().0).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')));
    }
}
