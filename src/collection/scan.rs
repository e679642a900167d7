//! Scanning the tables of a space: every row is looked at by its codes, and what may be among the nearest by its components.
//!
//! All tables are looked at before anything is compared again: the nearest of all bound what may be among them far better
//! than the nearest of each would.

use crate::collection::memtable::{Row, Table};
use crate::collection::segment::Place;
use crate::index::coded::{Certainty, CodedQueries};
use crate::index::flat;
use crate::index::{Nearest, Neighbor};

/// What rows are compared by first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// 8-bit codes: few rows have to be compared again. Faster for some thousand rows, which the caches hold.
    Codes,
    /// One bit a component, and those that may be near by 8-bit codes: all but for certain. Faster for more rows.
    Bits,
}

/// Searches of one space, as a scan needs them.
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

/// Tables with their part numbers, and where the rows of each begin among those of all.
struct Tables<'a> {
    tables: &'a [(u32, &'a Table)],
    begins: Vec<usize>,
}

/// Rows that are compared by their components at first, beyond twice those that are wanted, where bits say which.
const SPARE: usize = 16;
/// Keys that are passed over as a whole where none is small enough.
const STRETCH: usize = 16;

impl TableSearch<'_> {
    /// Finds the nearest rows of each query, in no order, and calls `found` with the number of the query, the key and the place
    /// of each row. `lower` is scratch.
    pub fn run(&self, tables: &[(u32, &Table)], lower: &mut Vec<f32>, mut found: impl FnMut(usize, f32, Place)) {
        let mut begins = Vec::with_capacity(tables.len());
        let mut stride = 0;
        for (_, table) in tables {
            begins.push(stride);
            stride += table.scanned_count();
        }
        let tables = Tables { tables, begins };
        // For each query a key of every row that the true one is not below. All are written below.
        lower.resize(self.ks.len() * stride, 0.0);
        for (&begin, (_, table)) in tables.begins.iter().zip(tables.tables) {
            table.lower_keys(self, &mut lower[begin..], stride);
        }
        for (query, lower) in lower.chunks_exact_mut(stride.max(1)).enumerate() {
            if let Some(counts) = self.counts {
                for (number, lower) in lower.iter_mut().enumerate().filter(|(_, lower)| lower.is_finite()) {
                    let (_, table, row) = tables.at(number);
                    if !counts(table.row(row)) {
                        *lower = f32::INFINITY;
                    }
                }
            }
            self.refine(&tables, query, lower, |key, number| {
                let (part, _, row) = tables.at(number);
                found(query, key, Place { part, row });
            });
        }
    }

    /// The true keys of whatever may be among the nearest.
    fn refine(&self, tables: &Tables<'_>, query: usize, lower: &[f32], mut found: impl FnMut(f32, usize)) {
        let k = self.ks[query];
        let Some(coded) = self.coded else {
            let mut nearest = Nearest::new(k);
            nearest.offer_all(lower, |number| number);
            // All that are as near as the last: which of them counts is settled by their ids.
            let bound = nearest.into_sorted().last().map_or(f32::NEG_INFINITY, |last: &Neighbor<usize>| last.key);
            let near = lower.iter().enumerate().filter(|(_, key)| key.is_finite() && **key <= bound);
            return near.for_each(|(number, &key)| found(key, number));
        };
        // The true keys of any rows bound that of the `k`-th nearest; those that seem nearest bound it well.
        let first_rows = match self.first {
            First::Codes => k,
            First::Bits => 2 * k + SPARE,
        };
        let mut nearest = Nearest::new(first_rows);
        nearest.offer_all(lower, |number| number);
        let nearest = nearest.into_sorted();
        let nearest: Vec<_> = nearest.iter().filter(|neighbor| neighbor.key.is_finite()).collect();
        let mut true_keys: Vec<f32> = Vec::with_capacity(nearest.len());
        for &&Neighbor { item, .. } in &nearest {
            let key = self.key(tables, query, item);
            found(key, item);
            true_keys.push(key);
        }
        if true_keys.len() < first_rows {
            return;
        }
        let (_, &mut bound, _) = true_keys.select_nth_unstable_by(k - 1, f32::total_cmp);
        let limit = nearest.last().map_or((f32::NEG_INFINITY, 0), |last| (last.key, last.item));
        for (stretch, keys) in lower.chunks(STRETCH).enumerate() {
            if keys.iter().map(|&key| u32::from(key <= bound)).sum::<u32>() == 0 {
                continue;
            }
            for (place, &key) in keys.iter().enumerate() {
                let number = stretch * STRETCH + place;
                // Those up to the limit were compared before.
                if key > bound || (key, number) <= limit {
                    continue;
                }
                let (_, table, row) = tables.at(number);
                if self.first == First::Codes || table.lower_key(coded, query, row) <= bound {
                    found(self.key(tables, query, number), number);
                }
            }
        }
    }

    fn key(&self, tables: &Tables<'_>, query: usize, number: usize) -> f32 {
        let (_, table, row) = tables.at(number);
        table.key(self.queries, query, row)
    }
}

impl<'a> Tables<'a> {
    /// The part, the table and the row of a row of all.
    fn at(&self, number: usize) -> (u32, &'a Table, u32) {
        let table = self.begins.partition_point(|&begin| begin <= number) - 1;
        let (part, held) = self.tables[table];
        (part, held, (number - self.begins[table]) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{Dimension, Metric, RecordId, Sequence, Vector};

    fn insert(table: &mut Table, id: &str, components: &[f32]) -> u32 {
        let content = Arc::default();
        let id = RecordId::new(id).unwrap();
        table.insert(Row { id: &id, version: Sequence(1), components, content: &content }, 0)
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
        search.run(&[(7, table)], &mut Vec::new(), |_, key, place| found.push((key, place.row)));
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
