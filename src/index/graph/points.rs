//! Where the nodes of a graph lie, and how far a query is from one.
//!
//! Whatever the metric, a graph knows squared Euclidean distances only. Vectors are brought there first: for the cosine they
//! are scaled to unit length; for the dot product they get one more component, which makes them all equally long (so that
//! the nearest is the one with the largest product; Bachrach and others, RecSys 2014). Then the mean is taken away, all
//! are scaled so that the longest has length 1, and rotated. A query for the dot product is first made as long as the longest
//! row. None of it changes which is nearer.

use std::ops::Range;

use super::memory::{Array, Plain, bytes_of, prefetch};
use super::parallel;
use crate::index::coded::{CODED_DIMENSION_MIN, Certainty};
use crate::quantization::bits::BitQuery;
use crate::quantization::codes::{self, CodedQuery, Scale};
use crate::quantization::{Rotation, kernels};
use crate::types::{Metric, norm};

/// How vectors are brought into the space of the graph.
pub struct Transform {
    metric: Metric,
    dimension: usize,
    /// Length that all vectors get for the dot product.
    length: f64,
    mean: Vec<f32>,
    scale: f32,
    seed: u64,
    /// None under 64 components: they stay as they are.
    rotation: Option<Rotation>,
    width: usize,
}

/// The nodes, one after another.
pub struct Points {
    width: usize,
    kind: Kind,
    /// The most that a point lies away from what is kept of it.
    error_max: f32,
}

enum Kind {
    Codes { codes: Array<u8>, scales: Array<f32> },
    Floats(Array<f32>),
}

/// What stands beside the codes of a point: the length of a step, and the squared length of what the codes stand for.
type PointScale = [f32; 2];

/// A query in the space of the graph.
#[derive(Default)]
pub struct Query {
    components: Vec<f32>,
    coded: CodedQuery,
    square: f32,
    error: f32,
    /// For the estimates of neighbours.
    pub bits: BitQuery,
}

