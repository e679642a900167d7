//! The parts of a space: the memtable, tables that are sealed and wait to be built, and segments.
//!
//! Invariants: a live row belongs to one record, and a record has one live row; only the memtable takes rows in; a part
//! keeps its number as long as it lives.

use std::sync::Arc;

use crate::collection::memtable::{Row, Table};
use crate::collection::row_set::RowSet;
use crate::collection::segment::{Origin, Place, Segment};
use crate::types::Space;

/// The parts of one space.
#[derive(Clone)]
pub struct Parts {
    /// The number of the memtable.
    memtable_number: u32,
    memtable: Table,
    sealed: Vec<Sealed>,
    segments: Vec<HeldSegment>,
}

/// A table that takes no more rows.
#[derive(Clone)]
pub struct Sealed {
    /// Its number.
    pub number: u32,
    /// The rows.
    pub table: Table,
}

/// A segment, and which of its rows are dead.
#[derive(Clone)]
pub struct HeldSegment {
    /// Its number.
    pub number: u32,
    /// The rows.
    pub segment: Arc<Segment>,
    /// Those that were deleted or replaced since.
    pub dead: RowSet,
}

impl HeldSegment {
    /// Rows that are live.
    pub fn live_count(&self) -> usize {
        self.segment.row_count() - self.dead.len()
    }
}

impl Parts {
    /// An empty memtable.
    pub fn new(space: &Space, number: u32) -> Self {
        let memtable = Table::new(space.metric, space.dimension);
        Self { memtable_number: number, memtable, sealed: Vec::new(), segments: Vec::new() }
    }

    /// With an empty memtable, and what was read from files.
    pub fn restored(space: &Space, number: u32, sealed: Vec<Sealed>, mut segments: Vec<HeldSegment>) -> Self {
        segments.sort_by_key(|held| std::cmp::Reverse(held.segment.row_count()));
        Self { sealed, segments, ..Self::new(space, number) }
    }

    /// The memtable.
    pub fn memtable(&self) -> &Table {
        &self.memtable
    }

    /// All tables: sealed ones, and the memtable at last.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &Table)> {
        let sealed = self.sealed.iter().map(|sealed| (sealed.number, &sealed.table));
        sealed.chain([(self.memtable_number, &self.memtable)])
    }

    /// Tables that wait to be built.
    pub fn sealed(&self) -> &[Sealed] {
        &self.sealed
    }

    /// Segments, the largest first.
    pub fn segments(&self) -> &[HeldSegment] {
        &self.segments
    }

    /// Rows that are live.
    pub fn live_count(&self) -> usize {
        let in_tables: usize = self.tables().map(|(_, table)| table.live_count()).sum();
        in_tables + self.segments.iter().map(HeldSegment::live_count).sum::<usize>()
    }

    /// Whether there is a part of that number.
    pub fn has(&self, number: u32) -> bool {
        self.tables().any(|(table, _)| table == number) || self.segments.iter().any(|held| held.number == number)
    }

    /// The live rows of a part, each with its origin.
    pub fn live_rows(&self, number: u32) -> Vec<(Row<'_>, Origin)> {
        let origin = |record, row| Origin { record, place: Place { part: number, row } };
        if let Some((_, table)) = self.tables().find(|table| table.0 == number) {
            return table.live().map(|(row, record)| (table.row(row), origin(record, row))).collect();
        }
        let Some(held) = self.segments.iter().find(|held| held.number == number) else { return Vec::new() };
        let live = (0..held.segment.row_count() as u32).filter(|&row| !held.dead.contains(row));
        live.map(|row| (held.segment.row(row), origin(held.segment.record(row), row))).collect()
    }

    /// A live row.
    pub fn row(&self, place: Place) -> Row<'_> {
        if let Some((_, table)) = self.tables().find(|table| table.0 == place.part) {
            return table.row(place.row);
        }
        let held = self.segments.iter().find(|held| held.number == place.part);
        held.expect("a record's part is there").segment.row(place.row)
    }

    /// Writes a new row for a record, and ends the life of its old one.
    pub fn write(&mut self, record: u32, old: Option<Place>, row: Row<'_>) -> Place {
        match old {
            Some(old) if old.part == self.memtable_number => {
                self.memtable.replace(old.row, row);
                return old;
            }
            Some(old) => self.remove(old),
            None => {}
        }
        Place { part: self.memtable_number, row: self.memtable.insert(row, record) }
    }

    /// Ends the life of a row.
    pub fn remove(&mut self, place: Place) {
        if place.part == self.memtable_number {
            self.memtable.remove(place.row);
        } else if let Some(sealed) = self.sealed.iter_mut().find(|sealed| sealed.number == place.part) {
            sealed.table.remove(place.row);
        } else {
            let held = self.segments.iter_mut().find(|held| held.number == place.part);
            held.expect("a record's part is there").dead.insert(place.row);
        }
    }

    /// Begins a new memtable, of a number that is new, where the old one has any rows.
    pub fn seal(&mut self, new_number: impl FnOnce() -> u32) {
        if self.memtable.row_count() == 0 {
            return;
        }
        self.sealed.push(Sealed { number: self.memtable_number, table: self.memtable.seal() });
        self.memtable_number = new_number();
    }

    /// Puts a new segment in the place of the parts that it was built from. `origins` says for each of its rows where it
    /// comes from, and `is_there` whether its record still lies there.
    pub fn install(
        &mut self,
        number: u32,
        segment: Option<Arc<Segment>>,
        replaced: &[u32],
        origins: &[Place],
        mut is_there: impl FnMut(Origin, u32) -> bool,
    ) {
        self.sealed.retain(|sealed| !replaced.contains(&sealed.number));
        self.segments.retain(|held| !replaced.contains(&held.number));
        let Some(segment) = segment else { return };
        let mut dead = RowSet::default();
        for (row, &place) in (0..).zip(origins) {
            if !is_there(Origin { record: segment.record(row), place }, row) {
                dead.insert(row);
            }
        }
        self.segments.push(HeldSegment { number, segment, dead });
        self.segments.sort_by_key(|held| std::cmp::Reverse(held.segment.row_count()));
    }
}
