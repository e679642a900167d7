//! The picture of a comparison: bars of texts per second beside bars of contrast, and of recall@10 where there are pairs (of MRR,
//! where there are no more than 10 documents).
//!
//! A row for each model that was measured, in the order of the table. The font is part of this program: a machine without a
//! screen has none.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use vectron_embedding::compare::{Comparison, Measured};

type Failure = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const PANEL_WIDTH: u32 = 420;
const ROW_HEIGHT: u32 = 46;
const TITLE_HEIGHT: u32 = 56;
const NOTE_HEIGHT: u32 = 36;
/// Captions and axes.
const FRAME_HEIGHT: u32 = 84;
const NAME_LETTERS_MAX: usize = 40;
const BAR: RGBColor = RGBColor(46, 111, 158);
const GRID: RGBColor = RGBColor(222, 226, 230);
const QUIET: RGBColor = RGBColor(96, 104, 112);

/// One measure of all models.
struct Panel {
    caption: &'static str,
    values: Vec<f64>,
    decimals: usize,
    /// Where the axis ends at least.
    at_least: f64,
}

/// Writes the picture as PNG. At least one model was measured.
pub fn draw(comparison: &Comparison, path: &Path) -> Result<(), Failure> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font of the plot cannot be read")?;
    let measured: Vec<_> = comparison.models.iter().filter_map(|model| Some((model, model.measured()?))).collect();
    let names: Vec<String> = measured.iter().map(|(model, _)| shortened(&model.model_id)).collect();
    let measures: Vec<&Measured> = measured.iter().map(|(_, measured)| *measured).collect();
    let panels = panels(&measures);

    let name_font = || (FONT, 16).into_font();
    let mut name_width = 0;
    for name in &names {
        name_width = name_width.max(name_font().box_size(name)?.0 + 32);
    }
    let width = name_width + PANEL_WIDTH * panels.len() as u32;
    let height = TITLE_HEIGHT + NOTE_HEIGHT + FRAME_HEIGHT + ROW_HEIGHT * names.len() as u32;
    let mut pixels = vec![0; (width * height * 3) as usize];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let setting = comparison.setting;
        root.draw_text("Embedding models", &(FONT, 26).into_font().color(&BLACK), (16, 14))?;
        let (body, below) = root.margin(TITLE_HEIGHT, 0, 0, 0).split_vertically(height - TITLE_HEIGHT - NOTE_HEIGHT);
        let skipped = comparison.models.len() - names.len();
        let skipped = if skipped == 0 { String::new() } else { format!("; {skipped} skipped") };
        let note =
            format!("{} texts of {} topics, medians of {}{skipped}", setting.texts, setting.topics, setting.repeats);
        below.draw_text(&note, &(FONT, 15).into_font().color(&QUIET), (16, 4))?;

        let mut rest = body;
        for (index, panel) in panels.iter().enumerate() {
            let label_width = if index == 0 { name_width } else { 0 };
            let (area, others) = rest.split_horizontally(PANEL_WIDTH + label_width);
            let rows = panel.draw(&area, label_width)?;
            if index == 0 {
                let style = name_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
                for (name, (x, y)) in names.iter().zip(rows) {
                    root.draw_text(name, &style, (x - 8, y))?;
                }
            }
            rest = others;
        }
        root.present()?;
    }
    write(path, &pixels, width, height).map_err(|error| format!("cannot write {}: {error}", path.display()).into())
}

fn panels(measures: &[&Measured]) -> Vec<Panel> {
    let values = |value: &dyn Fn(&Measured) -> f64| measures.iter().map(|measured| value(measured)).collect::<Vec<_>>();
    let speeds = values(&|measured| measured.texts_per_second);
    let decimals = if speeds.iter().all(|speed| *speed >= 10.0) { 0 } else { 1 };
    let mut panels = vec![
        Panel { caption: "texts per second", values: speeds, decimals, at_least: 0.0 },
        Panel {
            caption: "contrast of topics",
            values: values(&|measured| measured.contrast_score),
            decimals: 3,
            at_least: 0.0,
        },
    ];
    let found: Option<Vec<_>> = measures.iter().map(|measured| measured.retrieval).collect();
    if let Some(found) = found {
        let recall: Option<Vec<f64>> = found.iter().map(|found| found.recall_at_10).collect();
        let (caption, values) = match recall {
            Some(recall) => ("recall@10", recall),
            None => ("MRR", found.iter().map(|found| found.mean_reciprocal_rank).collect()),
        };
        panels.push(Panel { caption, values, decimals: 3, at_least: 1.0 });
    }
    panels
}

impl Panel {
    /// Returns where the row of each model begins, in pixels of the picture.
    fn draw(&self, area: &Area<'_>, label_width: u32) -> Result<Vec<(i32, i32)>, Failure> {
        let count = self.values.len() as f64;
        let longest = self.values.iter().copied().fold(self.at_least, f64::max);
        let least = self.values.iter().copied().fold(0.0, f64::min);
        // A quarter more, for the number at the end of the longest bar; something where all are nothing.
        let end = if longest > 0.0 { longest * 1.25 } else { 1e-3 };
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_right(18)
            .caption(self.caption, (FONT, 20).into_font().color(&BLACK))
            .x_label_area_size(30)
            .y_label_area_size(label_width + 8)
            .build_cartesian_2d(least * 1.25..end, 0.0..count)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_labels(5)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_label_style((FONT, 14).into_font().color(&QUIET))
            .x_label_formatter(&|value| format!("{value:.*}", if end >= 10.0 { 0 } else { 2 }))
            .draw()?;
        // The first model on top.
        let middle = |index: usize| count - index as f64 - 0.5;
        chart.draw_series(self.values.iter().enumerate().map(|(index, value)| {
            let (low, high) = (middle(index) - 0.32, middle(index) + 0.32);
            Rectangle::new([(0.0, low), (*value, high)], BAR.filled())
        }))?;
        let style = (FONT, 15).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series(self.values.iter().enumerate().map(|(index, value)| {
            let number = Text::new(format!("{value:.*}", self.decimals), (6, 0), style.clone());
            EmptyElement::at((value.max(0.0), middle(index))) + number
        }))?;
        Ok((0..self.values.len()).map(|index| chart.backend_coord(&(least * 1.25, middle(index)))).collect())
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_LETTERS_MAX - 1).chain(['…']).collect()
}

fn write(path: &Path, pixels: &[u8], width: u32, height: u32) -> Result<(), Failure> {
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    Ok(writer.finish()?)
}
