//! Rows of a memtable in codes of 8 bits and of one bit a component: a scan reads a quarter of the bytes, or a thirtieth, and
//! what may be among the nearest is compared again by its own components. Every estimate comes with a bound: that of 8 bits
//! can hold for certain, so an answer can be exact all the same.
//!
//! Other than the points of a graph, rows come one by one: nothing is known of those that are still to come, so they are
//! turned, but neither centred nor scaled (for the cosine, to unit length).

use crate::quantization::bits::{BitQuery, GROUP_ROWS, GroupMut, Neighborhood, group_bytes};
use crate::quantization::codes::{self, CodedQuery};
use crate::quantization::{Rotation, kernels};
use crate::types::{Metric, Vector, norm};

/// With fewer components codes say too little, and the components themselves are short enough.
pub const CODED_DIMENSION_MIN: usize = 64;
/// Where the random turn begins: the same for all, since it need not be kept from anybody.
const SEED: u64 = 0x5EED;

/// How sure an estimate is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// By a bound that always holds.
    Sure,
    /// By a bound that holds but for one row in a million.
    Likely,
}

/// Brings the rows of a space into codes.
#[derive(Debug)]
pub struct Coder {
    metric: Metric,
    rotation: Rotation,
}

/// What stands beside the codes of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowScale {
    step: f32,
    /// Length of what rounding lost.
    error: f32,
    /// Length of the row; 1 for the cosine.
    length: f32,
}

/// Queries of one space in codes.
pub struct CodedQueries {
    metric: Metric,
    width: usize,
    codes: Vec<i8>,
    scales: Vec<RowScale>,
    bits: Vec<BitQuery>,
}

/// Groups of up to 32 rows in one bit a component, as they are seen from the origin, one after another.
#[derive(Clone, Debug, Default)]
pub struct BitGroups {
    codes: Vec<u8>,
    numbers: Vec<GroupNumbers>,
}

/// What stands beside the bits of a group.
#[derive(Clone, Copy, Debug)]
struct GroupNumbers {
    constants: [f32; GROUP_ROWS],
    slopes: [f32; GROUP_ROWS],
    lengths: [f32; GROUP_ROWS],
}

/// A group without rows.
const NO_ROWS: GroupNumbers =
    GroupNumbers { constants: [f32::INFINITY; GROUP_ROWS], slopes: [0.0; GROUP_ROWS], lengths: [0.0; GROUP_ROWS] };

impl Coder {
    /// None where codes say too little.
    pub fn new(metric: Metric, dimension: usize) -> Option<Self> {
        (dimension >= CODED_DIMENSION_MIN).then(|| Self { metric, rotation: Rotation::new(dimension, SEED) })
    }

    /// Codes of a row.
    pub fn width(&self) -> usize {
        self.rotation.width()
    }

    /// The codes of a row; its bits go to a place of `groups`, over those of before, or behind the last group.
    pub fn encode(&self, row: &[f32], codes: &mut [u8], groups: &mut BitGroups, place: usize) -> RowScale {
        let (brought, length) = self.bring(row);
        let scale = codes::encode(&brought, codes);
        let (group, place) = (place / GROUP_ROWS, place % GROUP_ROWS);
        let bytes = group_bytes(self.width());
        if group == groups.numbers.len() {
            groups.codes.resize(groups.codes.len() + bytes, 0);
            groups.numbers.push(NO_ROWS);
        }
        let GroupNumbers { constants, slopes, lengths } = &mut groups.numbers[group];
        let mut group = GroupMut { codes: &mut groups.codes[group * bytes..][..bytes], constants, slopes };
        group.remove(place);
        group.set(place, &vec![0.0; brought.len()], &brought, &mut Vec::new());
        lengths[place] = length;
        RowScale { step: scale.step, error: scale.error, length }
    }

    /// The codes of queries.
    pub fn queries<'a>(&self, vectors: impl Iterator<Item = &'a Vector>) -> CodedQueries {
        let (mut codes, mut scales, mut bits, mut coded) = (Vec::new(), Vec::new(), Vec::new(), CodedQuery::default());
        for vector in vectors {
            let (brought, length) = self.bring(vector.components());
            coded.set(&brought);
            codes.extend_from_slice(&coded.codes);
            scales.push(RowScale { step: coded.scale.step, error: coded.scale.error, length });
            let mut query = BitQuery::default();
            query.set(&brought);
            bits.push(query);
        }
        CodedQueries { metric: self.metric, width: self.width(), codes, scales, bits }
    }

    fn bring(&self, vector: &[f32]) -> (Vec<f32>, f32) {
        let mut brought = vector.to_vec();
        let mut length = norm(vector);
        if self.metric == Metric::Cosine {
            let inverse = 1.0 / length;
            brought.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
            length = 1.0;
        }
        brought.resize(self.width(), 0.0);
        self.rotation.apply(&mut brought);
        (brought, length as f32)
    }
}

