//! The rows of one space that came last, in memory: vectors with their 8-bit codes, and what is kept beside them. Searched
//! row by row; sealed when there are some thousand, and built into a segment in the background.
//!
//! A table is a persistent structure: cloning it costs one pointer for every 4,096 rows, and writing to a clone copies
//! only the blocks of 64 rows that are touched. So a reader's view never changes, and nobody waits.
//!
//! Invariants: a row number stays with its record until the record is deleted; dead rows are used again before the
//! table grows; `live_count` is the number of live bits; a sealed table only loses rows.

use std::sync::Arc;

use crate::collection::op::Content;
use crate::index::coded::{BitGroup, Certainty, CodedQueries, Coder, RowScale};
use crate::index::flat::{self, BLOCK_ROWS, Rows};
use crate::index::{Nearest, Neighbor};
use crate::quantization::bits::GROUP_ROWS;
use crate::types::{Dimension, Metric, RecordId, Sequence, norm};

/// Blocks of a page.
const PAGE_BLOCKS: usize = 64;
/// A table is sealed when a scan would read so much, within these bounds of its rows: some 40 us.
const SEAL_BYTES: usize = 3 << 20;
const SEAL_ROWS_MIN: usize = 1024;
const SEAL_ROWS_MAX: usize = 8192;

/// Rows that are compared by their components at first, beyond twice those that are wanted, where bits say which.
const SPARE: usize = 16;

/// The rows of one space.
#[derive(Clone)]
pub struct Table {
    dimension: Dimension,
    /// None where rows are too short for codes.
    coder: Option<Arc<Coder>>,
    pages: Vec<Arc<Page>>,
    /// Dead rows, to be used again.
    free: imbl::Vector<u32>,
    row_count: u32,
    live_count: usize,
}

#[derive(Clone, Default)]
struct Page {
    blocks: Vec<LiveBlock>,
}

#[derive(Clone)]
struct LiveBlock {
    block: Arc<Block>,
    live: u64,
}

#[derive(Clone, Default)]
struct Block {
    ids: Vec<RecordId>,
    versions: Vec<Sequence>,
    contents: Vec<Arc<Content>>,
    components: Vec<f32>,
    inverse_norms: Vec<f32>,
    codes: Vec<u8>,
    scales: Vec<RowScale>,
    bits: Vec<BitGroup>,
    /// The numbers of the records.
    records: Vec<u32>,
}

/// A record as it lies in a table.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Its id.
    pub id: &'a RecordId,
    /// The sequence of its last write.
    pub version: Sequence,
    /// Its components, bit for bit as they came.
    pub components: &'a [f32],
    /// Its text and metadata.
    pub content: &'a Arc<Content>,
}

impl Row<'_> {
    /// Bytes of everything but the vector, as far as can be told.
    pub fn bytes(&self) -> usize {
        let text = self.content.text.as_ref().map_or(0, |text| text.len());
        size_of::<(RecordId, Sequence, Arc<Content>, Content, u32)>()
            + self.id.as_str().len()
            + text
            + self.content.metadata.bytes()
    }
}

/// What rows are compared by first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// 8-bit codes: few rows have to be compared again. Faster for some thousand rows, which the caches hold.
    Codes,
    /// One bit a component, and those that may be near by 8-bit codes: all but for certain. Faster for more rows.
    Bits,
}

/// Searches of one space, as a table needs them.
pub struct TableSearch<'a> {
    /// The queries.
    pub queries: &'a flat::Queries,
    /// The same in codes; none where rows have none.
    pub coded: Option<&'a CodedQueries>,
    /// For each query how many rows are wanted: at least 1.
    pub ks: &'a [usize],
    /// How sure the codes are to be.
    pub certainty: Certainty,
    /// What rows are compared by first.
    pub first: First,
    /// Which rows count; none: all.
    pub counts: Option<&'a dyn Fn(Row<'_>) -> bool>,
}

impl Table {
    /// No rows.
    pub fn new(metric: Metric, dimension: Dimension) -> Self {
        let coder = Coder::new(metric, dimension.get()).map(Arc::new);
        Self { dimension, coder, pages: Vec::new(), free: imbl::Vector::new(), row_count: 0, live_count: 0 }
    }

