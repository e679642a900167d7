//! `vectron bench ann`: the engine alone, in this process, on vectors of yours: queries per second at a recall.
//!
//! What is measured is a search as the server runs it, between the transport and the answer's encoding: it takes the
//! view, finds the nearest, and gives string ids and scores. Recall is against the exact answer.

mod cores;
mod data;
mod filtered;
mod options;
mod output;
mod store;
mod sweep;
mod truth;

use std::io::{self, BufRead};
use std::path::Path;

use super::data_folder::DataFolder;
use super::truth::Truth;
use super::{BenchError, until_interrupted};
use crate::collection::Effort;
use data::DataSet;
use filtered::Filtered;
pub use options::AnnOptions;
use output::{Output, Point};
use store::Store;
use sweep::{Asked, Sweeps};
use truth::{find_truths, read_truths};

/// For `--help`.
pub const EXAMPLES: &str = r#"Examples:
  vectron bench ann --base base.npy --queries queries.npy                    the exact answers are computed first
  vectron bench ann --base base.npy --queries queries.npy --truth truth.npy  or read: rows of the nearest, best first
  vectron bench ann --base base.npy --queries queries.npy --threads 2 --reach 0.05,0.1
  vectron bench ann --base base.npy --queries queries.npy --memtable 10 --deleted 20   a collection that lives
  vectron bench ann --base base.npy --queries queries.npy --limit-base 20000 --build-threads 1
  vectron bench ann --base base.npy --queries queries.npy | jq -c 'select(.at) | .at'
  vectron bench ann --base base.npy --queries queries.npy --records base.jsonl.gz --filter '{"equals": {"field": "kind", "value": "animal"}}' --filter '{"range": {"field": "year", "at_least": 2000}}'
  vectron bench ann --base base.npy --queries queries.npy --records base.jsonl.gz --query-records queries.jsonl.gz --queries-where '{"equals": {"field": "kind", "value": "plant"}}' --filter '{"equals": {"field": "kind", "value": "animal"}}'   what is asked for lies elsewhere than what counts

Files are NumPy arrays (.npy) of 16, 32 or 64 bit numbers, one vector a row; `--truth` is one of whole numbers, of which
the first -k columns count. `vectron bench generate` makes larger ones of a small one.

A line for each reach: how much farther than the k-th nearest a walk through the graph goes, as a share of its squared
distance. More reach finds more and takes longer. Then a line for each recall that the planner is asked for, and a
summary: `at` has queries per second at recall .90 to .99, interpolated between the reaches around it, null where it was
not reached. `recall` is the share of the true k nearest that was found, where a record that is exactly as near as the
k-th counts as well; `hops` (nodes visited) and `distances` are means for each query; `queries_per_s` is the median of
--repeat sweeps over all queries, after one that is not timed.

With --filter there is a line for each filter and --target-recall instead: `selectivity` is the share of records that
fulfil it, `selectivity_estimated` what the planner expected, `plan` the number of queries for which each way was planned
in the largest part, and `hits_missing` the number of queries that got fewer hits than there are (-k at most). Recall is
against the exact answer with the same filter.

In the summary `load_s` is the writing of all rows, `build_s` the wait for the graph after it, and `engine_build_s` what
the engine itself counts as building; `resident_mb` is the memory of this whole process at the end, queries included.
On a terminal there is a table instead; --json gives lines of JSON there too."#;

/// Measures.
pub async fn run(options: AnnOptions) -> Result<(), BenchError> {
    // Dropped here, so that an interruption removes it while the work is still on its thread.
    let folder = DataFolder::new(options.data.as_deref())?;
    let path = folder.path().to_owned();
    let work = tokio::task::spawn_blocking(move || measure(&options, &path));
    until_interrupted(async { work.await? }).await
}

fn measure(options: &AnnOptions, folder: &Path) -> Result<(), BenchError> {
    let data = DataSet::open(options)?;
    let store = Store::fill(folder, options, &data)?;
    let top_k = options.top_k as usize;
    let filters = options.filter.iter().map(|text| Filtered::find(&store, text, &data.queries, top_k));
    let filters = filters.collect::<Result<Vec<_>, _>>()?;
    let truths = match &data.truth {
        _ if !filters.is_empty() => Vec::new(),
        Some(rows) => read_truths(&store, &data, rows)?,
        None => find_truths(&store, &data.queries, top_k, None),
    };
    let sweeps = Sweeps { store: &store, queries: &data.queries, options };
    let output = Output::new(options.json);
    let sweep_all = || match filters.is_empty() {
        true => sweep_efforts(&sweeps, &truths, &output),
        false => sweep_filters(&sweeps, &filters, &output),
    };
    if !options.interactive {
        return sweep_all();
    }
    output.ready(&sweeps)?;
    for line in io::stdin().lock().lines() {
        line?;
        sweep_all()?;
    }
    Ok(())
}

fn sweep_efforts(sweeps: &Sweeps<'_>, truths: &[Truth], output: &Output) -> Result<(), BenchError> {
    output.begin()?;
    let run = |effort| sweeps.run(&Asked { effort, filter: None, truths }).measured;
    let mut points = Vec::new();
    for &reach in &sweeps.options.reach {
        let point = Point { reach: Some(reach), target_recall: None, measured: run(sweeps.options.effort(reach)) };
        output.point(&point)?;
        points.push(point.measured);
    }
    for &target in sweeps.options.targets() {
        let measured = run(Effort::Recall(target));
        output.point(&Point { reach: None, target_recall: Some(target), measured })?;
    }
    output.end(sweeps, &points)
}

fn sweep_filters(sweeps: &Sweeps<'_>, filters: &[Filtered<'_>], output: &Output) -> Result<(), BenchError> {
    output.begin_filters()?;
    for filter in filters {
        for &target in sweeps.options.targets() {
            output.filter_point(&filter.measure(sweeps, target))?;
        }
    }
    output.end(sweeps, &[])
}
