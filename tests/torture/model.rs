//! A collection as simple as can be: maps, and search by comparing everything in 64-bit numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use vectron::collection::{
    Applied, Change, Collection, Content, Effort, Operation, Outcome, Refusal, RequestKey, Search, Seen,
};
use vectron::types::{Metric, RecordId, Sequence, Space, StreamId, Vector};

#[derive(Clone, Debug)]
pub struct Record {
    pub space: String,
    pub components: Vec<f32>,
    pub content: Arc<Content>,
    pub version: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Mark {
    pub settled_frame: u64,
    pub sequence: u64,
    pub refused_count: u64,
}

/// The collection after the log record `sequence`.
#[derive(Clone, Default)]
pub struct Model {
    pub sequence: u64,
    pub description: String,
    pub spaces: Vec<Space>,
    pub records: BTreeMap<String, Record>,
    pub requests: BTreeMap<String, (RequestKey, Outcome)>,
    pub marks: BTreeMap<String, Mark>,
}

impl Model {
    pub fn apply(&mut self, operation: &Operation) -> Outcome {
        self.sequence += 1;
        if let Some(frame) = &operation.stream_frame {
            let stream = frame.stream_id.as_str().to_owned();
            let expected = self.marks.get(&stream).map_or(0, |mark| mark.settled_frame) + 1;
            if frame.frame != expected {
                let stream_id = frame.stream_id.clone();
                return Err(Refusal::FrameOutOfOrder { stream_id, expected, got: frame.frame });
            }
            let outcome = self.change(&operation.change);
            let mark = self.marks.entry(stream).or_default();
            mark.settled_frame = frame.frame;
            mark.sequence = self.sequence;
            let is_faulty = matches!(operation.change, Change::FrameRefused(_));
            mark.refused_count += u64::from(outcome.is_err() || is_faulty);
            return outcome;
        }
        let Some(key) = &operation.request_key else { return self.change(&operation.change) };
        match self.requests.get(&key.request_id) {
            Some((seen, outcome)) if seen == key => outcome.clone(),
            Some(_) => Err(Refusal::RequestIdReused { request_id: key.request_id.clone() }),
            None => {
                let outcome = self.change(&operation.change);
                self.requests.insert(key.request_id.clone(), (key.clone(), outcome.clone()));
                outcome
            }
        }
    }

    fn change(&mut self, change: &Change) -> Outcome {
        let sequence = Sequence(self.sequence);
        match change {
            Change::Created(created) => {
                self.description = created.description.clone();
                self.add_spaces(&created.spaces);
                Ok(Applied::Changed)
            }
            Change::Updated(updated) => {
                if let Some(description) = &updated.description {
                    self.description = description.clone();
                }
                self.add_spaces(&updated.spaces);
                Ok(Applied::Changed)
            }
            Change::Upserted(upserted) => {
                for (index, record) in upserted.records.iter().enumerate() {
                    self.check_version(index, &record.id, record.if_version)?;
                }
                self.add_spaces(&upserted.spaces);
                for record in &upserted.records {
                    let written = Record {
                        space: record.space.as_str().to_owned(),
                        components: record.vector.components().to_vec(),
                        content: record.content.clone(),
                        version: self.sequence,
                    };
                    self.records.insert(record.id.as_str().to_owned(), written);
                }
                let record_count = upserted.records.len();
                Ok(Applied::Upserted { sequence, record_count, truncated_ids: upserted.truncated_ids.clone().into() })
            }
            Change::Deleted(removed) => {
                for (index, record) in removed.iter().enumerate() {
                    self.check_version(index, &record.id, record.if_version)?;
                }
                let mut deleted_count = 0;
                for record in removed {
                    let version = self.records.get(record.id.as_str()).map(|record| Sequence(record.version));
                    if record.observed_version.is_none() || record.observed_version == version {
                        deleted_count += usize::from(self.records.remove(record.id.as_str()).is_some());
                    }
                }
                Ok(Applied::Deleted { sequence, deleted_count })
            }
            Change::FrameRefused(_) => Ok(Applied::FrameRefused { sequence }),
            Change::StreamFinished(stream_id) => {
                let mark = self.marks.remove(stream_id.as_str()).unwrap_or_default();
                let (settled_frame, refused_count) = (mark.settled_frame, mark.refused_count);
                Ok(Applied::StreamFinished { sequence, settled_frame, refused_count })
            }
        }
    }

    fn add_spaces(&mut self, spaces: &[Space]) {
        for space in spaces {
            if self.spaces.iter().all(|existing| existing.name != space.name) {
                self.spaces.push(space.clone());
            }
        }
    }

