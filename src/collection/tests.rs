//! The collection against a naive model, through restarts.

mod building;
mod kept;
mod nonsense;
mod retries;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::storage::fs::{Call, RealFs, SimFs};
use crate::storage::log::LogOptions;
use crate::types::{Dimension, Metadata, Metric, RecordId, Space, SpaceName, TextModel, Value, Vector};

fn space(name: &str, dimension: usize, metric: Metric) -> Space {
    let dimension = Dimension::new(dimension).unwrap();
    Space { name: SpaceName::new(name).unwrap(), dimension, metric, text_model: None }
}

fn create(folder: &Path, spaces: Vec<Space>) -> Collection {
    let created = Created { spaces, ..Created::default() };
    Collection::create(Arc::new(RealFs), folder, LogOptions::default(), created).unwrap()
}

fn reopen(folder: &Path) -> Collection {
    let (collection, torn) = Collection::open(Arc::new(RealFs), folder, LogOptions::default()).unwrap();
    assert!(torn.is_none());
    collection
}

fn record(id: &str, space: &str, components: &[f32], if_version: Option<u64>) -> RecordWritten {
    RecordWritten {
        id: RecordId::new(id).unwrap(),
        space: SpaceName::new(space).unwrap(),
        vector: Vector::new(components.to_vec()).unwrap(),
        content: Arc::default(),
        if_version: if_version.map(Sequence),
    }
}

fn upsert(records: Vec<RecordWritten>) -> Operation {
    let change = Change::Upserted(Upserted { records, ..Upserted::default() });
    Operation::new(change)
}

fn delete(ids: &[&str]) -> Operation {
    let removed =
        |id: &&str| RecordRemoved { id: RecordId::new(id).unwrap(), if_version: None, observed_version: None };
    Operation::new(Change::Deleted(ids.iter().map(removed).collect()))
}

fn run(collection: &Collection, operation: Operation) -> Outcome {
    collection.submit(operation, Durability::Buffered).unwrap().blocking_recv().unwrap().unwrap()
}

fn search(collection: &Collection, space: &str, components: &[f32], top_k: usize) -> Vec<(String, f32)> {
    let view = collection.view();
    let space = view.space_named(space).unwrap();
    let found =
        Search { space, vector: Vector::new(components.to_vec()).unwrap(), top_k, filter: None, effort: Effort::Exact }
            .run(view);
    found.hits().map(|(score, row)| (row.id.to_string(), score)).collect()
}

#[test]
fn a_restart_brings_back_every_record_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", 2, Metric::Cosine), space("b", 3, Metric::Euclidean)]);
    let fields =
        BTreeMap::from([("n".to_owned(), Value::Int(i64::MIN)), ("l".to_owned(), Value::List(vec![Value::Null]))]);
    let content = Content { text: Some("tëxt".into()), metadata: Metadata::new(fields).unwrap() };
    let odd = [f32::MIN_POSITIVE / 8.0, -0.0];
    let with_content = RecordWritten { content: Arc::new(content.clone()), ..record("x", "a", &odd, None) };
    run(&collection, upsert(vec![with_content, record("y", "b", &[1.0, 2.0, 3.0], None)])).unwrap();
    run(&collection, delete(&["y"])).unwrap();
    let before = collection.view().sequence();
    drop(collection);

    let collection = reopen(&path);
    let view = collection.view();
    assert_eq!((view.sequence(), view.record_count()), (before, 1));
    let (row, space) = view.get("x").unwrap();
    assert_eq!((row.version, space.name.as_str(), &**row.content), (Sequence(2), "a", &content));
    let bits = |components: &[f32]| components.iter().map(|component| component.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(row.components), bits(&odd));
    assert!(view.get("y").is_none());
}

#[test]
fn a_view_does_not_change_while_it_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 1, Metric::DotProduct)]);
    run(&collection, upsert(vec![record("x", "a", &[1.0], None)])).unwrap();
    let held = collection.view();
    run(&collection, upsert(vec![record("x", "a", &[2.0], None), record("y", "a", &[3.0], None)])).unwrap();
    run(&collection, delete(&["x"])).unwrap();
    assert_eq!(held.get("x").unwrap().0.components, [1.0]);
    assert_eq!((held.record_count(), collection.view().record_count()), (1, 1));
}

