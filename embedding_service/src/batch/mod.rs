//! From calls to batches: callers put texts into a bounded queue, threads of lower priority take batches out of it.

mod queue;
mod worker;

pub use queue::{Batch, Call, Done, Item, Limits, Queue, Refused};
pub use worker::Workers;
