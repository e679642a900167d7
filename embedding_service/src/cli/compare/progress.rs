//! The bar of a comparison, on standard error where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vectron_embedding::pb::v1 as pb;

/// One bar, which begins anew with each model.
pub struct Bar {
    bar: ProgressBar,
    models: usize,
    models_done: usize,
}

impl Bar {
    /// None yet.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), models: 0, models_done: 0 }
    }

    /// For so many models.
    pub fn new(models: usize) -> Self {
        let style = ProgressStyle::with_template("{prefix}  {bar:30} {human_pos}/{human_len} texts  {msg}");
        // Draws nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10))
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, models, models_done: 0 }
    }

    pub fn show(&self, progress: &pb::BenchmarkProgress) {
        let stage = match progress.stage() {
            pb::BenchmarkStage::Unspecified => "",
            pb::BenchmarkStage::Load => "waiting for its first answer",
            pb::BenchmarkStage::WarmUp => "warming up",
            pb::BenchmarkStage::Single => "texts one after the other",
            pb::BenchmarkStage::Batch => "all texts in one call",
            pb::BenchmarkStage::Retrieval => "queries and documents",
        };
        self.bar.set_prefix(format!("{}/{} {}", self.models_done + 1, self.models, progress.model_id));
        self.bar.set_length(progress.texts_total.into());
        self.bar.set_position(progress.texts_done.into());
        self.bar.set_message(stage);
    }

    pub fn next_model(&mut self) {
        self.models_done += 1;
        self.bar.set_position(0);
    }

    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}
