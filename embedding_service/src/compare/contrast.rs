//! The contrast score: how much nearer texts of the same topic are to each other than texts of different topics.
//!
//! Means of cosines over all pairs of texts. With vectors of unit length the sum over the pairs of a set is half of what
//! the square of their sum has beyond their own squares; so it takes one pass over the vectors rather than over their pairs.

/// Mean cosines over pairs of texts, each -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Contrast {
    /// Of texts of the same topic.
    pub(super) within: f64,
    /// Of texts of different topics.
    pub(super) across: f64,
}

impl Contrast {
    /// Of embeddings of one dimension, not all of one topic, nor each of its own; `topic_of` are their topics, numbers
    /// below `topics`. The cosine with a vector of zeros is 0.
    pub(super) fn of(embeddings: &[&[f32]], topic_of: &[usize], topics: usize) -> Self {
        assert_eq!(embeddings.len(), topic_of.len());
        let mut of_topics = vec![Set::new(embeddings[0].len()); topics];
        let mut of_all = Set::new(embeddings[0].len());
        for (embedding, topic) in embeddings.iter().zip(topic_of) {
            let norm = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            of_topics[*topic].add(embedding, scale);
            of_all.add(embedding, scale);
        }
        let within = of_topics.iter().map(Set::sum_of_cosines).sum::<f64>();
        let within_pairs = of_topics.iter().map(Set::pairs).sum::<f64>();
        let across = of_all.sum_of_cosines() - within;
        let across_pairs = of_all.pairs() - within_pairs;
        assert!(within_pairs > 0.0 && across_pairs > 0.0, "the plan has seen to that");
        Self { within: within / within_pairs, across: across / across_pairs }
    }

    /// -2 to 2; higher is better.
    pub(super) fn score(self) -> f64 {
        self.within - self.across
    }
}

/// A set of vectors of unit length.
#[derive(Clone)]
struct Set {
    count: f64,
    sum: Vec<f64>,
    /// Squares of the vectors: 1 for each but those of zeros.
    squares: f64,
}

impl Set {
    fn new(dimension: usize) -> Self {
        Self { count: 0.0, sum: vec![0.0; dimension], squares: 0.0 }
    }

    fn add(&mut self, vector: &[f32], scale: f64) {
        self.count += 1.0;
        for (sum, component) in self.sum.iter_mut().zip(vector) {
            let unit = f64::from(*component) * scale;
            *sum += unit;
            self.squares += unit * unit;
        }
    }

    fn sum_of_cosines(&self) -> f64 {
        (self.sum.iter().map(|x| x * x).sum::<f64>() - self.squares) / 2.0
    }

    fn pairs(&self) -> f64 {
        self.count * (self.count - 1.0) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: cosine after cosine.
    fn by_definition(embeddings: &[&[f32]], topic_of: &[usize]) -> Contrast {
        let (mut within, mut across) = (Vec::new(), Vec::new());
        for i in 0..embeddings.len() {
            for j in 0..i {
                let dot =
                    |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
                let (a, b) = (embeddings[i], embeddings[j]);
                let norms = (dot(a, a) * dot(b, b)).sqrt();
                let cosine = if norms > 0.0 { dot(a, b) / norms } else { 0.0 };
                if topic_of[i] == topic_of[j] { within.push(cosine) } else { across.push(cosine) }
            }
        }
        let mean = |all: Vec<f64>| all.iter().sum::<f64>() / all.len() as f64;
        Contrast { within: mean(within), across: mean(across) }
    }

    #[test]
    fn it_is_the_mean_over_pairs() {
        // A sequence of numbers without a library: seed and multiplier are those of PCG's default stream.
        let mut state = 0x853c_49e6_748f_ea9b_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut rows: Vec<Vec<f32>> = (0..40).map(|_| (0..24).map(|_| next()).collect()).collect();
        rows[7] = vec![0.0; 24];
        let embeddings: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        // Topics of 1 to 20 texts.
        let topic_of: Vec<usize> =
            (0..40).map(|row| [0, 1, 1, 2, 2, 2, 3, 3][row % 8] + usize::from(row == 0) * 4).collect();
        let (ours, defined) = (Contrast::of(&embeddings, &topic_of, 5), by_definition(&embeddings, &topic_of));
        assert!((ours.within - defined.within).abs() < 1e-9, "{ours:?}, {defined:?}");
        assert!((ours.across - defined.across).abs() < 1e-9, "{ours:?}, {defined:?}");
    }

    #[test]
    fn topics_apart_score_one_and_one_place_scores_none() {
        let (x, y): (&[f32], &[f32]) = (&[3.0, 0.0], &[0.0, 0.5]);
        assert!((Contrast::of(&[x, x, y, y], &[0, 0, 1, 1], 2).score() - 1.0).abs() < 1e-12);
        assert!(Contrast::of(&[x, x, x, x], &[0, 0, 1, 1], 2).score().abs() < 1e-12);
    }
}
