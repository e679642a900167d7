//! The rows of each number of one field.
//!
//! Where few numbers come often, each has a bitmap. Else two runs, of whole numbers and of others, 12 bytes a posting.

use std::borrow::Cow;
use std::ops::{Bound, Range};

use roaring::{MultiOps, RoaringBitmap};

use crate::filter::matched::{Matched, bitmap_bytes, sorted_to_bitmap, to_bitmap};
use crate::filter::scalar::{Number, NumberRange};

/// With more numbers than that there are runs.
const BITMAPS_MAX: usize = 1_024;
/// A bitmap pays from so many rows on, on average.
const BITMAP_ROWS_MIN: usize = 16;

pub struct Numbers {
    row_count: u32,
    /// Rows that have a number at all.
    all: RoaringBitmap,
    /// Whether each row has one number alone: elements of lists can be several.
    is_single: bool,
    layout: Layout,
}

enum Layout {
    /// In the order of the numbers.
    Bitmaps(Box<[(Number, RoaringBitmap)]>),
    Runs {
        ints: Run<i64>,
        doubles: Run<f64>,
    },
}

/// Numbers in their order, each with its row.
struct Run<T> {
    values: Box<[T]>,
    rows: Box<[u32]>,
}

impl Numbers {
    /// Rows come in their order; the same may come again.
    pub fn build(mut postings: Vec<(Number, u32)>, row_count: u32) -> Self {
        let all = sorted_to_bitmap(postings.iter().map(|&(_, row)| row).collect());
        postings.sort_unstable();
        postings.dedup();
        let same_number = |a: &(Number, u32), b: &(Number, u32)| a.0 == b.0;
        let is_single = all.len() == postings.len() as u64;
        let distinct = postings.chunk_by(same_number).count();
        if distinct > BITMAPS_MAX || distinct * BITMAP_ROWS_MIN > postings.len() {
            return Self { row_count, all, is_single, layout: to_runs(&postings) };
        }
        let to_bitmap =
            |same: &[(Number, u32)]| (same[0].0, sorted_to_bitmap(same.iter().map(|&(_, row)| row).collect()));
        let bitmaps = postings.chunk_by(same_number).map(to_bitmap).collect();
        Self { row_count, all, is_single, layout: Layout::Bitmaps(bitmaps) }
    }

    /// Rows with a number within the range; `all` less the others, where those are fewer and no row is both.
    pub fn find(&self, range: &NumberRange) -> Matched<'_> {
        match &self.layout {
            Layout::Bitmaps(bitmaps) => {
                let span = span(bitmaps, |(number, _)| *number, range);
                if let [(_, only)] = &bitmaps[span.clone()] {
                    return Matched::exact(only);
                }
                if !self.is_single || span.len() <= bitmaps.len() / 2 {
                    return Matched::Exact(Cow::Owned(bitmaps[span].iter().map(|(_, rows)| rows).union()));
                }
                let others = bitmaps[..span.start].iter().chain(&bitmaps[span.end..]);
                Matched::Exact(Cow::Owned(&self.all - others.map(|(_, rows)| rows).union()))
            }
            Layout::Runs { ints, doubles } => {
                let (ints_span, doubles_span) = (ints.span(range), doubles.span(range));
                let count = ints_span.len() + doubles_span.len();
                if !self.is_single || count <= (ints.rows.len() + doubles.rows.len()) / 2 {
                    let inside = [&ints.rows[ints_span], &doubles.rows[doubles_span]];
                    return Matched::Exact(Cow::Owned(to_bitmap(inside.into_iter(), self.row_count)));
                }
                let outside = [
                    &ints.rows[..ints_span.start],
                    &ints.rows[ints_span.end..],
                    &doubles.rows[..doubles_span.start],
                    &doubles.rows[doubles_span.end..],
                ];
                Matched::Exact(Cow::Owned(&self.all - to_bitmap(outside.into_iter(), self.row_count)))
            }
        }
    }

    /// Numbers that lie within the range; the rows that `find` finds, where each has one number.
    pub fn count(&self, range: &NumberRange) -> u64 {
        match &self.layout {
            Layout::Bitmaps(bitmaps) => {
                bitmaps[span(bitmaps, |(number, _)| *number, range)].iter().map(|(_, rows)| rows.len()).sum()
            }
            Layout::Runs { ints, doubles } => (ints.span(range).len() + doubles.span(range).len()) as u64,
        }
    }

    pub fn bytes(&self) -> usize {
        let layout = match &self.layout {
            Layout::Bitmaps(bitmaps) => {
                bitmaps.iter().map(|(_, rows)| size_of::<Number>() + bitmap_bytes(rows)).sum::<usize>()
            }
            Layout::Runs { ints, doubles } => (ints.rows.len() + doubles.rows.len()) * (8 + 4),
        };
        bitmap_bytes(&self.all) + layout
    }
}

fn to_runs(sorted: &[(Number, u32)]) -> Layout {
    let (mut ints, mut doubles) = (Vec::new(), Vec::new());
    for &(number, row) in sorted {
        match number {
            Number::Int(value) => ints.push((value, row)),
            Number::Double(value) => doubles.push((value, row)),
        }
    }
    Layout::Runs { ints: Run::new(ints), doubles: Run::new(doubles) }
}

impl<T: Copy> Run<T> {
    fn new(postings: Vec<(T, u32)>) -> Self {
        let (values, rows): (Vec<T>, Vec<u32>) = postings.into_iter().unzip();
        Self { values: values.into(), rows: rows.into() }
    }
}

impl Run<i64> {
    fn span(&self, range: &NumberRange) -> Range<usize> {
        span(&self.values, |&value| Number::Int(value), range)
    }
}

impl Run<f64> {
    fn span(&self, range: &NumberRange) -> Range<usize> {
        span(&self.values, |&value| Number::Double(value), range)
    }
}

/// The part of a sorted slice that lies within the range.
fn span<T>(sorted: &[T], number: impl Fn(&T) -> Number, (lower, upper): &NumberRange) -> Range<usize> {
    let below = |bound: &Number| sorted.partition_point(|item| number(item) < *bound);
    let up_to = |bound: &Number| sorted.partition_point(|item| number(item) <= *bound);
    let start = match lower {
        Bound::Unbounded => 0,
        Bound::Included(bound) => below(bound),
        Bound::Excluded(bound) => up_to(bound),
    };
    let end = match upper {
        Bound::Unbounded => sorted.len(),
        Bound::Included(bound) => up_to(bound),
        Bound::Excluded(bound) => below(bound),
    };
    // Bounds that exclude every number cross each other.
    start..end.max(start)
}
