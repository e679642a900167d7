//! What is said: lines of JSON on standard output for programs, a few words on standard error for a person who watches.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::BenchError;

/// One result as a line of JSON.
pub fn print_line(line: &impl Serialize) -> Result<(), BenchError> {
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, line)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

/// A line for a person, where there is one.
#[expect(clippy::print_stderr, reason = "for the person at the terminal")]
pub fn tell(line: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{line}");
    }
}

/// To four significant digits: more would be noise.
pub fn rounded(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return 0.0;
    }
    let digits = 3 - figure.abs().log10().floor() as i32;
    let factor = 10_f64.powi(digits.abs());
    if digits >= 0 { (figure * factor).round() / factor } else { (figure / factor).round() * factor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_four_digits() {
        let figures = [0.0, 0.123456, 1.0, 12345.6, 0.99995, 987.65, f64::NAN];
        assert_eq!(figures.map(rounded), [0.0, 0.1235, 1.0, 12350.0, 1.0, 987.7, 0.0]);
    }
}
