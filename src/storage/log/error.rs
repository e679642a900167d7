//! What can go wrong with a log. An error of one group goes to all of its callers, so errors can be cloned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::Sequence;

/// Why a log could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// A record that was known to be durable, or something no power cut can break, does not verify. Nothing was
    /// changed.
    #[error("log file {} is damaged at offset {offset}, where sequence {sequence} should be: {reason}", file.display())]
    Damaged {
        /// The file with the break.
        file: PathBuf,
        /// Where in the file: the start of the group that does not hold.
        offset: u64,
        /// The sequence that should have come.
        sequence: Sequence,
        /// What was expected and what was found.
        reason: String,
    },
    /// A later version of this program has written here.
    #[error("log file {} has format {found}, this version reads up to {supported}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format, or that of a group or record in it.
        found: u32,
        /// The newest format this version knows.
        supported: u32,
    },
    /// There is no log in the folder: it was never created, or creating it did not finish.
    #[error("there is no log in {}", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// There is a log in the folder already.
    #[error("there is a log in {} already", folder.display())]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// A write or a sync has failed. Nobody knows what is on the disk until the log is opened anew.
    #[error("the log takes no more writes until it is opened anew: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// Too much is waiting to be written; try again.
    #[error(
        "{pending_bytes} bytes wait to be written, {append_bytes} more would exceed the {pending_bytes_max} allowed"
    )]
    Full {
        /// What is waiting.
        pending_bytes: u64,
        /// What was to be appended.
        append_bytes: u64,
        /// What may wait.
        pending_bytes_max: u64,
    },
    /// One append is larger than all that may ever wait, or than 4 GiB. Each record counts 40 bytes more than its
    /// payload.
    #[error("an append has at most {append_bytes_max} bytes, this one has {append_bytes}")]
    TooLarge {
        /// What was to be appended.
        append_bytes: u64,
        /// What can be.
        append_bytes_max: u64,
    },
    /// An append without payloads.
    #[error("an append has at least one payload, this one has none")]
    Empty,
    /// The disk is full. Nothing of the append was written and it has no sequence; later ones may succeed.
    #[error("no space on the disk for {bytes} more bytes in {}", file.display())]
    NoSpace {
        /// The file that was to grow or to be created.
        file: PathBuf,
        /// What was to be written.
        bytes: u64,
    },
    /// A later writer has taken over.
    #[error("this writer has epoch {epoch}, but the log accepts {fence} and later")]
    Fenced {
        /// Ours.
        epoch: u64,
        /// The least that is accepted.
        fence: u64,
    },
    /// The records asked for were dropped.
    #[error("the log begins at sequence {first}, {asked} was dropped")]
    Truncated {
        /// What was asked for.
        asked: Sequence,
        /// What there is.
        first: Sequence,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The file system refused.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the file system said.
        #[source]
        error: Arc<io::Error>,
    },
}

impl LogError {
    pub(super) fn damaged(file: &Path, offset: u64, sequence: Sequence, reason: String) -> Self {
        Self::Damaged { file: file.to_owned(), offset, sequence, reason }
    }

    /// Whether it is damage in this file.
    pub(super) fn is_in(&self, path: &Path) -> bool {
        matches!(self, Self::Damaged { file, .. } if file == path)
    }

    /// For `map_err`: says what was tried, and on what.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), error: Arc::new(error) }
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E> {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record verified, but who replays it refused it.
    #[error("cannot replay the record with sequence {sequence}: {error}")]
    Replay {
        /// The record.
        sequence: Sequence,
        /// Why.
        error: E,
    },
}
