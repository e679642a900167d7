//! Bytes and crashes: what the engine needs from a disk, and what it may rely on after an accident.
//!
//! - [`fs`]: the file system behind one trait: the real one, and a simulated one that loses power on demand.
//! - [`log`]: the write-ahead log: opaque records with gap-free numbers and a stated promise for each.
//! - [`sections`]: files that are written once, in sections that verify piece by piece.
//! - [`manifest`]: one small message that is replaced as a whole.
//! - [`lock`]: keeps a second process out of a folder.
//! - [`space`]: keeps some of the disk free.
//! - [`memory`]: what may be loaded at the start.
//!
//! Knows nothing about vectors: records are bytes, `collection::op` gives them meaning. The bytes on disk are described
//! in `docs/data_format.md`.

#[cfg(test)]
pub mod forge;
pub mod fs;
pub mod lock;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod sections;
pub mod space;