    /// No rows, of the same space.
    pub fn emptied(&self) -> Self {
        let (dimension, coder) = (self.dimension, self.coder.clone());
        Self { dimension, coder, pages: Vec::new(), free: imbl::Vector::new(), row_count: 0, live_count: 0 }
    }

    /// Rows, dead ones among them.
    pub fn row_count(&self) -> usize {
        self.row_count as usize
    }

    /// Whether there are so many rows that a graph pays.
    pub fn is_full(&self) -> bool {
        let width = self.coder.as_ref().map_or(self.dimension.get() * size_of::<f32>(), |coder| coder.width());
        self.row_count() >= (SEAL_BYTES / width).clamp(SEAL_ROWS_MIN, SEAL_ROWS_MAX)
    }

    /// Rows that are live.
    pub fn live_count(&self) -> usize {
        self.live_count
    }

    /// Bytes of codes and of vectors in memory.
    pub fn bytes(&self) -> (usize, usize) {
        let width = self
            .coder
            .as_ref()
            .map_or(0, |coder| coder.width() + coder.width() / 8 + 2 * size_of::<f32>() + size_of::<RowScale>());
        (self.row_count() * width, self.row_count() * self.dimension.get() * size_of::<f32>())
    }

    /// Adds a row and returns its number.
    pub fn insert(&mut self, row: Row<'_>, record: u32) -> u32 {
        assert_eq!(row.components.len(), self.dimension.get(), "a table holds vectors of its space alone");
        let number = match self.free.pop_back() {
            Some(number) => number,
            None => self.grow(),
        };
        self.live_count += 1;
        let coder = self.coder.clone();
        let live_block = self.block_mut(number);
        live_block.live |= 1 << (number as usize % BLOCK_ROWS);
        Arc::make_mut(&mut live_block.block).set(number as usize % BLOCK_ROWS, row, record, coder.as_deref());
        number
    }

    /// Replaces a live row.
    pub fn replace(&mut self, number: u32, row: Row<'_>) {
        assert_eq!(row.components.len(), self.dimension.get(), "a table holds vectors of its space alone");
        let coder = self.coder.clone();
        let block = Arc::make_mut(&mut self.block_mut(number).block);
        block.set(number as usize % BLOCK_ROWS, row, block.records[number as usize % BLOCK_ROWS], coder.as_deref());
    }

    /// Ends the life of a row.
    pub fn remove(&mut self, number: u32) {
        let live_block = self.block_mut(number);
        live_block.live &= !(1 << (number as usize % BLOCK_ROWS));
        // The text and the metadata go at once; the vector's place waits for the next record.
        Arc::make_mut(&mut live_block.block).contents[number as usize % BLOCK_ROWS] = Arc::default();
        self.live_count -= 1;
        self.free.push_back(number);
    }

