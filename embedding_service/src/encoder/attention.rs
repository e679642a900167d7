//! Attention of the tokens of one text to each other, head by head.
//!
//! Texts lie one after another without padding; a token sees the tokens of its own text only, so there is no mask.

use std::ops::Range;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Exp;

/// Queries handled together: each key and value loaded serves this many.
const QUERIES: usize = 4;
/// Rows of scores and transposed keys are padded to whole vectors of the widest instruction set.
const LANES_MAX: usize = 16;

/// Working memory, kept between calls.
#[derive(Default)]
pub(super) struct AttentionScratch {
    /// The keys of one head, transposed: a row for each component, a column for each token.
    keys: Vec<f32>,
    /// One row of scores for each of `QUERIES` queries.
    scores: Vec<f32>,
}

impl AttentionScratch {
    /// Never shrinks: what a longer text has left behind is overwritten, or lies in padding that nobody reads.
    fn grow(&mut self, keys: usize, scores: usize) {
        if self.keys.len() < keys {
            self.keys.resize(keys, 0.0);
        }
        if self.scores.len() < scores {
            self.scores.resize(scores, 0.0);
        }
    }
}

/// `output` = softmax(`Q` x transposed `K` / sqrt(head size)) x `V`, for each text and head.
pub(super) struct Attention<'a> {
    /// A row for each token: its query, key and value of all heads, one after the other.
    pub(super) qkv: &'a [f32],
    /// A row for each token: its result of all heads.
    pub(super) output: &'a mut [f32],
    /// Which rows each text has.
    pub(super) texts: &'a [Range<usize>],
    pub(super) heads: usize,
    /// Components of a head, a multiple of `LANES_MAX`.
    pub(super) head_size: usize,
    pub(super) scratch: &'a mut AttentionScratch,
}

impl SimdOp for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let hidden = self.heads * self.head_size;
        let scale = 1.0 / (self.head_size as f32).sqrt();

        for text in self.texts {
            let tokens = text.len();
            let stride = tokens.next_multiple_of(LANES_MAX);
            self.scratch.grow(self.head_size * stride, QUERIES * stride);
            let keys = &mut self.scratch.keys[..self.head_size * stride];
            let scores = &mut self.scratch.scores[..QUERIES * stride];
            let rows = &self.qkv[text.start * 3 * hidden..text.end * 3 * hidden];
            let output = &mut self.output[text.start * hidden..text.end * hidden];

            for head in 0..self.heads {
                let component = head * self.head_size;
                let queries = Head { rows, stride: 3 * hidden, offset: component, size: self.head_size };
                let values = Head { offset: 2 * hidden + component, ..queries };
                transpose(Head { offset: hidden + component, ..queries }, keys, stride);

                for first in (0..tokens).step_by(QUERIES) {
                    // The last group repeats the last token; writing the same result twice does no harm.
                    let group: [usize; QUERIES] = std::array::from_fn(|i| (first + i).min(tokens - 1));
                    score(isa, queries, group, keys, scale, scores, stride);
                    let mut inverses = [0.0; QUERIES];
                    for (row, inverse) in scores.chunks_exact_mut(stride).zip(&mut inverses) {
                        *inverse = 1.0 / exponentiate(isa, row, tokens);
                    }
                    let weights = Weights { scores, stride, inverses };
                    weigh(isa, values, group, weights, output, hidden, component);
                }
            }
        }
    }
}

/// One head's queries, keys or values of one text.
#[derive(Clone, Copy)]
struct Head<'a> {
    rows: &'a [f32],
    stride: usize,
    offset: usize,
    size: usize,
}

impl<'a> Head<'a> {
    #[inline(always)]
    fn token(self, token: usize) -> &'a [f32] {
        &self.rows[token * self.stride + self.offset..][..self.size]
    }

    #[inline(always)]
    fn tokens(self) -> usize {
        self.rows.len() / self.stride
    }
}

#[inline(always)]
fn transpose(head: Head<'_>, keys: &mut [f32], stride: usize) {
    for token in 0..head.tokens() {
        for (component, x) in head.token(token).iter().enumerate() {
            keys[component * stride + token] = *x;
        }
    }
}

