//! A graph as sections of bytes, and back: its arrays as they lie in memory. `docs/data_format.md` describes them.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use super::calibrate::Calibration;
use super::layout::Blocks;
use super::memory::{Array, Plain, bytes_of};
use super::points::{Group, Points, Transform};
use super::vectors::Vectors;
use super::{Graph, Twins};
use crate::types::{Metric, RowCheck};

/// Sections of the primary file: what the graph is made of.
pub const VECTORS: u32 = 1;
/// For each row the vector that it has; missing where row and vector have the same number.
pub const NODES: u32 = 2;

/// Sections of the derived file. One over the length of each vector:
pub const INVERSE_NORMS: u32 = 5;
const HEAD: u32 = 1;
const MEAN: u32 = 2;
const ENTRIES: u32 = 3;
const CALIBRATION: u32 = 4;
const POINTS: u32 = 6;
const SCALES: u32 = 7;
const BLOCKS: u32 = 8;

/// Does not look.
const NOTHING: Look<'_> = &|_, _| ();
const HEAD_BYTES: usize = 56;
/// No graph of ours has more neighbours a node.
const DEGREE_MAX: usize = 1024;

/// Sees the bytes of a section while they are in the cache, each after it has verified: pieces in any order, on several threads,
/// each with its place in the section. Pieces begin and end between numbers.
pub type Look<'a> = &'a (dyn Fn(usize, &[u8]) + Sync);

/// Where sections are read from. Whatever it hands out has been verified.
pub trait Sections {
    /// Why a section cannot be had.
    type Error;

    /// Bytes of a section; none where it is missing.
    fn bytes(&self, tag: u32) -> Option<u64>;

    /// Reads a section into a place of its length.
    fn read_into(&self, tag: u32, content: &mut [u8], threads: usize, look: Look<'_>) -> Result<(), Self::Error>;

    /// The file that a section lies in, and where: for sections that may be mapped. None where there is no file.
    fn place(&self, tag: u32) -> Option<(BorrowedFd<'_>, u64)>;

    /// Verifies a section that was read in another way.
    fn verify(&self, tag: u32, content: &[u8], threads: usize, look: Look<'_>) -> Result<(), Self::Error>;

    /// An error for a section that makes no sense.
    fn nonsense(&self, tag: u32, reason: String) -> Self::Error;
}

/// Where the vectors of a graph are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residence {
    /// In memory.
    #[default]
    Resident,
    /// In the system's cache of their file, which it takes back where memory is short.
    Mapped,
}

struct Head {
    metric: u32,
    dimension: u32,
    augmented: u32,
    degree: u32,
    node_count: u32,
    row_count: u32,
    seed: u64,
    length: f64,
    scale: f32,
    error_max: f32,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let numbers = [self.metric, self.dimension, self.augmented, self.degree, self.node_count, self.row_count];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.scale.to_le_bytes());
        bytes.extend_from_slice(&self.error_max.to_le_bytes());
        bytes.resize(HEAD_BYTES, 0);
        bytes
    }

    fn decode(bytes: &[u8; HEAD_BYTES]) -> Self {
        let four = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
        let eight = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
        let number = |place: usize| u32::from_le_bytes(four(4 * place));
        Self {
            metric: number(0),
            dimension: number(1),
            augmented: number(2),
            degree: number(3),
            node_count: number(4),
            row_count: number(5),
            seed: u64::from_le_bytes(eight(24)),
            length: f64::from_le_bytes(eight(32)),
            scale: f32::from_le_bytes(four(40)),
            error_max: f32::from_le_bytes(four(44)),
        }
    }
}

fn metric_number(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 1,
        Metric::DotProduct => 2,
        Metric::Euclidean => 3,
    }
}

impl Graph {
    /// The sections of the primary file: vectors, and which row has which.
    pub fn vector_sections(&self) -> Vec<(u32, &[u8])> {
        let nodes = self.twins.as_ref().map(|twins| (NODES, bytes_of(&twins.nodes)));
        [(VECTORS, bytes_of(self.vectors.components()))].into_iter().chain(nodes).collect()
    }

