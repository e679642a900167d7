//! Products of whole numbers: activations and weights both in one byte, or both in two.
//!
//! The scalar kernel is the definition; the fastest that the processor can run is chosen once, at the first use, and
//! `VECTRON_CPU=scalar|avx2|avxvnni|avx512` chooses by hand. Every kernel gives the same numbers: no sum leaves 32 bits
//! (see `Limits`), and none of them saturates.
//!
//! Four bytes of codes are a step, which is what one lane of an instruction sums: four inputs in bytes, two in words. A product
//! of words takes twice the steps, and is otherwise the same.

use std::env;
use std::sync::OnceLock;

use super::code::Code;

/// Outputs of a panel.
pub(super) const PANEL_OUTPUTS: usize = 64;
/// Outputs of a line.
pub(super) const LINE_OUTPUTS: usize = 16;
/// Lines in which a panel has the weights of a step of all its outputs.
pub(super) const STEP_LINES: usize = PANEL_OUTPUTS / LINE_OUTPUTS;

/// One line of the cache: the weights of a step of `LINE_OUTPUTS` outputs, `[output][input]`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Line<C: Code>(pub(super) [C::Weights; LINE_OUTPUTS]);

/// `sums[row][output]` = sum of `rows[row][input]` x weight of `[input][output]`.
pub(super) struct Product<'a, C: Code> {
    /// Codes of some rows, one row after the other.
    pub(super) rows: &'a [C],
    /// Codes of a row: a multiple of `C::STEP_INPUTS`.
    pub(super) inputs: usize,
    /// The weights of `PANEL_OUTPUTS` outputs: for each step `STEP_LINES` lines.
    pub(super) panel: &'a [Line<C>],
    /// `PANEL_OUTPUTS` for each row.
    pub(super) sums: &'a mut [i32],
}

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    /// `scalar`, `avx2`, `avxvnni` or `avx512`.
    pub(super) name: &'static str,
    pub(super) bytes: fn(Product<'_, u8>),
    pub(super) words: fn(Product<'_, i16>),
}

/// The kernel in use.
pub(super) fn kernel() -> Kernel {
    static CHOSEN: OnceLock<Kernel> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let wanted = env::var("VECTRON_CPU").ok().filter(|wanted| !wanted.is_empty());
        let available = available();
        let chosen = choose(wanted.as_deref(), &available);
        if let Some(wanted) = wanted.filter(|wanted| wanted != chosen.name) {
            let names: Vec<&str> = available.iter().map(|kernel| kernel.name).collect();
            tracing::warn!(
                "VECTRON_CPU is `{wanted}`, and this processor has {}: {} it is, for products in int8",
                names.join(", "),
                chosen.name
            );
        }
        chosen
    })
}

/// Every kernel that this processor can run, the fastest last.
fn available() -> Vec<Kernel> {
    let mut available = vec![Kernel { name: "scalar", bytes: scalar, words: scalar }];
    #[cfg(target_arch = "x86_64")]
    available.extend(super::x86::available());
    available
}

/// The wanted one, or the fastest.
fn choose(wanted: Option<&str>, available: &[Kernel]) -> Kernel {
    let named = available.iter().find(|kernel| Some(kernel.name) == wanted);
    // Never empty: the scalar kernel runs everywhere.
    *named.unwrap_or(&available[available.len() - 1])
}

impl<C: Code> Product<'_, C> {
    /// Panics unless every row and the panel are whole, and every sum has a place. Returns the number of rows.
    pub(super) fn check(&self) -> usize {
        assert!(self.inputs > 0 && self.inputs.is_multiple_of(C::STEP_INPUTS), "{} inputs", self.inputs);
        assert_eq!(self.panel.len(), self.inputs / C::STEP_INPUTS * STEP_LINES, "a panel for {} inputs", self.inputs);
        let rows = self.rows.len() / self.inputs;
        assert_eq!(self.rows.len(), rows * self.inputs, "whole rows");
        assert_eq!(self.sums.len(), rows * PANEL_OUTPUTS, "a place for each sum");
        rows
    }
}

