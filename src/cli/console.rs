//! Where a command speaks: results on standard output, everything else on standard error.
#![expect(clippy::print_stderr, reason = "the command line's one place for messages")]

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// Messages and progress. `--quiet` leaves the errors.
pub struct Console {
    is_quiet: bool,
    bar: ProgressBar,
}

/// What a progress bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Records.
    Records,
}

/// Standard output; to be flushed at the end, which is also where a broken pipe is found.
pub fn results() -> BufWriter<Stdout> {
    BufWriter::with_capacity(64 << 10, io::stdout())
}

/// Prints an error.
pub fn tell_error(message: impl Display) {
    eprintln!("error: {message}");
}

impl Console {
    /// Without a bar so far.
    pub fn new(is_quiet: bool) -> Self {
        Self { is_quiet, bar: ProgressBar::hidden() }
    }

    /// Shows a bar where standard error is a terminal. `total`: `None` where nobody knows.
    pub fn start_bar(&mut self, total: Option<u64>, unit: Unit) {
        if self.is_quiet || !io::stderr().is_terminal() {
            return;
        }
        let template = match (total, unit) {
            (Some(_), Unit::Bytes) => "{bar:30} {bytes}/{total_bytes}  {msg}  {left}",
            (Some(_), Unit::Records) => "{bar:30} {human_pos}/{human_len} records  {rate}  {left}",
            (None, Unit::Bytes) => "{spinner} {bytes}  {msg}",
            (None, Unit::Records) => "{spinner} {human_pos} records  {rate}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // At the very beginning nobody knows.
            let _ = match state.eta() {
                Duration::ZERO => Ok(()),
                left => write!(out, "{} s left", grouped(left.as_secs() + 1)),
            };
        };
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}/s", grouped(state.per_sec() as u64));
        };
        self.bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5))
            .with_style(style.with_key("left", left).with_key("rate", rate).progress_chars("=> "));
        self.bar.enable_steady_tick(Duration::from_millis(250));
    }

    /// The bar, hidden where there is none.
    pub fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Whether a bar is shown.
    pub fn has_bar(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows how many records there are, and how fast they come.
    pub fn show_records(&self, records: u64) {
        if self.has_bar() {
            let per_second = records as f64 / self.bar.elapsed().as_secs_f64().max(0.001);
            self.bar.set_message(format!("{}  {}/s", counted(records, "record"), grouped(per_second as u64)));
        }
    }

    /// Takes the bar away.
    pub fn end_bar(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    /// Prints a message, unless it was asked to be quiet.
    pub fn say(&self, message: impl Display) {
        if !self.is_quiet {
            self.print(message);
        }
    }

    /// Prints what went wrong without ending the command.
    pub fn complain(&self, message: impl Display) {
        self.print(message);
    }

    fn print(&self, message: impl Display) {
        self.bar.suspend(|| eprintln!("{message}"));
    }
}

/// A count with commas: 1,234,567.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 record`, `2,000 records`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(2_000, "record"), "2,000 records");
    }
}
