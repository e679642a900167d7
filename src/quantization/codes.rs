//! 8-bit codes: every component in 255 steps between the largest and its opposite.
//!
//! Code `c` of a vector with step `s` stands for the component `(c - 128) * s`; `c` is 1 to 255. What rounding loses is
//! kept beside it as a length, so that an estimate comes with a bound that holds: by Cauchy and Schwarz,
//! `|x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'|`.

use super::kernels::kernels;

/// What stands beside the codes of a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scale {
    /// Length of a step.
    pub step: f32,
    /// Length of what rounding lost.
    pub error: f32,
}

/// A query in codes.
#[derive(Clone, Debug, Default)]
pub struct CodedQuery {
    /// Codes less 128, for the signed side of the kernels.
    pub codes: Vec<i8>,
    /// How they are read.
    pub scale: Scale,
    unsigned: Vec<u8>,
}

/// The codes of a vector; as many as it has components.
pub fn encode(vector: &[f32], codes: &mut [u8]) -> Scale {
    assert_eq!(vector.len(), codes.len(), "a code for each component");
    let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let step = largest / 127.0;
    // Of zeros, and of what is so small that its steps are nothing, nothing is left.
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    if !inverse.is_finite() || inverse == 0.0 {
        codes.fill(128);
        let length: f32 = vector.iter().map(|x| x * x).sum();
        return Scale { step: 0.0, error: length.sqrt() };
    }
    (kernels().encode)(vector, inverse, codes);
    let mut lost = [0.0_f32; 16];
    let (sixteens, rest) = vector.as_chunks::<16>();
    for (x, codes) in sixteens.iter().zip(codes.as_chunks::<16>().0) {
        for lane in 0..16 {
            let rest = x[lane] - (i32::from(codes[lane]) - 128) as f32 * step;
            lost[lane] += rest * rest;
        }
    }
    for (&x, &code) in rest.iter().zip(&codes[vector.len() - rest.len()..]) {
        lost[0] += (x - (i32::from(code) - 128) as f32 * step).powi(2);
    }
    Scale { step, error: lost.iter().sum::<f32>().sqrt() }
}

impl CodedQuery {
    /// Codes of a query, over the old ones.
    pub fn set(&mut self, vector: &[f32]) {
        self.unsigned.resize(vector.len(), 0);
        self.codes.resize(vector.len(), 0);
        self.scale = encode(vector, &mut self.unsigned);
        signed(&self.unsigned, &mut self.codes);
    }
}

/// Codes of a row for the query's side of the kernels.
pub fn signed(codes: &[u8], out: &mut [i8]) {
    assert_eq!(codes.len(), out.len(), "a code for each component");
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = (code ^ 0x80) as i8;
    }
}

/// The components that codes stand for.
pub fn decode(codes: &[u8], step: f32, out: &mut [f32]) {
    assert_eq!(codes.len(), out.len(), "a code for each component");
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = (f32::from(code) - 128.0) * step;
    }
}
