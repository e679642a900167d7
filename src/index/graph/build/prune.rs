//! Which of many near nodes become neighbours.
//!
//! A candidate is left out where a neighbour that is already chosen is nearer to it than the node is: the walk will come by
//! there (the rule of relative neighbourhoods; with the relaxation of Vamana, Subramanya and others, NeurIPS 2019). Places that
//! stay free are filled with the nearest of those that were left out: a block is read as a whole anyhow.

use crate::index::graph::points::{Group, Points};

/// How much nearer a chosen neighbour has to be, in squared distance, one pass after another.
const RELAXATIONS: [f32; 2] = [1.0, 1.44];

/// What pruning needs; kept between nodes.
#[derive(Default)]
pub struct Pruner {
    chosen: Group,
    states: Vec<bool>,
    distances: Vec<f32>,
    candidate: Group,
}

impl Pruner {
    /// Puts the neighbours of a node first: of `candidates`, nearest first and each once, to at most `degree`. Returns
    /// how many were chosen by the rule; the rest is filled up.
    pub fn prune(&mut self, points: &Points, candidates: &mut Vec<(f32, u32)>, degree: usize) -> usize {
        let mut kept: Vec<(f32, u32)> = Vec::with_capacity(degree);
        self.chosen.clear();
        self.states.clear();
        self.states.resize(candidates.len(), false);
        for relaxation in RELAXATIONS {
            for (candidate, is_chosen) in candidates.iter().zip(&mut self.states) {
                if kept.len() == degree {
                    break;
                }
                if *is_chosen {
                    continue;
                }
                points.gather(&[candidate.1], &mut self.candidate);
                self.candidate.distances_to(&self.chosen, &mut self.distances);
                if self.distances.iter().all(|&other| other * relaxation >= candidate.0) {
                    *is_chosen = true;
                    self.chosen.push(&self.candidate);
                    kept.push(*candidate);
                }
            }
        }
        let strong = kept.len();
        let left_out = candidates.iter().zip(&self.states).filter(|(_, is_chosen)| !**is_chosen);
        kept.extend(left_out.map(|(candidate, _)| *candidate).take(degree - strong));
        *candidates = kept;
        strong
    }
}
