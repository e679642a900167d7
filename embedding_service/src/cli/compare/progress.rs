//! How far a comparison is, on standard error: a bar where that is a terminal, elsewhere a line for each model that is begun,
//! and one for each that is done.

#![expect(clippy::print_stderr, reason = "the command line speaks to a person")]

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vectron_embedding::compare::ModelReport;
use vectron_embedding::pb::v1 as pb;

/// Of all models of a comparison.
pub struct Progress {
    /// Begins anew with each model. Draws nothing where standard error is no terminal.
    bar: ProgressBar,
    has_lines: bool,
    models: usize,
    models_done: usize,
    /// The model that was begun, and when.
    begun: Option<(String, Instant)>,
}

impl Progress {
    /// For so many models; 0: none yet.
    pub fn of(models: usize) -> Self {
        let has_lines = !io::stderr().is_terminal();
        let bar = if models == 0 || has_lines {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{prefix}  {bar:30} {human_pos}/{human_len} texts  {msg}");
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10))
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        };
        Self { bar, has_lines, models, models_done: 0, begun: None }
    }

    pub fn show(&mut self, progress: &pb::BenchmarkProgress) {
        let place = format!("{}/{}", self.models_done + 1, self.models);
        if self.begun.as_ref().is_none_or(|(model_id, _)| *model_id != progress.model_id) {
            if self.has_lines {
                eprintln!("{place} {}: begun", progress.model_id);
            }
            self.begun = Some((progress.model_id.clone(), Instant::now()));
        }
        let stage = match progress.stage() {
            pb::BenchmarkStage::Unspecified => "",
            pb::BenchmarkStage::Load => "waiting for its first answer",
            pb::BenchmarkStage::WarmUp => "warming up",
            pb::BenchmarkStage::Single => "texts one after the other",
            pb::BenchmarkStage::Batch => "all texts in one call",
            pb::BenchmarkStage::Retrieval => "queries and documents",
        };
        self.bar.set_prefix(format!("{place} {}", progress.model_id));
        self.bar.set_length(progress.texts_total.into());
        self.bar.set_position(progress.texts_done.into());
        self.bar.set_message(stage);
    }

    pub fn next_model(&mut self, report: &ModelReport) {
        self.models_done += 1;
        self.bar.set_position(0);
        if self.has_lines {
            let took = self.begun.take().map(|(_, since)| format!(" after {:.1} s", since.elapsed().as_secs_f64()));
            let (done, models, took) = (self.models_done, self.models, took.unwrap_or_default());
            let how = if report.measured().is_some() { "done" } else { "skipped" };
            eprintln!("{done}/{models} {}: {how}{took}", report.model_id);
        }
    }

    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}
