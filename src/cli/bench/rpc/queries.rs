//! What is asked: a pool of distinct queries, encoded before the clock runs, and the exact answers to some of them.

use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;

use crate::cli::bench::BenchError;
use crate::cli::bench::encoding::Encoding;
use crate::cli::bench::messages::{PREFIX_BYTES, framed};
use crate::cli::bench::scratch::record_number;
use crate::cli::bench::vectors::{FIRST_QUERY, Truth, Vectors, unit};
use crate::pb::v1::{self as pb, search_request::Query};

/// Distinct queries.
const QUERIES: u64 = 1000;
/// Answers whose recall is computed, at the most.
const SAMPLES: u64 = 200;

/// Where to search.
#[derive(Clone, Debug)]
pub struct Place {
    /// The collection.
    pub collection: String,
    /// The space; empty: the only one of the queries' dimension.
    pub space: String,
    /// Hits of each answer.
    pub top_k: u32,
    /// The recall that is asked for; none: the server's default.
    pub target_recall: Option<f64>,
}

/// Encoded queries, in turn.
pub struct Queries(Vec<Bytes>);

impl Queries {
    /// Encodes them.
    pub fn new(place: &Place, vectors: &Vectors, encoding: Encoding) -> Self {
        Self((0..QUERIES).map(|number| framed(&request(place, vectors, encoding, number))).collect())
    }

    /// The query of this number, as a message with its prefix.
    pub fn framed(&self, number: u64) -> Bytes {
        self.0[self.index(number)].clone()
    }

    /// The same without the prefix.
    pub fn message(&self, number: u64) -> &[u8] {
        &self.0[self.index(number)][PREFIX_BYTES..]
    }

    /// The answers to the queries below this number are to be kept.
    pub fn sample_count(&self) -> u64 {
        SAMPLES
    }

    fn index(&self, number: u64) -> usize {
        (number % self.0.len() as u64) as usize
    }
}

/// One query, as the generated client sends it.
pub fn request(place: &Place, vectors: &Vectors, encoding: Encoding, number: u64) -> pb::SearchRequest {
    let components = encoding.components(vectors, FIRST_QUERY + number);
    let query = Query::Vector(pb::Vector { components: Some(components), space: place.space.clone() });
    let (collection, top_k) = (place.collection.clone(), Some(place.top_k));
    let target_recall = place.target_recall;
    pb::SearchRequest { collection, query: Some(query), top_k, target_recall, ..Default::default() }
}

/// The exact answers to the queries that are sampled.
pub struct Truths {
    vectors: Arc<Vectors>,
    queries: Vec<Vec<f32>>,
    truths: Vec<Truth>,
}

impl Truths {
    /// By comparing all records, which are the first `records` vectors.
    pub fn new(vectors: Arc<Vectors>, records: u64, top_k: u32) -> Self {
        let queries: Vec<Vec<f32>> = (0..SAMPLES).map(|number| unit(vectors.get(FIRST_QUERY + number))).collect();
        let truths = Truth::of(&vectors, records, &queries, top_k as usize);
        Self { vectors, queries, truths }
    }

    /// The mean recall of answers, each an encoded `SearchResponse` by the number of its query; `None` without answers.
    pub fn mean_recall(&self, answers: &[(u64, Bytes)]) -> Result<Option<f64>, BenchError> {
        let mut sum = 0.0;
        for (number, answer) in answers {
            let hits = pb::SearchResponse::decode(answer.as_ref())?.hits;
            let found = hits.iter().filter_map(|hit| record_number(&hit.record.as_ref()?.id));
            let number = *number as usize;
            sum += self.truths[number].recall(&self.vectors, &self.queries[number], found);
        }
        Ok((!answers.is_empty()).then(|| sum / answers.len() as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_is_read_from_encoded_answers() {
        let vectors = Arc::new(Vectors::new(8, 1));
        let truths = Truths::new(vectors, 2, 10);
        let answer = |ids: &[&str]| {
            let hit = |id: &&str| pb::Hit {
                record: Some(pb::Record { id: (*id).to_owned(), ..Default::default() }),
                score: 0.0,
            };
            Bytes::from(
                pb::SearchResponse { hits: ids.iter().map(hit).collect(), ..Default::default() }.encode_to_vec(),
            )
        };
        let (both, one) = (answer(&["000000000000", "000000000001"]), answer(&["000000000001", "elsewhere"]));
        assert_eq!(truths.mean_recall(&[(0, both), (199, one)]).unwrap(), Some(0.75));
        assert_eq!(truths.mean_recall(&[]).unwrap(), None);
    }
}
