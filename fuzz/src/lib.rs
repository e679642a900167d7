//! What the fuzzer gives to the decoders of the storage, a target in a file each. `tests/fuzz` of the store runs
//! the same code over the corpus, without a fuzzer.
//!
//! - `operation`: one record's payload. Nothing covers it with a checksum by itself.
//! - `log`: the files of a log, of a collection or of the catalogue.
//! - `manifest`: a manifest, over parts that are as they should be.
//! - `segment`: a manifest and its files of rows, graphs and answers.
//! - `snapshot`: the archive of a snapshot, as anybody may send it.
//!
//! Invariant of all: what is refused is refused with a reason; what opens can be read whole; nothing panics, hangs, or asks
//! for more memory than `allocator` allows. Inputs are compact (`packed`), and their checksums, and what else no mutation
//! could get right by itself, are put right before they are decoded (`seal`), so that all goes through the public door.

pub mod allocator;
pub mod log;
pub mod manifest;
pub mod operation;
pub mod packed;
pub mod read;
pub mod seal;
pub mod segment;
pub mod snapshot;

/// A target's name, which is that of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("log", log::run),
    ("manifest", manifest::run),
    ("operation", operation::run),
    ("segment", segment::run),
    ("snapshot", snapshot::run),
];
