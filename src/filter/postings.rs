//! The rows of each value: of the values of one field, or of the elements of its lists.

use roaring::RoaringBitmap;

use crate::filter::keywords::{Keywords, KeywordsBuilder};
use crate::filter::matched::{Matched, bitmap_bytes, sorted_to_bitmap};
use crate::filter::numbers::Numbers;
use crate::filter::scalar::{Number, NumberRange, Scalar};

pub struct Postings {
    nulls: RoaringBitmap,
    falses: RoaringBitmap,
    trues: RoaringBitmap,
    keywords: Keywords,
    numbers: Numbers,
}

#[derive(Default)]
pub struct PostingsBuilder {
    nulls: Vec<u32>,
    falses: Vec<u32>,
    trues: Vec<u32>,
    keywords: KeywordsBuilder,
    numbers: Vec<(Number, u32)>,
}

impl PostingsBuilder {
    /// Rows come in their order; the same may come again.
    pub fn add(&mut self, value: Scalar<&str>, row: u32) {
        match value {
            Scalar::Null => self.nulls.push(row),
            Scalar::Bool(false) => self.falses.push(row),
            Scalar::Bool(true) => self.trues.push(row),
            Scalar::String(text) => self.keywords.add(text, row),
            Scalar::Number(number) => self.numbers.push((number, row)),
        }
    }

    pub fn build(self, row_count: u32) -> Postings {
        Postings {
            nulls: sorted_to_bitmap(self.nulls),
            falses: sorted_to_bitmap(self.falses),
            trues: sorted_to_bitmap(self.trues),
            keywords: self.keywords.build(),
            numbers: Numbers::build(self.numbers, row_count),
        }
    }
}

impl Postings {
    pub fn find(&self, value: Scalar<&str>) -> Matched<'_> {
        match value {
            Scalar::Null => Matched::exact(&self.nulls),
            Scalar::Bool(false) => Matched::exact(&self.falses),
            Scalar::Bool(true) => Matched::exact(&self.trues),
            Scalar::String(text) => self.keywords.find(text),
            Scalar::Number(number) => self.numbers.find(&number.only()),
        }
    }

    pub fn find_range(&self, range: &NumberRange) -> Matched<'_> {
        self.numbers.find(range)
    }

    /// Rows that `find` finds.
    pub fn count(&self, value: Scalar<&str>) -> u64 {
        match value {
            Scalar::Null => self.nulls.len(),
            Scalar::Bool(false) => self.falses.len(),
            Scalar::Bool(true) => self.trues.len(),
            Scalar::String(text) => self.keywords.count(text),
            Scalar::Number(number) => self.numbers.count(&number.only()),
        }
    }

    /// Rows that `find_range` finds.
    pub fn count_range(&self, range: &NumberRange) -> u64 {
        self.numbers.count(range)
    }

    pub fn bytes(&self) -> usize {
        let bitmaps = [&self.nulls, &self.falses, &self.trues].map(bitmap_bytes).iter().sum::<usize>();
        bitmaps + self.keywords.bytes() + self.numbers.bytes()
    }
}
