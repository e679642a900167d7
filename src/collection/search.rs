//! Searching one view: plan, run, and fetch. Every record of the space is compared, so every answer is exact.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collection::memtable::Row;
use crate::collection::view::{SpaceNumber, View};
use crate::filter::Filter;
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
    /// Only records whose metadata fulfil it.
    pub filter: Option<Arc<Filter>>,
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
    /// Records that the filter let through; without a filter all of them.
    pub matching: usize,
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
    /// Whether the search is too short to be worth another thread. What a filter costs is not known before.
    pub fn is_short(&self, view: &View) -> bool {
        let components = view.tables[usize::from(self.space.0)].live_count() * self.vector.dimension().get();
        self.filter.is_none() && components <= COMPONENTS_IN_PLACE_MAX
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
        let mut matching = vec![0; searches.len()];
        table.scan(&queries, |query, keys, first, ids| {
            let candidate = |number: usize| Candidate { id: &ids[number], row: first + number as u32 };
            let Some(filter) = &searches[query].filter else {
                matching[query] += keys.len();
                nearest[query].offer_all(keys, candidate);
                return;
            };
            for (number, &key) in keys.iter().enumerate() {
                if filter.matches(&table.row(first + number as u32).content.metadata) {
                    matching[query] += 1;
                    nearest[query].offer(key, || candidate(number));
                }
            }
        });
        let search = started.elapsed();
        let found = |(nearest, matching): (Nearest<Candidate<'_>>, usize)| {
            let stats = SearchStats { distances: table.live_count(), matching, search };
            let sorted = nearest.into_sorted().into_iter();
            let hits = sorted.map(|neighbor| (queries.score(neighbor.key), neighbor.item.row)).collect();
            Found { view: view.clone(), space: first.space, hits, stats }
        };
        nearest.into_iter().zip(matching).map(found).collect()
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