/// The definition.
fn scalar<C: Code>(product: Product<'_, C>) {
    product.check();
    let rows = product.rows.chunks_exact(product.inputs);
    for (row, sums) in rows.zip(product.sums.chunks_exact_mut(PANEL_OUTPUTS)) {
        sums.fill(0);
        for (codes, lines) in row.chunks_exact(C::STEP_INPUTS).zip(product.panel.chunks_exact(STEP_LINES)) {
            let weights = lines.iter().flat_map(|line| &line.0);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                for (code, weight) in codes.iter().zip(weights.as_ref()) {
                    let (code, weight): (i32, i32) = ((*code).into(), (*weight).into());
                    *sum += code * weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from `least` to `most` that look random, with the extremes among them.
    fn noise(count: usize, mut state: u32, least: i32, most: i32) -> Vec<i32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match state >> 29 {
                0 => least,
                1 => most,
                _ => least + (state >> 12) as i32 % (most - least + 1),
            }
        };
        (0..count).map(|_| next()).collect()
    }

    /// `weights` has a row for each output.
    fn panel<C: Code>(weights: &[i32], inputs: usize) -> Vec<Line<C>> {
        let mut panel = vec![Line::default(); inputs / C::STEP_INPUTS * STEP_LINES];
        for (at, weight) in weights.iter().enumerate() {
            let (output, input) = (at / inputs, at % inputs);
            let line: &mut Line<C> = &mut panel[input / C::STEP_INPUTS * STEP_LINES + output / LINE_OUTPUTS];
            line.0[output % LINE_OUTPUTS].as_mut()[input % C::STEP_INPUTS] = C::weight(*weight as f32);
        }
        panel
    }

    fn multiply<C: Code>(kernel: Kernel, rows: &[i32], inputs: usize, panel: &[Line<C>]) -> Vec<i32> {
        let rows: Vec<C> = rows.iter().map(|code| C::code(*code)).collect();
        let mut sums = vec![i32::MIN; rows.len() / inputs * PANEL_OUTPUTS];
        C::multiply(&kernel)(Product { rows: &rows, inputs, panel, sums: &mut sums });
        sums
    }

    fn is_a_sum_of_products<C: Code>() {
        let mut weights = [0; 8 * PANEL_OUTPUTS];
        weights[17 * 8 + 2] = -127;
        weights[17 * 8 + 5] = 3;
        let rows = [1, 2, 255, 4, 5, 6, 7, 8, 0, 0, 1, 0, 0, 200, 0, 0];
        let sums = multiply(available()[0], &rows, 8, &panel::<C>(&weights, 8));
        assert_eq!((sums[17], sums[PANEL_OUTPUTS + 17]), (255 * -127 + 6 * 3, -127 + 600));
        assert!(sums.iter().enumerate().all(|(at, sum)| at % PANEL_OUTPUTS == 17 || *sum == 0));
    }

    #[test]
    fn the_definition_is_a_sum_of_products() {
        is_a_sum_of_products::<u8>();
        is_a_sum_of_products::<i16>();
    }

    fn is_that_of_the_definition<C: Code>() {
        let available = available();
        for inputs in [4, 8, 64, 100, 384, 1536] {
            let limits = C::limits(inputs);
            let panel = panel::<C>(&noise(inputs * PANEL_OUTPUTS, 7, -limits.weight_max, limits.weight_max), inputs);
            for rows in 0..15 {
                let rows = noise(rows * inputs, 11, limits.code_min, limits.code_max);
                let expected = multiply(available[0], &rows, inputs, &panel);
                for kernel in &available[1..] {
                    let got = multiply(*kernel, &rows, inputs, &panel);
                    assert!(got == expected, "{}: {} rows of {inputs}", kernel.name, rows.len() / inputs);
                }
            }
        }
    }

    #[test]
    fn every_kernel_gives_the_numbers_of_the_definition() {
        is_that_of_the_definition::<u8>();
        is_that_of_the_definition::<i16>();
    }

    fn largest_is_exact<C: Code>() {
        for inputs in [4, 384, 3072, 4096] {
            let limits = C::limits(inputs);
            let sum = -(inputs as i32) * limits.code_max * limits.weight_max;
            let panel = panel::<C>(&vec![-limits.weight_max; inputs * PANEL_OUTPUTS], inputs);
            for kernel in available() {
                let sums = multiply(kernel, &vec![limits.code_max; inputs], inputs, &panel);
                assert!(sums.iter().all(|got| *got == sum), "{}: {} expected {sum}", kernel.name, sums[0]);
            }
        }
    }

    #[test]
    fn the_largest_sums_are_exact() {
        largest_is_exact::<u8>();
        largest_is_exact::<i16>();
    }

    #[test]
    fn a_name_that_is_unknown_chooses_the_fastest() {
        let available = available();
        assert_eq!(choose(Some("scalar"), &available).name, "scalar");
        assert_eq!(choose(Some("mmx"), &available).name, choose(None, &available).name);
    }
}
