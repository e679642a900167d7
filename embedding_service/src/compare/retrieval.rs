//! Whether queries find their documents, by cosine.

use std::cmp::Ordering;
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

/// How well `queries` find their documents; `right_of` are the places among `documents` of those that are right for each, at
/// least one.
///
/// Runs on the blocking pool; ends within a block of it when it is dropped.
pub(super) async fn quality(queries: Rows, documents: Rows, right_of: &[Vec<usize>]) -> Retrieval {
    let (queries, documents) = (Arc::new(queries), Arc::new(documents));
    let mut of_all = Vec::with_capacity(right_of.len());
    for (block, right_of) in right_of.chunks(BLOCK_QUERIES).enumerate() {
        let start = block * BLOCK_QUERIES;
        let right_of = right_of.to_vec();
        let (queries, documents) = (queries.clone(), documents.clone());
        let block = tokio::task::spawn_blocking(move || {
            let ranks_of = |(index, right): (usize, &Vec<usize>)| ranks(&queries.0[start + index], &documents.0, right);
            right_of.iter().enumerate().map(ranks_of).collect::<Vec<_>>()
        });
        of_all.extend(block.await.expect("it does not panic, and nobody aborts it"));
    }
    of_ranks(&of_all, documents.0.len())
}

/// The places of the right documents among all, from 1, in no order. A wrong one as near as a right one counts as nearer: a
/// model that puts all in one place finds nothing. So does one whose cosine is no number.
fn ranks(query: &[f32], documents: &[Vec<f32>], right: &[usize]) -> Vec<usize> {
    let scores: Vec<f32> = documents.iter().map(|document| dot(query, document)).collect();
    let mut is_right = vec![false; documents.len()];
    right.iter().for_each(|place| is_right[*place] = true);
    let rank = |place: &usize| {
        let score = scores[*place];
        let is_nearer = |(other, of_other): (usize, &f32)| match is_right[other] {
            // Of two that are right and as near, one has to come first.
            true => *of_other > score || (*of_other == score && other < *place),
            // What cannot be compared, since it is no number, is nearer, too.
            false => of_other.partial_cmp(&score).is_none_or(Ordering::is_ge),
        };
        1 + scores.iter().enumerate().filter(|row| is_nearer(*row)).count()
    };
    right.iter().map(rank).collect()
}

/// `ranks` has those of each query's right documents.
fn of_ranks(ranks: &[Vec<usize>], documents: usize) -> Retrieval {
    let mean = |value: &dyn Fn(&Vec<usize>) -> f64| ranks.iter().map(value).sum::<f64>() / ranks.len() as f64;
    let recall = |at: usize| {
        let part =
            |of_query: &Vec<usize>| of_query.iter().filter(|rank| **rank <= at).count() as f64 / of_query.len() as f64;
        // Among so many as there are every document is found.
        (at < documents).then(|| mean(&part))
    };
    let best = |of_query: &Vec<usize>| of_query.iter().copied().min().expect("each query has a right document");
    Retrieval {
        recall_at_1: recall(1),
        recall_at_5: recall(5),
        recall_at_10: recall(10),
        mean_reciprocal_rank: mean(&|of_query| 1.0 / best(of_query) as f64),
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
        let each_alone = [1, 5, 10, 20].map(|rank| vec![rank]);
        let found = of_ranks(&each_alone, 11);
        assert_eq!((found.recall_at_1, found.recall_at_5, found.recall_at_10), (Some(0.25), Some(0.5), Some(0.75)));
        assert!((found.mean_reciprocal_rank - (1.0 + 0.2 + 0.1 + 0.05) / 4.0).abs() < 1e-12);
        // Of ten documents the first ten are all.
        assert_eq!((of_ranks(&each_alone, 10).recall_at_5, of_ranks(&each_alone, 10).recall_at_10), (Some(0.5), None));
        assert_eq!(of_ranks(&[vec![1]], 1).recall_at_1, None);
    }

    #[test]
    fn of_several_right_documents_the_nearest_counts_for_mrr_and_each_for_recall() {
        // The first two queries have three right documents: found at once, and behind one wrong one.
        let found = of_ranks(&[vec![3, 1, 2], vec![7, 2, 4], vec![1]], 20);
        assert_eq!(found.mean_reciprocal_rank, (1.0 + 0.5 + 1.0) / 3.0);
        assert_eq!(found.recall_at_5, Some((1.0 + 2.0 / 3.0 + 1.0) / 3.0));
        assert_eq!(found.recall_at_10, Some(1.0));
        // Two right ones in one place, and a wrong one there too, which counts as nearer than both.
        let documents = vec![vec![1.0, 0.0], vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(ranks(&[1.0, 0.0], &documents, &[0, 2]), [2, 3]);
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
        let all: Vec<Vec<usize>> = (0..100).map(|step| vec![step]).collect();
        let found = quality(queries(), documents(), &all).await;
        assert_eq!((found.recall_at_1, found.mean_reciprocal_rank), (Some(1.0), 1.0));
        // The right document is five steps further on: nearer are those from 4 steps behind to 4 ahead, and one more.
        let further: Vec<Vec<usize>> = (0..90).map(|step| vec![step + 5]).collect();
        let found = quality(Rows(queries().0.into_iter().take(90).collect()), documents(), &further).await;
        assert_eq!(found.recall_at_5, Some(0.0), "{found:?}");
        // Those from 5 steps behind, too, are further by 0.2 of a step; the queries near the beginning have fewer behind.
        assert_eq!(found.recall_at_10, Some(1.0), "{found:?}");
        let ranks = (0..90).map(|step: usize| 1.0 / (6 + step.min(4)) as f64);
        assert!((found.mean_reciprocal_rank - ranks.sum::<f64>() / 90.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn documents_in_one_place_are_not_found() {
        let same = vec![vec![1.0, 0.0]; 10];
        assert_eq!(ranks(&[1.0, 0.0], &same, &[0]), [10]);
        assert_eq!(ranks(&[0.0, 0.0], &Rows::of([vec![0.0, 3.0], vec![1.0, 1.0]]).0, &[0]), [2]);
    }

    #[test]
    fn what_is_no_number_never_comes_before_the_others() {
        let documents = vec![vec![f32::NAN, 0.0], vec![1.0, 0.0], vec![0.5, 0.0]];
        assert_eq!(ranks(&[1.0, 0.0], &documents, &[0]), [3]);
        assert_eq!(ranks(&[f32::NAN, 0.0], &documents, &[1]), [3]);
    }
}
