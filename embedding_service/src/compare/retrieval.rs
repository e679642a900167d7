//! Whether queries find their documents, by cosine.

use std::sync::Arc;

use super::report::Retrieval;

/// Queries of one block of work: between blocks a comparison whose caller has left ends.
const BLOCK_QUERIES: usize = 64;
/// Sums that run side by side, so that the compiler can use vector instructions.
const LANES: usize = 16;

/// Embeddings of unit length.
pub(super) struct Rows(Vec<Vec<f32>>);

impl Rows {
    /// A vector of zeros stays as it is: its cosine with any other is 0.
    pub(super) fn of(embeddings: impl IntoIterator<Item = Vec<f32>>) -> Self {
        let unit = |mut row: Vec<f32>| {
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
            row
        };
        Self(embeddings.into_iter().map(unit).collect())
    }
}

/// How well `queries` find their documents; `document_of` are the right ones' places among `documents`.
///
/// Runs on the blocking pool; ends within a block of it when it is dropped.
pub(super) async fn quality(queries: Rows, documents: Rows, document_of: &[usize]) -> Retrieval {
    let (queries, documents) = (Arc::new(queries), Arc::new(documents));
    let mut ranks = Vec::with_capacity(document_of.len());
    for start in (0..document_of.len()).step_by(BLOCK_QUERIES) {
        let right: Vec<usize> = document_of[start..document_of.len().min(start + BLOCK_QUERIES)].to_vec();
        let (queries, documents) = (queries.clone(), documents.clone());
        let block = tokio::task::spawn_blocking(move || {
            let rank_of = |(index, right): (usize, usize)| rank(&queries.0[start + index], &documents.0, right);
            right.into_iter().enumerate().map(rank_of).collect::<Vec<_>>()
        });
        ranks.extend(block.await.expect("it does not panic, and nobody aborts it"));
    }
    of_ranks(&ranks)
}

/// The place of the right document, from 1. One as near as it counts as nearer: a model that puts all in one place finds
/// nothing.
fn rank(query: &[f32], documents: &[Vec<f32>], right: usize) -> usize {
    let score = dot(query, &documents[right]);
    let is_before = |(place, document): (usize, &Vec<f32>)| place != right && dot(query, document) >= score;
    1 + documents.iter().enumerate().filter(|row| is_before(*row)).count()
}

fn of_ranks(ranks: &[usize]) -> Retrieval {
    let mean = |value: &dyn Fn(usize) -> f64| ranks.iter().map(|rank| value(*rank)).sum::<f64>() / ranks.len() as f64;
    let recall = |at: usize| mean(&|rank| f64::from(u8::from(rank <= at)));
    Retrieval {
        recall_at_1: recall(1),
        recall_at_5: recall(5),
        recall_at_10: recall(10),
        mean_reciprocal_rank: mean(&|rank| 1.0 / rank as f64),
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_become_recall_and_reciprocal_rank() {
        let Retrieval { recall_at_1, recall_at_5, recall_at_10, mean_reciprocal_rank } = of_ranks(&[1, 5, 10, 20]);
        assert_eq!((recall_at_1, recall_at_5, recall_at_10), (0.25, 0.5, 0.75));
        assert!((mean_reciprocal_rank - (1.0 + 0.2 + 0.1 + 0.05) / 4.0).abs() < 1e-12);
    }

    #[tokio::test]
    async fn every_query_is_compared_with_every_document() {
        // 100 directions in a plane, so that the rank of each document is known: its distance from the query in steps.
        let direction = |step: f32| {
            let angle = step * 0.01;
            let mut row = vec![0.0; 19];
            (row[0], row[18]) = (2.0 * angle.cos(), 2.0 * angle.sin());
            row
        };
        let documents = || Rows::of((0..100).map(|step| direction(step as f32)));
        let queries = || Rows::of((0..100).map(|step| direction(step as f32 + 0.1)));
        let all: Vec<usize> = (0..100).collect();
        let found = quality(queries(), documents(), &all).await;
        assert_eq!((found.recall_at_1, found.mean_reciprocal_rank), (1.0, 1.0));
        // The right document is five steps further on: nearer are those from 4 steps behind to 4 ahead, and one more.
        let further: Vec<usize> = (0..90).map(|step| step + 5).collect();
        let found = quality(Rows(queries().0.into_iter().take(90).collect()), documents(), &further).await;
        assert_eq!(found.recall_at_5, 0.0, "{found:?}");
        // Those from 5 steps behind, too, are further by 0.2 of a step; the queries near the beginning have fewer behind.
        assert_eq!(found.recall_at_10, 1.0, "{found:?}");
        let ranks = (0..90).map(|step: usize| 1.0 / (6 + step.min(4)) as f64);
        assert!((found.mean_reciprocal_rank - ranks.sum::<f64>() / 90.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn documents_in_one_place_are_not_found() {
        let same = vec![vec![1.0, 0.0]; 10];
        assert_eq!(rank(&[1.0, 0.0], &same, 0), 10);
        assert_eq!(rank(&[0.0, 0.0], &Rows::of([vec![0.0, 3.0], vec![1.0, 1.0]]).0, 0), 2);
    }
}
