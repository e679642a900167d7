//! How a command ends: its exit code, and its last words.

use std::fmt::{self, Display};
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the server refused it, or a file could not be read or written
  2  wrong usage
  3  done, but some lines were bad, some ids do not exist, or a log is damaged
  4  no server can be reached
  130  interrupted";

/// How a command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done,
    /// The server refused it, or a file could not be read or written.
    Failed,
    /// The arguments make no sense together; clap answers the same to those that make none alone.
    Usage,
    /// Done but for some lines that were bad, ids that do not exist, or logs that do not open.
    Incomplete,
    /// Nobody answers at the server's address.
    Unreachable,
    /// A signal came.
    Interrupted,
}

impl Exit {
    /// What the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Incomplete => 3,
            Exit::Unreachable => 4,
            Exit::Interrupted => 130,
        }
    }

    /// Done, or done with something missing.
    pub fn complete_if(is_complete: bool) -> Self {
        if is_complete { Exit::Done } else { Exit::Incomplete }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// What the shell sees.
    pub exit: Exit,
    /// What was expected and what came; nothing where whoever reads our output has left, as `head` does.
    pub message: Option<String>,
}

/// How a command ends.
pub type Ended = Result<Exit, Failure>;

impl Failure {
    /// The work cannot be done.
    pub fn new(message: impl Display) -> Self {
        Self { exit: Exit::Failed, message: Some(message.to_string()) }
    }

    /// The arguments make no sense together.
    pub fn usage(message: impl Display) -> Self {
        Self { exit: Exit::Usage, ..Self::new(message) }
    }

    /// Nobody answers.
    pub fn unreachable(message: impl Display) -> Self {
        Self { exit: Exit::Unreachable, ..Self::new(message) }
    }

    /// A file that cannot be read or written.
    pub fn file(what: &str, path: impl Display, error: &io::Error) -> Self {
        Self::new(format_args!("cannot {what} {path}: {error}"))
    }
}

/// Standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, message: None },
            _ => Self::new(format_args!("cannot write to standard output: {error}")),
        }
    }
}

/// JSON on standard output.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match is_unreachable(&status) {
            true => Self::unreachable(Told(&status)),
            false => Self::new(Told(&status)),
        }
    }
}

/// A status as a person reads it: the message, and the reason in brackets.
pub struct Told<'a>(pub &'a Status);

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        match reason(status) {
            Some(reason) => write!(f, "{} [{reason}]", status.message()),
            // From the stack, not from a handler: the cause says more than the message.
            None => {
                let cause = std::error::Error::source(*status).map_or(status.message().to_owned(), innermost);
                let what = if is_unreachable(status) { "the connection to the server failed: " } else { "" };
                write!(f, "{what}{cause} [{:?}]", status.code())
            }
        }
    }
}

/// The machine-readable reason; `None` where the status is not the server's own.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Whether the connection failed, rather than the call.
pub fn is_unreachable(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
    reason(status).is_none() && codes.contains(&status.code())
}

/// The last cause of an error: what the operating system said, where it did.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
