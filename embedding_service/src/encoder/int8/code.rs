//! The two kinds of whole numbers that are multiplied: bytes, and words for products that have to be nearer.

use std::fmt::Debug;

use rten_simd::Isa;
use rten_simd::ops::{BitOps, NarrowSaturate};

use super::product::{Kernel, Product};

/// No sum of products is beyond, on either side.
const SUM_MAX: usize = i32::MAX as usize;

/// An activation as a whole number.
pub(super) trait Code: Copy + Default + Debug + Into<i32> + 'static {
    /// What it is multiplied with.
    type Weight: Copy + Default + Debug + Into<i32> + 'static;
    /// The weights of a step of one output.
    type Weights: Copy + Default + Debug + AsRef<[Self::Weight]> + AsMut<[Self::Weight]> + 'static;
    /// Codes of a step.
    const STEP_INPUTS: usize = 4 / size_of::<Self>();

    /// How large codes and weights may be, for sums over `inputs`.
    fn limits(inputs: usize) -> Limits;
    /// Of a whole number within the limits.
    fn weight(weight: f32) -> Self::Weight;
    /// The kernel for this kind.
    fn multiply(kernel: &Kernel) -> fn(Product<'_, Self>);
    /// Stores the codes of four registers, which are within the limits.
    fn store<I: Isa>(isa: I, codes: [I::I32; 4], place: &mut [Self]);
    /// Of a whole number within the limits.
    #[cfg(test)]
    fn code(code: i32) -> Self;
}

/// How large the factors of a product may be, so that sums fit into 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) code_min: i32,
    pub(super) code_max: i32,
    /// On both sides of 0.
    pub(super) weight_max: i32,
}

impl Code for u8 {
    type Weight = i8;
    type Weights = [i8; 4];

    fn limits(inputs: usize) -> Limits {
        let limits = Limits { code_min: 0, code_max: 255, weight_max: 127 };
        assert!(inputs <= SUM_MAX / (255 * 127), "{inputs} inputs");
        limits
    }

    fn weight(weight: f32) -> i8 {
        weight as i8
    }

    fn multiply(kernel: &Kernel) -> fn(Product<'_, Self>) {
        kernel.bytes
    }

    #[inline(always)]
    fn store<I: Isa>(isa: I, codes: [I::I32; 4], place: &mut [Self]) {
        let low = isa.i32().narrow_saturate(codes[0], codes[1]);
        let high = isa.i32().narrow_saturate(codes[2], codes[3]);
        isa.u8().store(isa.i16().narrow_saturate(low, high), place);
    }

    #[cfg(test)]
    fn code(code: i32) -> Self {
        code.try_into().unwrap()
    }
}

impl Code for i16 {
    type Weight = i16;
    type Weights = [i16; 2];

    /// 2,364 for 384 inputs, 836 for 3,072: twelve bits or eleven of each factor.
    fn limits(inputs: usize) -> Limits {
        let most = (SUM_MAX / inputs).isqrt().min(i16::MAX as usize) as i32;
        Limits { code_min: -most, code_max: most, weight_max: most }
    }

    fn weight(weight: f32) -> i16 {
        weight as i16
    }

    fn multiply(kernel: &Kernel) -> fn(Product<'_, Self>) {
        kernel.words
    }

    #[inline(always)]
    fn store<I: Isa>(isa: I, codes: [I::I32; 4], place: &mut [Self]) {
        let (low, high) = place.split_at_mut(place.len() / 2);
        isa.i16().store(isa.i32().narrow_saturate(codes[0], codes[1]), low);
        isa.i16().store(isa.i32().narrow_saturate(codes[2], codes[3]), high);
    }

    #[cfg(test)]
    fn code(code: i32) -> Self {
        code.try_into().unwrap()
    }
}