impl Transform {
    /// Learns from vectors what is needed to bring them into the space of the graph.
    pub fn new<'a>(
        metric: Metric,
        dimension: usize,
        seed: u64,
        vectors: impl Iterator<Item = &'a [f32]> + Clone,
    ) -> Self {
        let length = match metric {
            Metric::DotProduct => vectors.clone().map(norm).fold(0.0, f64::max),
            Metric::Cosine | Metric::Euclidean => 0.0,
        };
        let is_augmented =
            metric == Metric::DotProduct && vectors.clone().any(|vector| norm(vector) < length * EQUALLY_LONG);
        let augmented = dimension + usize::from(is_augmented);
        let rotation = (dimension >= CODED_DIMENSION_MIN).then(|| Rotation::new(augmented, seed));
        let width = rotation.as_ref().map_or(augmented, Rotation::width);
        let mean = vec![0.0; augmented];
        let mut transform = Self { metric, dimension, length, mean, scale: 1.0, seed, rotation, width };
        let mut sums = vec![0.0_f64; augmented];
        let mut components = vec![0.0; augmented];
        let mut count = 0;
        for vector in vectors.clone() {
            transform.augment(vector, true, &mut components);
            sums.iter_mut().zip(&components).for_each(|(sum, &x)| *sum += f64::from(x));
            count += 1;
        }
        transform.mean = sums.iter().map(|sum| (sum / f64::from(count.max(1))) as f32).collect();
        let mut longest = 0.0_f64;
        for vector in vectors {
            transform.augment(vector, true, &mut components);
            components.iter_mut().zip(&transform.mean).for_each(|(x, mean)| *x -= mean);
            longest = longest.max(norm(&components));
        }
        transform.scale = if longest > 0.0 { (1.0 / longest) as f32 } else { 1.0 };
        if !transform.scale.is_finite() {
            transform.scale = 1.0;
        }
        transform
    }

    /// As `new` had learnt it.
    pub fn restored(metric: Metric, dimension: usize, seed: u64, length: f64, mean: Vec<f32>, scale: f32) -> Self {
        let rotation = (dimension >= CODED_DIMENSION_MIN).then(|| Rotation::new(mean.len(), seed));
        let width = rotation.as_ref().map_or(mean.len(), Rotation::width);
        Self { metric, dimension, length, mean, scale, seed, rotation, width }
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn length(&self) -> f64 {
        self.length
    }

    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Components in the space of the graph.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whether points are kept as codes.
    pub fn is_coded(&self) -> bool {
        self.rotation.is_some()
    }

    /// A row in the space of the graph.
    pub fn row(&self, vector: &[f32], out: &mut Vec<f32>) {
        self.bring(vector, true, out);
    }

    /// The key of a squared distance of the graph, as `flat::Queries` gives keys: smaller is nearer.
    pub fn to_key(&self, query_length: f64, distance: f32) -> f32 {
        let square = f64::from(distance.max(0.0)) / f64::from(self.scale).powi(2);
        let key = match self.metric {
            Metric::Cosine => square / 2.0 - 1.0,
            Metric::DotProduct => {
                let factor = self.query_factor(query_length);
                (square - (query_length * factor).powi(2) - self.length.powi(2)) / (2.0 * factor)
            }
            Metric::Euclidean => square,
        };
        key as f32
    }

    /// The squared distance of the graph for a key.
    pub fn to_distance(&self, query_length: f64, key: f32) -> f32 {
        let key = f64::from(key);
        let square = match self.metric {
            Metric::Cosine => 2.0 * (key + 1.0),
            Metric::DotProduct => {
                let factor = self.query_factor(query_length);
                2.0 * key * factor + (query_length * factor).powi(2) + self.length.powi(2)
            }
            Metric::Euclidean => key,
        };
        (square * f64::from(self.scale).powi(2)) as f32
    }

    /// The length of a query that a dot product needs to become a distance.
    pub fn query_length(&self, vector: &[f32]) -> f64 {
        if self.metric == Metric::DotProduct { norm(vector) } else { 0.0 }
    }

    /// What a query is multiplied by for the dot product: it gets as long as the rows. As it is, a long or a short one would
    /// be as far from one row as from another, but for a share that gets lost.
    fn query_factor(&self, length: f64) -> f64 {
        if length > 0.0 { self.length / length } else { 1.0 }
    }

    fn bring(&self, vector: &[f32], is_row: bool, out: &mut Vec<f32>) {
        out.clear();
        out.resize(self.width, 0.0);
        let augmented = self.mean.len();
        self.augment(vector, is_row, &mut out[..augmented]);
        out.iter_mut().zip(&self.mean).for_each(|(x, mean)| *x = (*x - mean) * self.scale);
        if let Some(rotation) = &self.rotation {
            rotation.apply(out);
        }
    }

    fn augment(&self, vector: &[f32], is_row: bool, out: &mut [f32]) {
        out[..self.dimension].copy_from_slice(vector);
        match self.metric {
            Metric::Cosine => {
                let inverse = 1.0 / norm(vector);
                out.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
            }
            Metric::DotProduct if is_row && out.len() > self.dimension => {
                let length = norm(vector);
                out[self.dimension] = (self.length * self.length - length * length).max(0.0).sqrt() as f32;
            }
            Metric::DotProduct if !is_row => {
                let factor = self.query_factor(norm(vector));
                out.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
            Metric::DotProduct | Metric::Euclidean => {}
        }
    }
}

/// Lengths that differ by less are taken for equal: by rounding alone.
const EQUALLY_LONG: f64 = 1.0 - 1e-6;

impl Query {
    /// Brings a query into the space of the graph, over the old one.
    pub fn set(&mut self, transform: &Transform, vector: &[f32]) {
        let mut components = std::mem::take(&mut self.components);
        transform.bring(vector, false, &mut components);
        self.set_brought(components, transform.is_coded());
    }

    /// Takes a query that lies in the space of the graph already.
    pub fn set_brought(&mut self, components: Vec<f32>, is_coded: bool) {
        self.components = components;
        self.error = 0.0;
        self.square = self.components.iter().map(|x| x * x).sum();
        if is_coded {
            self.coded.set(&self.components);
            self.bits.set(&self.components);
            let square: i64 = self.coded.codes.iter().map(|&code| i64::from(code).pow(2)).sum();
            self.square = square_of(self.coded.scale.step, square);
            self.error = self.coded.scale.error;
        }
    }

    /// Where the components are kept, to be used again.
    pub fn take_components(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.components)
    }
}