    /// The sections of the derived file.
    pub fn sections(&self) -> Vec<(u32, Cow<'_, [u8]>)> {
        let transform = &self.transform;
        let head = Head {
            metric: metric_number(transform.metric()),
            dimension: transform.dimension() as u32,
            augmented: transform.mean().len() as u32,
            degree: self.blocks.degree() as u32,
            node_count: self.node_count,
            row_count: self.row_count() as u32,
            seed: transform.seed(),
            length: transform.length(),
            scale: transform.scale(),
            error_max: self.points.error_max(),
        };
        let (points, scales) = self.points.arrays();
        let mut sections = vec![
            (HEAD, Cow::Owned(head.encode())),
            (MEAN, Cow::Borrowed(bytes_of(transform.mean()))),
            (ENTRIES, Cow::Borrowed(bytes_of(&self.entries))),
            (CALIBRATION, Cow::Owned(self.calibration.encode())),
            (INVERSE_NORMS, Cow::Borrowed(bytes_of(self.vectors.inverse_norms()))),
            (POINTS, Cow::Borrowed(points)),
            (BLOCKS, Cow::Borrowed(bytes_of(self.blocks.numbers()))),
        ];
        sections.extend(scales.map(|scales| (SCALES, Cow::Borrowed(scales))));
        sections
    }

    /// Has the vectors lie in the primary file, which holds the same, so that their memory goes back to the system. False where it
    /// cannot be done.
    pub fn lie_in_file(&self, primary: &impl Sections) -> bool {
        let place = primary.place(VECTORS).filter(|_| self.node_count > 0);
        place.is_some_and(|(file, offset)| self.vectors.lie_in_file(file, offset).unwrap_or(false))
    }

    /// Reads a graph back: `primary` has the vectors of the rows, `derived` everything else.
    pub fn read<S: Sections>(
        metric: Metric,
        dimension: usize,
        primary: &S,
        derived: &S,
        residence: Residence,
        threads: usize,
    ) -> Result<Self, S::Error> {
        let mut head = [0; HEAD_BYTES];
        derived.read_into(HEAD, &mut head, 1, NOTHING)?;
        let head = Head::decode(&head);
        let nonsense = |what: &str| Err(derived.nonsense(HEAD, format!("the graph {what}")));
        let (nodes, degree, augmented) = (head.node_count as usize, head.degree as usize, head.augmented as usize);
        if head.metric != metric_number(metric) || head.dimension as usize != dimension {
            return nonsense("is of another space");
        }
        let is_degree = (1..=DEGREE_MAX).contains(&degree) && degree.is_multiple_of(32);
        if !(dimension..=dimension + 1).contains(&augmented) || !is_degree {
            return nonsense("has an impossible width or degree");
        }
        if nodes == 0 || head.row_count < head.node_count {
            return nonsense("has no nodes, or fewer rows than nodes");
        }
        let mean = read_array::<f32, S>(derived, MEAN, augmented, 1, NOTHING)?;
        let is_scale = head.scale.is_finite() && head.scale > 0.0 && head.length.is_finite() && head.length >= 0.0;
        if !is_scale || !(0.0..=f32::MAX).contains(&head.error_max) || !are_finite(&mean) {
            return nonsense("brings vectors to where nothing is");
        }
        let transform = Transform::restored(metric, dimension, head.seed, head.length, mean.to_vec(), head.scale);
        let check = RowCheck::new(metric, dimension);
        let look: Look<'_> = &|offset, bytes| check.look(offset, bytes);
        let components = match residence {
            Residence::Resident => read_array(primary, VECTORS, nodes * dimension, threads, look)?,
            Residence::Mapped => map_array(primary, VECTORS, nodes * dimension, threads, look)?,
        };
        check
            .settle(&components)
            .map_err(|(vector, why)| primary.nonsense(VECTORS, format!("vector {vector}: {why}")))?;
        let inverse_norms: Array<f32> = read_array(derived, INVERSE_NORMS, nodes, 1, NOTHING)?;
        if metric == Metric::Cosine && !inverse_norms.iter().all(|norm| norm.is_normal() && *norm > 0.0) {
            return nonsense("has a vector without a length");
        }
        let vectors = Vectors::restored(dimension, components, inverse_norms);
        let points = if transform.is_coded() {
            let codes = read_array(derived, POINTS, nodes * transform.width(), threads, NOTHING)?;
            let scales = read_array(derived, SCALES, 2 * nodes, 1, NOTHING)?;
            if !are_finite(&scales) {
                return nonsense("has codes of no length");
            }
            Points::of_codes(transform.width(), codes, scales, head.error_max)
        } else {
            let floats = read_array(derived, POINTS, nodes * transform.width(), threads, NOTHING)?;
            if !are_finite(&floats) {
                return nonsense("has points that are nowhere");
            }
            Points::of_floats(transform.width(), floats)
        };
        let block_bytes = Blocks::block_bytes(degree, if transform.is_coded() { transform.width() } else { 0 });
        if derived.bytes(BLOCKS) != Some(nodes as u64 * block_bytes as u64) {
            return nonsense("has blocks of another size");
        }
        let mut blocks = Blocks::new(nodes, degree, if transform.is_coded() { transform.width() } else { 0 });
        read_numbers(derived, BLOCKS, blocks.numbers_mut(), threads, NOTHING)?;
        let is_sound = (0..head.node_count).all(|node| blocks.is_sound(node, head.node_count));
        let entry_count = derived.bytes(ENTRIES).unwrap_or(0) as usize / size_of::<u32>();
        let entries = read_array::<u32, S>(derived, ENTRIES, entry_count, 1, NOTHING)?.to_vec();
        if !is_sound || entries.is_empty() || entries.iter().any(|&entry| entry >= head.node_count) {
            return nonsense("names nodes that do not exist");
        }
        let mut calibration = vec![0; derived.bytes(CALIBRATION).unwrap_or(0) as usize];
        derived.read_into(CALIBRATION, &mut calibration, 1, NOTHING)?;
        let Some(calibration) = Calibration::decode(&calibration) else {
            return nonsense("has a calibration that cannot be read");
        };
        let twins = match primary.bytes(NODES) {
            None if head.row_count == head.node_count => None,
            None => return nonsense("has rows whose vectors are not told"),
            Some(_) => {
                let rows = read_array::<u32, S>(primary, NODES, head.row_count as usize, 1, NOTHING)?.to_vec();
                Some(
                    Twins::of(rows, nodes)
                        .ok_or_else(|| primary.nonsense(NODES, "rows do not follow their vectors".to_owned()))?,
                )
            }
        };
        let mut entry_points = Group::default();
        points.gather(&entries, &mut entry_points);
        let node_count = head.node_count;
        Ok(Self { transform, points, blocks, vectors, entries, entry_points, calibration, twins, node_count })
    }
}