    /// A row that is or was live.
    pub fn row(&self, number: u32) -> Row<'_> {
        self.block(number).row(number as usize % BLOCK_ROWS, self.dimension)
    }

    /// The live rows with their numbers and those of their records.
    pub fn live(&self) -> impl Iterator<Item = (u32, u32)> {
        self.blocks().enumerate().flat_map(|(number, LiveBlock { block, live })| {
            let is_live = move |row: &usize| live >> row & 1 == 1;
            let rows = (0..block.ids.len()).filter(is_live);
            rows.map(move |row| ((number * BLOCK_ROWS + row) as u32, block.records[row]))
        })
    }

    /// What a table of this space needs of queries.
    pub fn coded_queries<'a>(&self, vectors: impl Iterator<Item = &'a crate::types::Vector>) -> Option<CodedQueries> {
        self.coder.as_ref().map(|coder| coder.queries(vectors))
    }

    /// Finds the nearest rows of each query, in no order, and calls `found` with the number of the query, the key and the
    /// number of each row. Returns how many distances were computed for each.
    pub fn nearest(&self, search: &TableSearch<'_>, mut found: impl FnMut(usize, f32, u32)) -> usize {
        if self.live_count == 0 {
            return 0;
        }
        let query_count = search.ks.len();
        let rows = self.row_count.next_multiple_of(BLOCK_ROWS as u32) as usize;
        // For each query a key of every row that the true one is not below; infinite where a row is dead.
        let mut lower = vec![f32::INFINITY; query_count * rows];
        self.lower_keys(search, rows, &mut lower);
        for (query, (lower, &k)) in lower.chunks_exact(rows).zip(search.ks).enumerate() {
            match search.counts {
                None => self.refine(search, query, lower, k, &mut found),
                Some(counts) => {
                    let mut lower = lower.to_vec();
                    for (number, lower) in lower.iter_mut().enumerate().filter(|(_, lower)| lower.is_finite()) {
                        if !counts(self.row(number as u32)) {
                            *lower = f32::INFINITY;
                        }
                    }
                    self.refine(search, query, &lower, k, &mut found);
                }
            }
        }
        self.live_count
    }

    fn lower_keys(&self, search: &TableSearch<'_>, rows: usize, lower: &mut [f32]) {
        let (mut dots, mut keys) = (Vec::new(), vec![0.0; search.ks.len() * BLOCK_ROWS]);
        for (number, LiveBlock { block, live }) in self.blocks().enumerate() {
            let count = block.ids.len();
            let first = number * BLOCK_ROWS;
            if let Some(coded) = &search.coded {
                if search.first == First::Bits {
                    for (query, lower) in lower.chunks_exact_mut(rows).enumerate() {
                        let lower = lower[first..][..count].chunks_mut(GROUP_ROWS);
                        for ((group, scales), lower) in
                            block.bits.iter().zip(block.scales.chunks(GROUP_ROWS)).zip(lower)
                        {
                            coded.lower_keys_of_bits(query, group, scales, lower);
                        }
                    }
                } else {
                    let keys = &mut keys[..search.ks.len() * count];
                    coded.lower_keys(&block.codes, &block.scales, search.certainty, &mut dots, keys);
                    for (keys, lower) in keys.chunks_exact(count).zip(lower.chunks_exact_mut(rows)) {
                        lower[first..][..count].copy_from_slice(keys);
                    }
                }
                if *live != u64::MAX {
                    for lower in lower.chunks_exact_mut(rows) {
                        let dead = (0..count).filter(|row| live >> row & 1 == 0);
                        dead.for_each(|row| lower[first + row] = f32::INFINITY);
                    }
                }
            } else {
                let block_rows =
                    Rows { components: &block.components, inverse_norms: &block.inverse_norms, live: *live };
                search.queries.scan(&block_rows, |query, row, keys| {
                    lower[query * rows + first + row..][..keys.len()].copy_from_slice(keys);
                });
            }
        }
    }

    /// The true keys of whatever may be among the `k` nearest.
    fn refine(
        &self,
        search: &TableSearch<'_>,
        query: usize,
        lower: &[f32],
        k: usize,
        found: &mut impl FnMut(usize, f32, u32),
    ) {
        let Some(coded) = &search.coded else {
            let mut nearest = Nearest::new(k);
            nearest.offer_all(lower, |row| row as u32);
            // All that are as near as the last: which of them counts is settled by their ids.
            let bound = nearest.into_sorted().last().map_or(f32::NEG_INFINITY, |last: &Neighbor<u32>| last.key);
            let near = lower.iter().enumerate().filter(|(_, key)| key.is_finite() && **key <= bound);
            return near.for_each(|(row, &key)| found(query, key, row as u32));
        };
        // The true keys of any rows bound that of the `k`-th nearest; those that seem nearest bound it well.
        let first_rows = match search.first {
            First::Codes => k,
            First::Bits => 2 * k + SPARE,
        };
        let mut nearest = Nearest::new(first_rows);
        nearest.offer_all(lower, |row| row as u32);
        let nearest = nearest.into_sorted();
        let nearest: Vec<_> = nearest.iter().filter(|neighbor| neighbor.key.is_finite()).collect();
        let mut true_keys: Vec<f32> = Vec::with_capacity(nearest.len());
        for &&Neighbor { item, .. } in &nearest {
            let key = self.key(search.queries, query, item);
            found(query, key, item);
            true_keys.push(key);
        }
        if true_keys.len() < first_rows {
            return;
        }
        let (_, &mut bound, _) = true_keys.select_nth_unstable_by(k - 1, f32::total_cmp);
        let limit = nearest.last().map_or((f32::NEG_INFINITY, 0), |last| (last.key, last.item));
        // A stretch without any is passed over as a whole.
        for (stretch, keys) in lower.chunks(16).enumerate() {
            if keys.iter().map(|&key| u32::from(key <= bound)).sum::<u32>() == 0 {
                continue;
            }
            for (place, &key) in keys.iter().enumerate() {
                let row = (stretch * 16 + place) as u32;
                // Those up to the limit were compared before.
                if key > bound || (key, row) <= limit {
                    continue;
                }
                if search.first == First::Codes || self.lower_key(coded, query, row) <= bound {
                    found(query, self.key(search.queries, query, row), row);
                }
            }
        }
    }

    fn lower_key(&self, coded: &CodedQueries, query: usize, number: u32) -> f32 {
        let (block, row) = (self.block(number), number as usize % BLOCK_ROWS);
        let width = block.codes.len() / block.scales.len();
        coded.lower_key(query, &block.codes[row * width..][..width], &block.scales[row])
    }

    fn key(&self, queries: &flat::Queries, query: usize, number: u32) -> f32 {
        let (block, row) = (self.block(number), number as usize % BLOCK_ROWS);
        let dimension = self.dimension.get();
        queries.key(query, &block.components[row * dimension..][..dimension], block.inverse_norms[row])
    }

    fn blocks(&self) -> impl Iterator<Item = &LiveBlock> {
        self.pages.iter().flat_map(|page| &page.blocks)
    }

    fn block(&self, number: u32) -> &Block {
        let block_number = number as usize / BLOCK_ROWS;
        &self.pages[block_number / PAGE_BLOCKS].blocks[block_number % PAGE_BLOCKS].block
    }

    fn grow(&mut self) -> u32 {
        let number = self.row_count;
        self.row_count += 1;
        let block_number = number as usize / BLOCK_ROWS;
        if block_number / PAGE_BLOCKS == self.pages.len() {
            self.pages.push(Arc::default());
        }
        let page = Arc::make_mut(&mut self.pages[block_number / PAGE_BLOCKS]);
        if block_number % PAGE_BLOCKS == page.blocks.len() {
            page.blocks.push(LiveBlock { block: Arc::default(), live: 0 });
        }
        number
    }

    fn block_mut(&mut self, number: u32) -> &mut LiveBlock {
        let block_number = number as usize / BLOCK_ROWS;
        &mut Arc::make_mut(&mut self.pages[block_number / PAGE_BLOCKS]).blocks[block_number % PAGE_BLOCKS]
    }
}

