//! Random histories: what somebody does to a database, step by step. A seed repeats them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::RngExt;
use vectron::collection::{
    Change, Content, Created, FrameFault, Operation, RecordRemoved, RecordWritten, RequestKey, StreamFrame, Updated,
    Upserted,
};
use vectron::storage::log::Durability;
use vectron::types::{
    CollectionName, Dimension, Metadata, Metric, RecordId, Sequence, Space, SpaceName, StreamId, Value, Vector,
};

use crate::effort::{Dice, dice};
use crate::engine::Known;
use crate::model::Model;

#[derive(Clone, Debug)]
pub enum Step {
    Create {
        name: CollectionName,
        created: Created,
        key: RequestKey,
    },
    /// Creates it together with its first write.
    CreateWith {
        name: CollectionName,
        first: Operation,
        durability: Durability,
    },
    Drop {
        name: CollectionName,
        key: RequestKey,
    },
    Write {
        name: CollectionName,
        operation: Operation,
        durability: Durability,
    },
    /// Everything into one segment for each space.
    Compact {
        name: CollectionName,
    },
    /// Waits for what is on its way.
    Settle,
    /// Closes the database and opens it again.
    Reopen,
}

/// How large a history is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub steps: usize,
    pub collections: usize,
    /// Different ids.
    pub ids: u32,
    /// Records of a batch.
    pub batch: u32,
}

pub fn random(seed: u64, size: Size) -> Vec<Step> {
    let mut maker = Maker { dice: dice(seed), size, models: BTreeMap::new(), number: 0, keyed: Vec::new() };
    let mut steps = vec![maker.create()];
    while steps.len() < size.steps {
        let step = maker.step();
        steps.push(step);
    }
    steps
}

struct Maker {
    dice: Dice,
    size: Size,
    /// What the collections will be like, so that versions and frames can be the right ones.
    models: BTreeMap<CollectionName, Model>,
    number: u64,
    /// Operations with a request id, to be tried again.
    keyed: Vec<(CollectionName, Operation)>,
}

impl Maker {
    fn one_of(&mut self, count: u32) -> bool {
        self.dice.random_range(0..count) == 0
    }

    fn step(&mut self) -> Step {
        let names: Vec<_> = self.models.keys().cloned().collect();
        if names.is_empty() {
            return self.create();
        }
        let name = names[self.dice.random_range(0..names.len())].clone();
        match self.dice.random_range(0..100) {
            0..4 if names.len() < self.size.collections => self.create(),
            4..6 => {
                self.models.remove(&name);
                Step::Drop { name, key: self.key() }
            }
            6..9 => Step::Compact { name },
            9..14 => Step::Reopen,
            14..22 => Step::Settle,
            _ => {
                let operation = self.operation(&name);
                let _ = self.models.get_mut(&name).expect("it was just listed").apply(&operation);
                if operation.request_key.is_some() {
                    self.keyed.push((name.clone(), operation.clone()));
                }
                Step::Write { name, operation, durability: self.durability() }
            }
        }
    }

    fn create(&mut self) -> Step {
        self.number += 1;
        let name = CollectionName::new(&format!("c{}", self.number)).expect("a letter and digits are a name");
        let mut model = Model::default();
        if self.one_of(4) {
            let _ = model.apply(&Operation::new(Change::Created(Created::default())));
            let mut first = self.upserted(&Model { spaces: spaces(), ..Model::default() });
            let raw = spaces().remove(0);
            for record in &mut first.records {
                // With a refusal there would be no collection.
                record.if_version = None;
                record.space = raw.name.clone();
                record.vector = self.vector(raw.dimension);
            }
            first.spaces = vec![raw];
            let first = Operation::new(Change::Upserted(first));
            let _ = model.apply(&first);
            self.models.insert(name.clone(), model);
            return Step::CreateWith { name, first, durability: self.durability() };
        }
        let created = Created { description: name.to_string(), spaces: spaces(), ..Created::default() };
        let _ = model.apply(&Operation::new(Change::Created(created.clone())));
        self.models.insert(name.clone(), model);
        Step::Create { name, created, key: self.key() }
    }

    fn operation(&mut self, name: &CollectionName) -> Operation {
        let model = self.models[name].clone();
        let kind = self.dice.random_range(0..100);
        let retry = self.keyed.iter().rev().find(|(collection, _)| collection == name);
        if let (0..7, Some((_, operation))) = (kind, retry) {
            let mut operation = operation.clone();
            if kind < 2
                && let Some(key) = &mut operation.request_key
            {
                key.content_hash += 1;
            }
            return operation;
        }
        let change = match kind {
            7..10 => Change::Updated(Updated { description: Some(kind.to_string()), ..Updated::default() }),
            10..25 => Change::Deleted(self.removed(&model)),
            25..28 => Change::StreamFinished(stream_id()),
            _ => Change::Upserted(self.upserted(&model)),
        };
        let mut operation = Operation::new(change);
        match kind {
            28..45 => {
                let settled = model.marks.get(stream_id().as_str()).map_or(0, |mark| mark.settled_frame);
                let frame = if self.one_of(6) { settled } else { settled + 1 };
                operation.stream_frame = Some(StreamFrame { stream_id: stream_id(), frame });
                if self.one_of(8) {
                    let fault = FrameFault { reason: "WRONG".into(), message: "wrong".into(), ..FrameFault::default() };
                    operation.change = Change::FrameRefused(Arc::new(fault));
                }
            }
            45..65 => operation.request_key = Some(self.key()),
            _ => {}
        }
        operation
    }

