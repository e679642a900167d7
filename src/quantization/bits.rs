//! One bit a component: the sign of each component of a vector as it is seen from a centre, for 32 vectors at once.
//!
//! RaBitQ (Gao and Long, SIGMOD 2024, arXiv 2405.12497), with the codes of a node's neighbours seen from the node, as in
//! SymphonyQG (Gou, Gao, Xu and Long, arXiv 2411.12229). Let `s` be the signs (+1 or -1) of the residual `x - c`, of
//! `width` components, and `l` its length. Then `(x - c).(q - c)` is estimated as `l^2 / |x - c|_1 * s.(q - c)`, and
//!
//! `|q - x|^2 = |q - c|^2 + [l^2 + 2 l^2 / |x - c|_1 * s.c] - [2 l^2 / |x - c|_1] * s.q`
//!
//! where the brackets are two numbers for each vector, `constant` and `slope`. `s.q` is the same sum for every centre: 16
//! sums for each four components of the query are put in a table once, and looked up 32 at a time.
//!
//! Layout of a group of 32 vectors: for each four components 16 bytes. Byte `2 i` of them has vector `i` in its low half
//! and vector `i + 16` in its high half, byte `2 i + 1` has vectors `i + 8` and `i + 24` (so that the sums of even and of odd
//! bytes come out in order); bit `b` of a half is set where component `4 g + b` is not negative.

use super::kernels::kernels;

/// Vectors that are estimated together.
pub const GROUP_ROWS: usize = 32;
/// Components that one look-up covers.
const TABLE_COMPONENTS: usize = 4;
/// Entries of the table for each of them, a byte each; also the bytes of a group's codes for them.
const TABLE_ENTRIES: usize = 16;

/// A query as a table of sums.
#[derive(Clone, Debug, Default)]
pub struct BitQuery {
    /// 16 bytes for every four components.
    table: Vec<u8>,
    /// What an entry counts.
    step: f32,
    /// What the sum of all smallest entries stands for.
    base: f32,
}

/// What a group is estimated with.
#[derive(Clone, Copy, Debug)]
pub struct Estimates<'a> {
    /// Table of the query.
    pub table: &'a [u8],
    /// `s.q` is `step * sum + base`.
    pub step: f32,
    /// As above.
    pub base: f32,
    /// Squared distance of the query to the centre.
    pub center: f32,
}

/// A group of 32 vectors around a centre.
#[derive(Clone, Copy, Debug)]
pub struct Neighborhood<'a> {
    /// `width / 4 * 16` bytes.
    pub codes: &'a [u8],
    /// For each vector the number that is added.
    pub constants: &'a [f32; GROUP_ROWS],
    /// For each vector the number that `s.q` is multiplied by: not positive.
    pub slopes: &'a [f32; GROUP_ROWS],
}

/// Bytes of the codes of a group.
pub const fn group_bytes(width: usize) -> usize {
    width / TABLE_COMPONENTS * TABLE_ENTRIES
}

impl BitQuery {
    /// The table of a rotated query, over the old one.
    pub fn set(&mut self, query: &[f32]) {
        assert!(query.len().is_multiple_of(2 * TABLE_COMPONENTS), "a rotated query");
        let range = |four: &[f32; TABLE_COMPONENTS]| four.iter().map(|x| x.abs()).sum::<f32>();
        let (fours, _) = query.as_chunks::<TABLE_COMPONENTS>();
        let widest = fours.iter().map(range).fold(0.0, f32::max);
        self.step = 2.0 * widest / 255.0;
        let inverse = if self.step > 0.0 && (1.0 / self.step).is_finite() { 1.0 / self.step } else { 0.0 };
        self.base = -fours.iter().map(range).sum::<f32>();
        self.table.resize(group_bytes(query.len()), 0);
        (kernels().tabulate)(query, inverse, &mut self.table);
    }

    /// For a centre at that squared distance.
    pub fn at(&self, center: f32) -> Estimates<'_> {
        Estimates { table: &self.table, step: self.step, base: self.base, center }
    }
}

impl Estimates<'_> {
    /// Estimated squared distances of the query to the vectors of a group.
    #[inline]
    pub fn of(&self, neighborhood: &Neighborhood<'_>, out: &mut [f32; GROUP_ROWS]) {
        (kernels().estimate)(self, neighborhood, out);
    }
}

/// A group that is being written.
pub struct GroupMut<'a> {
    /// As in [`Neighborhood`].
    pub codes: &'a mut [u8],
    /// As in [`Neighborhood`].
    pub constants: &'a mut [f32; GROUP_ROWS],
    /// As in [`Neighborhood`].
    pub slopes: &'a mut [f32; GROUP_ROWS],
}

impl GroupMut<'_> {
    /// Empties the group: a missing vector is infinitely far.
    pub fn clear(&mut self) {
        self.codes.fill(0);
        self.constants.fill(f32::INFINITY);
        self.slopes.fill(0.0);
    }

    /// Empties a place.
    pub fn remove(&mut self, place: usize) {
        let (byte, kept) = (place % 8 * 2 + place / 8 % 2, 0xF0 >> (place / GROUP_HALF * 4));
        self.codes.as_chunks_mut::<TABLE_ENTRIES>().0.iter_mut().for_each(|codes| codes[byte] &= kept);
        self.constants[place] = f32::INFINITY;
        self.slopes[place] = 0.0;
    }

    /// Puts a vector at a place that was empty.
    pub fn set(&mut self, place: usize, center: &[f32], vector: &[f32], signs: &mut Vec<u8>) {
        assert!(
            center.len() == vector.len() && self.codes.len() == group_bytes(vector.len()),
            "vectors of the group's width"
        );
        signs.clear();
        signs.resize(vector.len() / 8, 0);
        let Residual { square, absolute, center } = (kernels().residual)(center, vector, signs);
        let byte = place % 8 * 2 + place / 8 % 2;
        let shift = place / GROUP_HALF * 4;
        let (pairs, _) = self.codes.as_chunks_mut::<{ 2 * TABLE_ENTRIES }>();
        for (codes, &eight) in pairs.iter_mut().zip(signs.iter()) {
            codes[byte] |= (eight & 15) << shift;
            codes[TABLE_ENTRIES + byte] |= (eight >> 4) << shift;
        }
        // Where vector and centre are the same, the distance to the centre is exact.
        let factor = if absolute > 0.0 { 2.0 * square / absolute } else { 0.0 };
        self.constants[place] = square + factor * center;
        self.slopes[place] = -factor;
    }
}

/// What a vector is as seen from a centre.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Residual {
    /// Squared length of the residual.
    pub square: f32,
    /// Sum of the absolute components.
    pub absolute: f32,
    /// Sum of the centre's components, each with the sign of the residual's.
    pub center: f32,
}

const GROUP_HALF: usize = GROUP_ROWS / 2;
