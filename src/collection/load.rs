//! Bringing a collection back from its files: as it stood at its latest checkpoint.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::collection::disk::{self, DiskError, FileKind, Manifest, PartEntry};
use crate::collection::keep::{Kept, PartFiles};
use crate::collection::ledger::Ledger;
use crate::collection::memtable::Table;
use crate::collection::parts::{HeldSegment, Parts, Sealed};
use crate::collection::row_set::RowSet;
use crate::collection::segment::{Place, Segment};
use crate::collection::stream::StreamTable;
use crate::collection::view::{Located, View};
use crate::index::graph::Residence;
use crate::storage::fs::Fs;
use crate::storage::manifest;
use crate::storage::memory::{MemoryBudget, MemoryShare};
use crate::storage::sections::SectionError;
use crate::types::{RecordId, Space};

/// A collection at its latest checkpoint.
#[derive(Default)]
pub(super) struct Loaded {
    pub view: View,
    pub ledger: Ledger,
    pub kept: Kept,
    /// Where its vectors are, if there is any part.
    pub residence: Residence,
    /// What its parts take.
    pub memory: Option<MemoryShare>,
}

/// A part as it was read.
enum Part {
    Table(Table),
    Segment(Box<Segment>),
}

/// What is gathered of all parts.
#[derive(Default)]
struct Records {
    directory: Vec<(RecordId, Located)>,
    /// Where each record lies, by its number.
    places: Vec<Place>,
}

/// Removes what a crash has left of parts: to be called once it is known that the log has everything that the manifest has not.
pub(super) fn remove_leftovers(fs: &dyn Fs, folder: &Path) -> Result<(), DiskError> {
    let manifest = disk::read_manifest(fs, folder)?;
    disk::remove_others(fs, folder, |number, kind| manifest.as_ref().is_some_and(|one| one.names(number, kind)))?;
    Ok(())
}

/// Reads the manifest and everything that it names. A collection without a manifest has only its log.
///
/// Where there is too little memory, vectors are left in their file, though they were to be in memory.
pub(super) fn load(
    fs: &dyn Fs,
    folder: &Path,
    residence: Residence,
    memory: &MemoryBudget,
) -> Result<Loaded, DiskError> {
    manifest::remove_leftover(fs, folder)?;
    let manifest = disk::read_manifest(fs, folder)?;
    let Some(manifest) = manifest else { return Ok(Loaded { residence, ..Loaded::default() }) };
    disk::check_manifest(&manifest, folder)?;
    let (residence, share) = find_room(fs, folder, &manifest, residence, memory)?;
    let mut loaded = Loaded { residence, memory: Some(share), ..Loaded::default() };
    let mut records = Records::default();
    let memtable_numbers = manifest.next_part..;
    let mut spaces: Vec<(Vec<Sealed>, Vec<HeldSegment>)> = manifest.spaces.iter().map(|_| Default::default()).collect();
    for entry in &manifest.parts {
        let space = &manifest.spaces[usize::from(entry.space)];
        let mut graph_id = entry.graph_id;
        let (sealed, segments) = &mut spaces[usize::from(entry.space)];
        let number = entry.number;
        match read_part(fs, folder, entry, space, records.places.len() as u32, residence)? {
            Part::Table(mut table) => {
                graph_id = None;
                entry.dead.iter().for_each(|row| table.remove(row));
                records.add(entry, |row| table.row(row).id.clone());
                sealed.push(Sealed { number, table });
            }
            Part::Segment(segment) => {
                records.add(entry, |row| segment.row(row).id.clone());
                let mut dead = RowSet::default();
                entry.dead.iter().for_each(|row| dead.insert(row));
                segments.push(HeldSegment { number, segment: Arc::new(*segment), dead });
            }
        }
        loaded.kept.files.insert(number, PartFiles { rows_id: entry.rows_id, graph_id });
    }
    for file in &manifest.answers {
        loaded.ledger.requests.restore(disk::read_answers(fs, folder, file.number, file.id)?);
    }
    let Manifest { sequence, description, default_model_id, streams, answers, next_part, .. } = manifest;
    let memtables = manifest.spaces.iter().zip(memtable_numbers).zip(spaces);
    let parts = memtables.map(|((space, number), (sealed, segments))| Parts::restored(space, number, sealed, segments));
    let view = &mut loaded.view;
    view.parts = parts.collect();
    view.next_part = Arc::new(AtomicU32::new(next_part + view.parts.len() as u32));
    view.spaces = manifest.spaces;
    (view.sequence, view.description, view.default_model_id) = (sequence, description, default_model_id);
    records.settle(view, folder)?;
    loaded.ledger.streams = StreamTable::restored(streams);
    (loaded.kept.sequence, loaded.kept.answers) = (sequence, answers);
    Ok(loaded)
}

