//! Vectors in few bits, and how queries are compared with them.
//!
//! A vector is first turned at random, so that no component is more important than another ([`Rotation`]). Then it is kept
//! as 8-bit codes ([`codes`]), which estimate a distance to some tenths of a percent, or as one bit a component
//! ([`bits`]), which estimates it roughly, but for 32 vectors at once.
//!
//! As in `distance`, the scalar kernels are the definition; the fastest that the processor can run are chosen once, and
//! `VECTRON_CPU=scalar|avx2|avx512` chooses by hand. Knows no rows, no ids and no index.

pub mod bits;
pub mod codes;
mod kernels;
mod rotation;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use kernels::{Kernels, available, kernels};
pub use rotation::Rotation;

#[cfg(test)]
mod tests;
