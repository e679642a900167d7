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

/// Up to 32 rows in one bit a component, as they are seen from the origin.
#[derive(Clone, Debug)]
pub struct BitGroup {
    codes: Vec<u8>,
    constants: [f32; GROUP_ROWS],
    slopes: [f32; GROUP_ROWS],
}

impl Coder {
    /// None where codes say too little.
    pub fn new(metric: Metric, dimension: usize) -> Option<Self> {
        (dimension >= CODED_DIMENSION_MIN).then(|| Self { metric, rotation: Rotation::new(dimension, SEED) })
    }

    /// Codes of a row.
    pub fn width(&self) -> usize {
        self.rotation.width()
    }

    /// A group without rows.
    pub fn empty_group(&self) -> BitGroup {
        let codes = vec![0; group_bytes(self.width())];
        BitGroup { codes, constants: [f32::INFINITY; GROUP_ROWS], slopes: [0.0; GROUP_ROWS] }
    }

    /// The codes of a row; its bits go to a place of a group, over those of before.
    pub fn encode(&self, row: &[f32], codes: &mut [u8], group: &mut BitGroup, place: usize) -> RowScale {
        let (brought, length) = self.bring(row);
        let scale = codes::encode(&brought, codes);
        let BitGroup { codes, constants, slopes } = group;
        let mut group = GroupMut { codes, constants, slopes };
        group.remove(place);
        group.set(place, &vec![0.0; brought.len()], &brought, &mut Vec::new());
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

impl CodedQueries {
    /// For one query and each row of a group a key that the true key is not below, but for one row in some thousand.
    pub fn lower_keys_of_bits(&self, query: usize, group: &BitGroup, scales: &[RowScale], out: &mut [f32]) {
        let length = self.scales[query].length;
        let neighborhood = Neighborhood { codes: &group.codes, constants: &group.constants, slopes: &group.slopes };
        let mut squares = [0.0; GROUP_ROWS];
        self.bits[query].at(length * length).of(&neighborhood, &mut squares);
        // The part of a vector that its signs do not tell is some .75 of it, and counts as far as it points along the query
        // (RaBitQ, theorem 3.2): three standard deviations.
        let likely = 3.0 * 0.75 / (self.width as f32).sqrt();
        for ((square, row), out) in squares.iter().zip(scales).zip(out) {
            let lower = square - 2.0 * likely * length * row.length;
            *out = match self.metric {
                Metric::Cosine => lower / 2.0 - 1.0,
                Metric::DotProduct => (lower - length * length - row.length * row.length) / 2.0,
                Metric::Euclidean => lower,
            };
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
