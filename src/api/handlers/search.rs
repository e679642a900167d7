//! Search, and embedding a text for its own sake.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::convert::{Fields, check_text, invalid, read_filter, read_model_id, read_vector, to_record};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::place::check_embedding;
use crate::api::handlers::{AnswerSize, Handlers};
use crate::collection::{Effort, Found, Plan, Search, SpaceNumber, View, describe, has_direction};
use crate::embedding::{Embedded, InputType};
use crate::filter::Filter;
use crate::pb::v1 as pb;
use crate::pb::v1::search_request::Query;
use crate::types::limits::TOP_K_MAX;
use crate::types::{Metric, SpaceName, Vector};

/// Hits where the client does not say.
const TOP_K_DEFAULT: u32 = 10;

/// A search as it was asked for, checked as far as it can be without the collection.
pub struct Asked {
    collection: String,
    min_sequence: u64,
    query: Wanted,
    answer: Answer,
}

/// What is searched for.
enum Wanted {
    Vector(Vector, Option<SpaceName>),
    Text(pb::TextQuery),
}

/// What the answer is to hold.
struct Answer {
    top_k: usize,
    filter: Option<Arc<Filter>>,
    effort: Effort,
    fields: Fields,
    explain: bool,
}

/// What can be said of a search at once.
pub enum Located {
    /// It needs nothing more but a thread.
    Ready(Ready),
    /// It has to wait for its sequence, or for the embedding of its text.
    Later(Asked),
}

/// A search that needs nothing more but a thread.
pub struct Ready {
    view: Arc<View>,
    search: Search,
    form: Form,
}

/// A search that was run. The records are not fetched yet: an answer may be large, and is made when it is sent.
pub struct Unfilled {
    found: Found,
    form: Form,
}

/// How an answer is filled.
struct Form {
    space: SpaceNumber,
    fields: Fields,
    explain: bool,
    is_truncated: bool,
    times: Times,
}

/// A query as a vector of a space.
struct Placed {
    space: SpaceNumber,
    vector: Vector,
    is_truncated: bool,
    embed_time: Duration,
}

impl Handlers {
    /// `VectorService.Search`.
    pub async fn search(&self, request: pb::SearchRequest) -> Result<pb::SearchResponse, ApiError> {
        let ready = self.locate(Asked::read(request)?).await?;
        self.run(ready).await?.fill()
    }

    /// Waits for the sequence, and for the embedding of a text.
    pub async fn locate(&self, asked: Asked) -> Result<Ready, ApiError> {
        let collection = self.collection_at(&asked.collection, asked.min_sequence).await?;
        match asked.query {
            Wanted::Vector(vector, space) => {
                let view = collection.view();
                asked.answer.ready(locate_vector(vector, space.as_ref(), &view)?, view)
            }
            // Embedding takes its time: the view is taken after it.
            Wanted::Text(text) => {
                let default_model_id = collection.view().default_model_id().to_owned();
                let embedded = self.embed_query(text, &default_model_id).await?;
                let view = collection.view();
                asked.answer.ready(locate_text(embedded, &view)?, view)
            }
        }
    }

    /// The same, where nothing is to be waited for.
    pub fn locate_now(&self, asked: Asked) -> Result<Located, ApiError> {
        let view = self.collection(&asked.collection)?.view();
        match asked.query {
            Wanted::Vector(vector, space) if asked.min_sequence <= view.sequence().0 => {
                let placed = locate_vector(vector, space.as_ref(), &view)?;
                asked.answer.ready(placed, view).map(Located::Ready)
            }
            query => Ok(Located::Later(Asked { query, ..asked })),
        }
    }

