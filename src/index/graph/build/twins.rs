//! Rows with identical vectors, which share a node.

use xxhash_rust::xxh3::xxh3_64;

use crate::index::graph::{Twins, parallel};

/// Rows in groups of identical vectors, in the order of their first rows.
pub struct Groups {
    rows: Vec<u32>,
    /// Group `i` has the rows from `firsts[i]` to `firsts[i + 1]`.
    firsts: Vec<u32>,
}

/// Finds identical vectors.
pub fn group<'a>(row_count: usize, threads: usize, row: &(impl Fn(usize) -> &'a [f32] + Sync)) -> Groups {
    const PIECE: usize = 4096;
    let bits = |row: &[f32]| row.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect::<Vec<u8>>();
    let mut hashed = vec![(0_u64, 0_u32); row_count];
    parallel::for_each(
        threads,
        hashed.chunks_mut(PIECE).enumerate(),
        || (),
        |(), (piece, hashed)| {
            for (index, hashed) in hashed.iter_mut().enumerate() {
                let number = piece * PIECE + index;
                *hashed = (xxh3_64(&bits(row(number))), number as u32);
            }
        },
    );
    hashed.sort_unstable();
    let is_same = |a: u32, b: u32| {
        let (a, b) = (row(a as usize), row(b as usize));
        a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    // For each row the first that is the same. Rows with the same hash are all but always the same.
    let mut firsts: Vec<u32> = (0..row_count as u32).collect();
    for same_hash in hashed.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
        for (place, &(_, row)) in same_hash.iter().enumerate() {
            let before = same_hash[..place].iter().map(|before| before.1);
            let mut distinct = before.filter(|&before| firsts[before as usize] == before);
            if let Some(first) = distinct.find(|&first| is_same(first, row)) {
                firsts[row as usize] = first;
            }
        }
    }
    let mut rows: Vec<u32> = (0..row_count as u32).collect();
    rows.sort_by_key(|&row| firsts[row as usize]);
    let mut starts = Vec::new();
    for (place, &row) in rows.iter().enumerate() {
        if firsts[row as usize] == row {
            starts.push(place as u32);
        }
    }
    starts.push(row_count as u32);
    Groups { rows, firsts: starts }
}

impl Groups {
    /// How many distinct vectors there are.
    pub fn len(&self) -> usize {
        self.firsts.len() - 1
    }

    /// The rows of a group.
    pub fn rows(&self, group: usize) -> &[u32] {
        &self.rows[self.firsts[group] as usize..self.firsts[group + 1] as usize]
    }

    /// All rows, group after group in the given order; and who shares a node then.
    pub fn in_order(&self, order: &[u32]) -> (Vec<u32>, Option<Twins>) {
        let rows: Vec<u32> = order.iter().flat_map(|&group| self.rows(group as usize)).copied().collect();
        if rows.len() == order.len() {
            return (rows, None);
        }
        let mut first_rows = vec![0];
        let mut nodes = Vec::with_capacity(rows.len());
        for (node, &group) in order.iter().enumerate() {
            nodes.resize(nodes.len() + self.rows(group as usize).len(), node as u32);
            first_rows.push(nodes.len() as u32);
        }
        (rows, Some(Twins { first_rows, nodes }))
    }
}
