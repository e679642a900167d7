//! Rows that do not change any more: a graph over their vectors, and what is kept beside them, in the order of the graph.

use std::sync::Arc;

use crate::collection::memtable::Row;
use crate::collection::op::Content;
use crate::collection::selections::Selections;
use crate::filter::{Filter, MetadataIndex, Selection};
use crate::index::graph::{Built, Graph, GraphOptions, Stopped, Task};
use crate::types::{RecordId, Sequence, Space};

/// An immutable part of a space.
pub struct Segment {
    graph: Graph,
    ids: Vec<RecordId>,
    versions: Vec<Sequence>,
    contents: Vec<Arc<Content>>,
    /// The numbers of the records.
    records: Vec<u32>,
    metadata: MetadataIndex,
    selections: Selections,
    record_bytes: usize,
}

/// Where a row of a segment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The number of its record.
    pub record: u32,
    /// Where the row lay.
    pub place: Place,
}

/// Where a record lies within its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of the part.
    pub part: u32,
    /// The row of the part.
    pub row: u32,
}

impl Place {
    /// Of a number that no record has.
    pub const NOWHERE: Self = Self { part: u32::MAX, row: u32::MAX };
}

impl Segment {
    /// Builds a segment of rows, which must be at least one. Also returns where each of its rows comes from.
    pub fn build(
        space: &Space,
        rows: &[(Row<'_>, Origin)],
        options: &GraphOptions,
        task: &Task,
    ) -> Result<(Self, Vec<Place>), Stopped> {
        let vector = |row: usize| rows[row].0.components;
        let dimension = space.dimension.get();
        let Built { graph, order } = Graph::build(space.metric, dimension, rows.len(), vector, options, task)?;
        let in_order = || order.iter().map(|&row| &rows[row as usize]);
        let metadata = MetadataIndex::build(in_order().map(|(row, _)| &row.content.metadata));
        let segment = Self {
            graph,
            ids: in_order().map(|(row, _)| row.id.clone()).collect(),
            versions: in_order().map(|(row, _)| row.version).collect(),
            contents: in_order().map(|(row, _)| row.content.clone()).collect(),
            records: in_order().map(|(_, origin)| origin.record).collect(),
            record_bytes: rows.iter().map(|(row, _)| row.bytes()).sum::<usize>() + metadata.bytes(),
            metadata,
            selections: Selections::default(),
        };
        Ok((segment, in_order().map(|(_, origin)| origin.place).collect()))
    }

    /// A segment that was read from a file; everything in the order of the graph.
    pub fn restored(
        graph: Graph,
        ids: Vec<RecordId>,
        versions: Vec<Sequence>,
        contents: Vec<Arc<Content>>,
        records: Vec<u32>,
    ) -> Self {
        let metadata = MetadataIndex::build(contents.iter().map(|content| &content.metadata));
        let selections = Selections::default();
        let mut segment = Self { graph, ids, versions, contents, records, metadata, selections, record_bytes: 0 };
        let of_rows: usize = (0..segment.row_count() as u32).map(|row| segment.row(row).bytes()).sum();
        segment.record_bytes = of_rows + segment.metadata.bytes();
        segment
    }

    /// Rows, dead ones among them.
    pub fn row_count(&self) -> usize {
        self.ids.len()
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Which rows have which metadata.
    pub fn metadata(&self) -> &MetadataIndex {
        &self.metadata
    }

    /// The rows that fulfil a filter, and others perhaps.
    pub fn select(&self, filter: &Arc<Filter>) -> Arc<Selection> {
        self.selections.get(filter, &self.metadata)
    }

    /// Bytes of ids, texts, metadata and its index.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// A row.
    pub fn row(&self, row: u32) -> Row<'_> {
        Row {
            id: &self.ids[row as usize],
            version: self.versions[row as usize],
            components: self.graph.vector(row),
            content: &self.contents[row as usize],
        }
    }

    /// The number of a row's record.
    pub fn record(&self, row: u32) -> u32 {
        self.records[row as usize]
    }
}
