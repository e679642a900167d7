//! Search, and embedding a text for its own sake.

use std::time::{Duration, Instant};

use crate::api::convert::{Fields, check_text, invalid, read_model_id, read_vector, refuse_filter, to_record};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::upsert::check_fingerprint;
use crate::api::handlers::{AnswerSize, Handlers};
use crate::collection::{Found, Search, SpaceNumber, View, describe, has_direction};
use crate::embedding::{Embedded, InputType};
use crate::pb::v1 as pb;
use crate::pb::v1::search_request::Query;
use crate::types::limits::TOP_K_MAX;
use crate::types::{Metric, Vector};

/// Hits where the client does not say.
const TOP_K_DEFAULT: u32 = 10;

/// A query as a vector of a space.
struct Located {
    space: SpaceNumber,
    vector: Vector,
    is_truncated: bool,
    embed_time: Duration,
}

impl Handlers {
    /// `VectorService.Search`. Every record of the space is compared, so every answer is exact.
    pub async fn search(&self, request: pb::SearchRequest) -> Result<pb::SearchResponse, ApiError> {
        refuse_filter(request.filter.as_ref())?;
        let top_k = read_top_k(request.top_k)?;
        check_target_recall(request.target_recall)?;
        let fields = Fields::read(request.read_mask.as_ref(), Fields::WITHOUT_VECTOR)?;
        let query = request.query.ok_or_else(|| invalid("query", "set `vector` or `text`"))?;
        let collection = self.collection_at(&request.collection, request.min_sequence).await?;

        let located = match query {
            Query::Vector(vector) => locate_vector(vector, &collection.view())?,
            // Embedding takes its time: the view is taken after it.
            Query::Text(text) => {
                let default_model_id = collection.view().default_model_id().to_owned();
                let embedded = self.embed_query(text, &default_model_id).await?;
                locate_text(embedded, &collection.view())?
            }
        };
        check_direction(&located, &collection.view())?;

        let Located { space, vector, is_truncated, embed_time } = located;
        let view = collection.view();
        let search = Search { space, vector, top_k };
        let waiting = Instant::now();
        let (found, queue_time) = match search.is_short(&view) {
            true => (search.run(view), Duration::ZERO),
            false => {
                self.pool
                    .run(move || {
                        let queue_time = waiting.elapsed();
                        (search.run(view), queue_time)
                    })
                    .await?
            }
        };
        let times = Times { embed: embed_time, queue: queue_time };
        to_response(&found, space, fields, request.explain.then_some(times), is_truncated)
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
        check_text("text", &query.text)?;
        let model_id = read_model_id("text.model_id", &query.model_id)?;
        let model_id = if model_id.is_empty() { default_model_id } else { &model_id };
        let started = Instant::now();
        let embedded = self.embed_texts(vec![query.text], model_id, InputType::Query).await?;
        Ok((embedded, started.elapsed()))
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

/// An exact answer reaches every recall; the number must make sense all the same.
fn check_target_recall(target_recall: Option<f64>) -> Result<(), ApiError> {
    match target_recall {
        Some(recall) if !(recall > 0.0 && recall <= 1.0) => {
            Err(invalid("target_recall", format_args!("expected above 0 and at most 1, but got {recall}")))
        }
        _ => Ok(()),
    }
}

fn locate_vector(vector: pb::Vector, view: &View) -> Result<Located, ApiError> {
    let (vector, space) = read_vector("vector", vector)?;
    let space = view.place(vector.dimension(), space.as_ref())?;
    Ok(Located { space, vector, is_truncated: false, embed_time: Duration::ZERO })
}

fn locate_text((embedded, embed_time): (Embedded, Duration), view: &View) -> Result<Located, ApiError> {
    let model = &embedded.model;
    let Some(space) = view.space_of_model(&model.model_id) else {
        let existing = describe(view.spaces().map(|(space, _)| space));
        let message = format_args!("the collection has no texts of model {:?}; it has {existing}", model.model_id);
        return Err(ApiError::new(Reason::SpaceNotFound, message));
    };
    check_fingerprint(view.space(space), model)?;
    let embedding = embedded.embeddings.into_iter().next().expect("one text has one embedding");
    Ok(Located { space, vector: embedding.vector, is_truncated: embedding.is_truncated, embed_time })
}

fn check_direction(located: &Located, view: &View) -> Result<(), ApiError> {
    let space = view.space(located.space);
    if space.metric != Metric::Cosine || has_direction(&located.vector) {
        return Ok(());
    }
    let message = format_args!("space {} compares by cosine, which a zero vector does not have", space.name);
    Err(ApiError::field(Reason::ZeroVector, "vector", message))
}

fn to_response(
    found: &Found,
    space: SpaceNumber,
    fields: Fields,
    explain: Option<Times>,
    query_truncated: bool,
) -> Result<pb::SearchResponse, ApiError> {
    let fetching = Instant::now();
    let view = found.view();
    let space = view.space(space);
    let mut size = AnswerSize::new("fewer hits");
    let mut hits = Vec::with_capacity(found.len());
    for (score, row) in found.hits() {
        let record = to_record(&row, space, fields);
        size.add(&record)?;
        hits.push(pb::Hit { record: Some(record), score });
    }
    let explain = explain.map(|times| pb::Explain {
        plan: pb::Plan::Flat.into(),
        segments: 1,
        selectivity_estimated: 1.0,
        selectivity: Some(1.0),
        hops: 0,
        distances: found.stats.distances as u64,
        embed_us: micros(times.embed),
        queue_us: micros(times.queue),
        plan_us: 0,
        search_us: micros(found.stats.search),
        fetch_us: micros(fetching.elapsed()),
    });
    Ok(pb::SearchResponse {
        hits,
        space: space.name.as_str().to_owned(),
        sequence: view.sequence().0,
        query_truncated,
        explain,
    })
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
