//! The blocks of a graph: for each node, in one piece, who its neighbours are and where they lie as seen from it.
//!
//! A block of degree `R` (a multiple of 32) and width `W` is, with everything little-endian and aligned to 64 bytes:
//! `R` node numbers (u32; the highest number where a neighbour is missing), then for each group of 32 neighbours 32
//! constants (f32), 32 slopes (f32) and `4 W` bytes of bits, as `quantization::bits` describes them. Without codes (under
//! 64 components) a block has node numbers only.

use super::memory::{Array, prefetch};
use crate::quantization::bits::{GROUP_ROWS, GroupMut, Neighborhood, group_bytes};

/// Where a node has fewer neighbours than its degree.
pub const MISSING: u32 = u32::MAX;

/// The blocks of all nodes.
pub struct Blocks {
    numbers: Array<u32>,
    degree: usize,
    /// Numbers of a group: constants, slopes and bits.
    group_numbers: usize,
    block_numbers: usize,
    width: usize,
}

/// A block.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    neighbors: &'a [u32],
    groups: &'a [u32],
    group_numbers: usize,
}

impl Blocks {
    /// Blocks without neighbours. `width` is 0 where there are no codes.
    pub fn new(count: usize, degree: usize, width: usize) -> Self {
        assert!(degree > 0 && degree.is_multiple_of(GROUP_ROWS), "neighbours come in groups of {GROUP_ROWS}");
        let group_numbers = if width > 0 { 2 * GROUP_ROWS + group_bytes(width) / 4 } else { 0 };
        let block_numbers = degree + degree / GROUP_ROWS * group_numbers;
        Self { numbers: Array::zeroed(count * block_numbers), degree, group_numbers, block_numbers, width }
    }

    /// Bytes of a block.
    pub fn block_bytes(degree: usize, width: usize) -> usize {
        let group_numbers = if width > 0 { 2 * GROUP_ROWS + group_bytes(width) / 4 } else { 0 };
        4 * (degree + degree / GROUP_ROWS * group_numbers)
    }

    /// Neighbours of a node at most.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// The block of a node.
    #[inline(always)]
    pub fn block(&self, node: u32) -> Block<'_> {
        let numbers = &self.numbers[node as usize * self.block_numbers..][..self.block_numbers];
        let (neighbors, groups) = numbers.split_at(self.degree);
        Block { neighbors, groups, group_numbers: self.group_numbers }
    }

    /// Whether a walk may go by the block of a node: its neighbours exist, or are missing and, where codes tell the distance,
    /// infinitely far, so that nobody visits them. To be asked of blocks that come from a file.
    pub fn is_sound(&self, node: u32, node_count: u32) -> bool {
        let block = self.block(node);
        block.neighbors.iter().enumerate().all(|(place, &neighbor)| match neighbor {
            MISSING if self.width > 0 => {
                let constants = block.neighborhood(place / GROUP_ROWS).constants;
                constants[place % GROUP_ROWS] == f32::INFINITY
            }
            MISSING => true,
            neighbor => neighbor < node_count,
        })
    }

    /// Fetches a block into the cache.
    #[inline(always)]
    pub fn prefetch(&self, node: u32) {
        prefetch(&self.numbers[node as usize * self.block_numbers..][..self.block_numbers]);
    }

    /// Writers for pieces of so many blocks each.
    pub fn pieces(&mut self, nodes: usize) -> impl Iterator<Item = BlocksMut<'_>> {
        let (degree, block_numbers, width) = (self.degree, self.block_numbers, self.width);
        let pieces = self.numbers.chunks_mut(nodes * block_numbers).enumerate();
        pieces.map(move |(piece, numbers)| BlocksMut { first: piece * nodes, numbers, degree, block_numbers, width })
    }

    /// All blocks, one after another.
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The same, to be read from a file.
    pub fn numbers_mut(&mut self) -> &mut Array<u32> {
        &mut self.numbers
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.numbers.bytes()
    }
}

impl<'a> Block<'a> {
    /// A group of 32 neighbours, with missing ones last.
    #[inline(always)]
    pub fn neighbors(&self, group: usize) -> &'a [u32; GROUP_ROWS] {
        &self.neighbors.as_chunks::<GROUP_ROWS>().0[group]
    }

    /// Where a group of neighbours lies.
    #[inline(always)]
    pub fn neighborhood(&self, group: usize) -> Neighborhood<'a> {
        let numbers = &self.groups[group * self.group_numbers..][..self.group_numbers];
        let (constants, rest) = numbers.split_first_chunk::<GROUP_ROWS>().expect("a group has its constants");
        let (slopes, codes) = rest.split_first_chunk::<GROUP_ROWS>().expect("a group has its slopes");
        Neighborhood { codes: bytes(codes), constants: floats(constants), slopes: floats(slopes) }
    }
}

/// Some blocks that are being written.
pub struct BlocksMut<'a> {
    /// Number of the first node.
    pub first: usize,
    numbers: &'a mut [u32],
    degree: usize,
    block_numbers: usize,
    width: usize,
}

impl BlocksMut<'_> {
    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.numbers.len() / self.block_numbers
    }

    /// Writes a block: neighbours, and their components where there are codes.
    pub fn write(
        &mut self,
        index: usize,
        neighbors: &[u32],
        center: &[f32],
        mut components: impl FnMut(u32, &mut Vec<f32>),
    ) {
        let block = &mut self.numbers[index * self.block_numbers..][..self.block_numbers];
        let (numbers, groups) = block.split_at_mut(self.degree);
        numbers.fill(MISSING);
        numbers[..neighbors.len()].copy_from_slice(neighbors);
        if self.width == 0 {
            return;
        }
        let (mut neighbor, mut signs) = (Vec::new(), Vec::new());
        let group_numbers = groups.len() / (self.degree / GROUP_ROWS);
        for (group, numbers) in groups.chunks_exact_mut(group_numbers).enumerate() {
            let (constants, rest) = numbers.split_first_chunk_mut::<GROUP_ROWS>().expect("as in `new`");
            let (slopes, codes) = rest.split_first_chunk_mut::<GROUP_ROWS>().expect("as in `new`");
            let mut group_mut =
                GroupMut { codes: bytes_mut(codes), constants: floats_mut(constants), slopes: floats_mut(slopes) };
            group_mut.clear();
            for (place, &number) in neighbors.iter().skip(group * GROUP_ROWS).take(GROUP_ROWS).enumerate() {
                components(number, &mut neighbor);
                group_mut.set(place, center, &neighbor, &mut signs);
            }
        }
    }
}

fn bytes(numbers: &[u32]) -> &[u8] {
    // SAFETY: every pattern of bits is a byte, and there are four of them in each number.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), 4 * numbers.len()) }
}

fn bytes_mut(numbers: &mut [u32]) -> &mut [u8] {
    // SAFETY: as above, and the reverse holds too.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), 4 * numbers.len()) }
}

fn floats(numbers: &[u32; GROUP_ROWS]) -> &[f32; GROUP_ROWS] {
    // SAFETY: both have the same size and alignment, and every pattern of bits is a number.
    unsafe { &*std::ptr::from_ref(numbers).cast() }
}

fn floats_mut(numbers: &mut [u32; GROUP_ROWS]) -> &mut [f32; GROUP_ROWS] {
    // SAFETY: as above.
    unsafe { &mut *std::ptr::from_mut(numbers).cast() }
}
