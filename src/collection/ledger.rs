//! What the fold of the log remembers beside the records: which requests were answered, and how far streams have come.

use crate::collection::apply::Outcome;
use crate::collection::request::RequestTable;
use crate::collection::stream::StreamTable;

/// Not needed by any reader, and so not a part of the view.
#[derive(Default)]
pub struct Ledger {
    /// Answers by request id.
    pub requests: RequestTable<Outcome>,
    /// Marks by stream.
    pub streams: StreamTable,
}
