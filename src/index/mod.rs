//! Finding the nearest rows. Knows vectors and row numbers; no ids, no files, no protocol.

pub mod flat;
mod nearest;

pub use nearest::{Nearest, Neighbor};
