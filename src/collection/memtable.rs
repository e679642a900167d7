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
use crate::collection::scan::{First, TableSearch};
use crate::index::coded::{BitGroups, CodedQueries, Coder, RowScale};
use crate::index::flat::{self, BLOCK_ROWS, Rows};
use crate::types::{Dimension, Metric, RecordId, Sequence, norm};

/// Blocks of a page.
const PAGE_BLOCKS: usize = 64;
/// A table is sealed when a scan would read so much, within these bounds of its rows: some 40 us.
const SEAL_BYTES: usize = 3 << 20;
const SEAL_ROWS_MIN: usize = 1024;
const SEAL_ROWS_MAX: usize = 8192;

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
    /// The bits of all blocks one after another, once no row comes any more: read without a stop.
    bits: Option<Arc<BitGroups>>,
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
    bits: BitGroups,
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

impl Table {
    /// No rows.
    pub fn new(metric: Metric, dimension: Dimension) -> Self {
        let coder = Coder::new(metric, dimension.get()).map(Arc::new);
        Self::without_rows(dimension, coder)
    }

    fn without_rows(dimension: Dimension, coder: Option<Arc<Coder>>) -> Self {
        let (pages, free) = (Vec::new(), imbl::Vector::new());
        Self { dimension, coder, pages, free, row_count: 0, live_count: 0, bits: None }
    }

    /// Takes all rows, which from now on only die.
    pub fn seal(&mut self) -> Self {
        let emptied = Self::without_rows(self.dimension, self.coder.clone());
        let mut sealed = std::mem::replace(self, emptied);
        if sealed.coder.is_some() {
            let mut bits = BitGroups::default();
            sealed.blocks().for_each(|block| bits.extend(&block.block.bits));
            sealed.bits = Some(Arc::new(bits));
        }
        sealed
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
        // Its block stays as it is, for the next record or until the table is built: a view may have it.
        self.block_mut(number).live &= !(1 << (number as usize % BLOCK_ROWS));
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

    /// The rows that are dead.
    pub fn dead(&self) -> impl Iterator<Item = u32> {
        self.blocks().enumerate().flat_map(|(number, LiveBlock { block, live })| {
            let dead = (0..block.ids.len()).filter(move |row| live >> row & 1 == 0);
            dead.map(move |row| (number * BLOCK_ROWS + row) as u32)
        })
    }

    /// What a table of this space needs of queries.
    pub fn coded_queries<'a>(&self, vectors: impl Iterator<Item = &'a crate::types::Vector>) -> Option<CodedQueries> {
        self.coder.as_ref().map(|coder| coder.queries(vectors))
    }

    /// Rows that a scan goes through: whole blocks, dead rows among them.
    pub fn scanned_count(&self) -> usize {
        self.row_count().next_multiple_of(BLOCK_ROWS)
    }

    /// For each query and each of the rows of [`Self::scanned_count`] a key that the true one is not below; infinite where a
    /// row is dead. Those of query `q` begin at `q * stride` of `lower`.
    pub fn lower_keys(&self, search: &TableSearch<'_>, lower: &mut [f32], stride: usize) {
        let by_bits = search.coded.filter(|_| search.first == First::Bits);
        if let (Some(coded), Some(bits)) = (by_bits, &self.bits) {
            for (query, lower) in lower.chunks_mut(stride).enumerate() {
                coded.lower_keys_of_bits(query, bits, lower);
            }
        }
        let (mut dots, mut keys) = (Vec::new(), vec![0.0; search.ks.len() * BLOCK_ROWS]);
        for (number, LiveBlock { block, live }) in self.blocks().enumerate() {
            let count = block.ids.len();
            let lower = &mut lower[number * BLOCK_ROWS..];
            match (search.coded, by_bits) {
                (None, _) => {
                    let (components, inverse_norms) = (&block.components, &block.inverse_norms);
                    search.queries.scan(&Rows { components, inverse_norms, live: *live }, |query, row, keys| {
                        lower[query * stride + row..][..keys.len()].copy_from_slice(keys);
                    });
                }
                (Some(coded), None) => {
                    let keys = &mut keys[..search.ks.len() * count];
                    coded.lower_keys(&block.codes, &block.scales, search.certainty, &mut dots, keys);
                    for (keys, lower) in keys.chunks_exact(count).zip(lower.chunks_mut(stride)) {
                        lower[..count].copy_from_slice(keys);
                    }
                }
                (_, Some(coded)) if self.bits.is_none() => {
                    for (query, lower) in lower.chunks_mut(stride).enumerate() {
                        coded.lower_keys_of_bits(query, &block.bits, lower);
                    }
                }
                (_, Some(_)) => {}
            }
            for lower in lower.chunks_mut(stride) {
                let mut dead = !live;
                while dead != 0 {
                    lower[dead.trailing_zeros() as usize] = f32::INFINITY;
                    dead &= dead - 1;
                }
            }
        }
    }

    /// As `lower_keys`, for one row by its 8-bit codes, and all but for certain.
    pub fn lower_key(&self, coded: &CodedQueries, query: usize, number: u32) -> f32 {
        let (block, row) = (self.block(number), number as usize % BLOCK_ROWS);
        let width = block.codes.len() / block.scales.len();
        coded.lower_key(query, &block.codes[row * width..][..width], &block.scales[row])
    }

    /// The true key of a row.
    pub fn key(&self, queries: &flat::Queries, query: usize, number: u32) -> f32 {
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
        self.scales[index] = coder.encode(components, codes, &mut self.bits, index);
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
}
