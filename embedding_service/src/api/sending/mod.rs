//! Answers on their way to their clients.
//!
//! An answer holds its part of the budget of bytes until it is sent: else clients that do not read their answers could fill the
//! memory with them. What a client reads nothing of for `UNREAD_TIME_MAX` is dropped, and with it what it holds; the client is
//! told when it reads on. Until then, or until it goes, its stream of the connection stays.

mod bodies;
mod streams;
mod unread;

use std::time::Duration;

pub(super) use bodies::{UntilSent, in_pieces};
pub(super) use streams::Reading;

/// How long a client may read nothing of its answer.
const UNREAD_TIME_MAX: Duration = Duration::from_secs(60);