#[test]
fn if_version_refuses_the_whole_batch_and_keeps_the_number() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 1, Metric::DotProduct)]);
    run(&collection, upsert(vec![record("x", "a", &[1.0], Some(0))])).unwrap();
    let refused = run(&collection, upsert(vec![record("new", "a", &[1.0], None), record("x", "a", &[9.0], Some(0))]));
    let (id, expected, got) = (RecordId::new("x").unwrap(), Sequence(0), Sequence(2));
    assert_eq!(refused, Err(Refusal::VersionMismatch { id, index: 1, expected, got }));
    assert_eq!(collection.view().record_count(), 1);
    let applied = run(&collection, upsert(vec![record("x", "a", &[9.0], Some(2))])).unwrap();
    assert!(matches!(applied, Applied::Upserted { sequence: Sequence(4), .. }), "{applied:?}");
}

#[test]
fn two_writers_never_both_pass_the_same_version() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 1, Metric::DotProduct)]);
    run(&collection, upsert(vec![record("x", "a", &[0.0], None)])).unwrap();
    for _ in 0..50 {
        let version = collection.view().get("x").unwrap().0.version.0;
        let passed = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    let collection = &collection;
                    scope.spawn(move || run(collection, upsert(vec![record("x", "a", &[n as f32], Some(version))])))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).filter(Result::is_ok).count()
        });
        assert_eq!(passed, 1);
    }
}

#[test]
fn a_retry_answers_as_the_first_did_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", 1, Metric::DotProduct)]);
    let key = |content_hash| Some(RequestKey { request_id: "r1".to_owned(), content_hash });
    let first = Operation { request_key: key(1), ..upsert(vec![record("x", "a", &[1.0], None)]) };
    let answer = run(&collection, first.clone()).unwrap();
    run(&collection, upsert(vec![record("x", "a", &[2.0], None)])).unwrap();
    assert_eq!(run(&collection, first.clone()).unwrap(), answer, "the retry is answered, not applied");
    drop(collection);

    let collection = reopen(&path);
    assert_eq!(run(&collection, first).unwrap(), answer);
    assert_eq!(collection.view().get("x").unwrap().0.components, [2.0]);
    let other = Operation { request_key: key(2), ..delete(&["x"]) };
    assert!(matches!(run(&collection, other), Err(Refusal::RequestIdReused { .. })));
}

#[test]
fn a_filters_delete_leaves_alone_what_changed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 1, Metric::DotProduct)]);
    run(&collection, upsert(vec![record("x", "a", &[1.0], None), record("y", "a", &[1.0], None)])).unwrap();
    run(&collection, upsert(vec![record("x", "a", &[2.0], None)])).unwrap();
    let seen = |id: &str| RecordRemoved {
        id: RecordId::new(id).unwrap(),
        if_version: None,
        observed_version: Some(Sequence(2)),
    };
    let operation = Operation::new(Change::Deleted(vec![seen("x"), seen("y")]));
    assert!(matches!(run(&collection, operation), Ok(Applied::Deleted { deleted_count: 1, .. })));
    assert!(collection.view().get("x").is_some());
}

#[test]
fn a_write_adds_one_raw_space_and_no_second() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![]);
    let write = |name: &str, dimension: usize| {
        let records = vec![record(name, name, &vec![1.0; dimension], None)];
        let spaces = vec![space(name, dimension, Metric::Cosine)];
        Operation::new(Change::Upserted(Upserted { spaces, records, ..Upserted::default() }))
    };
    run(&collection, write("raw-3", 3)).unwrap();
    run(&collection, write("raw-3", 3)).unwrap();
    assert!(matches!(run(&collection, write("raw-4", 4)), Err(Refusal::SecondRawSpace { .. })));
    assert!(collection.view().get("raw-4").is_none());
    let spaces = vec![space("raw-3", 5, Metric::Cosine)];
    let conflict = Operation::new(Change::Updated(Updated { spaces, ..Updated::default() }));
    assert!(matches!(run(&collection, conflict), Err(Refusal::SpaceConflict { .. })));
}

#[test]
fn a_raw_vector_is_placed_by_name_or_by_its_only_dimension() {
    let folder = tempfile::tempdir().unwrap();
    let spaces = vec![space("a", 2, Metric::Cosine), space("b", 3, Metric::Cosine), space("c", 3, Metric::Cosine)];
    let view = create(&folder.path().join("c"), spaces).view();
    let place = |dimension, name: Option<&str>| {
        let name = name.map(|name| SpaceName::new(name).unwrap());
        view.place(Dimension::new(dimension).unwrap(), name.as_ref()).map(|number| view.space(number).name.to_string())
    };
    assert_eq!(place(2, None), Ok("a".to_owned()));
    assert_eq!(place(3, Some("c")), Ok("c".to_owned()));
    assert!(matches!(place(3, None), Err(NoPlace::Ambiguous { .. })), "two raw spaces");
    assert!(matches!(place(4, None), Err(NoPlace::NoSuchDimension { .. })));
    assert!(matches!(place(2, Some("b")), Err(NoPlace::WrongDimension { .. })));
    assert!(matches!(place(2, Some("z")), Err(NoPlace::NoSuchSpace { .. })));
}

