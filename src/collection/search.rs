//! Searching one view: every part of a space by the way that suits it, and the nearest of all.
//!
//! Tables are scanned by their codes. Segments are walked, or scanned where that is faster or has to be exact: see
//! `collection::plan`. What is near in one part bounds how far the next has to be looked through.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collection::memtable::{Row, Table};
use crate::collection::parts::{HeldSegment, Parts};
use crate::collection::plan::{Plan, PlannedScan, SegmentPlan, Way};
use crate::collection::scan::{First, TableSearch};
use crate::collection::segment::Place;
use crate::collection::view::{SpaceNumber, View};
use crate::filter::Filter;
use crate::index::coded::{Certainty, CodedQueries};
use crate::index::flat;
use crate::index::graph::{Hit, Rows, Scores, Scratch, Wanted};
use crate::types::{Metric, Vector, check_row};

/// A search within one space.
#[derive(Clone)]
pub struct Search {
    /// The space.
    pub space: SpaceNumber,
    /// What to search for; of the space's dimension.
    pub vector: Vector,
    /// The most hits to return: at least 1.
    pub top_k: usize,
    /// Only records whose metadata fulfil it.
    pub filter: Option<Arc<Filter>>,
    /// How much is done to find the nearest.
    pub effort: Effort,
}

/// How much is done to find the nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// Every record is compared.
    Exact,
    /// As much as gives this mean recall: above 0 and at most 1, which is exact.
    Recall(f64),
    /// Walks go farther than the `k`-th nearest by this share of its squared distance. For measurements.
    Reach(f32),
    /// The same, and scores are those of the codes: as it would be if components were not in memory. For measurements.
    ByCodes(f32),
}

/// The hits of a search, and how they were found.
pub struct Found {
    /// The view that was searched; hits are rows of it.
    view: Arc<View>,
    space: SpaceNumber,
    hits: Vec<(f32, Place)>,
    /// How they were found.
    pub stats: SearchStats,
}

/// How hits were found.
#[derive(Clone, Copy, Debug)]
pub struct SearchStats {
    /// How records were chosen for comparison, in the largest part.
    pub plan: Plan,
    /// Parts that were searched.
    pub parts: usize,
    /// The share of records that was expected to fulfil the filter; 1 without one.
    pub selectivity_estimated: f64,
    /// The share that does, where every one was looked at.
    pub selectivity: Option<f64>,
    /// Graph nodes visited.
    pub hops: usize,
    /// Distances computed or estimated.
    pub distances: usize,
    /// Time to plan.
    pub planning: Duration,
    /// Time to find the nearest records.
    pub search: Duration,
}

/// With more records a search with a filter does not run in place.
const FILTERED_IN_PLACE_MAX: usize = 1000;
/// What is expected to take no longer runs in place.
const IN_PLACE: Duration = Duration::from_micros(200);
/// So many rows of tables are compared by 8-bit codes at once; of more, the caches hold bits alone.
const CODES_ROWS_MAX: usize = 12_000;
/// Queries that tables are scanned for at once, and keys of them that are kept meanwhile: one for each query and row.
const TOGETHER_MAX: usize = 32;
const TOGETHER_KEYS_MAX: usize = 1 << 20;

impl Search {
    /// Whether the search is too short to be worth another thread.
    pub fn is_short(&self, view: &View) -> bool {
        // What a filter costs is known for few records only: fields that are not indexed are looked up in each.
        let is_bounded = self.filter.is_none() || view.parts(self.space).live_count() <= FILTERED_IN_PLACE_MAX;
        is_bounded && self.expected(view) <= IN_PLACE
    }

    /// Whether searches that come together take less time than one after the other: where rows are scanned for all at once.
    pub fn gains_from_company(&self, view: &View) -> bool {
        self.filter.is_none() && view.parts(self.space).tables().any(|(_, table)| table.live_count() > 0)
    }

    fn expected(&self, view: &View) -> Duration {
        let parts = view.parts(self.space);
        let of_tables = parts.tables().map(|(_, table)| {
            let scanned = SegmentPlan::scan_time(table.live_count(), self.vector.dimension().get());
            if self.filter.is_some() { scanned + table.live_count() as u32 * Duration::from_nanos(80) } else { scanned }
        });
        let of_segments = parts.segments().iter().map(|held| SegmentPlan::expected(self, held));
        of_tables.sum::<Duration>() + of_segments.sum::<Duration>()
    }