impl BitGroups {
    /// Adds the groups of others, in their order.
    pub fn extend(&mut self, others: &Self) {
        self.codes.extend_from_slice(&others.codes);
        self.numbers.extend_from_slice(&others.numbers);
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.codes.len() + size_of_val(&self.numbers[..])
    }
}

impl CodedQueries {
    /// For one query and each row of groups a key that the true key is not below, but for few of those at the very limit;
    /// infinite where there is no row.
    #[inline]
    pub fn lower_keys_of_bits(&self, query: usize, groups: &BitGroups, out: &mut [f32]) {
        let length = self.scales[query].length;
        let estimates = self.bits[query].at(length * length);
        // The part of a vector that its signs do not tell is some .75 of it, and counts as far as it points along the query
        // (RaBitQ, theorem 3.2): two and a half standard deviations.
        let margin = 2.5 * 0.75 / (self.width as f32).sqrt() * length;
        let groups = groups.codes.chunks_exact(group_bytes(self.width)).zip(&groups.numbers);
        for ((codes, GroupNumbers { constants, slopes, lengths }), out) in groups.zip(out.as_chunks_mut().0) {
            estimates.of(&Neighborhood { codes, constants, slopes }, out);
            let pairs = out.iter_mut().zip(lengths);
            match self.metric {
                Metric::Cosine => out.iter_mut().for_each(|key| *key = *key * 0.5 - (1.0 + margin)),
                Metric::DotProduct => pairs.for_each(|(key, row)| {
                    *key = (*key - length * length - row * row) * 0.5 - margin * row;
                }),
                Metric::Euclidean => pairs.for_each(|(key, row)| *key -= 2.0 * margin * row),
            }
        }
    }

    /// As `lower_keys`, for one query and row, and all but for certain.
    pub fn lower_key(&self, query: usize, codes: &[u8], scale: &RowScale) -> f32 {
        let mut dot = [0];
        let query_codes = &self.codes[query * self.width..][..self.width];
        (kernels().dot_codes)(query_codes, codes, self.width, &mut dot);
        self.to_lower_key(&self.scales[query], scale, dot[0], Certainty::Likely)
    }

    /// For every query and row a key that the true key (see `flat::Queries`) is not below: query `q` and row `r` at
    /// `q * rows + r`.
    pub fn lower_keys(
        &self,
        codes: &[u8],
        scales: &[RowScale],
        certainty: Certainty,
        scratch: &mut Vec<i32>,
        out: &mut [f32],
    ) {
        scratch.clear();
        scratch.resize(out.len(), 0);
        (kernels().dot_codes)(&self.codes, codes, self.width, scratch);
        let pairs = scratch.chunks_exact(scales.len()).zip(out.chunks_exact_mut(scales.len()));
        for (query, (dots, out)) in self.scales.iter().zip(pairs) {
            for ((&dot, row), out) in dots.iter().zip(scales).zip(out) {
                *out = self.to_lower_key(query, row, dot, certainty);
            }
        }
    }

    #[inline(always)]
    fn to_lower_key(&self, query: &RowScale, row: &RowScale, dot: i32, certainty: Certainty) -> f32 {
        // In this order: the product of two short steps may be too small for a number.
        let product = (query.step * dot as f32) * row.step;
        let (of_row, of_query) = (row.error * query.length, query.error * row.length);
        let error = match certainty {
            Certainty::Sure => of_row + of_query + row.error * query.error + ROUNDING * query.length * row.length,
            // What rounding loses points anywhere, and counts as far as it points along the other vector: five standard
            // deviations.
            Certainty::Likely => 5.0 / (self.width as f32).sqrt() * (of_row * of_row + of_query * of_query).sqrt(),
        };
        match self.metric {
            Metric::Cosine | Metric::DotProduct => -product - error,
            Metric::Euclidean => query.length * query.length + row.length * row.length - 2.0 * (product + error),
        }
    }
}

/// What the arithmetic of f32 may add to a product of unit vectors.
const ROUNDING: f32 = 1e-5;
