use std::env;
use std::sync::OnceLock;

use super::bits::{Estimates, GROUP_ROWS, Neighborhood, Residual};
use super::scalar;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// `scalar`, `avx2` or `avx512`.
    pub name: &'static str,
    /// Dot products of 8-bit codes: `(queries, rows, width, out)`, query `q` and row `r` at `q * rows + r`. Queries are
    /// signed, rows are codes less 128. Every kernel gives the same whole numbers.
    pub dot_codes: fn(&[i8], &[u8], usize, &mut [i32]),
    /// Codes of a vector `(components, inverse of the step)`, of at most 127 steps each.
    pub encode: fn(&[f32], f32, &mut [u8]),
    /// Estimates the distances of a group of 32 vectors by their bits.
    pub estimate: fn(&Estimates<'_>, &Neighborhood<'_>, &mut [f32; GROUP_ROWS]),
    /// The table of a query `(components, inverse of the step)`: 16 sums for every four components.
    pub tabulate: fn(&[f32], f32, &mut [u8]),
    /// The signs of the residual `(centre, vector)`, a bit for each component that is not negative, and its lengths. There is a
    /// multiple of 64 components.
    pub residual: fn(&[f32], &[f32], &mut [u8]) -> Residual,
    /// The Walsh-Hadamard transform, times a scale. The width is a power of two, and at least 64.
    pub transform: fn(&mut [f32], f32),
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

/// Panics unless every vector is whole and every pair has a place. Returns the number of rows.
pub(super) fn check(queries: &[i8], rows: &[u8], width: usize, out: &[i32]) -> usize {
    assert!(queries.len().is_multiple_of(width) && rows.len().is_multiple_of(width), "codes of one space");
    let row_count = rows.len() / width;
    assert_eq!(out.len(), queries.len() / width * row_count, "a place for each pair");
    row_count
}
