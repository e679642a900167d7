//! Distances between f32 vectors. The scalar functions are the definition; the fastest kernels that this processor
//! can run are chosen once, at the first use.
//!
//! `VECTRON_CPU=scalar|avx2|avx512` chooses by hand; what the processor cannot run is never chosen.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::env;
use std::sync::OnceLock;

/// Compares two vectors of the same length.
pub type Kernel = fn(&[f32], &[f32]) -> f32;

/// The kernels of one instruction set.
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

#[cfg(test)]
mod tests;
