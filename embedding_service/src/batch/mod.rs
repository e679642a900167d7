//! From calls to batches: threads of lower priority split texts into tokens; callers put those into a queue, and more
//! threads of lower priority take batches out of it. What is in the queues is bounded by budgets, of bytes and of tokens.

mod budget;
mod pace;
mod priority;
mod queue;
mod schedule;
mod tokenize;
mod worker;

pub(crate) use budget::{Budget, Held, NoRoom, WhenFull};
pub(crate) use queue::{Call, Closed, Queue};
pub(crate) use tokenize::{RefusedText, Texts, TokenizeQueue, Tokenized};
pub(crate) use worker::Workers;
