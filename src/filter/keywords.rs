//! The rows of each string of one field.
//!
//! A string that comes often keeps its text and has a bitmap of its rows. Others share one sorted run of hashes and
//! rows, 8 bytes a posting: so a field of free text, other in every row, costs no more than that. What a hash finds is
//! checked by the caller, since two strings may share it.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_64;

use crate::filter::matched::{Matched, bitmap_bytes, sorted_to_bitmap};

/// A longer string is known by its hash alone.
const KEYWORD_BYTES_MAX: usize = 256;
/// Strings of a field that are kept while it is built; those that come first after that are hashed.
const KEYWORDS_WHILE_BUILT_MAX: usize = 4_096;
/// So few strings are kept, however few rows they have.
const KEYWORDS_FEW: usize = 256;
/// With more strings than that, one is kept where it has so many rows: its text and its bitmap are then no more than some
/// twenty bytes a posting.
const KEYWORD_ROWS_MIN: usize = 16;

/// Every string is either in `kept`, with all of its rows, or in `hashed`, with all of its rows.
pub struct Keywords {
    /// In the order of the strings.
    kept: Box<[(Box<str>, RoaringBitmap)]>,
    /// Hash above, row below; sorted, each once.
    hashed: Box<[u64]>,
}

#[derive(Default)]
pub struct KeywordsBuilder {
    kept: HashMap<Box<str>, Vec<u32>>,
    hashed: Vec<u64>,
}

impl KeywordsBuilder {
    /// Rows come in their order; the same may come again.
    pub fn add(&mut self, text: &str, row: u32) {
        if let Some(rows) = self.kept.get_mut(text) {
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        } else if text.len() <= KEYWORD_BYTES_MAX && self.kept.len() < KEYWORDS_WHILE_BUILT_MAX {
            self.kept.insert(text.into(), vec![row]);
        } else {
            self.hashed.push(posting(text, row));
        }
    }

    pub fn build(self) -> Keywords {
        let Self { kept, mut hashed } = self;
        let are_few = kept.len() <= KEYWORDS_FEW;
        let (kept, rare): (Vec<_>, Vec<_>) =
            kept.into_iter().partition(|(_, rows)| are_few || rows.len() >= KEYWORD_ROWS_MIN);
        for (text, rows) in rare {
            hashed.extend(rows.into_iter().map(|row| posting(&text, row)));
        }
        hashed.sort_unstable();
        hashed.dedup();
        let mut kept: Vec<_> = kept.into_iter().map(|(text, rows)| (text, sorted_to_bitmap(rows))).collect();
        kept.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Keywords { kept: kept.into(), hashed: hashed.into() }
    }
}

impl Keywords {
    pub fn find(&self, text: &str) -> Matched<'_> {
        if let Some(rows) = self.kept(text) {
            return Matched::exact(rows);
        }
        let found = self.hashed(text);
        if found.is_empty() {
            return Matched::none();
        }
        let possible = sorted_to_bitmap(found.iter().map(|&posting| posting as u32).collect());
        Matched::Between { certain: RoaringBitmap::new(), possible }
    }

    /// Rows that `find` finds.
    pub fn count(&self, text: &str) -> u64 {
        self.kept(text).map_or_else(|| self.hashed(text).len() as u64, RoaringBitmap::len)
    }

    pub fn bytes(&self) -> usize {
        let kept = self.kept.iter().map(|(text, rows)| size_of::<Box<str>>() + text.len() + bitmap_bytes(rows));
        kept.sum::<usize>() + size_of_val(&*self.hashed)
    }

    fn kept(&self, text: &str) -> Option<&RoaringBitmap> {
        let position = self.kept.binary_search_by(|(kept, _)| kept.as_ref().cmp(text)).ok()?;
        Some(&self.kept[position].1)
    }

    fn hashed(&self, text: &str) -> &[u64] {
        let start = self.hashed.partition_point(|&other| other < posting(text, 0));
        let end = self.hashed.partition_point(|&other| other <= posting(text, u32::MAX));
        &self.hashed[start..end]
    }
}

fn posting(text: &str, row: u32) -> u64 {
    let hash = xxh3_64(text.as_bytes()) >> 32;
    hash << 32 | u64::from(row)
}
