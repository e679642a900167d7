//! From calls to batches: threads of lower priority split texts into tokens; callers put those into a bounded queue, and
//! more threads of lower priority take batches out of it.

mod priority;
mod queue;
mod tokenize;
mod worker;

pub(crate) use queue::{Call, Limits, Queue, Refused};
pub(crate) use tokenize::{RefusedText, Texts, TokenizeQueue, Tokenized};
pub(crate) use worker::Workers;
