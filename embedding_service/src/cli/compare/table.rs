//! The table of a comparison on standard output, and below it what was skipped.

use comfy_table::{CellAlignment, Table, presets};
use vectron_embedding::compare::{Comparison, Measured, ModelReport, Outcome};

/// Columns that are words; the others are numbers, and stand at the right.
const WORDS: usize = 3;

pub fn print(comparison: &Comparison) {
    let setting = comparison.setting;
    let pairs = match setting.pairs {
        0 => String::new(),
        pairs => format!("; {pairs} pairs, {} documents", setting.documents),
    };
    println!("{} texts, {} topics{pairs}; medians of {}\n", setting.texts, setting.topics, setting.repeats);

    let measured: Vec<_> = comparison.models.iter().filter_map(|model| Some((model, model.measured()?))).collect();
    if !measured.is_empty() {
        let has_pairs = setting.pairs > 0;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header(has_pairs));
        table.add_rows(measured.iter().map(|(model, measured)| row(model, measured, has_pairs)));
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index >= WORDS {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{}", table.trim_fmt());
    }
    let skipped = comparison.models.iter().filter_map(|model| match &model.outcome {
        Outcome::Skipped { skipped, skipped_code } => Some((&model.model_id, skipped, skipped_code)),
        Outcome::Measured(_) => None,
    });
    for (index, (id, why, code)) in skipped.enumerate() {
        if index == 0 && !measured.is_empty() {
            println!();
        }
        println!("skipped {id}: {why} [{code}]");
    }
}

fn header(has_pairs: bool) -> Vec<&'static str> {
    let mut names = vec![
        "model",
        "provider",
        "precision",
        "dim",
        "all texts s",
        "texts/s",
        "tokens/s",
        "one text ms",
        "mean ms",
        "contrast",
    ];
    if has_pairs {
        names.extend(["recall@1", "@5", "@10", "MRR"]);
    }
    names
}

fn row(model: &ModelReport, measured: &Measured, has_pairs: bool) -> Vec<String> {
    let mut cells = vec![
        model.model_id.clone(),
        model.provider.clone(),
        model.precision.clone().unwrap_or_else(|| "-".to_owned()),
        model.dimensions.to_string(),
        format!("{:.3}", measured.processing_time),
        format!("{:.0}", measured.texts_per_second),
        measured.tokens_per_second.map_or_else(|| "-".to_owned(), |tokens| format!("{tokens:.0}")),
        format!("{:.2}", measured.single_p50 * 1e3),
        format!("{:.2}", measured.single_mean * 1e3),
        format!("{:.3}", measured.contrast_score),
    ];
    if has_pairs {
        let found = measured.retrieval;
        let values = found.map_or([None; 4], |found| {
            [found.recall_at_1, found.recall_at_5, found.recall_at_10, Some(found.mean_reciprocal_rank)]
        });
        cells.extend(values.map(|value| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))));
    }
    cells
}
