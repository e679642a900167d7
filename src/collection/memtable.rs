//! The rows of one space in memory: vectors, and what is kept beside them.
//!
//! A table is a persistent structure: cloning it costs one pointer for every 4,096 rows, and writing to a clone copies
//! only the blocks of 64 rows that are touched. So a reader's view never changes, and nobody waits.
//!
//! Invariants: a row number stays with its record until the record is deleted; dead rows are used again before the
//! table grows; `live_count` is the number of live bits.

use std::sync::Arc;

use crate::collection::op::Content;
use crate::index::flat::{self, BLOCK_ROWS, Rows};
use crate::types::{Dimension, RecordId, Sequence, norm};

/// Blocks of a page.
const PAGE_BLOCKS: usize = 64;

/// The rows of one space.
#[derive(Clone)]
pub struct Table {
    dimension: Dimension,
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

impl Table {
    /// No rows.
    pub fn new(dimension: Dimension) -> Self {
        Self { dimension, pages: Vec::new(), free: imbl::Vector::new(), row_count: 0, live_count: 0 }
    }

    /// Rows that are live.
    pub fn live_count(&self) -> usize {
        self.live_count
    }

    /// Bytes of the components in memory.
    pub fn vector_bytes(&self) -> usize {
        self.row_count as usize * self.dimension.get() * size_of::<f32>()
    }

    /// Adds a row and returns its number.
    pub fn insert(&mut self, row: Row<'_>) -> u32 {
        assert_eq!(row.components.len(), self.dimension.get(), "a table holds vectors of its space alone");
        let number = match self.free.pop_back() {
            Some(number) => number,
            None => self.grow(),
        };
        self.live_count += 1;
        let live_block = self.block_mut(number);
        live_block.live |= 1 << (number as usize % BLOCK_ROWS);
        Arc::make_mut(&mut live_block.block).set(number as usize % BLOCK_ROWS, row);
        number
    }

    /// Replaces a live row.
    pub fn replace(&mut self, number: u32, row: Row<'_>) {
        assert_eq!(row.components.len(), self.dimension.get(), "a table holds vectors of its space alone");
        Arc::make_mut(&mut self.block_mut(number).block).set(number as usize % BLOCK_ROWS, row);
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

    /// A live row.
    pub fn row(&self, number: u32) -> Row<'_> {
        let block_number = number as usize / BLOCK_ROWS;
        let page = &self.pages[block_number / PAGE_BLOCKS];
        page.blocks[block_number % PAGE_BLOCKS].block.row(number as usize % BLOCK_ROWS, self.dimension)
    }

    /// Calls `found` with the number of a query, the keys of live rows that follow one another, the number of the first of
    /// them, and their ids.
    pub fn scan<'a>(&'a self, queries: &flat::Queries, mut found: impl FnMut(usize, &[f32], u32, &'a [RecordId])) {
        let blocks = self.pages.iter().flat_map(|page| &page.blocks);
        for (block_number, LiveBlock { block, live }) in blocks.enumerate() {
            let rows = Rows { components: &block.components, inverse_norms: &block.inverse_norms, live: *live };
            queries.scan(&rows, |query, first, keys| {
                let number = (block_number * BLOCK_ROWS + first) as u32;
                found(query, keys, number, &block.ids[first..][..keys.len()]);
            });
        }
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
    fn set(&mut self, index: usize, row: Row<'_>) {
        let inverse_norm = (1.0 / norm(row.components)) as f32;
        if index == self.ids.len() {
            self.ids.push(row.id.clone());
            self.versions.push(row.version);
            self.contents.push(row.content.clone());
            self.components.extend_from_slice(row.components);
            self.inverse_norms.push(inverse_norm);
            return;
        }
        self.ids[index] = row.id.clone();
        self.versions[index] = row.version;
        self.contents[index] = row.content.clone();
        self.components[index * row.components.len()..][..row.components.len()].copy_from_slice(row.components);
        self.inverse_norms[index] = inverse_norm;
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
    use crate::types::{Metric, Vector};

    fn insert(table: &mut Table, id: &str, components: &[f32]) -> u32 {
        let content = Arc::default();
        table.insert(Row { id: &RecordId::new(id).unwrap(), version: Sequence(1), components, content: &content })
    }

    fn ids(table: &Table) -> Vec<String> {
        let queries = flat::Queries::new(Metric::DotProduct, [&Vector::new(vec![1.0]).unwrap()]);
        let mut ids = Vec::new();
        table.scan(&queries, |_, _, _, found| ids.extend(found.iter().map(RecordId::to_string)));
        ids
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut table = Table::new(Dimension::new(1).unwrap());
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
        let mut table = Table::new(Dimension::new(1).unwrap());
        let a = insert(&mut table, "a", &[1.0]);
        insert(&mut table, "b", &[2.0]);
        table.remove(a);
        assert_eq!(insert(&mut table, "c", &[3.0]), a);
        assert_eq!(ids(&table), ["c", "b"]);
        assert_eq!(table.vector_bytes(), 8);
    }
}
