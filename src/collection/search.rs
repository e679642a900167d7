//! Searching one view: plan, run, and fetch. Every record of the space is compared, so every answer is exact.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collection::memtable::Row;
use crate::collection::view::{SpaceNumber, View};
use crate::index::{Nearest, flat};
use crate::types::{Metric, RecordId, Vector, norm};

/// A search within one space.
pub struct Search {
    /// The space.
    pub space: SpaceNumber,
    /// What to search for; of the space's dimension.
    pub vector: Vector,
    /// The most hits to return: at least 1.
    pub top_k: usize,
    /// How hard to look. Every record is compared so far, whatever it says.
    pub effort: Effort,
}

/// How hard a search looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort {
    /// Every record is compared.
    Exact,
    /// Mean recall to reach, above 0 and at most 1.
    Recall(f64),
    /// How much farther than the k-th nearest a walk goes, as a share of its squared distance: for measurements.
    Reach(f32),
}

/// The hits of a search, and how they were found.
pub struct Found {
    /// The view that was searched; hits are rows of it.
    view: Arc<View>,
    space: SpaceNumber,
    hits: Vec<(f32, u32)>,
    /// How they were found.
    pub stats: SearchStats,
}

/// How hits were found.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchStats {
    /// Distances computed.
    pub distances: usize,
    /// Nodes of graphs that were visited.
    pub hops: usize,
    /// Time to find the nearest records.
    pub search: Duration,
}

/// Components that a search compares within some 200 us, at the speed of memory: with fewer it runs in place, with more on
/// a thread of its own.
const COMPONENTS_IN_PLACE_MAX: usize = 1 << 20;

/// A row with the id that settles ties.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<'a> {
    id: &'a RecordId,
    row: u32,
}

impl Search {
    /// Whether the search is too short to be worth another thread.
    pub fn is_short(&self, view: &View) -> bool {
        view.tables[usize::from(self.space.0)].live_count() * self.vector.dimension().get() <= COMPONENTS_IN_PLACE_MAX
    }

    /// Runs the search.
    pub fn run(&self, view: Arc<View>) -> Found {
        Self::run_all(&view, &[self]).remove(0)
    }

    /// Runs searches of one space at once: the rows are read from memory once for all.
    pub fn run_all(view: &Arc<View>, searches: &[&Search]) -> Vec<Found> {
        let started = Instant::now();
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
        let queries = flat::Queries::new(space.metric, searches.iter().map(|search| &search.vector));
        let table = &view.tables[usize::from(first.space.0)];
        let mut nearest: Vec<_> = searches.iter().map(|search| Nearest::new(search.top_k)).collect();
        table.scan(&queries, |query, keys, first, ids| {
            nearest[query].offer_all(keys, |number| Candidate { id: &ids[number], row: first + number as u32 });
        });
        let stats = SearchStats { distances: table.live_count(), hops: 0, search: started.elapsed() };
        let found = |nearest: Nearest<Candidate<'_>>| {
            let sorted = nearest.into_sorted().into_iter();
            let hits = sorted.map(|neighbor| (queries.score(neighbor.key), neighbor.item.row)).collect();
            Found { view: view.clone(), space: first.space, hits, stats }
        };
        nearest.into_iter().map(found).collect()
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
        let table = &self.view.tables[usize::from(self.space.0)];
        self.hits.iter().map(|&(score, row)| (score, table.row(row)))
    }
}

/// Whether the vector is long enough to have a cosine.
pub fn has_direction(vector: &Vector) -> bool {
    norm(vector.components()) >= f64::from(f32::MIN_POSITIVE)
}
