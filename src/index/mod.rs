//! Finding the nearest rows. Knows vectors and row numbers; no ids, no files, no protocol.

pub mod coded;
pub mod flat;
pub mod graph;
mod nearest;

pub use nearest::{Nearest, Neighbor};