    /// Runs the search.
    pub fn run(&self, view: Arc<View>) -> Found {
        Self::run_all(&view, &[self]).remove(0)
    }

    /// Runs searches of one space: tables are read from memory once for all.
    pub fn run_all(view: &Arc<View>, searches: &[&Search]) -> Vec<Found> {
        let Some(first) = searches.first() else { return Vec::new() };
        let space = view.space(first.space);
        for search in searches {
            assert_eq!(search.space, first.space, "searches of one space");
            assert_eq!(search.vector.dimension(), space.dimension, "a query lies in the space that it searches");
            debug_assert!(
                space.metric != Metric::Cosine || has_direction(&search.vector),
                "checked when the query was read"
            );
        }
        let mut found = Vec::with_capacity(searches.len());
        let is_alike =
            |a: &&Search, b: &&Search| a.filter.is_none() && b.filter.is_none() && a.is_exact() == b.is_exact();
        let in_tables: usize = view.parts(first.space).tables().map(|(_, table)| table.live_count()).sum();
        let together = (TOGETHER_KEYS_MAX / in_tables.max(1)).clamp(1, TOGETHER_MAX);
        for alike in searches.chunk_by(is_alike).flat_map(|alike| alike.chunks(together)) {
            found.extend(run_alike(view, alike));
        }
        found
    }

    pub(super) fn is_exact(&self) -> bool {
        match self.effort {
            Effort::Exact => true,
            Effort::Recall(recall) => recall >= 1.0,
            Effort::Reach(_) | Effort::ByCodes(_) => false,
        }
    }

    fn looks_first_by(&self, in_tables: usize) -> First {
        if self.is_exact() || in_tables <= CODES_ROWS_MAX { First::Codes } else { First::Bits }
    }

    fn scores(&self) -> Scores {
        if matches!(self.effort, Effort::ByCodes(_)) { Scores::ByCodes } else { Scores::ByComponents }
    }

    pub(super) fn certainty(&self) -> Certainty {
        if self.is_exact() { Certainty::Sure } else { Certainty::Likely }
    }
}

/// Searches of the same effort without filters, or one with a filter.
fn run_alike(view: &Arc<View>, searches: &[&Search]) -> Vec<Found> {
    let started = Instant::now();
    let first = searches[0];
    let parts = view.parts(first.space);
    let queries = flat::Queries::new(view.space(first.space).metric, searches.iter().map(|search| &search.vector));
    let ks: Vec<usize> = searches.iter().map(|search| search.top_k).collect();
    let mut hits = vec![Vec::new(); searches.len()];
    let tables: Vec<_> = parts.tables().filter(|(_, table)| table.live_count() > 0).collect();
    let in_tables: usize = tables.iter().map(|(_, table)| table.live_count()).sum();
    let mut stats = Counting::new(first, in_tables);
    if in_tables > 0 {
        let vectors = searches.iter().map(|search| &search.vector);
        let coded = parts.memtable().coded_queries(vectors);
        stats.shared.parts += tables.len();
        stats.shared.distances += in_tables;
        stats.matching += scan_tables(first, &tables, (&queries, coded.as_ref()), &ks, |query, key, place| {
            hits[query].push((key, place));
        });
    }
    let of_tables = started.elapsed() / searches.len() as u32;
    let mut found = Vec::with_capacity(searches.len());
    for (query, (search, mut hits)) in searches.iter().zip(hits).enumerate() {
        let started = Instant::now();
        let mut stats = stats;
        let single;
        let query = match searches.len() {
            1 => &queries,
            _ => {
                single = queries.only(query);
                &single
            }
        };
        SCRATCH.with_borrow_mut(|scratch| {
            for held in parts.segments() {
                search_segment(search, held, query, scratch, &mut hits, &mut stats);
            }
        });
        settle(&mut hits, search.top_k, parts);
        stats.finish(search, view);
        stats.shared.search = of_tables + started.elapsed() - stats.shared.planning;
        let hits = hits.into_iter().map(|(key, place)| (query.score(key), place)).collect();
        found.push(Found { view: view.clone(), space: search.space, hits, stats: stats.shared });
    }
    found
}

