//! Distances between f32 vectors. The scalar functions are the definition; the fastest kernels that this processor
//! can run are chosen once, at the first use.
//!
//! A kernel compares several queries with several rows at once, so that each number that is fetched from memory is used more
//! than once: for a batch of queries, arithmetic is the limit and no longer memory. A result does not depend on what it is
//! computed together with: every pair is summed in the same order, alone or among others.
//!
//! `VECTRON_CPU=scalar|avx2|avx512` chooses by hand; what the processor cannot run is never chosen.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::env;
use std::sync::OnceLock;

/// Compares vectors of the same dimension.
pub type Kernel = fn(Block<'_>, out: &mut [f32]);

/// Queries and rows to be compared, each with each.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Queries one after another.
    pub queries: &'a [f32],
    /// Rows one after another.
    pub rows: &'a [f32],
    /// Components of each: at least 1.
    pub dimension: usize,
}

/// The kernels of one instruction set. Each puts the result of query `q` and row `r` at `q * rows + r`.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// `scalar`, `avx2` or `avx512`.
    pub name: &'static str,
    /// Sum of the products of the components.
    pub dot: Kernel,
    /// Sum of the squares of the differences of the components.
    pub squared_euclidean: Kernel,
}

/// The kernels in use.
pub fn kernels() -> &'static Kernels {
    static CHOSEN: OnceLock<Kernels> = OnceLock::new();
    CHOSEN.get_or_init(|| choose(env::var("VECTRON_CPU").ok().as_deref()))
}

/// Every set of kernels that this processor can run, the fastest last.
pub fn available() -> Vec<Kernels> {
    let mut available = vec![scalar::KERNELS];
    #[cfg(target_arch = "x86_64")]
    {
        available.extend(x86::avx2());
        available.extend(x86::avx512());
    }
    available
}

fn choose(wanted: Option<&str>) -> Kernels {
    let available = available();
    let named = available.iter().find(|kernels| Some(kernels.name) == wanted);
    // Never empty: the scalar kernels run everywhere.
    *named.unwrap_or(&available[available.len() - 1])
}

impl Block<'_> {
    /// Rows of the block.
    pub fn row_count(&self) -> usize {
        self.rows.len() / self.dimension
    }

    /// Panics unless every vector is whole and every pair has a place.
    fn check(&self, out: &[f32]) {
        let is_whole =
            self.queries.len().is_multiple_of(self.dimension) && self.rows.len().is_multiple_of(self.dimension);
        assert!(is_whole, "vectors of different spaces are never compared");
        assert_eq!(out.len(), self.queries.len() / self.dimension * self.row_count(), "a place for each pair");
    }
}

#[cfg(test)]
mod tests;
