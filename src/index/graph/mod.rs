//! A segment's graph of near neighbours: walked to find the nearest rows, fast and nearly always right; and its codes, which
//! find them for certain, row after row.
//!
//! The graph is flat and of fixed degree, with the neighbours of each node kept beside it in one bit a component, as in
//! SymphonyQG (arXiv 2411.12229). Other than there, the distance of a node itself is computed from 8-bit codes, which
//! are also what scans read: a hop reads 2.3 KiB of 384 components where it would read 3.5 KiB, and the few rows that come out are
//! compared again by their own components.
//!
//! Invariants: every node can be reached from the nodes where walks begin; the same vectors, options and seed give the same
//! graph, with any number of threads; a graph never changes. Identical vectors share a node. Knows nothing of ids, of deletes
//! or of filters: callers say which rows count.

mod build;
mod calibrate;
mod codec;
mod frontier;
mod layout;
mod memory;
mod options;
mod parallel;
mod points;
mod search;
mod vectors;
mod walk;

use std::ops::Range;

pub use build::{Built, Stopped};
pub use codec::{INVERSE_NORMS, Look, NODES, Residence, Sections, VECTORS};
pub use options::{GraphOptions, Task};
pub use search::{Hit, Rows, Scores, Wanted};
pub use walk::{Scratch, Walk, WalkStats};

use calibrate::Calibration;
use layout::Blocks;
use points::{Group, Points, Transform};
use vectors::Vectors;

/// A graph over vectors that do not change any more.
pub struct Graph {
    transform: Transform,
    points: Points,
    blocks: Blocks,
    vectors: Vectors,
    /// Nodes where walks begin, and where they lie.
    entries: Vec<u32>,
    entry_points: Group,
    calibration: Calibration,
    twins: Option<Twins>,
    node_count: u32,
}

/// Which rows share a node; none where every row has its own.
struct Twins {
    /// The rows of node `i` are those from `first_rows[i]` to `first_rows[i + 1]`.
    first_rows: Vec<u32>,
    nodes: Vec<u32>,
}

/// Bytes in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphBytes {
    /// Blocks: neighbours and their bits.
    pub blocks: usize,
    /// 8-bit codes.
    pub codes: usize,
    /// Vectors as they came.
    pub vectors: usize,
}

impl Graph {
    /// Rows.
    pub fn row_count(&self) -> usize {
        self.twins.as_ref().map_or(self.node_count(), |twins| twins.nodes.len())
    }

    /// Components that are compared for a row.
    pub fn width(&self) -> usize {
        self.transform.width()
    }

    /// The vector of a row, bit for bit.
    pub fn vector(&self, row: u32) -> &[f32] {
        self.vectors.get(self.node_of(row))
    }

    /// How far a walk reaches so that its mean recall is as asked: calibrated when the graph was built. None where no walk
    /// that was measured has that recall.
    pub fn reach(&self, k: usize, target_recall: f64) -> Option<f32> {
        self.calibration.reach(k, target_recall)
    }

    /// Nodes that such a walk visits, as far as is known.
    pub fn hops(&self, k: usize, reach: f32) -> f64 {
        self.calibration.hops(k, reach)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> GraphBytes {
        GraphBytes { blocks: self.blocks.bytes(), codes: self.points.bytes(), vectors: self.vectors.bytes() }
    }

    fn node_count(&self) -> usize {
        self.node_count as usize
    }

    #[inline(always)]
    fn rows_of(&self, node: u32) -> Range<u32> {
        match &self.twins {
            None => node..node + 1,
            Some(twins) => twins.first_rows[node as usize]..twins.first_rows[node as usize + 1],
        }
    }

    #[inline(always)]
    fn node_of(&self, row: u32) -> u32 {
        self.twins.as_ref().map_or(row, |twins| twins.nodes[row as usize])
    }
}

#[cfg(test)]
mod tests;