    /// Runs a search: in place where it is short, with others that come meanwhile; else on a thread of the pool.
    pub async fn run(&self, ready: Ready) -> Result<Unfilled, ApiError> {
        if ready.is_short() {
            return if ready.gains_from_company() { self.batches.run(ready).await } else { Ok(ready.run_here()) };
        }
        let Ready { view, search, mut form } = ready;
        let waiting = Instant::now();
        let (queue_time, found) = self.pool.run(move || (waiting.elapsed(), search.run(view))).await?;
        form.times.queue = queue_time;
        Ok(Unfilled { found, form })
    }

    /// The embedding of a text, for `POST /embed`.
    pub async fn embed(&self, text: String, model_id: &str) -> Result<Embedded, ApiError> {
        check_text("text", &text)?;
        let model_id = read_model_id("model_id", model_id)?;
        self.embed_texts(vec![text], &model_id, InputType::Document).await
    }

    async fn embed_query(
        &self,
        query: pb::TextQuery,
        default_model_id: &str,
    ) -> Result<(Embedded, Duration), ApiError> {
        let model_id = read_model_id("text.model_id", &query.model_id)?;
        let model_id = if model_id.is_empty() { default_model_id } else { &model_id };
        let started = Instant::now();
        let embedded = self.embed_texts(vec![query.text], model_id, InputType::Query).await?;
        Ok((embedded, started.elapsed()))
    }
}

impl Asked {
    /// Checks everything that can be checked without the collection.
    pub fn read(request: pb::SearchRequest) -> Result<Self, ApiError> {
        let answer = Answer {
            top_k: read_top_k(request.top_k)?,
            filter: read_filter(request.filter)?,
            effort: read_effort(request.exact, request.target_recall)?,
            fields: Fields::read(request.read_mask.as_ref(), Fields::WITHOUT_VECTOR)?,
            explain: request.explain,
        };
        let query = match request.query {
            Some(Query::Vector(vector)) => {
                let (vector, space) = read_vector("vector", &vector)?;
                Wanted::Vector(vector, space)
            }
            Some(Query::Text(text)) => {
                check_text("text", &text.text)?;
                Wanted::Text(text)
            }
            None => return Err(invalid("query", "set `vector` or `text`")),
        };
        Ok(Self { collection: request.collection, min_sequence: request.min_sequence, query, answer })
    }
}

impl Answer {
    fn ready(self, placed: Placed, view: Arc<View>) -> Result<Ready, ApiError> {
        check_direction(&placed, &view)?;
        let Placed { space, vector, is_truncated, embed_time } = placed;
        let times = Times { embed: embed_time, queue: Duration::ZERO };
        let form = Form { space, fields: self.fields, explain: self.explain, is_truncated, times };
        Ok(Ready {
            view,
            search: Search { space, vector, top_k: self.top_k, filter: self.filter, effort: self.effort },
            form,
        })
    }
}

impl Ready {
    /// Whether the search is too short to be worth another thread.
    pub fn is_short(&self) -> bool {
        self.search.is_short(&self.view)
    }

    /// Whether searches that come together take less time than one after the other.
    pub fn gains_from_company(&self) -> bool {
        self.search.gains_from_company(&self.view)
    }

    /// Runs the search on this thread.
    pub fn run_here(self) -> Unfilled {
        Unfilled { found: self.search.run(self.view), form: self.form }
    }

    /// Runs searches on this thread, those that follow one another in the same space at once.
    pub fn run_all_here(ready: Vec<Ready>) -> Vec<Unfilled> {
        let of_one_space = |a: &Ready, b: &Ready| Arc::ptr_eq(&a.view, &b.view) && a.search.space == b.search.space;
        let mut found = Vec::with_capacity(ready.len());
        for together in ready.chunk_by(of_one_space) {
            let searches: Vec<&Search> = together.iter().map(|ready| &ready.search).collect();
            found.extend(Search::run_all(&together[0].view, &searches));
        }
        ready.into_iter().zip(found).map(|(ready, found)| Unfilled { found, form: ready.form }).collect()
    }
}

struct Times {
    embed: Duration,
    queue: Duration,
}

