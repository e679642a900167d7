//! How a segment is searched: by walking its graph, or by comparing rows one after another.
//!
//! A walk is short, but with a filter it has to go as much farther as there are fewer rows that count, and farther still where
//! those lie elsewhere than the query. A scan of the rows that a filter selects takes a time that is known before. So rows
//! are scanned unless a walk is expected to be several times faster; a walk that takes longer than the scan would have is cut, and
//! the rows are scanned after all.

use std::sync::Arc;
use std::time::Duration;

use crate::collection::parts::HeldSegment;
use crate::collection::search::{Effort, Search};
use crate::filter::Selection;
use crate::index::graph::Walk;

/// How records were chosen for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Every record was compared.
    Flat,
    /// Those that fulfil the filter were found first, and each was compared.
    FilteredScan,
    /// The graph was walked.
    Graph,
}

/// How one segment is searched.
pub(super) struct SegmentPlan {
    pub way: Way,
    /// The rows that fulfil the filter, dead ones among them; none without a filter.
    pub selection: Option<Arc<Selection>>,
    /// Rows that there may be to find.
    pub matching: usize,
    /// Rows that were expected to fulfil the filter before they were looked up.
    pub expected_matching: f64,
}

/// The way.
pub(super) enum Way {
    /// Walk the graph; and where that does not do, scan the rest.
    Walk { walk: Walk, rest: PlannedScan },
    /// Compare rows.
    Scan(PlannedScan),
}

/// The rows to compare.
pub(super) enum PlannedScan {
    /// All.
    All,
    /// Those that a filter selects.
    These(Arc<Selection>),
}

/// Nanoseconds for each component: of a row that is compared on its own, of a row in a scan of all, of a node that is visited.
/// Only their ratios matter: measured with 384 components, where a hop takes some 350 ns.
const PICKED_NS: f64 = 0.08;
const SCANNED_NS: f64 = 0.03;
const HOP_NS: f64 = 0.9;
/// A short row takes as long as one of so many components.
const WIDTH_MIN: usize = 64;
/// A walk with a filter is chosen where it is expected to be so many times faster: its length is uncertain, a scan's is not.
const CERTAINTY_WORTH: f64 = 6.0;
/// A walk is cut at so many times its expected length, at the earliest.
const PATIENCE: f64 = 4.0;

impl SegmentPlan {
    pub fn new(search: &Search, held: &HeldSegment) -> Self {
        let live = held.live_count();
        let Some(filter) = &search.filter else {
            let graph = held.segment.graph();
            let way = match search.walk(held, 1.0) {
                Some(walk) => {
                    // A query unlike all rows is about as far from each of them, and a walk would come by most.
                    let scan_hops = held.segment.row_count() as f64 * SCANNED_NS / HOP_NS;
                    let hops_max = (scan_hops / 2.0).max(graph.hops(walk.k, walk.reach) * PATIENCE) as usize;
                    Way::Walk { walk: Walk { hops_max, ..walk }, rest: PlannedScan::All }
                }
                None => Way::Scan(PlannedScan::All),
            };
            return Self { way, selection: None, matching: live, expected_matching: live as f64 };
        };
        let metadata = held.segment.metadata();
        let expected_matching = metadata.estimate(filter) * live as f64;
        let selection = held.segment.select(filter);
        let selected = selection.rows.len() as usize;
        // At most: some may be dead, or (where the index does not know all) not match. A scan too many finds that out.
        let matching = selected;
        let share = selected as f64 / held.segment.row_count() as f64;
        let width = held.segment.graph().width() as f64;
        let scan_ns = selected as f64 * width * PICKED_NS;
        let walk = search.walk(held, share).filter(|_| selected > 0);
        let walk_ns = |walk: &Walk| held.segment.graph().hops(k_of_all(walk.k, share), walk.reach) * width * HOP_NS;
        let way = match walk {
            Some(walk) if walk_ns(&walk) * CERTAINTY_WORTH < scan_ns => {
                // Half a scan is what a walk may cost in vain, where what counts lies elsewhere than the query.
                let hops_max = (scan_ns / (width * HOP_NS) / 2.0) as usize;
                let walk = Walk { hops_max, ..walk };
                return Self {
                    way: Way::Walk { walk, rest: PlannedScan::These(selection.clone()) },
                    selection: Some(selection),
                    matching,
                    expected_matching,
                };
            }
            _ => Way::Scan(PlannedScan::These(selection)),
        };
        Self { way, selection: None, matching, expected_matching }
    }

    /// How long a search of a segment is expected to take.
    pub fn expected(search: &Search, held: &HeldSegment) -> Duration {
        let graph = held.segment.graph();
        let width = graph.width().max(WIDTH_MIN) as f64;
        let share = search.filter.as_ref().map_or(1.0, |filter| held.segment.metadata().estimate(filter));
        let scanned = held.live_count() as f64 * share * width * if share < 1.0 { PICKED_NS } else { SCANNED_NS };
        let walk = search.walk(held, share);
        let walked = walk.map(|walk| graph.hops(k_of_all(walk.k, share), walk.reach) * width * HOP_NS);
        let nanoseconds = walked.map_or(scanned, |walked| walked.min(scanned));
        Duration::from_nanos(nanoseconds as u64)
    }

    /// How long a scan of so many rows takes.
    pub fn scan_time(rows: usize, dimension: usize) -> Duration {
        Duration::from_nanos((rows as f64 * dimension.max(WIDTH_MIN) as f64 * SCANNED_NS) as u64)
    }
}

/// Where a share of the rows counts, the `k` nearest of those lie as far as so many of all: as far as a filter does not prefer what
/// is near, or far.
fn k_of_all(k: usize, share: f64) -> usize {
    (k as f64 / share.max(f64::MIN_POSITIVE)).ceil() as usize
}

impl Search {
    /// The walk for this search, where rows need not be scanned anyhow; `share` of the rows count.
    fn walk(&self, held: &HeldSegment, share: f64) -> Option<Walk> {
        let graph = held.segment.graph();
        let k_of_all = k_of_all(self.top_k, share);
        let reach = match self.effort {
            _ if self.is_exact() => return None,
            Effort::Exact => return None,
            Effort::Recall(recall) => graph.reach(k_of_all, recall)?,
            Effort::Reach(reach) | Effort::ByCodes(reach) => reach,
        };
        let hops = graph.hops(k_of_all, reach);
        // A walk that would come by a good part of all nodes is slower than going through them in order.
        (hops * HOP_NS < held.segment.row_count() as f64 * SCANNED_NS).then_some(Walk {
            k: self.top_k,
            reach,
            hops_max: usize::MAX,
        })
    }
}
