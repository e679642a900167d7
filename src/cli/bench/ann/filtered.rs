//! Searches with filters: what each of them selects, and what is found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::store::Store;
use super::sweep::{Asked, Measured, Sweeps};
use super::truth::find_truths;
use crate::cli::bench::BenchError;
use crate::cli::bench::filter_text::FilterText;
use crate::cli::bench::report::rounded;
use crate::cli::bench::truth::Truth;
use crate::collection::Effort;
use crate::types::Vector;

/// A filter with its true answers.
pub struct Filtered<'a> {
    text: &'a FilterText,
    truths: Vec<Truth>,
    selectivity: f64,
}

/// One line of measurements.
#[derive(Serialize)]
pub struct FilterPoint<'a> {
    /// As it was given.
    pub filter: &'a serde_json::Value,
    /// Which queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries_where: Option<&'a serde_json::Value>,
    /// How many.
    pub queries: usize,
    /// The recall that was asked for.
    pub target_recall: f64,
    /// The share of records that fulfil the filter.
    pub selectivity: f64,
    /// What the searches expected, in the mean.
    pub selectivity_estimated: f64,
    /// How many queries each plan was made for.
    pub plan: BTreeMap<&'static str, usize>,
    /// What came of it.
    #[serde(flatten)]
    pub measured: Measured,
    /// Queries with fewer hits than there are to be found.
    pub hits_missing: usize,
}

impl<'a> Filtered<'a> {
    /// Counts what the filter selects, and finds the true answers.
    pub fn find(store: &Store, text: &'a FilterText, queries: &[Vector], top_k: usize) -> Result<Self, BenchError> {
        let view = store.engine.collection.view();
        let matching = view.list(None).filter(|(row, _)| text.filter.matches(&row.content.metadata)).count();
        let truths = find_truths(store, queries, top_k, Some(&text.filter));
        if let Some(truth) = truths.iter().find(|truth| truth.len() != top_k.min(matching)) {
            let (json, got) = (&text.json, truth.len());
            return Err(format!("{matching} records fulfil {json}, but an exact search found {got}: a bug").into());
        }
        Ok(Self { text, truths, selectivity: matching as f64 / view.record_count() as f64 })
    }

    /// Searches.
    pub fn measure<'b>(&'b self, sweeps: &'b Sweeps<'_>, target_recall: f64) -> FilterPoint<'b> {
        let filter = Some(&self.text.filter);
        let swept = sweeps.run(&Asked { effort: Effort::Recall(target_recall), filter, truths: &self.truths });
        FilterPoint {
            filter: &self.text.json,
            queries_where: sweeps.options.queries_where.as_ref().map(|text| &text.json),
            queries: sweeps.queries.len(),
            target_recall,
            selectivity: rounded(self.selectivity),
            selectivity_estimated: rounded(swept.selectivity_estimated),
            plan: swept.plans,
            measured: swept.measured,
            hits_missing: swept.hits_missing,
        }
    }
}
