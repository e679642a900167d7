use std::io;
use std::os::fd::BorrowedFd;

use super::memory::{Array, prefetch};
use super::parallel;
use crate::index::flat::Queries;
use crate::types::norm;

/// The vectors of the nodes as they came, bit for bit.
pub(super) struct Vectors {
    dimension: usize,
    components: Array<f32>,
    inverse_norms: Array<f32>,
}

impl Vectors {
    /// Node `i` gets the vector that `row` says of `i`.
    pub fn new<'a>(dimension: usize, count: usize, threads: usize, row: impl Fn(usize) -> &'a [f32] + Sync) -> Self {
        const PIECE: usize = 1024;
        let mut components = Array::zeroed(count * dimension);
        let mut inverse_norms = Array::zeroed(count);
        let pieces = components.chunks_mut(PIECE * dimension).zip(inverse_norms.chunks_mut(PIECE)).enumerate();
        parallel::for_each(
            threads,
            pieces,
            || (),
            |(), (piece, (components, inverse_norms))| {
                let vectors = components.chunks_exact_mut(dimension).zip(inverse_norms);
                for (index, (components, inverse_norm)) in vectors.enumerate() {
                    components.copy_from_slice(row(piece * PIECE + index));
                    *inverse_norm = (1.0 / norm(components)) as f32;
                }
            },
        );
        Self { dimension, components, inverse_norms }
    }

    /// From arrays that `new` had made.
    pub fn restored(dimension: usize, components: Array<f32>, inverse_norms: Array<f32>) -> Self {
        assert_eq!(components.len(), inverse_norms.len() * dimension, "a length for each vector");
        Self { dimension, components, inverse_norms }
    }

    /// Has the components lie in a file that holds the same from `offset` on: see [`Array::lie_in_file`].
    pub fn lie_in_file(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<bool> {
        self.components.lie_in_file(file, offset)
    }

    /// Of all nodes, one after another.
    pub fn components(&self) -> &[f32] {
        &self.components
    }

    pub fn inverse_norms(&self) -> &[f32] {
        &self.inverse_norms
    }

    #[inline(always)]
    pub fn get(&self, node: u32) -> &[f32] {
        &self.components[node as usize * self.dimension..][..self.dimension]
    }

    #[inline(always)]
    pub fn prefetch(&self, node: u32) {
        prefetch(self.get(node));
    }

    /// The key of a node for the first of some queries.
    #[inline]
    pub fn key(&self, query: &Queries, node: u32) -> f32 {
        query.key(0, self.get(node), self.inverse_norms[node as usize])
    }

    pub fn bytes(&self) -> usize {
        self.components.bytes() + self.inverse_norms.bytes()
    }
}