/// What bringing a vector into the space of the graph may move it, as a share of its length.
const ROUNDING: f32 = 1e-6;

fn square_of(step: f32, square: i64) -> f32 {
    (f64::from(step).powi(2) * square as f64) as f32
}

impl Points {
    /// Brings rows into the space of the graph: point `i` is what `row` says of `i`.
    pub fn new<'a>(
        transform: &Transform,
        count: usize,
        threads: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        const PIECE: usize = 1024;
        let width = transform.width();
        if !transform.is_coded() {
            let mut floats = Array::zeroed(count * width);
            let pieces = floats.chunks_mut(PIECE * width).enumerate();
            parallel::for_each(threads, pieces, Vec::new, |components, (piece, floats)| {
                for (index, floats) in floats.chunks_exact_mut(width).enumerate() {
                    transform.row(row(piece * PIECE + index), components);
                    floats.copy_from_slice(components);
                }
            });
            return Self { width, kind: Kind::Floats(floats), error_max: 0.0 };
        }
        let mut codes = Array::zeroed(count * width);
        let mut scales = Array::zeroed(count * 2);
        let mut errors = vec![0.0_f32; count.div_ceil(PIECE)];
        let pieces = codes.chunks_mut(PIECE * width).zip(scales.chunks_mut(PIECE * 2)).zip(&mut errors).enumerate();
        parallel::for_each(threads, pieces, Vec::new, |components, (piece, ((codes, scales), error_max))| {
            let points = codes.chunks_exact_mut(width).zip(scales.as_chunks_mut::<2>().0);
            for (index, (codes, scale)) in points.enumerate() {
                transform.row(row(piece * PIECE + index), components);
                let Scale { step, error } = codes::encode(components, codes);
                let square: i64 = codes.iter().map(|&code| (i64::from(code) - 128).pow(2)).sum();
                *scale = [step, square_of(step, square)];
                *error_max = error_max.max(error);
            }
        });
        Self { width, kind: Kind::Codes { codes, scales }, error_max: errors.into_iter().fold(0.0, f32::max) }
    }

    /// From codes and scales that `new` had made.
    pub fn of_codes(width: usize, codes: Array<u8>, scales: Array<f32>, error_max: f32) -> Self {
        assert_eq!(2 * codes.len(), scales.len() * width, "two scales for each point");
        Self { width, kind: Kind::Codes { codes, scales }, error_max }
    }

    /// From components that `new` had made.
    pub fn of_floats(width: usize, floats: Array<f32>) -> Self {
        Self { width, kind: Kind::Floats(floats), error_max: 0.0 }
    }

    /// Codes and scales, or components.
    pub fn arrays(&self) -> (&[u8], Option<&[u8]>) {
        match &self.kind {
            Kind::Codes { codes, scales } => (codes, Some(bytes_of(scales))),
            Kind::Floats(floats) => (bytes_of(floats), None),
        }
    }

    /// The most that a point lies away from its codes.
    pub fn error_max(&self) -> f32 {
        self.error_max
    }

    /// The same points in another order: point `i` is the one that was `order[i]`.
    pub fn reordered(&self, order: &[u32]) -> Self {
        fn pick<T: Plain>(from: &Array<T>, width: usize, order: &[u32]) -> Array<T> {
            let mut to = Array::zeroed(order.len() * width);
            for (to, &point) in to.chunks_exact_mut(width).zip(order) {
                to.copy_from_slice(&from[point as usize * width..][..width]);
            }
            to
        }
        let kind = match &self.kind {
            Kind::Codes { codes, scales } => {
                Kind::Codes { codes: pick(codes, self.width, order), scales: pick(scales, 2, order) }
            }
            Kind::Floats(floats) => Kind::Floats(pick(floats, self.width, order)),
        };
        Self { width: self.width, kind, error_max: self.error_max }
    }

    /// Its components, as near as they are kept.
    pub fn components(&self, point: u32, out: &mut Vec<f32>) {
        let first = point as usize * self.width;
        out.clear();
        out.resize(self.width, 0.0);
        match &self.kind {
            Kind::Codes { codes, scales } => {
                codes::decode(&codes[first..][..self.width], scales[2 * point as usize], out);
            }
            Kind::Floats(floats) => out.copy_from_slice(&floats[first..][..self.width]),
        }
    }

    /// Squared distance of a query.
    #[inline]
    pub fn distance(&self, query: &Query, point: u32) -> f32 {
        let first = point as usize * self.width;
        match &self.kind {
            Kind::Codes { codes, scales } => {
                let mut dot = [0];
                (kernels().dot_codes)(&query.coded.codes, &codes[first..][..self.width], self.width, &mut dot);
                let [step, square] = scales.as_chunks::<2>().0[point as usize];
                query.square + square - 2.0 * (query.coded.scale.step * step) * dot[0] as f32
            }
            Kind::Floats(floats) => squared(&query.components, &floats[first..][..self.width]),
        }
    }

    /// Squared distances of a query to points that follow one another.
    pub fn distances(&self, query: &Query, points: Range<u32>, dots: &mut Vec<i32>, out: &mut Vec<f32>) {
        let first = points.start as usize * self.width;
        let end = points.end as usize * self.width;
        out.clear();
        match &self.kind {
            Kind::Codes { codes, scales } => {
                dots.clear();
                dots.resize(points.len(), 0);
                (kernels().dot_codes)(&query.coded.codes, &codes[first..end], self.width, dots);
                let scales = &scales.as_chunks::<2>().0[points.start as usize..points.end as usize];
                let factor = -2.0 * query.coded.scale.step;
                let distance =
                    |(&dot, &[step, square]): (&i32, &PointScale)| query.square + square + factor * step * dot as f32;
                out.extend(dots.iter().zip(scales).map(distance));
            }
            Kind::Floats(floats) => {
                out.extend(floats[first..end].chunks_exact(self.width).map(|point| squared(&query.components, point)));
            }
        }
    }

    /// How far a distance (not squared) may be from the true one: for certain, or all but for certain.
    pub fn error(&self, query: &Query, certainty: Certainty) -> f32 {
        let of_codes = match certainty {
            Certainty::Sure => self.error_max + query.error,
            // What rounding loses points anywhere, and counts only as far as it points towards the query: five standard deviations.
            Certainty::Likely => 5.0 * self.error_max.hypot(query.error) / (self.width as f32).sqrt(),
        };
        of_codes + ROUNDING * (1.0 + query.square.sqrt())
    }

    /// Fetches a point into the cache.
    #[inline(always)]
    pub fn prefetch(&self, point: u32) {
        let first = point as usize * self.width;
        match &self.kind {
            Kind::Codes { codes, scales } => {
                prefetch(&codes[first..][..self.width]);
                prefetch(&scales[2 * point as usize..][..2]);
            }
            Kind::Floats(floats) => prefetch(&floats[first..][..self.width]),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Codes { codes, scales } => codes.bytes() + scales.bytes(),
            Kind::Floats(floats) => floats.bytes(),
        }
    }
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Points that were brought together, to be compared with each other.
#[derive(Default)]
pub struct Group {
    width: usize,
    codes: Vec<u8>,
    signed: Vec<i8>,
    scales: Vec<PointScale>,
    floats: Vec<f32>,
    dots: Vec<i32>,
}

