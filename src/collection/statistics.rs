use std::time::Duration;

use crate::collection::view::{SpaceNumber, View};

/// Sizes of what a collection holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Segments in all spaces.
    pub segment_count: usize,
    /// Live rows of segments.
    pub segment_rows: usize,
    /// Live rows of memtables, and of tables that wait to be built.
    pub table_rows: usize,
    /// Rows of segments that are dead and wait to be left behind.
    pub dead_rows: usize,
    /// Rows that were built into segments since the start, those that were built again among them.
    pub rows_built: u64,
    /// Time that building has taken.
    pub build_time: Duration,
    /// Bytes of the blocks of graphs.
    pub graph_bytes: u64,
    /// Bytes of 8-bit codes.
    pub code_bytes: u64,
    /// Bytes of vectors as they came.
    pub vector_bytes: u64,
    /// Bytes of ids, texts, metadata and its indexes, as far as can be told: what the allocator adds is not in it.
    pub other_bytes: u64,
}

impl Statistics {
    pub(super) fn of(view: &View, (rows_built, build_time): (u64, Duration)) -> Self {
        let mut statistics = Self { rows_built, build_time, ..Self::default() };
        for space in (0..view.spaces.len() as u16).map(SpaceNumber) {
            let parts = view.parts(space);
            for (_, table) in parts.tables() {
                let (code_bytes, vector_bytes) = table.bytes();
                statistics.table_rows += table.live_count();
                statistics.code_bytes += code_bytes as u64;
                statistics.vector_bytes += vector_bytes as u64;
                statistics.other_bytes += table.live().map(|(row, _)| table.row(row).bytes() as u64).sum::<u64>();
            }
            for held in parts.segments() {
                let bytes = held.segment.graph().bytes();
                statistics.segment_count += 1;
                statistics.segment_rows += held.live_count();
                statistics.dead_rows += held.dead.len();
                statistics.graph_bytes += bytes.blocks as u64;
                statistics.code_bytes += bytes.codes as u64;
                statistics.vector_bytes += bytes.vectors as u64;
                statistics.other_bytes += held.segment.record_bytes() as u64;
            }
        }
        statistics
    }
}