impl Block {
    /// Writes over row `index`, or adds it where it is the next.
    fn set(&mut self, index: usize, row: Row<'_>, record: u32, coder: Option<&Coder>) {
        let inverse_norm = (1.0 / norm(row.components)) as f32;
        if index == self.ids.len() {
            self.ids.push(row.id.clone());
            self.versions.push(row.version);
            self.contents.push(row.content.clone());
            self.components.extend_from_slice(row.components);
            self.inverse_norms.push(inverse_norm);
            self.records.push(record);
            if let Some(coder) = coder {
                self.codes.resize(self.codes.len() + coder.width(), 0);
                self.scales.push(RowScale::default());
                if index.is_multiple_of(GROUP_ROWS) {
                    self.bits.push(coder.empty_group());
                }
                self.set_codes(index, row.components, coder);
            }
            return;
        }
        self.ids[index] = row.id.clone();
        self.versions[index] = row.version;
        self.contents[index] = row.content.clone();
        self.components[index * row.components.len()..][..row.components.len()].copy_from_slice(row.components);
        self.inverse_norms[index] = inverse_norm;
        self.records[index] = record;
        if let Some(coder) = coder {
            self.set_codes(index, row.components, coder);
        }
    }

    fn set_codes(&mut self, index: usize, components: &[f32], coder: &Coder) {
        let codes = &mut self.codes[index * coder.width()..][..coder.width()];
        let group = &mut self.bits[index / GROUP_ROWS];
        self.scales[index] = coder.encode(components, codes, group, index % GROUP_ROWS);
    }