impl Group {
    /// Empties the group.
    pub fn clear(&mut self) {
        self.codes.clear();
        self.signed.clear();
        self.scales.clear();
        self.floats.clear();
    }

    /// Adds the only point of another group.
    pub fn push(&mut self, other: &Group) {
        self.width = other.width;
        self.codes.extend_from_slice(&other.codes);
        self.scales.extend_from_slice(&other.scales);
        self.floats.extend_from_slice(&other.floats);
    }

    /// Squared distances of a query to all points of the group.
    pub fn distances_from(&self, query: &Query, out: &mut Vec<f32>) {
        out.clear();
        let mut dots = [0; 64];
        if self.floats.is_empty() {
            for (codes, scales) in self.codes.chunks(64 * self.width.max(1)).zip(self.scales.chunks(64)) {
                let dots = &mut dots[..scales.len()];
                (kernels().dot_codes)(&query.coded.codes, codes, self.width, dots);
                out.extend(dots.iter().zip(scales).map(|(&dot, &[step, square])| {
                    query.square + square - 2.0 * (query.coded.scale.step * step) * dot as f32
                }));
            }
            return;
        }
        out.extend(self.floats.chunks_exact(self.width).map(|point| squared(&query.components, point)));
    }

    /// Squared distances of some points of the group to all of it.
    pub fn distances(&mut self, own: Range<usize>, out: &mut Vec<f32>) {
        let mut dots = std::mem::take(&mut self.dots);
        self.compare(own, self, &mut dots, out);
        self.dots = dots;
    }

