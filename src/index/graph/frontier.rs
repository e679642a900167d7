//! The nodes that a walk has seen and not visited.
//!
//! In no order: a few hundred numbers are looked through faster than a sorted list is kept, because there is nothing to
//! foresee for the processor. What is farther than the walk will ever go is never taken in; where there is no more room, the
//! farther half is let go.

use crate::distance::kernels;
use crate::quantization::bits::GROUP_ROWS;

/// Nodes that are kept, at most so many, or so many for each of the nearest that are wanted.
const CAPACITY_MIN: usize = 1024;
const CAPACITY_PER_WANTED: usize = 4;
/// Room behind them, so that whole registers can be written.
const SLACK: usize = GROUP_ROWS + 16;

/// Nodes with their estimated distances.
pub(super) struct Frontier {
    distances: Vec<f32>,
    nodes: Vec<u32>,
    count: usize,
    capacity: usize,
    steps: Steps,
}

/// The two steps that the processor's instructions matter to.
#[derive(Clone, Copy)]
struct Steps {
    /// Appends the unmarked nodes that are nearer than the limit. Returns how many there are then.
    admit: fn(&mut Frontier, &Seen<'_>, f32),
    /// The place of the nearest.
    nearest: fn(&[f32]) -> usize,
}

/// The neighbours that a walk comes by.
pub(super) struct Seen<'a> {
    /// Their estimated distances; infinite where one is missing.
    pub distances: &'a [f32; GROUP_ROWS],
    /// Their numbers.
    pub nodes: &'a [u32; GROUP_ROWS],
    /// A bit for every node: set where it was visited.
    pub visited: &'a [u32],
}

impl Default for Frontier {
    fn default() -> Self {
        let steps = Steps::of(kernels().name);
        Self { distances: Vec::new(), nodes: Vec::new(), count: 0, capacity: 0, steps }
    }
}

impl Steps {
    /// Those of a set of kernels, which the processor must have.
    fn of(kernels: &str) -> Self {
        match kernels {
            #[cfg(target_arch = "x86_64")]
            "avx512" => x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            "avx2" => x86::AVX2,
            _ => SCALAR,
        }
    }
}

impl Frontier {
    /// Empties it, for a walk to the `k` nearest.
    pub fn reset(&mut self, k: usize) {
        self.count = 0;
        self.capacity = CAPACITY_MIN.max(CAPACITY_PER_WANTED * k);
        if self.nodes.len() < self.capacity + SLACK {
            self.distances.resize(self.capacity + SLACK, 0.0);
            self.nodes.resize(self.capacity + SLACK, 0);
        }
    }

    /// Takes in the nodes that are nearer than the limit and were not visited.
    #[inline]
    pub fn admit(&mut self, seen: &Seen<'_>, limit: f32) {
        if self.count + GROUP_ROWS > self.capacity {
            self.cut();
        }
        (self.steps.admit)(self, seen, limit);
    }

    /// Takes out the nearest node.
    #[inline]
    pub fn take_nearest(&mut self) -> Option<(f32, u32)> {
        if self.count == 0 {
            return None;
        }
        let place = (self.steps.nearest)(&self.distances[..self.count]);
        let taken = (self.distances[place], self.nodes[place]);
        self.count -= 1;
        self.distances[place] = self.distances[self.count];
        self.nodes[place] = self.nodes[self.count];
        Some(taken)
    }

    /// Lets the farther half go.
    #[cold]
    fn cut(&mut self) {
        let keyed = self.distances.iter().zip(self.nodes.iter()).take(self.count);
        let mut keyed: Vec<(f32, u32)> = keyed.map(|(&distance, &node)| (distance, node)).collect();
        let half = self.capacity / 2;
        keyed.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (place, (distance, node)) in keyed.into_iter().take(half).enumerate() {
            self.distances[place] = distance;
            self.nodes[place] = node;
        }
        self.count = half;
    }
}

const SCALAR: Steps = Steps { admit: admit_scalar, nearest: nearest_scalar };

fn admit_scalar(frontier: &mut Frontier, seen: &Seen<'_>, limit: f32) {
    for (&distance, &node) in seen.distances.iter().zip(seen.nodes) {
        if distance < limit && seen.visited[node as usize / 32] >> (node % 32) & 1 == 0 {
            frontier.distances[frontier.count] = distance;
            frontier.nodes[frontier.count] = node;
            frontier.count += 1;
        }
    }
}