/// What parts take in memory is as large as their files, within some hundredths; vectors that stay in their file excepted.
fn find_room(
    fs: &dyn Fs,
    folder: &Path,
    manifest: &Manifest,
    residence: Residence,
    memory: &MemoryBudget,
) -> Result<(Residence, MemoryShare), DiskError> {
    // What cannot be read is named when it is loaded.
    let length =
        |number, kind| fs.open(&disk::path_of(folder, number, kind)).and_then(|file| file.len()).unwrap_or_default();
    let (mut bytes, mut vector_bytes) = (0, 0);
    for part in &manifest.parts {
        bytes += length(part.number, FileKind::Rows);
        if part.graph_id.is_some() {
            bytes += length(part.number, FileKind::Graph);
            let dimension = manifest.spaces[usize::from(part.space)].dimension.get();
            vector_bytes += u64::from(part.row_count) * dimension as u64 * 4;
        }
    }
    if residence == Residence::Resident {
        if let Ok(share) = memory.take(bytes) {
            return Ok((Residence::Resident, share));
        }
        tracing::warn!(
            folder = %folder.display(),
            bytes,
            "too little memory: vectors stay in their file, and searches may wait for the disk"
        );
    }
    Ok((Residence::Mapped, memory.take(bytes.saturating_sub(vector_bytes))?))
}

/// A graph that is damaged or missing is built again: its rows are read as those of a table.
fn read_part(
    fs: &dyn Fs,
    folder: &Path,
    entry: &PartEntry,
    space: &Space,
    first_record: u32,
    residence: Residence,
) -> Result<Part, DiskError> {
    let row_count = entry.row_count as usize;
    if let Some(graph_id) = entry.graph_id {
        let files = (entry.number, entry.rows_id, graph_id);
        match disk::read_segment(fs, folder, files, row_count, space, first_record, residence) {
            Ok(segment) => return Ok(Part::Segment(Box::new(segment))),
            Err(error @ DiskError::Section(SectionError::NewerFormat { .. })) => return Err(error),
            Err(error) => tracing::warn!("{error}; the graph is built again from the rows, if those are whole"),
        }
    }
    disk::read_table(fs, folder, (entry.number, entry.rows_id), row_count, space, first_record).map(Part::Table)
}

impl Records {
    /// Adds the rows of a part: its row `i` is the next record but `i`.
    fn add(&mut self, entry: &PartEntry, id: impl Fn(u32) -> RecordId) {
        let mut dead = entry.dead.iter().peekable();
        for row in 0..entry.row_count {
            if dead.next_if_eq(&row).is_some() {
                self.places.push(Place::NOWHERE);
                continue;
            }
            let record = self.places.len() as u32;
            self.places.push(Place { part: entry.number, row });
            self.directory.push((id(row), Located { space: entry.space, record }));
        }
    }

    fn settle(mut self, view: &mut View, folder: &Path) -> Result<(), DiskError> {
        self.directory.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = self.directory.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(DiskError::Twice { folder: folder.to_owned(), id: pair[0].0.to_string() });
        }
        let unused = (0..).zip(&self.places).filter(|(_, place)| **place == Place::NOWHERE);
        view.free = unused.map(|(record, _)| record).collect();
        view.directory = self.directory.into_iter().collect();
        view.places = self.places.into_iter().collect();
        Ok(())
    }
}