thread_local! {
    /// What walks need, kept for the next search of the thread.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// What scans of tables need, likewise.
    static LOWER_KEYS: RefCell<Vec<f32>> = RefCell::default();
}

/// Returns how many rows fulfil the filter, where there is one.
fn scan_tables(
    first: &Search,
    tables: &[(u32, &Table)],
    (queries, coded): (&flat::Queries, Option<&CodedQueries>),
    ks: &[usize],
    found: impl FnMut(usize, f32, Place),
) -> usize {
    let matched = std::cell::Cell::new(0);
    let filter = first.filter.as_deref();
    let fulfils = |row: Row<'_>| {
        let fulfils = filter.is_none_or(|filter| filter.matches(&row.content.metadata));
        matched.set(matched.get() + usize::from(fulfils));
        fulfils
    };
    let counts: Option<&dyn Fn(Row<'_>) -> bool> = if filter.is_some() { Some(&fulfils) } else { None };
    let in_tables = tables.iter().map(|(_, table)| table.live_count()).sum();
    let (certainty, first) = (first.certainty(), first.looks_first_by(in_tables));
    let search = TableSearch { queries, coded, ks, certainty, first, counts };
    LOWER_KEYS.with_borrow_mut(|lower| {
        search.run(tables, lower, found);
        lower.shrink_to(TOGETHER_KEYS_MAX);
    });
    matched.get()
}

fn search_segment(
    search: &Search,
    held: &HeldSegment,
    query: &flat::Queries,
    scratch: &mut Scratch,
    hits: &mut Vec<(f32, Place)>,
    stats: &mut Counting,
) {
    let planning = Instant::now();
    let plan = SegmentPlan::new(search, held);
    stats.shared.planning += planning.elapsed();
    stats.plan(&plan, held);
    let graph = held.segment.graph();
    let (dead, filter) = (&held.dead, search.filter.as_deref());
    let fulfils = |row: u32| filter.is_none_or(|filter| filter.matches(&held.segment.row(row).content.metadata));
    let mut segment_hits: Vec<Hit> = Vec::new();
    if let Way::Walk { walk, rest } = &plan.way {
        let known = known_keys(hits, search.top_k);
        let wanted = Wanted { walk: *walk, known: &known, scores: search.scores() };
        let walked = match &plan.selection {
            None if dead.len() == 0 => graph.search(query, &wanted, scratch, |_| true, &mut segment_hits),
            None => graph.search(query, &wanted, scratch, |row| !dead.contains(row), &mut segment_hits),
            Some(selection) => {
                let counts =
                    |row| selection.rows.contains(row) && !dead.contains(row) && (selection.is_exact || fulfils(row));
                graph.search(query, &wanted, scratch, counts, &mut segment_hits)
            }
        };
        stats.shared.hops += walked.hops;
        stats.shared.distances += walked.distances;
        // Never fewer hits than there are: what was cut off, or did not come by enough rows, is scanned.
        let is_enough = !walked.is_cut && (!known.is_empty() || segment_hits.len() >= search.top_k.min(plan.matching));
        if !is_enough {
            segment_hits.clear();
            scan(search, held, rest, query, scratch, fulfils, &mut segment_hits, stats);
        }
    } else if let Way::Scan(planned) = &plan.way {
        scan(search, held, planned, query, scratch, fulfils, &mut segment_hits, stats);
    }
    hits.extend(segment_hits.into_iter().map(|(key, row)| (key, Place { part: held.number, row })));
}

#[expect(clippy::too_many_arguments, reason = "what a search is made of")]
fn scan(
    search: &Search,
    held: &HeldSegment,
    planned: &PlannedScan,
    query: &flat::Queries,
    scratch: &mut Scratch,
    fulfils: impl Fn(u32) -> bool,
    hits: &mut Vec<Hit>,
    stats: &mut Counting,
) {
    let graph = held.segment.graph();
    stats.shared.distances += match planned {
        PlannedScan::All => {
            let counts = |row: u32| !held.dead.contains(row);
            graph.scan(query, search.top_k, search.certainty(), Rows::All(&counts), scratch, hits)
        }
        PlannedScan::These(selection) => {
            let live = selection.rows.iter().filter(|&row| !held.dead.contains(row));
            let rows: Vec<u32> = live.filter(|&row| selection.is_exact || fulfils(row)).collect();
            stats.matching += rows.len();
            graph.scan(query, search.top_k, search.certainty(), Rows::These(&rows), scratch, hits)
        }
    };
}

