//! Hits as a table that fits the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::record_json::RecordJson;

/// Columns that an id may take.
const ID_WIDTH_MAX: usize = 32;
/// Columns that metadata may take, where the terminal has an end.
const METADATA_WIDTH_MAX: usize = 40;
/// Columns that a text takes at least: a narrower terminal wraps.
const TEXT_WIDTH_MIN: usize = 20;
const GAP: &str = "  ";

/// How a table is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal; `None`: nothing is cut.
    pub width: Option<usize>,
    /// Whether it may have colours.
    pub has_colour: bool,
}

/// One hit.
pub struct Row {
    score: f32,
    id: String,
    text: String,
    metadata: String,
}

impl Row {
    /// What is shown of a record.
    pub fn new(score: f32, record: RecordJson) -> Self {
        let metadata: Vec<String> = record
            .metadata
            .iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => format!("{name}={text}"),
                value => format!("{name}={value}"),
            })
            .collect();
        Self {
            score,
            id: printable(&record.id),
            text: printable(&record.text.unwrap_or_default()),
            metadata: printable(&metadata.join(" ")),
        }
    }
}

/// The table, one line a hit: rank, score, id, text, metadata.
pub fn render(rows: &[Row], style: Style) -> String {
    let paint = |code: &str, text: &str| match style.has_colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let widest = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).width()).max().unwrap_or(0);
    let rank_width = rows.len().to_string().len();
    let scores: Vec<String> = rows.iter().map(|row| format!("{:.4}", row.score)).collect();
    let score_width = scores.iter().map(String::len).max().unwrap_or(0);
    let (mut id_width, mut metadata_width) = (widest(|row| &row.id), widest(|row| &row.metadata));
    let mut text_width = widest(|row| &row.text);
    if let Some(width) = style.width {
        id_width = id_width.min(ID_WIDTH_MAX);
        metadata_width = metadata_width.min(METADATA_WIDTH_MAX).min(width / 3);
        let others = rank_width + score_width + id_width + metadata_width + 4 * GAP.len();
        text_width = text_width.min(width.saturating_sub(others).max(TEXT_WIDTH_MIN));
    }
    let mut table = String::new();
    for (rank, (row, score)) in rows.iter().zip(&scores).enumerate() {
        let rank = format!("{:>rank_width$}", rank + 1);
        let cells = [
            paint("2", &rank),
            paint("32", &format!("{score:>score_width$}")),
            paint("1", &padded(&row.id, id_width)),
            padded(&row.text, text_width),
            paint("2", padded(&row.metadata, metadata_width).trim_end()),
        ];
        let is_there = [true, true, true, text_width > 0, metadata_width > 0];
        let cells: Vec<String> =
            cells.into_iter().zip(is_there).filter_map(|(cell, is_there)| is_there.then_some(cell)).collect();
        // A text that is the last has been filled with spaces.
        table.push_str(cells.join(GAP).trim_end());
        table.push('\n');
    }
    table
}

/// What a terminal can show without obeying it: a stored text could hold control sequences.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Exactly so many columns wide: cut with an ellipsis, or filled with spaces.
fn padded(text: &str, width: usize) -> String {
    let text_width = text.width();
    if text_width <= width {
        return format!("{text}{}", " ".repeat(width - text_width));
    }
    let mut cut = String::new();
    let mut columns = 0;
    for c in text.chars() {
        let next = columns + c.width().unwrap_or(0);
        if next + 1 > width {
            break;
        }
        columns = next;
        cut.push(c);
    }
    let fill = width.saturating_sub(columns + 1);
    format!("{cut}…{}", " ".repeat(fill))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(score: f32, id: &str, text: &str, metadata: &str) -> Row {
        let metadata = serde_json::from_str(metadata).unwrap();
        let text = (!text.is_empty()).then(|| text.to_owned());
        Row::new(score, RecordJson { id: id.to_owned(), text, vector: None, space: None, metadata, version: None })
    }

    #[test]
    fn columns_stand_below_each_other_and_end_at_the_terminal() {
        let long = "a very long text ".repeat(20);
        let rows = [row(0.93, "first", &long, r#"{"n": 9007199254740993}"#), row(-0.1, "2", "短い\nテキスト", "{}")];
        let table = render(&rows, Style { width: Some(72), has_colour: false });
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.iter().all(|line| line.width() <= 72), "{table}");
        assert!(lines[0].starts_with("1   0.9300  first  a very long text"), "{table}");
        assert!(lines[0].contains('…') && lines[0].ends_with("n=9007199254740993"), "{table}");
        assert!(lines[1].starts_with("2  -0.1000  2      短い テキスト"), "{table}");
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal() {
        let long = "x".repeat(500);
        let table = render(&[row(1.0, "a", &long, "{}")], Style { width: None, has_colour: false });
        assert_eq!(table, format!("1  1.0000  a  {long}\n"));
    }

    #[test]
    fn a_stored_text_cannot_command_the_terminal() {
        let table = render(&[row(1.0, "\x1b[2J", "a\x07b", "{}")], Style { width: Some(80), has_colour: true });
        assert!(table.contains(" [2J") && !table.contains("\x1b[2J") && !table.contains('\x07'), "{table:?}");
    }
}