/// Scaled products of the group's queries with all keys. What lies in the padding is not read afterwards.
#[inline(always)]
fn score<I: Isa>(
    isa: I,
    queries: Head<'_>,
    group: [usize; QUERIES],
    keys: &[f32],
    scale: f32,
    scores: &mut [f32],
    stride: usize,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let scale = ops.splat(scale);
    let queries = group.map(|token| queries.token(token));
    for column in (0..stride).step_by(lanes) {
        let mut sums = [ops.zero(); QUERIES];
        for (component, keys) in keys.chunks_exact(stride).enumerate() {
            let keys = ops.load(&keys[column..]);
            for (sum, query) in sums.iter_mut().zip(queries) {
                *sum = ops.mul_add(ops.splat(query[component]), keys, *sum);
            }
        }
        for (sum, scores) in sums.into_iter().zip(scores.chunks_exact_mut(stride)) {
            ops.store(ops.mul(sum, scale), &mut scores[column..]);
        }
    }
}

/// Each of the first `tokens` scores becomes its exponential, relative to that of the largest; what lies beyond becomes 0.
/// Returns their sum, which is at least 1.
#[inline(always)]
fn exponentiate<I: Isa>(isa: I, row: &mut [f32], tokens: usize) -> f32 {
    let ops = isa.f32();
    let lanes = ops.len();
    row[tokens..].fill(f32::NEG_INFINITY);
    let mut most = ops.splat(f32::NEG_INFINITY);
    for scores in row.chunks_exact(lanes) {
        most = ops.max(most, ops.load(scores));
    }
    let most = ops.fold_splat(most, f32::NEG_INFINITY, f32::max);
    let mut sum = ops.zero();
    for scores in row.chunks_exact_mut(lanes) {
        let exponential = Exp {}.eval(isa, ops.sub(ops.load(scores), most));
        sum = ops.add(sum, exponential);
        ops.store(exponential, scores);
    }
    ops.sum(sum)
}

/// What the values are weighed by: a row of exponentials for each query of a group, and the inverse of its sum.
struct Weights<'a> {
    scores: &'a [f32],
    stride: usize,
    inverses: [f32; QUERIES],
}

/// Sums of the values, weighed by the group's scores.
#[inline(always)]
fn weigh<I: Isa>(
    isa: I,
    values: Head<'_>,
    group: [usize; QUERIES],
    weights: Weights<'_>,
    output: &mut [f32],
    hidden: usize,
    component: usize,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let scores: [&[f32]; QUERIES] = std::array::from_fn(|i| &weights.scores[i * weights.stride..][..weights.stride]);
    for column in (0..values.size).step_by(lanes) {
        let mut sums = [ops.zero(); QUERIES];
        for token in 0..values.tokens() {
            let value = ops.load(&values.token(token)[column..]);
            for (sum, scores) in sums.iter_mut().zip(scores) {
                *sum = ops.mul_add(ops.splat(scores[token]), value, *sum);
            }
        }
        for ((sum, token), inverse) in sums.into_iter().zip(group).zip(weights.inverses) {
            let sum = ops.mul(sum, ops.splat(inverse));
            ops.store(sum, &mut output[token * hidden + component + column..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, for one text, head and token.
    fn expected(qkv: &[f32], text: &Range<usize>, hidden: usize, head: Range<usize>, token: usize) -> Vec<f32> {
        let part = |row: usize, part: usize| &qkv[row * 3 * hidden + part * hidden..][head.clone()];
        let scale = 1.0 / (head.len() as f32).sqrt();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let weights: Vec<f32> =
            text.clone().map(|other| (product(part(token, 0), part(other, 1)) * scale).exp()).collect();
        let total: f32 = weights.iter().sum();
        (0..head.len())
            .map(|i| text.clone().zip(&weights).map(|(other, weight)| part(other, 2)[i] * weight / total).sum())
            .collect()
    }

    #[test]
    fn attention_is_that_of_the_definition_and_stays_within_its_text() {
        let (heads, head_size) = (3, 32);
        let hidden = heads * head_size;
        let texts = [0..1, 1..6, 6..26, 26..59];
        let qkv: Vec<f32> = (0..59 * 3 * hidden).map(|i| (i as f32 * 0.613).sin()).collect();
        let mut output = vec![f32::NAN; 59 * hidden];
        let mut scratch = AttentionScratch::default();
        Attention { qkv: &qkv, output: &mut output, texts: &texts, heads, head_size, scratch: &mut scratch }.dispatch();

        for text in &texts {
            for token in text.clone() {
                for head in 0..heads {
                    let head = head * head_size..(head + 1) * head_size;
                    let got = &output[token * hidden..][head.clone()];
                    for (got, expected) in got.iter().zip(expected(&qkv, text, hidden, head, token)) {
                        assert!((got - expected).abs() < 1e-5, "token {token}: {got}, expected {expected}");
                    }
                }
            }
        }
    }
}