impl Twins {
    /// From the node of each row; none where the rows of a node do not lie together, in the order of the nodes.
    fn of(nodes: Vec<u32>, node_count: usize) -> Option<Self> {
        let mut first_rows = vec![0];
        for rows in nodes.chunk_by(|a, b| a == b) {
            if rows[0] as usize + 1 != first_rows.len() {
                return None;
            }
            first_rows.push(first_rows.last().copied().unwrap_or_default() + rows.len() as u32);
        }
        (first_rows.len() == node_count + 1).then_some(Self { first_rows, nodes })
    }
}

fn are_finite(numbers: &[f32]) -> bool {
    numbers.iter().all(|number| number.is_finite())
}

/// An array that lies in its file, where it has one that can be mapped.
fn map_array<T: Plain, S: Sections>(
    from: &S,
    tag: u32,
    len: usize,
    threads: usize,
    look: Look<'_>,
) -> Result<Array<T>, S::Error> {
    check_length::<T, S>(from, tag, len)?;
    let place = from.place(tag).filter(|_| len > 0);
    match place.and_then(|(file, offset)| Array::of_file(file, offset, len).ok()) {
        Some(array) => from.verify(tag, bytes_of(&array[..]), threads, look).map(|()| array),
        None => read_array(from, tag, len, threads, look),
    }
}

fn read_array<T: Plain, S: Sections>(
    from: &S,
    tag: u32,
    len: usize,
    threads: usize,
    look: Look<'_>,
) -> Result<Array<T>, S::Error> {
    check_length::<T, S>(from, tag, len)?;
    let mut array = Array::zeroed(len);
    read_numbers(from, tag, &mut array, threads, look)?;
    Ok(array)
}

/// Before anything is allocated: what is asked for may be nonsense.
fn check_length<T: Plain, S: Sections>(from: &S, tag: u32, len: usize) -> Result<(), S::Error> {
    let expected = (len as u64).saturating_mul(size_of::<T>() as u64);
    match from.bytes(tag) {
        Some(bytes) if bytes == expected => Ok(()),
        found => {
            let found = found.map_or("none".to_owned(), |bytes| bytes.to_string());
            Err(from.nonsense(tag, format!("expected {expected} bytes of section {tag}, got {found}")))
        }
    }
}

fn read_numbers<T: Plain, S: Sections>(
    from: &S,
    tag: u32,
    numbers: &mut Array<T>,
    threads: usize,
    look: Look<'_>,
) -> Result<(), S::Error> {
    from.read_into(tag, numbers.as_bytes_mut(), threads, look)
}
