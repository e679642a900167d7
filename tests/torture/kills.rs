//! kill -9 of the process at random moments, while several writers write: one by one, in batches, on streams, with deletes,
//! into collections that come and go. Each writer has ids of its own, so that what it knows is a sequence of states.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::RngExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use vectron::pb::v1 as pb;
use vectron::pb::v1::stream_upsert_request::Message as Sent;
use vectron::pb::v1::stream_upsert_response::Message as Told;

use crate::common::{self, Texts, data_folder};
use crate::effort::{Dice, Effort, dice};
use crate::figures;
use crate::process::{Client, Process, Records, Written, compare, record};

#[test]
fn kill_9_at_random_moments_loses_nothing_that_was_acknowledged() {
    at_random_moments(&Effort::short(6));
}

const WRITERS: usize = 6;
const COLLECTIONS: [&str; 2] = ["one", "two"];

/// One writer, and what it knows.
#[derive(Clone)]
struct Writer {
    prefix: String,
    collection: &'static str,
    kind: Kind,
    /// The states that may be found, the first one at least: later ones were sent, and not answered.
    states: Vec<Records>,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unary(pb::Durability),
    Stream { settled_frame: u64 },
}

pub fn at_random_moments(effort: &Effort) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(kill_again_and_again(effort));
}

async fn kill_again_and_again(effort: &Effort) {
    let mut dice = dice(effort.seed);
    while effort.has_time() {
        let data = data_folder();
        let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
        let mut dropped = Dropper::default();
        // A folder that grows: its recovery takes longer from kill to kill.
        for round in 0..if effort.is_long { 30 } else { 12 } {
            if !effort.has_time() && round > 2 {
                break;
            }
            let scene = format!("seed {}, round {round}", effort.seed);
            if dice.random_range(0..3) == 0 {
                kill_while_it_starts(data.path(), &mut dice).await;
            }
            let server = Process::healthy(data.path());
            verify(&server, &mut writers, &mut dropped, &scene).await;
            let acknowledged = Arc::new(Mutex::new(0));
            let running: Vec<_> = writers
                .drain(..)
                .map(|writer| tokio::spawn(writer.write(server.address.clone(), dice.random(), acknowledged.clone())))
                .collect();
            let dropping = tokio::spawn(dropped.work(server.address.clone()));
            let pause = dice.random_range(0..if effort.is_long { 400 } else { 150 });
            tokio::time::sleep(Duration::from_millis(pause)).await;
            server.kill();
            figures::add("kills -9 at random moments", 1);
            for task in running {
                writers.push(task.await.expect("a writer does not panic"));
            }
            dropped = dropping.await.expect("it does not panic");
            figures::add("acknowledged writes before kills", *acknowledged.lock().unwrap());
        }
        let server = Process::healthy(data.path());
        verify(&server, &mut writers, &mut dropped, "at the end").await;
    }
}

/// A recovery that is itself cut short.
async fn kill_while_it_starts(data: &Path, dice: &mut Dice) {
    let starting = Process::spawn(common::command(data, Texts::Away));
    tokio::time::sleep(Duration::from_micros(dice.random_range(0..60_000))).await;
    starting.kill();
    figures::add("kills -9 while it starts", 1);
}

async fn verify(server: &Process, writers: &mut [Writer], dropped: &mut Dropper, scene: &str) {
    let mut client = server.client().await.expect("the server is ready");
    let mut found = BTreeMap::new();
    for collection in COLLECTIONS {
        let records = client.all(collection).await;
        client.check_search(collection, &records, scene).await;
        found.insert(collection, records);
    }
    for writer in writers {
        writer.verify(&found[writer.collection], scene);
    }
    dropped.verify(&mut client, scene).await;
}

impl Writer {
    fn new(number: usize) -> Self {
        let kind = match number % 3 {
            0 => Kind::Unary(pb::Durability::Durable),
            // A killed process leaves what the operating system has: buffered writes survive it as well.
            1 => Kind::Unary(pb::Durability::Buffered),
            _ => Kind::Stream { settled_frame: 0 },
        };
        let collection = COLLECTIONS[number / 3 % 2];
        Self { prefix: format!("w{number}-"), collection, kind, states: vec![Records::new()], next: 0 }
    }

    /// Finds the state that the server is in, which is what is known from now on.
    fn verify(&mut self, found: &BTreeMap<String, pb::Record>, scene: &str) {
        let mut wrong = Vec::new();
        for (ahead, state) in self.states.iter().enumerate() {
            match compare(found, &self.prefix, state) {
                Ok(()) => {
                    if let Kind::Stream { settled_frame } = &mut self.kind {
                        *settled_frame += ahead as u64;
                    }
                    let versions = |(id, written): (&String, &Written)| {
                        let version = Some(written.version.unwrap_or(found[id].version));
                        (id.clone(), Written { version, ..written.clone() })
                    };
                    self.states = vec![state.iter().map(versions).collect()];
                    return;
                }
                Err(error) => wrong.push(error),
            }
        }
        panic!("{scene}: lost, or in part: {} of {:?} in {}: {wrong:#?}", self.prefix, self.kind, self.collection);
    }

    async fn write(mut self, address: String, seed: u64, acknowledged: Arc<Mutex<u64>>) -> Self {
        let Some(client) = Client::connect(&address).await else { return self };
        match self.kind {
            Kind::Unary(durability) => self.write_one_by_one(client, durability, dice(seed), &acknowledged).await,
            Kind::Stream { .. } => self.write_on_a_stream(client, dice(seed), &acknowledged).await,
        }
        self
    }

