//! How far it is, for a person who waits.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error; nothing where that is no terminal. Gone when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// An empty one: what is done, how much of it there is, and of what.
    pub fn new(what: &str, count: u64, unit: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
        let template = format!("{{msg}} {{wide_bar}} {{human_pos}} of {{human_len}} {unit}, {{per_sec}}, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So much is done.
    pub fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// More is done.
    pub fn add(&self, more: u64) {
        self.0.inc(more);
    }

    /// There is another number of it than was thought.
    pub fn set_count(&self, count: u64) {
        self.0.set_length(count);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