    fn check_version(&self, index: usize, id: &RecordId, expected: Option<Sequence>) -> Result<(), Refusal> {
        let got = Sequence(self.records.get(id.as_str()).map_or(0, |record| record.version));
        match expected {
            Some(expected) if expected != got => Err(Refusal::VersionMismatch { id: id.clone(), index, expected, got }),
            _ => Ok(()),
        }
    }

    /// Whether the collection answers everything as this does.
    pub fn compare(&self, real: &Collection) -> Result<(), String> {
        let view = real.view();
        expect("the sequence", view.sequence().0, self.sequence)?;
        expect("the description", view.description(), &*self.description)?;
        expect("the count", view.record_count(), self.records.len())?;
        let mut listed = view.list(None);
        for (id, record) in &self.records {
            let Some((row, space)) = listed.next() else { return Err(format!("the list ends before {id}")) };
            expect("the next id of the list", row.id.as_str(), &**id)?;
            for (row, space) in [(row, space), view.get(id).ok_or(format!("{id} is listed, but cannot be got"))?] {
                expect("the space", space.name.as_str(), &*record.space)?;
                expect("the version", row.version.0, record.version)?;
                expect("the content", &**row.content, &*record.content)?;
                expect("the vector", bits(row.components), bits(&record.components))?;
            }
        }
        if listed.next().is_some() {
            return Err("the list goes on after the last record".to_owned());
        }
        for absent in ["", "absent", "0"] {
            expect("an absent record", view.get(absent).is_some(), self.records.contains_key(absent))?;
        }
        for (key, outcome) in self.requests.values() {
            expect("the answer to a retry", real.seen(key), Seen::Answered(outcome.clone()))?;
        }
        for (stream, mark) in &self.marks {
            let found = real.stream_mark(&StreamId::new(stream).map_err(|error| error.to_string())?);
            let found = (found.settled_frame, found.sequence.0, found.refused_count);
            expect("a stream's mark", found, (mark.settled_frame, mark.sequence, mark.refused_count))?;
        }
        let spaces: Vec<&Space> = view.spaces().map(|(space, _)| space).collect();
        expect("the spaces", spaces, self.spaces.iter().collect())?;
        self.spaces.iter().try_for_each(|space| self.compare_searches(real, space))
    }

    fn compare_searches(&self, real: &Collection, space: &Space) -> Result<(), String> {
        let view = real.view();
        let number = view.space_named(space.name.as_str()).ok_or("the space is gone")?;
        let query: Vec<f32> = (0..space.dimension.get()).map(|i| 1.0 - (i % 3) as f32 * 0.75).collect();
        let within = |record: &&Record| record.space == space.name.as_str();
        let mut expected: Vec<f64> = self
            .records
            .values()
            .filter(within)
            .map(|record| score(space.metric, &query, &record.components))
            .collect();
        let is_greater_better = space.metric != Metric::Euclidean;
        expected.sort_by(|a, b| if is_greater_better { b.total_cmp(a) } else { a.total_cmp(b) });
        for (effort, top_k) in
            [(Effort::Exact, 1), (Effort::Exact, 7), (Effort::Exact, 10_000), (Effort::Recall(0.9), 7)]
        {
            let vector = Vector::new(query.clone()).map_err(|error| error.to_string())?;
            let found = Search { space: number, vector, top_k, filter: None, effort }.run(view.clone());
            let hits: Vec<(f32, String)> = found.hits().map(|(score, row)| (score, row.id.to_string())).collect();
            expect("the number of hits", hits.len(), expected.len().min(top_k))?;
            for (rank, (found, id)) in hits.iter().enumerate() {
                let record =
                    self.records.get(id).filter(within).ok_or_else(|| format!("a hit {id} that is not there"))?;
                let true_score = score(space.metric, &query, &record.components);
                let is_near = |score: f64| (f64::from(*found) - score).abs() <= 1e-4 * (1.0 + score.abs());
                if !is_near(true_score) {
                    return Err(format!("hit {id} of {} has score {found}, not {true_score}", space.name));
                }
                if effort == Effort::Exact && !is_near(expected[rank]) {
                    return Err(format!("hit {rank} of {} has score {found}, not {}", space.name, expected[rank]));
                }
                if hits[..rank].iter().any(|(_, other)| other == id) {
                    return Err(format!("{id} is found twice"));
                }
            }
        }
        Ok(())
    }
}

pub fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    match metric {
        Metric::DotProduct => dot(a, b),
        Metric::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        Metric::Euclidean => a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt(),
    }
}

pub fn bits(components: &[f32]) -> Vec<u32> {
    components.iter().map(|component| component.to_bits()).collect()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, but found {found:?}")) }
}