    /// The records of the next batch, and the state after it.
    fn batch(&mut self, state: &Records, dice: &mut Dice) -> (Vec<pb::RecordInput>, Records) {
        let (mut records, mut after) = (BTreeMap::new(), state.clone());
        for _ in 0..[1, 3, 40][dice.random_range(0..3)] {
            self.next += 1;
            let id = format!("{}{:03}", self.prefix, dice.random_range(0..300));
            records.insert(id.clone(), record(&id, self.next));
            after.insert(id, Written { number: self.next, version: None });
        }
        (records.into_values().collect(), after)
    }

    async fn write_one_by_one(
        &mut self,
        mut client: Client,
        durability: pb::Durability,
        mut dice: Dice,
        acknowledged: &Mutex<u64>,
    ) {
        loop {
            let before = self.states[0].clone();
            let answer = if dice.random_range(0..5) == 0 && !before.is_empty() {
                let ids: Vec<String> = before.keys().step_by(dice.random_range(1..9)).take(10).cloned().collect();
                let mut after = before;
                after.retain(|id, _| !ids.contains(id));
                self.states.push(after);
                client.delete(self.collection, &ids).await
            } else {
                let (records, after) = self.batch(&before, &mut dice);
                self.states.push(after);
                client.upsert(self.collection, records, durability).await
            };
            let Ok(sequence) = answer else { return };
            let mut state = self.states.pop().expect("it was just pushed");
            state.values_mut().filter(|written| written.version.is_none()).for_each(|w| w.version = Some(sequence));
            self.states = vec![state];
            *acknowledged.lock().unwrap() += 1;
        }
    }

    async fn write_on_a_stream(&mut self, mut client: Client, mut dice: Dice, acknowledged: &Mutex<u64>) {
        let (requests, sent) = mpsc::channel(4);
        let open = pb::StreamOpen {
            stream_id: self.prefix.clone(),
            collection: self.collection.to_owned(),
            create_missing: true,
            ..pb::StreamOpen::default()
        };
        let message = |message| pb::StreamUpsertRequest { message: Some(message) };
        if requests.send(message(Sent::Open(open))).await.is_err() {
            return;
        }
        let Ok(answers) = client.vectors.stream_upsert(ReceiverStream::new(sent)).await else { return };
        let mut answers = answers.into_inner();
        let Ok(Some(pb::StreamUpsertResponse { message: Some(Told::Opened(opened)) })) = answers.message().await else {
            return;
        };
        let Kind::Stream { settled_frame } = &mut self.kind else { unreachable!("it writes on a stream") };
        assert_eq!(opened.resume_from, *settled_frame + 1, "lost: the mark of {}", self.prefix);
        let mut next_frame = opened.resume_from;
        loop {
            // Some frames are on their way at once.
            while self.states.len() <= 8 {
                let state = self.states.last().expect("there is always one").clone();
                let (records, after) = self.batch(&state, &mut dice);
                self.states.push(after);
                let frame = pb::UpsertFrame { frame: next_frame, records };
                next_frame += 1;
                if requests.send(message(Sent::Frame(frame))).await.is_err() {
                    return;
                }
            }
            match answers.message().await {
                Ok(Some(pb::StreamUpsertResponse { message: Some(Told::Progress(progress)) })) => {
                    let Kind::Stream { settled_frame } = &mut self.kind else { unreachable!("it is a stream") };
                    let newly = progress.settled_frame - *settled_frame;
                    *settled_frame = progress.settled_frame;
                    self.states.drain(..newly as usize);
                    *acknowledged.lock().unwrap() += newly;
                }
                Ok(Some(other)) => panic!("expected `progress`, but got {other:?}"),
                _ => return,
            }
        }
    }
}

/// Creates and drops collections.
#[derive(Default)]
struct Dropper {
    number: u32,
    /// Whether the last one is there; none where the answer did not come.
    is_there: Option<bool>,
}

impl Dropper {
    fn name(&self) -> String {
        format!("temporary-{}", self.number)
    }

    fn work(&mut self, address: String) -> impl Future<Output = Self> + use<> {
        let mut own = std::mem::take(self);
        async move {
            let Some(mut client) = Client::connect(&address).await else { return own };
            loop {
                if own.is_there == Some(true) {
                    own.is_there = None;
                    let request = pb::DeleteCollectionRequest { name: own.name(), ..Default::default() };
                    if client.collections.delete_collection(request).await.is_err() {
                        return own;
                    }
                    own.is_there = Some(false);
                }
                own.number += 1;
                own.is_there = None;
                if client.upsert(&own.name(), vec![record("x", own.number)], pb::Durability::Durable).await.is_err() {
                    return own;
                }
                own.is_there = Some(true);
            }
        }
    }

    async fn verify(&mut self, client: &mut Client, scene: &str) {
        let names = client.names().await;
        let mut temporary = names.iter().filter(|name| name.starts_with("temporary"));
        let found = temporary.next();
        assert_eq!(temporary.next(), None, "{scene}: a dropped collection came back: {names:?}");
        match (self.is_there, found) {
            (Some(true), None) => panic!("{scene}: lost: {}", self.name()),
            (Some(false), Some(name)) => panic!("{scene}: {name} came back"),
            (_, Some(name)) => assert_eq!(*name, self.name(), "{scene}: a dropped collection came back"),
            (_, None) => {}
        }
        if let Some(name) = found {
            assert_eq!(client.all(name).await.len(), 1, "{scene}: {name} was made in part");
        }
        self.is_there = Some(found.is_some());
    }
}