#[test]
fn raw_vectors_stay_in_their_space_when_texts_of_the_same_dimension_come() {
    let folder = tempfile::tempdir().unwrap();
    let text_model = Some(TextModel { model_id: "m".to_owned(), fingerprint: "f".to_owned() });
    let texts = Space { text_model, ..space("m", 2, Metric::Cosine) };
    let place = |spaces: Vec<Space>, name: &str| {
        let view = create(&folder.path().join(name), spaces).view();
        view.place(Dimension::new(2).unwrap(), None).map(|number| view.space(number).name.to_string())
    };
    assert_eq!(place(vec![texts.clone()], "1"), Ok("m".to_owned()));
    assert_eq!(place(vec![space("raw-2", 2, Metric::Cosine), texts.clone()], "2"), Ok("raw-2".to_owned()));
    assert_eq!(place(vec![texts, space("raw-2", 2, Metric::Cosine)], "3"), Ok("raw-2".to_owned()));
}

#[test]
fn embeddings_of_a_fallback_go_to_the_space_of_their_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let model =
        |id: &str, fingerprint: &str| TextModel { model_id: id.to_owned(), fingerprint: fingerprint.to_owned() };
    let spaces = [("a", "f"), ("b", "g")]
        .map(|(id, fingerprint)| Space { text_model: Some(model(id, fingerprint)), ..space(id, 2, Metric::Cosine) });
    let view = create(&folder.path().join("c"), spaces.to_vec()).view();
    let of = |id: &str, fingerprint: &str| {
        let number = view.space_of_embeddings(&model(id, fingerprint));
        number.map(|number| view.space(number).name.to_string())
    };
    assert_eq!(of("fallback", "g"), Some("b".to_owned()));
    assert_eq!((of("fallback", "h"), of("fallback", "")), (None, None));
    // A fallback that has a space of its own, of before it had this fingerprint.
    assert_eq!((of("a", "f"), of("a", "g")), (Some("a".to_owned()), Some("b".to_owned())));
    // The model itself has changed: its space is named, and whoever asked compares the fingerprints.
    assert_eq!(of("a", "h"), Some("a".to_owned()));
}

#[test]
fn a_model_has_one_space() {
    let folder = tempfile::tempdir().unwrap();
    let text_model =
        |fingerprint: &str| Some(TextModel { model_id: "m".to_owned(), fingerprint: fingerprint.to_owned() });
    let collection =
        create(&folder.path().join("c"), vec![Space { text_model: text_model("f"), ..space("a", 2, Metric::Cosine) }]);
    let update = |space: Space| {
        let change = Change::Updated(Updated { spaces: vec![space], ..Updated::default() });
        run(&collection, Operation::new(change))
    };
    let second = update(Space { text_model: text_model("f"), ..space("b", 2, Metric::Cosine) });
    assert!(matches!(second, Err(Refusal::ModelHasSpace { .. })), "{second:?}");
    let changed = update(Space { text_model: text_model("g"), ..space("a", 2, Metric::Cosine) }).unwrap_err();
    assert!(changed.to_string().contains("fingerprint f, not dimension 2"), "{changed}");
}

#[test]
fn hits_come_best_first_and_ties_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 2, Metric::Euclidean)]);
    let at = |id: &str, x: f32| record(id, "a", &[x, 0.0], None);
    run(&collection, upsert(vec![at("far", 9.0), at("b", 1.0), at("c", -1.0), at("a", 1.0)])).unwrap();
    let hits = search(&collection, "a", &[0.0, 0.0], 3);
    assert_eq!(hits, [("a".to_owned(), 1.0), ("b".to_owned(), 1.0), ("c".to_owned(), 1.0)]);
    assert_eq!(search(&collection, "a", &[0.0, 0.0], 10_000).len(), 4);
}

#[test]
fn a_reader_can_wait_for_a_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let collection = create(&folder.path().join("c"), vec![space("a", 1, Metric::DotProduct)]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let wait = |time_ms| tokio::time::timeout(Duration::from_millis(time_ms), collection.wait_for(Sequence(2)));
        assert!(wait(20).await.is_err());
        let answer = collection.submit(upsert(vec![record("x", "a", &[1.0], None)]), Durability::Durable).unwrap();
        assert!(wait(10_000).await.is_ok());
        assert!(collection.view().get("x").is_some());
        drop(answer);
    });
}

