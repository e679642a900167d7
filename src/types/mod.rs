//! The store's vocabulary: what a record, a vector and a space are. Knows no file, no protocol, no index.
//!
//! A value of these types is valid: whoever holds one need not check it again.

mod id;
pub mod limits;
mod metric;
mod name;
mod row_check;
mod sequence;
mod space;
mod stream_id;
mod value;
mod vector;

pub use id::{InvalidId, RecordId};
pub use metric::Metric;
pub use name::{CollectionName, InvalidName, SnapshotName, SpaceName};
pub use row_check::{RowCheck, UnfitRow, check_row};
pub use sequence::Sequence;
pub use space::{Space, TextModel};
pub use stream_id::{InvalidStreamId, StreamId};
pub use value::{InvalidMetadata, Metadata, Value};
pub use vector::{Dimension, InvalidVector, Vector, norm};
