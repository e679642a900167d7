//! What is measured on: checked as a whole before anything is written or built.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AnnOptions;
use crate::cli::bench::BenchError;
use crate::cli::bench::array::{Array, check_direction, read_vectors};
use crate::cli::bench::records::{RecordFile, Records, read_query_metadata};
use crate::cli::npy::Number;
use crate::collection::Content;
use crate::types::{Metric, RecordId, Vector};

/// A base to search in, queries, and perhaps their true answers. The base stays on disk.
pub struct DataSet {
    base: PathBuf,
    metric: Metric,
    /// Ids and metadata of the base.
    records: Option<RecordFile>,
    /// Rows of the base that are used.
    pub rows: u64,
    /// Components of every vector.
    pub dimension: usize,
    /// What is searched for.
    pub queries: Vec<Vector>,
    /// For each query the rows of its k nearest, where a file says them.
    pub truth: Option<Vec<Vec<u64>>>,
}

impl DataSet {
    /// Reads the queries and the truth, and the header of the base.
    pub fn open(options: &AnnOptions) -> Result<Self, BenchError> {
        let base = *Array::open(&options.base, Number::FLOATS)?.header();
        let rows = options.limit_base.map_or(base.rows, |limit| limit.get().min(base.rows));
        if rows == 0 {
            return Err(format!("{}: expected at least one vector, but there is none", options.base.display()).into());
        }
        let queries = read_vectors(&options.queries)?;
        let (dimension, metric) = (base.columns, options.metric.into());
        let got = queries[0].dimension().get();
        if got != dimension {
            let (base, queries) = (options.base.display(), options.queries.display());
            let message = format!("the vectors of {base} have {dimension} components, but those of {queries} {got}");
            return Err(message.into());
        }
        for (row, query) in queries.iter().enumerate() {
            check_direction(&options.queries, row as u64, query, metric)?;
        }
        let truth = match &options.truth {
            // With deletions the file is no longer the truth.
            Some(path) if options.deleted == 0.0 => Some(read_truth(path, &queries, options.top_k as usize, rows)?),
            _ => None,
        };
        let records = options.records.as_ref().map(|path| RecordFile::open(path, rows)).transpose()?;
        let all = Self { base: options.base.clone(), metric, records, rows, dimension, queries, truth };
        all.only_queries_where(options)
    }

    /// Leaves the queries whose own metadata fulfil `--queries-where`.
    fn only_queries_where(mut self, options: &AnnOptions) -> Result<Self, BenchError> {
        let (Some(path), Some(wanted)) = (&options.query_records, &options.queries_where) else { return Ok(self) };
        let metadata = read_query_metadata(path, self.queries.len())?;
        let is_wanted = |query: usize| wanted.filter.matches(&metadata[query]);
        self.queries = those(self.queries, is_wanted);
        self.truth = self.truth.map(|truth| those(truth, is_wanted));
        if self.queries.is_empty() {
            let (path, count, json) = (path.display(), metadata.len(), &wanted.json);
            return Err(format!("{path}: none of {count} queries fulfils --queries-where {json}").into());
        }
        Ok(self)
    }

    /// The id of a row of the base: that of its record, else its number.
    pub fn id(&self, row: u64) -> Result<RecordId, BenchError> {
        match &self.records {
            Some(records) => Ok(records.id(row).clone()),
            None => Ok(RecordId::new(&row.to_string())?),
        }
    }

    /// Gives the rows of the base that are used, with their numbers and contents, one after the other.
    pub fn each_row(
        &self,
        mut see: impl FnMut(u64, Vector, Arc<Content>) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let mut base = Array::open(&self.base, Number::FLOATS)?;
        let mut records = self.records.as_ref().map(RecordFile::records).transpose()?;
        while let Some((row, vector)) = base.next_vector()? {
            if row == self.rows {
                break;
            }
            check_direction(&self.base, row, &vector, self.metric)?;
            // It was read before, with as many lines.
            let record = records.as_mut().map(Records::next_record).transpose()?.flatten();
            let metadata = record.map(|record| record.metadata).unwrap_or_default();
            see(row, vector, Arc::new(Content { text: None, metadata }))?;
        }
        Ok(())
    }
}

/// Those of which the numbers are wanted.
fn those<T>(all: Vec<T>, is_wanted: impl Fn(usize) -> bool) -> Vec<T> {
    all.into_iter().enumerate().filter(|(number, _)| is_wanted(*number)).map(|(_, one)| one).collect()
}

fn read_truth(path: &Path, queries: &[Vector], top_k: usize, rows: u64) -> Result<Vec<Vec<u64>>, BenchError> {
    let mut array = Array::open(path, Number::INTEGERS)?;
    let (header, path) = (*array.header(), path.display());
    if header.rows != queries.len() as u64 {
        let expected = queries.len();
        return Err(
            format!("{path}: expected a row for each of {expected} queries, but there are {}", header.rows).into()
        );
    }
    // A smaller base has fewer to be found.
    let count = usize::try_from(rows).unwrap_or(usize::MAX).min(top_k);
    if header.columns < count {
        let columns = header.columns;
        return Err(format!("{path}: it has the {columns} nearest of each query, too few for -k {top_k}").into());
    }
    let mut truth = Vec::with_capacity(queries.len());
    while let Some(nearest) = array.next_integers()? {
        let mut inside = Vec::with_capacity(count);
        for number in &nearest[..count] {
            let row = u64::try_from(*number).ok().filter(|&row| row < rows).ok_or_else(|| {
                let query = truth.len();
                let base = format!("the rows of the base go from 0 to {}", rows - 1);
                format!(
                    "{path}: query {query} has row {number} among its nearest, but {base}; leave --truth out to have \
                         it computed"
                )
            })?;
            inside.push(row);
        }
        truth.push(inside);
    }
    Ok(truth)
}