    fn row(&self, index: usize, dimension: Dimension) -> Row<'_> {
        Row {
            id: &self.ids[index],
            version: self.versions[index],
            components: &self.components[index * dimension.get()..][..dimension.get()],
            content: &self.contents[index],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Vector;

    fn insert(table: &mut Table, id: &str, components: &[f32]) -> u32 {
        let content = Arc::default();
        let id = RecordId::new(id).unwrap();
        table.insert(Row { id: &id, version: Sequence(1), components, content: &content }, 0)
    }

    fn ids(table: &Table) -> Vec<String> {
        table.live().map(|(row, _)| table.row(row).id.to_string()).collect()
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut table = Table::new(Metric::DotProduct, Dimension::new(1).unwrap());
        let rows: Vec<u32> = (0..5000).map(|i| insert(&mut table, &i.to_string(), &[i as f32])).collect();
        let before = table.clone();
        for &row in &rows[..100] {
            table.remove(row);
        }
        let content = Arc::default();
        let id = RecordId::new("4999").unwrap();
        table.replace(rows[4999], Row { id: &id, version: Sequence(2), components: &[-1.0], content: &content });
        assert_eq!((before.live_count(), table.live_count()), (5000, 4900));
        assert_eq!(before.row(rows[4999]).components, [4999.0]);
        assert_eq!(table.row(rows[4999]).components, [-1.0]);
        assert_eq!(ids(&before).len(), 5000);
        assert_eq!(ids(&table).len(), 4900);
    }

    #[test]
    fn dead_rows_are_used_again_before_the_table_grows() {
        let mut table = Table::new(Metric::DotProduct, Dimension::new(1).unwrap());
        let a = insert(&mut table, "a", &[1.0]);
        insert(&mut table, "b", &[2.0]);
        table.remove(a);
        assert_eq!(insert(&mut table, "c", &[3.0]), a);
        assert_eq!(ids(&table), ["c", "b"]);
        assert_eq!(table.bytes(), (0, 8));
    }

    fn nearest(
        table: &Table,
        metric: Metric,
        query: &Vector,
        k: usize,
        (certainty, first): (Certainty, First),
    ) -> Vec<u32> {
        let queries = flat::Queries::new(metric, [query]);
        let coded = table.coded_queries([query].into_iter());
        let mut found = Vec::new();
        let search = TableSearch { queries: &queries, coded: coded.as_ref(), ks: &[k], certainty, first, counts: None };
        table.nearest(&search, |_, key, row| found.push((key, row)));
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.iter().take(k).map(|found| found.1).collect()
    }

    /// Components that repeat themselves nowhere near.
    fn components(row: usize, dimension: usize) -> Vec<f32> {
        (0..dimension)
            .map(|at| ((row * 7919 + at * 104_729) as f32 * 0.1).sin() + if row.is_multiple_of(3) { 5.0 } else { 0.0 })
            .collect()
    }

    #[test]
    fn codes_find_what_the_components_find() {
        for metric in [Metric::Cosine, Metric::DotProduct, Metric::Euclidean] {
            for dimension in [64, 100] {
                let mut table = Table::new(metric, Dimension::new(dimension).unwrap());
                let rows: Vec<Vec<f32>> = (0..700).map(|row| components(row, dimension)).collect();
                let numbers: Vec<u32> =
                    rows.iter().enumerate().map(|(row, x)| insert(&mut table, &row.to_string(), x)).collect();
                numbers.iter().skip(10).step_by(5).for_each(|&number| table.remove(number));
                for (query, k) in [(1, 1), (500, 10), (501, 100), (502, 1000)] {
                    let query = Vector::new(components(query * 31 + 1, dimension)).unwrap();
                    let queries = flat::Queries::new(metric, [&query]);
                    let mut exact: Vec<(f32, u32)> =
                        table.live().map(|(row, _)| (table.key(&queries, 0, row), row)).collect();
                    exact.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    let exact: Vec<u32> = exact.iter().take(k).map(|found| found.1).collect();
                    assert_eq!(
                        nearest(&table, metric, &query, k, (Certainty::Sure, First::Codes)),
                        exact,
                        "{metric} {dimension} {k}"
                    );
                    for first in [First::Codes, First::Bits] {
                        let likely = nearest(&table, metric, &query, k, (Certainty::Likely, first));
                        let right = likely.iter().filter(|row| exact.contains(row)).count();
                        let wanted = exact.len();
                        assert!(right * 100 >= wanted * 98, "{metric} {dimension} {k} {first:?}: {right} of {wanted}");
                    }
                }
            }
        }
    }
}