    fn upserted(&mut self, model: &Model) -> Upserted {
        // A power cut may have left a collection without its first write, and so without a space.
        let missing: Vec<Space> = if model.spaces.is_empty() { vec![spaces().remove(0)] } else { Vec::new() };
        let known = if model.spaces.is_empty() { &missing } else { &model.spaces };
        let count = self.dice.random_range(1..=self.size.batch);
        let mut records: Vec<RecordWritten> = Vec::new();
        for _ in 0..count {
            let id = self.id();
            if records.iter().any(|record| record.id == id) {
                continue;
            }
            let space = known[self.dice.random_range(0..known.len())].clone();
            let if_version = self.if_version(model, &id);
            let content = self.content();
            let vector = self.vector(space.dimension);
            records.push(RecordWritten { id, space: space.name, vector, content: Arc::new(content), if_version });
        }
        let truncated_ids = if self.one_of(10) { vec![records[0].id.clone()] } else { Vec::new() };
        Upserted { spaces: missing, records, truncated_ids }
    }

    fn removed(&mut self, model: &Model) -> Vec<RecordRemoved> {
        let by_filter = self.one_of(3);
        let mut removed: Vec<RecordRemoved> = Vec::new();
        for _ in 0..self.dice.random_range(1..6) {
            let id = self.id();
            if removed.iter().any(|record| record.id == id) {
                continue;
            }
            let version = model.records.get(id.as_str()).map(|record| record.version);
            let observed_version = version.filter(|_| by_filter).map(|version| {
                let changed_since = self.one_of(4);
                Sequence(if changed_since { version - 1 } else { version })
            });
            let if_version = if by_filter { None } else { self.if_version(model, &id) };
            removed.push(RecordRemoved { id, if_version, observed_version });
        }
        removed
    }

    /// Mostly none, then mostly the right one.
    fn if_version(&mut self, model: &Model, id: &RecordId) -> Option<Sequence> {
        if !self.one_of(5) {
            return None;
        }
        let version = model.records.get(id.as_str()).map_or(0, |record| record.version);
        Some(Sequence(if self.one_of(6) { version + 1 } else { version }))
    }

    fn content(&mut self) -> Content {
        let text = (!self.one_of(3)).then(|| "wörd ".repeat(self.dice.random_range(1..40)).into());
        let number = self.dice.random_range(0..7);
        let metadata = match number {
            0 => BTreeMap::new(),
            1 => BTreeMap::from([("list".to_owned(), Value::List(vec![Value::Null, Value::Bool(true)]))]),
            2 => {
                BTreeMap::from([("deep".to_owned(), Value::Object(BTreeMap::from([("x".into(), Value::Double(0.5))])))])
            }
            _ => BTreeMap::from([
                ("group".to_owned(), Value::String(format!("g{number}"))),
                ("n".to_owned(), Value::Int(number - 3)),
            ]),
        };
        Content { text, metadata: Metadata::new(metadata).expect("small and finite") }
    }

    /// Few values, so that many vectors are equal or equally near.
    fn vector(&mut self, dimension: Dimension) -> Vector {
        let mut components: Vec<f32> =
            (0..dimension.get()).map(|_| self.dice.random_range(-4_i32..=4) as f32 / 2.0).collect();
        components[0] = components[0].abs() + 0.5; // never the zero vector
        Vector::new(components).expect("finite and short")
    }

    fn id(&mut self) -> RecordId {
        RecordId::new(&format!("r{}", self.dice.random_range(0..self.size.ids))).expect("short")
    }

    fn key(&mut self) -> RequestKey {
        self.number += 1;
        RequestKey { request_id: format!("q{}", self.number), content_hash: self.number * 1000 }
    }

    fn durability(&mut self) -> Durability {
        if self.one_of(3) { Durability::Buffered } else { Durability::Durable }
    }
}

fn stream_id() -> StreamId {
    StreamId::new("stream").expect("short")
}

/// One below the dimension where codes begin, one above it.
fn spaces() -> Vec<Space> {
    let space = |name: &str, dimension, metric| Space {
        name: SpaceName::new(name).expect("letters are a name"),
        dimension: Dimension::new(dimension).expect("within the limits"),
        metric,
        text_model: None,
    };
    vec![space("small", 3, Metric::Cosine), space("large", 70, Metric::Euclidean)]
}

/// More steps after an accident.
pub fn continued(seed: u64, known: &Known) -> Vec<Step> {
    let size = Size { steps: 15, collections: 4, ids: 25, batch: 8 };
    // Names and request ids of another life than before.
    let number = seed << 32 | 1 << 20;
    let models = known.models();
    let mut maker = Maker { dice: dice(seed), size, models, number, keyed: Vec::new() };
    (0..size.steps).map(|_| maker.step()).collect()
}