    /// Squared distances of the only point of the group to those of another.
    pub fn distances_to(&mut self, others: &Group, out: &mut Vec<f32>) {
        let mut dots = std::mem::take(&mut self.dots);
        self.compare(0..1, others, &mut dots, out);
        self.dots = dots;
    }

    fn compare(&self, own: Range<usize>, others: &Group, dots: &mut Vec<i32>, out: &mut Vec<f32>) {
        let width = self.width;
        out.clear();
        if self.floats.is_empty() {
            let queries = &self.signed[own.start * width..own.end * width];
            dots.clear();
            dots.resize(own.len() * others.scales.len(), 0);
            if others.scales.is_empty() {
                return;
            }
            (kernels().dot_codes)(queries, &others.codes, width, dots);
            for (point, dots) in own.zip(dots.chunks_exact(others.scales.len())) {
                let [step, square] = self.scales[point];
                let distance = |(&dot, &[other_step, other_square]): (&i32, &PointScale)| {
                    square + other_square - 2.0 * (step * other_step) * dot as f32
                };
                out.extend(dots.iter().zip(&others.scales).map(distance));
            }
            return;
        }
        for point in self.floats[own.start * width..own.end * width].chunks_exact(width) {
            out.extend(others.floats.chunks_exact(width).map(|other| squared(point, other)));
        }
    }
}

impl Points {
    /// Brings points together, over what was there.
    pub fn gather(&self, points: &[u32], group: &mut Group) {
        group.clear();
        group.width = self.width;
        for &point in points {
            let first = point as usize * self.width;
            match &self.kind {
                Kind::Codes { codes, scales } => {
                    let codes = &codes[first..][..self.width];
                    group.codes.extend_from_slice(codes);
                    group.signed.extend(codes.iter().map(|code| (code ^ 0x80) as i8));
                    group.scales.push(scales.as_chunks::<2>().0[point as usize]);
                }
                Kind::Floats(floats) => group.floats.extend_from_slice(&floats[first..][..self.width]),
            }
        }
    }

    /// For each of some points how much nearer it is to the first of two pivots than to the second, with its number.
    pub fn between(&self, points: &[u32], pivots: [u32; 2]) -> Vec<(f32, u32)> {
        let mut pivot_group = Group::default();
        self.gather(&pivots, &mut pivot_group);
        let (mut point_group, mut distances) = (Group::default(), Vec::new());
        let mut keyed = Vec::with_capacity(points.len());
        for &point in points {
            self.gather(&[point], &mut point_group);
            point_group.distances_to(&pivot_group, &mut distances);
            keyed.push((distances[0] - distances[1], point));
        }
        keyed
    }
}