fn read_top_k(top_k: Option<u32>) -> Result<usize, ApiError> {
    let top_k = top_k.unwrap_or(TOP_K_DEFAULT) as usize;
    if (1..=TOP_K_MAX).contains(&top_k) {
        return Ok(top_k);
    }
    Err(ApiError::field(Reason::InvalidTopK, "top_k", format_args!("expected 1 to {TOP_K_MAX}, but got {top_k}")))
}

/// Recall where the client does not say.
const TARGET_RECALL_DEFAULT: f64 = 0.95;

fn read_effort(exact: bool, target_recall: Option<f64>) -> Result<Effort, ApiError> {
    let target_recall = target_recall.unwrap_or(TARGET_RECALL_DEFAULT);
    if !(target_recall > 0.0 && target_recall <= 1.0) {
        let message = format_args!("expected above 0 and at most 1, but got {target_recall}");
        return Err(invalid("target_recall", message));
    }
    Ok(if exact { Effort::Exact } else { Effort::Recall(target_recall) })
}

fn locate_vector(vector: Vector, space: Option<&SpaceName>, view: &View) -> Result<Placed, ApiError> {
    let space = view.place(vector.dimension(), space)?;
    Ok(Placed { space, vector, is_truncated: false, embed_time: Duration::ZERO })
}

fn locate_text((embedded, embed_time): (Embedded, Duration), view: &View) -> Result<Placed, ApiError> {
    let model = &embedded.model;
    let Some(space) = view.space_of_embeddings(model) else {
        let existing = describe(view.spaces().map(|(space, _)| space));
        let message = format_args!("the collection has no texts of model {:?}; it has {existing}", model.model_id);
        return Err(ApiError::new(Reason::SpaceNotFound, message));
    };
    let embedding = embedded.embeddings.into_iter().next().expect("one text has one embedding");
    check_embedding(view.space(space), model, &embedding)?;
    Ok(Placed { space, vector: embedding.vector, is_truncated: embedding.is_truncated, embed_time })
}

fn check_direction(placed: &Placed, view: &View) -> Result<(), ApiError> {
    let space = view.space(placed.space);
    if space.metric != Metric::Cosine || has_direction(&placed.vector) {
        return Ok(());
    }
    let message = format_args!("space {} compares by cosine, which a zero vector does not have", space.name);
    Err(ApiError::field(Reason::ZeroVector, "vector", message))
}

impl Unfilled {
    /// Fetches what the answer is to hold.
    pub fn fill(self) -> Result<pb::SearchResponse, ApiError> {
        let fetching = Instant::now();
        let Self { found, form } = self;
        let view = found.view();
        let space = view.space(form.space);
        let mut size = AnswerSize::new("fewer hits");
        let mut hits = Vec::with_capacity(found.len());
        for (score, row) in found.hits() {
            let record = to_record(&row, space, form.fields);
            size.add(&record)?;
            hits.push(pb::Hit { record: Some(record), score });
        }
        let stats = found.stats;
        let plan = match stats.plan {
            Plan::Flat => pb::Plan::Flat,
            Plan::FilteredScan => pb::Plan::FilteredScan,
            Plan::Graph => pb::Plan::Graph,
        };
        let explain = form.explain.then(|| pb::Explain {
            plan: plan.into(),
            segments: stats.parts as u32,
            selectivity_estimated: stats.selectivity_estimated,
            selectivity: stats.selectivity,
            hops: stats.hops as u64,
            distances: stats.distances as u64,
            embed_us: micros(form.times.embed),
            queue_us: micros(form.times.queue),
            plan_us: micros(stats.planning),
            search_us: micros(stats.search),
            fetch_us: micros(fetching.elapsed()),
        });
        Ok(pb::SearchResponse {
            hits,
            space: space.name.as_str().to_owned(),
            sequence: view.sequence().0,
            query_truncated: form.is_truncated,
            explain,
        })
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
