//! Products of unsigned and signed bytes, summed as whole numbers.
//!
//! The scalar kernel is the definition; the fastest that the processor can run is chosen once, at the first use, and
//! `VECTRON_CPU=scalar|avx2|avxvnni|avx512` chooses by hand. Every kernel gives the same numbers: 255 x 127 x 65,536
//! inputs still fit into 32 bits, and none of them saturates.

use std::env;
use std::sync::OnceLock;

/// Outputs of a panel.
pub(super) const PANEL_OUTPUTS: usize = 64;
/// Inputs that lie next to each other for one output: what one lane of an instruction sums.
pub(super) const STEP_INPUTS: usize = 4;
/// Vectors of 64 weights in which a panel has four inputs of all its outputs.
pub(super) const STEP_LINES: usize = PANEL_OUTPUTS * STEP_INPUTS / 64;

/// 64 weights, which are one line of the cache: four inputs of 16 outputs, `[output][input]`.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i8; 64]);

/// `sums[row][output]` = sum of `rows[row][input]` x weight of `[input][output]`.
pub(super) struct Product<'a> {
    /// Codes of some rows, one row after the other.
    pub(super) rows: &'a [u8],
    /// Codes of a row: a multiple of `STEP_INPUTS`.
    pub(super) inputs: usize,
    /// The weights of `PANEL_OUTPUTS` outputs: for each step `STEP_LINES` lines.
    pub(super) panel: &'a [Line],
    /// `PANEL_OUTPUTS` for each row.
    pub(super) sums: &'a mut [i32],
}

/// The kernel of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// `scalar`, `avx2`, `avxvnni` or `avx512`.
    pub(super) name: &'static str,
    pub(super) multiply: fn(Product<'_>),
}

/// The kernel in use.
pub(super) fn kernel() -> Kernel {
    static CHOSEN: OnceLock<Kernel> = OnceLock::new();
    *CHOSEN.get_or_init(|| choose(env::var("VECTRON_CPU").ok().as_deref()))
}

/// Every kernel that this processor can run, the fastest last.
fn available() -> Vec<Kernel> {
    let mut available = vec![Kernel { name: "scalar", multiply: scalar }];
    #[cfg(target_arch = "x86_64")]
    available.extend(super::x86::available());
    available
}

fn choose(wanted: Option<&str>) -> Kernel {
    let available = available();
    let named = available.iter().find(|kernel| Some(kernel.name) == wanted);
    // Never empty: the scalar kernel runs everywhere.
    *named.unwrap_or(&available[available.len() - 1])
}

impl Product<'_> {
    /// Panics unless every row and the panel are whole, and every sum has a place. Returns the number of rows.
    pub(super) fn check(&self) -> usize {
        assert!(self.inputs > 0 && self.inputs.is_multiple_of(STEP_INPUTS), "{} inputs", self.inputs);
        assert_eq!(self.panel.len(), self.inputs / STEP_INPUTS * STEP_LINES, "a panel for {} inputs", self.inputs);
        let rows = self.rows.len() / self.inputs;
        assert_eq!(self.rows.len(), rows * self.inputs, "whole rows");
        assert_eq!(self.sums.len(), rows * PANEL_OUTPUTS, "a place for each sum");
        rows
    }
}

/// The definition.
fn scalar(product: Product<'_>) {
    product.check();
    let rows = product.rows.chunks_exact(product.inputs);
    for (row, sums) in rows.zip(product.sums.chunks_exact_mut(PANEL_OUTPUTS)) {
        sums.fill(0);
        for (codes, lines) in row.chunks_exact(STEP_INPUTS).zip(product.panel.chunks_exact(STEP_LINES)) {
            let weights = lines.iter().flat_map(|line| line.0.chunks_exact(STEP_INPUTS));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                for (code, weight) in codes.iter().zip(weights) {
                    *sum += i32::from(*code) * i32::from(*weight);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random, with the extremes among them.
    fn noise(count: usize, mut state: u32) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 29 {
                0 => 0,
                1 => 255,
                _ => (state >> 16) as u8,
            }
        };
        (0..count).map(|_| next()).collect()
    }

    fn multiply(kernel: Kernel, rows: &[u8], inputs: usize, panel: &[Line]) -> Vec<i32> {
        let mut sums = vec![i32::MIN; rows.len() / inputs * PANEL_OUTPUTS];
        (kernel.multiply)(Product { rows, inputs, panel, sums: &mut sums });
        sums
    }

    #[test]
    fn the_definition_is_a_sum_of_products() {
        let mut panel = [Line([0; 64]); 2 * STEP_LINES];
        // Output 17, inputs 2 and 5.
        panel[1].0[4 + 2] = -127;
        panel[STEP_LINES + 1].0[4 + 1] = 3;
        let rows = [1, 2, 255, 4, 5, 6, 7, 8, 0, 0, 1, 0, 0, 200, 0, 0];
        let sums = multiply(available()[0], &rows, 8, &panel);
        assert_eq!((sums[17], sums[PANEL_OUTPUTS + 17]), (255 * -127 + 6 * 3, -127 + 600));
        assert!(sums.iter().enumerate().all(|(at, sum)| at % PANEL_OUTPUTS == 17 || *sum == 0));
    }

    #[test]
    fn every_kernel_gives_the_numbers_of_the_definition() {
        let available = available();
        for inputs in [4, 8, 64, 100, 384, 1536] {
            let bytes = noise(inputs * PANEL_OUTPUTS, 7);
            let line = |bytes: &[u8]| Line(std::array::from_fn(|i| (bytes[i] as i8).max(-127)));
            let panel: Vec<Line> = bytes.chunks_exact(64).map(line).collect();
            for rows in 0..15 {
                let rows = noise(rows * inputs, 11);
                let expected = multiply(available[0], &rows, inputs, &panel);
                for kernel in &available[1..] {
                    let got = multiply(*kernel, &rows, inputs, &panel);
                    assert!(got == expected, "{}: {} rows of {inputs}", kernel.name, rows.len() / inputs);
                }
            }
        }
    }

    #[test]
    fn the_largest_sums_are_exact() {
        let inputs = 4096;
        let panel = vec![Line([-127; 64]); inputs / STEP_INPUTS * STEP_LINES];
        for kernel in available() {
            let sums = multiply(kernel, &vec![255; inputs], inputs, &panel);
            assert!(sums.iter().all(|sum| *sum == -127 * 255 * 4096), "{}", kernel.name);
        }
    }

    #[test]
    fn a_name_that_is_unknown_chooses_the_fastest() {
        assert_eq!(choose(Some("scalar")).name, "scalar");
        assert_eq!(choose(Some("mmx")).name, choose(None).name);
    }
}