fn nearest_scalar(distances: &[f32]) -> usize {
    let mut nearest = 0;
    for (place, &distance) in distances.iter().enumerate() {
        if distance < distances[nearest] {
            nearest = place;
        }
    }
    nearest
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Frontier, GROUP_ROWS, Seen, Steps, admit_scalar};

    pub const AVX2: Steps = Steps {
        admit: admit_scalar,
        // SAFETY: chosen only where the processor has these instructions.
        nearest: |distances| unsafe { nearest_avx2(distances) },
    };

    pub const AVX512: Steps = Steps {
        // SAFETY: chosen only where the processor has these instructions.
        admit: |frontier, seen, limit| unsafe { admit_avx512(frontier, seen, limit) },
        // SAFETY: as above.
        nearest: |distances| unsafe { nearest_avx512(distances) },
    };

    #[target_feature(enable = "avx512f,avx512dq")]
    fn admit_avx512(frontier: &mut Frontier, seen: &Seen<'_>, limit: f32) {
        let room = frontier.distances.len().min(frontier.nodes.len());
        assert!(frontier.count + GROUP_ROWS + 16 <= room, "there is room for whole registers");
        let limit = _mm512_set1_ps(limit);
        let (low_bits, one) = (_mm512_set1_epi32(31), _mm512_set1_epi32(1));
        for first in (0..GROUP_ROWS).step_by(16) {
            // SAFETY: there are 32 distances and 32 nodes.
            let (distances, nodes) = unsafe {
                (
                    _mm512_loadu_ps(seen.distances.as_ptr().add(first)),
                    _mm512_loadu_si512(seen.nodes.as_ptr().add(first).cast()),
                )
            };
            let near = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(distances, limit);
            if near == 0 {
                continue;
            }
            let words = _mm512_srli_epi32::<5>(nodes);
            // SAFETY: a node that is near is a node of the graph, and has a bit; lanes of others are not read.
            let marks = unsafe { _mm512_mask_i32gather_epi32::<4>(one, near, words, seen.visited.as_ptr().cast()) };
            let bits = _mm512_sllv_epi32(one, _mm512_and_si512(nodes, low_bits));
            let wanted = _mm512_mask_testn_epi32_mask(near, marks, bits);
            // SAFETY: there is room for 16 numbers behind `count`.
            unsafe {
                let place = frontier.distances.as_mut_ptr().add(frontier.count);
                _mm512_storeu_ps(place, _mm512_maskz_compress_ps(wanted, distances));
                let place = frontier.nodes.as_mut_ptr().add(frontier.count);
                _mm512_storeu_si512(place.cast(), _mm512_maskz_compress_epi32(wanted, nodes));
            }
            frontier.count += wanted.count_ones() as usize;
        }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    fn nearest_avx512(distances: &[f32]) -> usize {
        let mut least = _mm512_set1_ps(f32::INFINITY);
        let mut places = _mm512_setzero_si512();
        let mut place = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for first in (0..distances.len()).step_by(16) {
            let mask = u16::MAX >> (16 - (distances.len() - first).min(16));
            // SAFETY: the mask has as many bits as there are numbers left; others are not read.
            let next = unsafe { _mm512_mask_loadu_ps(least, mask, distances.as_ptr().add(first)) };
            let is_less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(next, least);
            least = _mm512_mask_blend_ps(is_less, least, next);
            places = _mm512_mask_blend_epi32(is_less, places, place);
            place = _mm512_add_epi32(place, _mm512_set1_epi32(16));
        }
        let minimum = _mm512_reduce_min_ps(least);
        let lane = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(least, _mm512_set1_ps(minimum)).trailing_zeros() as usize;
        let mut lanes = [0_u32; 16];
        // SAFETY: the array holds 16 numbers.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), places) };
        // Where no number is one (none is below infinity), any place is as near as another.
        lanes[lane % 16] as usize
    }

    #[target_feature(enable = "avx2")]
    fn nearest_avx2(distances: &[f32]) -> usize {
        let mut least = _mm256_set1_ps(f32::INFINITY);
        let mut places = _mm256_setzero_si256();
        let mut place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let whole = distances.len() / 8 * 8;
        for first in (0..whole).step_by(8) {
            // SAFETY: first + 8 is at most the number of distances.
            let next = unsafe { _mm256_loadu_ps(distances.as_ptr().add(first)) };
            let is_less = _mm256_cmp_ps::<_CMP_LT_OQ>(next, least);
            least = _mm256_blendv_ps(least, next, is_less);
            places = _mm256_blendv_epi8(places, place, _mm256_castps_si256(is_less));
            place = _mm256_add_epi32(place, _mm256_set1_epi32(8));
        }
        let (mut values, mut lanes) = ([0.0_f32; 8], [0_u32; 8]);
        // SAFETY: both arrays hold 8 numbers.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), least);
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), places);
        }
        let mut nearest = (f32::INFINITY, 0);
        for (&value, &lane) in values.iter().zip(&lanes) {
            if value < nearest.0 {
                nearest = (value, lane as usize);
            }
        }
        for (place, &distance) in distances.iter().enumerate().skip(whole) {
            if distance < nearest.0 {
                nearest = (distance, place);
            }
        }
        nearest.1
    }
}

#[cfg(test)]
mod tests;