#[test]
fn an_abandoned_write_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let collection = create(&path, vec![space("a", 1, Metric::DotProduct)]);
    drop(collection.submit(upsert(vec![record("x", "a", &[1.0], None)]), Durability::Durable).unwrap());
    drop(collection);
    assert!(reopen(&path).view().get("x").is_some());
}

#[test]
fn a_newer_operation_stops_replay_by_name() {
    let newer = crate::pb::storage::Operation { revision: REVISION + 1, ..Default::default() };
    let error = Operation::decode(prost::Message::encode_to_vec(&newer).into()).unwrap_err();
    assert_eq!(error.to_string(), "the operation has revision 4, but this version reads revisions up to 3");
    assert!(matches!(Operation::decode(Default::default()), Err(DecodeError::UnknownKind)));
}

#[test]
fn an_operation_has_the_lowest_revision_that_has_it_whole() {
    let revision = |operation: &Operation| {
        <crate::pb::storage::Operation as prost::Message>::decode(&operation.encode()[..]).unwrap().revision
    };
    let plain = upsert(vec![record("x", "a", &[1.0], None)]);
    assert_eq!((revision(&plain), revision(&frame("s", 1, plain.change))), (1, 2));
    assert_eq!(revision(&Operation::new(Change::StreamFinished(StreamId::new("s").unwrap()))), 2);
}

fn frame(stream_id: &str, frame: u64, change: Change) -> Operation {
    let stream_id = StreamId::new(stream_id).unwrap();
    Operation { stream_frame: Some(StreamFrame { stream_id, frame }), ..Operation::new(change) }
}

#[test]
fn a_mark_moves_with_its_rows_through_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let mut collection = create(&path, vec![space("a", 1, Metric::DotProduct)]);
    let stream_id = StreamId::new("s").unwrap();
    let write = |id: &str, if_version| upsert(vec![record(id, "a", &[1.0], if_version)]).change;
    run(&collection, frame("s", 1, write("x", None))).unwrap();
    // Out of order, either way: nothing changes.
    for number in [0, 1, 3] {
        let refused = run(&collection, frame("s", number, write("no", None))).unwrap_err();
        assert!(matches!(refused, Refusal::FrameOutOfOrder { expected: 2, .. }), "{refused}");
    }
    // Refused by its own fault, and refused when it is applied: both are settled.
    let fault = Arc::new(FrameFault { reason: "R".into(), message: "m".into(), ..FrameFault::default() });
    run(&collection, frame("s", 2, Change::FrameRefused(fault.clone()))).unwrap();
    let decided = run(&collection, frame("s", 3, write("x", Some(0)))).unwrap_err();
    run(&collection, frame("t", 1, write("y", None))).unwrap();
    for _ in 0..2 {
        let mark = collection.stream_mark(&stream_id);
        let refused = [(2, FrameRefusal::Faulty(fault.clone())), (3, FrameRefusal::Decided(decided.clone()))];
        assert_eq!((mark.settled_frame, mark.sequence, mark.refused_count), (3, Sequence(7), 2));
        assert_eq!(mark.refused, refused);
        assert_eq!(collection.view().record_count(), 2);
        drop(collection);
        collection = reopen(&path);
    }
    let finished = run(&collection, Operation::new(Change::StreamFinished(stream_id.clone()))).unwrap();
    assert!(matches!(finished, Applied::StreamFinished { settled_frame: 3, refused_count: 2, .. }));
    drop(collection);
    let collection = reopen(&path);
    assert_eq!(collection.stream_mark(&stream_id), StreamMark::default());
    assert_eq!(collection.stream_mark(&StreamId::new("t").unwrap()).settled_frame, 1);
}

#[test]
fn metadata_at_its_limits_can_be_read_back_from_the_log() {
    let mut value = Value::Int(1);
    for _ in 1..crate::types::limits::METADATA_DEPTH_MAX {
        value = Value::Object(BTreeMap::from([("o".to_owned(), value)]));
    }
    let metadata = Metadata::new(BTreeMap::from([("deep".to_owned(), value)])).unwrap();
    let content = Arc::new(Content { text: None, metadata });
    let operation = upsert(vec![RecordWritten { content, ..record("x", "a", &[1.0], None) }]);
    assert_eq!(Operation::decode(operation.encode().into()).unwrap(), operation);
}

