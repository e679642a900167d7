use std::sync::Arc;

/// A set of rows. Cloning costs a pointer for every 4,096 rows, and writing to a clone copies only what is touched.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    pages: Vec<Option<Arc<Page>>>,
    len: usize,
}

type Page = [u64; PAGE_ROWS / 64];
const PAGE_ROWS: usize = 4096;

impl RowSet {
    /// Rows in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether a row is in it.
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        let row = row as usize;
        let page = self.pages.get(row / PAGE_ROWS).and_then(Option::as_ref);
        page.is_some_and(|page| page[row % PAGE_ROWS / 64] >> (row % 64) & 1 == 1)
    }

    /// Its rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let pages = self.pages.iter().enumerate();
        let words = pages.flat_map(|(number, page)| {
            let words = page.iter().flat_map(|page| page.iter());
            words.enumerate().map(move |(word, &bits)| (number * PAGE_ROWS + 64 * word, bits))
        });
        words.flat_map(|(first, bits)| {
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| (first + bit) as u32)
        })
    }

    /// Adds a row; it may be there already.
    pub fn insert(&mut self, row: u32) {
        if self.contains(row) {
            return;
        }
        let row = row as usize;
        if self.pages.len() <= row / PAGE_ROWS {
            self.pages.resize(row / PAGE_ROWS + 1, None);
        }
        let page = self.pages[row / PAGE_ROWS].get_or_insert_with(|| Arc::new([0; PAGE_ROWS / 64]));
        Arc::make_mut(page)[row % PAGE_ROWS / 64] |= 1 << (row % 64);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_does_not_see_later_rows() {
        let mut rows = RowSet::default();
        for row in [0, 63, 64, 4095, 4096, 100_000] {
            rows.insert(row);
        }
        let before = rows.clone();
        rows.insert(1);
        rows.insert(64);
        assert_eq!((before.len(), rows.len()), (6, 7));
        assert_eq!(before.iter().collect::<Vec<_>>(), [0, 63, 64, 4095, 4096, 100_000]);
        assert!(rows.contains(1) && !before.contains(1));
        assert!(before.contains(100_000) && !before.contains(99_999) && !before.contains(u32::MAX));
    }
}
