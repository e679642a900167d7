//! Why something about a snapshot is not done.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::collection::{CopyError, DiskError, RecoverError};
use crate::database::DatabaseError;
use crate::storage::manifest::ManifestError;
use crate::types::SnapshotName;
use crate::types::limits::SNAPSHOTS_MAX;

/// Why something about a snapshot is not done.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is none of that name.
    #[error("there is no snapshot {name:?}; {}", told(existing))]
    NotFound {
        /// The name.
        name: SnapshotName,
        /// Some that exist.
        existing: Vec<String>,
    },
    /// There is one of that name already.
    #[error("there is a snapshot {name:?} already; delete it, or choose another name")]
    AlreadyExists {
        /// The name.
        name: SnapshotName,
    },
    /// Something else is being done with it.
    #[error(
        "snapshot {name:?} is being made, sent, restored or deleted by another request; try again when that is through"
    )]
    Busy {
        /// The name.
        name: SnapshotName,
    },
    /// There are as many as a server takes.
    #[error("a server has at most {SNAPSHOTS_MAX} snapshots; delete some")]
    TooMany,
    /// It does not verify.
    #[error("snapshot {name:?} does not verify: {reason}")]
    Damaged {
        /// The name.
        name: SnapshotName,
        /// The file, and what is wrong with it.
        reason: String,
    },
    /// What was sent is no archive of a snapshot.
    #[error("this is no archive of a snapshot: {reason}; nothing of it was kept")]
    Archive {
        /// What was expected and what came.
        reason: String,
    },
    /// The archive ended too early.
    #[error("the archive broke off: {reason}; nothing of it was kept")]
    BrokenOff {
        /// How much had come.
        reason: String,
    },
    /// The disk is full.
    #[error("the disk is full: {reason}; nothing was kept")]
    NoSpace {
        /// What was tried.
        reason: String,
    },
    /// The disk refuses.
    #[error("{reason}")]
    Io {
        /// What was tried, and what the system says.
        reason: String,
    },
    /// The request id stands for another request.
    #[error("request id {request_id:?} was used before, for a request with another content")]
    RequestIdReused {
        /// The request id.
        request_id: String,
    },
    /// The collection.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

fn told(existing: &[String]) -> String {
    if existing.is_empty() { "there are none yet".to_owned() } else { format!("there are: {}", existing.join(", ")) }
}

impl SnapshotError {
    /// What a call to the disk was refused with.
    pub(super) fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("cannot {action} {}", path.display());
        move |error| Self::refused(format!("{what}: {error}"), &error)
    }

    fn refused(reason: String, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoSpace { reason },
            _ => Self::Io { reason },
        }
    }

    /// What is wrong with the files of a snapshot. One that is missing, or too short, is damage.
    pub(super) fn of_files(name: &SnapshotName, error: &DiskError) -> Self {
        let reason = error.to_string();
        match error.io() {
            Some(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
                Self::refused(reason, error)
            }
            _ => Self::Damaged { name: name.clone(), reason },
        }
    }

    pub(super) fn of_info(name: &SnapshotName, error: ManifestError) -> Self {
        Self::of_files(name, &DiskError::from(error))
    }

    pub(super) fn of_copy(name: &SnapshotName, error: CopyError) -> Self {
        match error {
            CopyError::Log(error) => Self::Database(RecoverError::Log(error).into()),
            CopyError::Checkpoint(error) => Self::of_files(name, error.reason()),
            CopyError::Disk(error) => Self::of_files(name, &error),
        }
    }

    pub(super) fn of_restored(name: &SnapshotName, error: RecoverError) -> Self {
        match error {
            RecoverError::Disk(error) => Self::of_files(name, &error),
            error => Self::Database(error.into()),
        }
    }
}