/// What a user may do, small enough that ids and versions collide.
#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<(u8, i8, Option<u64>)>),
    Delete(Vec<u8>),
    Checkpoint,
    Compact,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..6_u8, -5..5_i8, prop::option::weighted(0.2, 0..12_u64));
    prop_oneof![
        6 => prop::collection::vec(record, 1..5).prop_map(Step::Upsert),
        3 => prop::collection::vec(0..6_u8, 1..4).prop_map(Step::Delete),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// The collection as anybody would write it down: ids with version and component.
#[derive(Default)]
struct Naive {
    records: BTreeMap<String, (u64, f32)>,
    sequence: u64,
}

impl Naive {
    fn upsert(&mut self, records: &[(u8, i8, Option<u64>)]) -> bool {
        self.sequence += 1;
        let version = |id: u8| self.records.get(&id.to_string()).map_or(0, |(version, _)| *version);
        if records.iter().any(|&(id, _, if_version)| if_version.is_some_and(|wanted| wanted != version(id))) {
            return false;
        }
        for &(id, component, _) in records {
            self.records.insert(id.to_string(), (self.sequence, component.into()));
        }
        true
    }

    fn delete(&mut self, ids: &[u8]) -> usize {
        self.sequence += 1;
        ids.iter().filter(|id| self.records.remove(&id.to_string()).is_some()).count()
    }

    fn nearest(&self, query: f32) -> Vec<(String, f32)> {
        let mut hits: Vec<_> =
            self.records.iter().map(|(id, (_, component))| (id.clone(), (component - query).abs())).collect();
        hits.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        hits
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_collection_equals_the_naive_model(steps in prop::collection::vec(step(), 1..40)) {
        // A disk that needs no time to sync.
        let (fs, path) = (Arc::new(SimFs::new()), Path::new("/c"));
        let options = || LogOptions { sync_delay: Duration::from_millis(1), ..LogOptions::default() };
        let created = Created { spaces: vec![space("a", 1, Metric::Euclidean)], ..Created::default() };
        let mut collection = Collection::create(fs.clone(), path, options(), created).unwrap();
        let mut naive = Naive { sequence: 1, ..Naive::default() };
        for step in steps {
            match step {
                Step::Upsert(mut records) => {
                    records.sort_by_key(|(id, ..)| *id);
                    records.dedup_by_key(|(id, ..)| *id);
                    let written = records.iter().map(|&(id, component, if_version)| {
                        record(&id.to_string(), "a", &[component.into()], if_version)
                    });
                    let outcome = run(&collection, upsert(written.collect()));
                    prop_assert_eq!(outcome.is_ok(), naive.upsert(&records));
                }
                Step::Delete(mut ids) => {
                    ids.sort_unstable();
                    ids.dedup();
                    let names: Vec<String> = ids.iter().map(u8::to_string).collect();
                    let outcome = run(&collection, delete(&names.iter().map(String::as_str).collect::<Vec<_>>()));
                    let deleted_count = naive.delete(&ids);
                    let sequence = Sequence(naive.sequence);
                    prop_assert_eq!(outcome, Ok(Applied::Deleted { sequence, deleted_count }));
                }
                Step::Checkpoint => collection.checkpoint().unwrap(),
                Step::Compact => collection.compact(&mut |_, _| {}),
                Step::Restart => {
                    drop(collection);
                    collection = Collection::open(fs.clone(), path, options()).unwrap().0;
                }
            }
            let view = collection.view();
            let listed: BTreeMap<String, (u64, f32)> =
                view.list(None).map(|(row, _)| (row.id.to_string(), (row.version.0, row.components[0]))).collect();
            prop_assert_eq!(&listed, &naive.records);
            prop_assert_eq!(view.sequence().0, naive.sequence);
            prop_assert_eq!(search(&collection, "a", &[0.5], 10), naive.nearest(0.5));
        }
    }
}

#[test]
fn a_buffered_write_behind_a_sync_that_failed_is_refused_too() {
    for _ in 0..50 {
        let fs = SimFs::new();
        let created = Created { spaces: vec![space("a", 1, Metric::DotProduct)], ..Created::default() };
        let collection =
            Collection::create(Arc::new(fs.clone()), Path::new("/c"), LogOptions::default(), created).unwrap();
        fs.fail_next(Call::SyncData, std::io::ErrorKind::Other);
        let write = |id: &str, durability| collection.submit(upsert(vec![record(id, "a", &[1.0], None)]), durability);
        let durable = write("x", Durability::Durable).unwrap();
        // They reach the operating system, or find that the log takes no more.
        let behind: Vec<_> = (0..5).filter_map(|_| write("y", Durability::Buffered).ok()).collect();
        durable.blocking_recv().unwrap().unwrap_err();
        for answer in behind {
            answer.blocking_recv().expect("the thread that applies goes on").unwrap_err();
        }
        assert_eq!(collection.view().record_count(), 0);
    }
}