/// The keys of the best hits so far, smallest first; none where there are fewer than are wanted.
fn known_keys(hits: &[(f32, Place)], k: usize) -> Vec<f32> {
    if hits.len() < k {
        return Vec::new();
    }
    let mut keys: Vec<f32> = hits.iter().map(|hit| hit.0).collect();
    if keys.len() > k {
        keys.select_nth_unstable_by(k - 1, f32::total_cmp);
        keys.truncate(k);
    }
    keys.sort_unstable_by(f32::total_cmp);
    keys
}

/// Leaves the nearest, nearest first, ties by id.
fn settle(hits: &mut Vec<(f32, Place)>, k: usize, parts: &Parts) {
    let order =
        |a: &(f32, Place), b: &(f32, Place)| a.0.total_cmp(&b.0).then_with(|| parts.row(a.1).id.cmp(parts.row(b.1).id));
    // First, since there may be very many that are equally near.
    if hits.len() > k {
        hits.select_nth_unstable_by(k - 1, order);
        hits.truncate(k);
    }
    hits.sort_unstable_by(order);
}

/// What is counted while a search runs.
#[derive(Clone, Copy)]
struct Counting {
    shared: SearchStats,
    /// Rows that were found to fulfil the filter, and whether all were looked at.
    matching: usize,
    is_all_known: bool,
    /// Rows of segments that were expected to fulfil it.
    expected: f64,
    /// Rows of the largest part so far.
    largest: usize,
}

impl Counting {
    fn new(search: &Search, in_tables: usize) -> Self {
        let selectivity = if search.filter.is_none() { Some(1.0) } else { None };
        let shared = SearchStats {
            plan: Plan::Flat,
            parts: 0,
            selectivity_estimated: 1.0,
            selectivity,
            hops: 0,
            distances: 0,
            planning: Duration::ZERO,
            search: Duration::ZERO,
        };
        Self { shared, matching: 0, is_all_known: true, expected: 0.0, largest: in_tables }
    }

    fn plan(&mut self, plan: &SegmentPlan, held: &HeldSegment) {
        self.shared.parts += 1;
        self.expected += plan.expected_matching;
        self.is_all_known &= matches!(plan.way, Way::Scan(_));
        if held.live_count() > self.largest {
            self.largest = held.live_count();
            self.shared.plan = match &plan.way {
                Way::Walk { .. } => Plan::Graph,
                Way::Scan(PlannedScan::These(_)) => Plan::FilteredScan,
                Way::Scan(PlannedScan::All) => Plan::Flat,
            };
        }
    }

    fn finish(&mut self, search: &Search, view: &View) {
        let records = view.parts(search.space).live_count();
        if search.filter.is_none() || records == 0 {
            return;
        }
        let in_segments: usize = view.parts(search.space).segments().iter().map(HeldSegment::live_count).sum();
        let in_tables = records - in_segments;
        let known_share = self.matching as f64 / records as f64;
        // Nothing is expected of tables: their rows are looked at one by one.
        self.shared.selectivity = self.is_all_known.then_some(known_share);
        let of_tables = if in_segments == 0 {
            known_share
        } else {
            in_tables as f64 / records as f64 * self.expected / in_segments as f64
        };
        self.shared.selectivity_estimated = (self.expected / records as f64 + of_tables).min(1.0);
    }
}

impl Found {
    /// The view that was searched.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// How many hits there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.hits.len()
    }

    /// The hits with their scores, best first, ties by id.
    pub fn hits(&self) -> impl Iterator<Item = (f32, Row<'_>)> {
        let parts = self.view.parts(self.space);
        self.hits.iter().map(|&(score, place)| (score, parts.row(place)))
    }
}

/// Whether the vector is long enough to have a cosine.
pub fn has_direction(vector: &Vector) -> bool {
    check_row(vector.components(), Metric::Cosine).is_ok()
}
