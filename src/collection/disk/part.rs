//! The files of a part: a table, or a segment with its graph.

use std::os::fd::BorrowedFd;
use std::path::Path;

use uuid::Uuid;

use super::rows::{self, RowsRead};
use super::{DiskError, FileKind, path_of};
use crate::collection::memtable::{Row, Table};
use crate::collection::segment::Segment;
use crate::index::graph::{Graph, Look, Residence, Sections, VECTORS};
use crate::storage::fs::Fs;
use crate::storage::sections::{Kind, SectionError, SectionFile, SectionWriter};
use crate::types::{Space, check_row};

pub const GRAPH: Kind = Kind { number: 2, name: "graph", format: 1 };
/// The id of the rows file that a graph was built over.
const ROWS_ID: u32 = 100;

/// Writes the rows of a table, dead ones among them, and returns the file's id.
pub fn write_table(fs: &dyn Fs, folder: &Path, number: u32, table: &Table) -> Result<Uuid, DiskError> {
    let mut writer = SectionWriter::create(fs, &path_of(folder, number, FileKind::Rows), rows::KIND)?;
    let all = (0..table.row_count() as u32).map(|row| table.row(row));
    writer.begin(VECTORS)?;
    for row in all.clone() {
        let bytes: Vec<u8> = row.components.iter().flat_map(|component| component.to_le_bytes()).collect();
        writer.write(&bytes)?;
    }
    rows::write(&mut writer, all)?;
    Ok(writer.finish()?)
}

/// Writes the rows of a segment and its graph, and returns the ids of both files.
pub fn write_segment(fs: &dyn Fs, folder: &Path, number: u32, segment: &Segment) -> Result<(Uuid, Uuid), DiskError> {
    let mut writer = SectionWriter::create(fs, &path_of(folder, number, FileKind::Rows), rows::KIND)?;
    for (tag, bytes) in segment.graph().vector_sections() {
        writer.section(tag, bytes)?;
    }
    rows::write(&mut writer, (0..segment.row_count() as u32).map(|row| segment.row(row)))?;
    let rows_id = writer.finish()?;
    let mut writer = SectionWriter::create(fs, &path_of(folder, number, FileKind::Graph), GRAPH)?;
    writer.section(ROWS_ID, rows_id.as_bytes())?;
    for (tag, bytes) in segment.graph().sections() {
        writer.section(tag, &bytes)?;
    }
    Ok((rows_id, writer.finish()?))
}

/// Reads rows into a table, which takes no more. Row `i` is the record `first_record + i`.
pub fn read_table(
    fs: &dyn Fs,
    folder: &Path,
    (number, id): (u32, Uuid),
    row_count: usize,
    space: &Space,
    first_record: u32,
) -> Result<Table, DiskError> {
    let file = open_rows(fs, folder, number, id)?;
    let RowsRead { ids, versions, contents } = rows::read(&file, row_count)?;
    // What a segment had written has a vector once for all rows that share it.
    let nodes = match file.bytes(crate::index::graph::NODES) {
        None => None,
        Some(_) => Some(file.read(crate::index::graph::NODES)?),
    };
    let node_of = |row: usize| match &nodes {
        None => Some(row),
        Some(nodes) => nodes.as_chunks::<4>().0.get(row).map(|node| u32::from_le_bytes(*node) as usize),
    };
    let components: Vec<f32> =
        file.read(VECTORS)?.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let dimension = space.dimension.get();
    let mut table = Table::new(space.metric, space.dimension);
    for (row, ((id, &version), content)) in ids.iter().zip(&versions).zip(&contents).enumerate() {
        let vector = node_of(row).and_then(|node| components.get(node * dimension..(node + 1) * dimension));
        let Some(components) = vector else {
            return Err(file.nonsense(VECTORS, format!("row {row} has no vector of dimension {dimension}")).into());
        };
        check_row(components, space.metric)
            .map_err(|why| file.nonsense(VECTORS, format!("vector of row {row}: {why}")))?;
        table.insert(Row { id, version, components, content }, first_record + row as u32);
    }
    Ok(table.seal())
}

/// Reads a segment. Row `i` is the record `first_record + i`. Fails with a damaged graph too, which can be built again from the rows.
pub fn read_segment(
    fs: &dyn Fs,
    folder: &Path,
    (number, id, graph_id): (u32, Uuid, Uuid),
    row_count: usize,
    space: &Space,
    first_record: u32,
    residence: Residence,
) -> Result<Segment, DiskError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let file = open_rows(fs, folder, number, id)?;
    let path = path_of(folder, number, FileKind::Graph);
    let graph_file = SectionFile::open(fs, &path, GRAPH)?;
    let built_over = Uuid::from_slice(&graph_file.read(ROWS_ID)?).unwrap_or_default();
    for (expected, got) in [(graph_id, graph_file.id()), (id, built_over)] {
        if expected != got {
            return Err(DiskError::Stranger { file: path, expected, got });
        }
    }
    let (graph, rows) = std::thread::scope(|scope| {
        let rows = scope.spawn(|| rows::read(&file, row_count));
        let graph = Graph::read(space.metric, space.dimension.get(), &file, &graph_file, residence, threads);
        (graph, rows.join().expect("reading does not panic"))
    });
    let (graph, rows) = (graph?, rows?);
    if graph.row_count() != row_count {
        let reason = format!("expected a graph of {row_count} rows, got {}", graph.row_count());
        return Err(graph_file.nonsense(ROWS_ID, reason).into());
    }
    let RowsRead { ids, versions, contents } = rows;
    let records = (first_record..).take(row_count).collect();
    Ok(Segment::restored(graph, ids, versions, contents, records))
}

/// Has the vectors of a segment lie in its rows file, where they can.
pub fn lie_in_file(fs: &dyn Fs, folder: &Path, number: u32, id: Uuid, segment: &Segment) -> bool {
    open_rows(fs, folder, number, id).is_ok_and(|file| segment.graph().lie_in_file(&file))
}

fn open_rows(fs: &dyn Fs, folder: &Path, number: u32, expected: Uuid) -> Result<SectionFile, DiskError> {
    let path = path_of(folder, number, FileKind::Rows);
    let file = SectionFile::open(fs, &path, rows::KIND)?;
    match file.id() {
        got if got == expected => Ok(file),
        got => Err(DiskError::Stranger { file: path, expected, got }),
    }
}

impl Sections for SectionFile {
    type Error = SectionError;

    fn bytes(&self, tag: u32) -> Option<u64> {
        SectionFile::bytes(self, tag)
    }

    fn read_into(&self, tag: u32, content: &mut [u8], threads: usize, look: Look<'_>) -> Result<(), SectionError> {
        SectionFile::read_into(self, tag, content, threads, look)
    }

    fn place(&self, tag: u32) -> Option<(BorrowedFd<'_>, u64)> {
        SectionFile::place(self, tag)
    }

    fn verify(&self, tag: u32, content: &[u8], threads: usize, look: Look<'_>) -> Result<(), SectionError> {
        self.verify_mapped(tag, content, threads, look)
    }

    fn nonsense(&self, tag: u32, reason: String) -> SectionError {
        SectionFile::nonsense(self, tag, reason)
    }
}
