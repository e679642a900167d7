//! What a corpus begins with: small files of every kind, as the engine writes them, packed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vectron::collection::{
    Change, Collection, Content, Created, FrameFault, Operation, RecordFault, RecordRemoved, RecordWritten, RequestKey,
    StreamFrame, Updated, Upserted,
};
use vectron::database::{Database, DatabaseOptions};
use vectron::storage::fs::{Fs, SimFs};
use vectron::storage::log::{Durability, LogOptions};
use vectron::types::{
    CollectionName, Dimension, Metadata, Metric, RecordId, Sequence, SnapshotName, Space, SpaceName, StreamId,
    TextModel, Value, Vector,
};

use crate::fuzz::packed::pack;
use crate::fuzz::seal;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Target, name and input.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    for (number, operation) in operations().iter().enumerate() {
        all.push(("operation", format!("seed-{number}"), operation.encode()));
    }
    for segment_bytes_max in [1 << 20, 8 << 10] {
        let options = LogOptions { segment_bytes_max, ..LogOptions::default() };
        let fs = SimFs::new();
        drop(filled(&fs, options, &spaces()[..2], 0));
        let packed = pack_log(&files(&fs, Path::new("/data/log")), 0);
        all.push(("log", format!("seed-{segment_bytes_max}"), packed));
    }
    for (number, archived) in databases().into_iter().enumerate() {
        all.push(("log", format!("seed-catalogue-{number}"), pack_log(&archived.catalogue, 0x80)));
        all.push(("snapshot", format!("seed-{number}"), pack_archive(&archived.archive)));
    }
    for (number, files) in collections().into_iter().enumerate() {
        all.push(("segment", format!("seed-{number}"), pack_collection(&files, 0)));
        all.push(("segment", format!("seed-{number}-again"), pack_collection(&files, 0x40)));
        all.push(("manifest", format!("seed-{number}"), [&[0], message(&files)].concat()));
    }
    all
}

/// The parts that the target `manifest` works over.
pub fn base() -> Vec<u8> {
    pack_collection(&collection(&spaces(), 5), 0)
}

fn spaces() -> Vec<Space> {
    let space = |name: &str, dimension, metric| Space {
        name: SpaceName::new(name).unwrap(),
        dimension: Dimension::new(dimension).unwrap(),
        metric,
        text_model: None,
    };
    let model = TextModel { model_id: "m".to_owned(), fingerprint: "f".to_owned() };
    let texts = Space { text_model: Some(model), ..space("texts", 5, Metric::DotProduct) };
    // Below the dimension where codes begin, and above it.
    vec![space("small", 3, Metric::Cosine), texts, space("large", 66, Metric::Euclidean)]
}

fn id(number: usize) -> RecordId {
    RecordId::new(&format!("r{number}")).unwrap()
}

fn record(number: usize, space: &Space) -> RecordWritten {
    // Of four vectors one comes twice.
    let place = if number % 4 == 3 { number - 1 } else { number };
    let components = (0..space.dimension.get()).map(|at| ((place * 7 + at * 3) % 11) as f32 / 4.0 - 1.0).collect();
    let fields = match number % 4 {
        0 => BTreeMap::new(),
        1 => BTreeMap::from([("group".to_owned(), Value::String(format!("g{number}")))]),
        2 => BTreeMap::from([
            ("n".to_owned(), Value::Int(number as i64 / 2)),
            ("group".to_owned(), Value::List(vec![Value::Null, Value::Bool(true), Value::Double(-0.5)])),
        ]),
        _ => BTreeMap::from([("deep".to_owned(), Value::Object(BTreeMap::from([("x".into(), Value::Int(1))])))]),
    };
    let text = number.is_multiple_of(3).then(|| "wörd".into());
    RecordWritten {
        id: id(number),
        space: space.name.clone(),
        vector: Vector::new(components).unwrap(),
        content: Arc::new(Content { text, metadata: Metadata::new(fields).unwrap() }),
        if_version: None,
    }
}

fn upserted(numbers: std::ops::Range<usize>, space: &Space) -> Operation {
    let records: Vec<RecordWritten> = numbers.map(|number| record(number, space)).collect();
    let truncated_ids = vec![records[0].id.clone()];
    Operation::new(Change::Upserted(Upserted { spaces: Vec::new(), records, truncated_ids }))
}

fn key(number: usize) -> RequestKey {
    RequestKey { request_id: format!("q{number}"), content_hash: number as u64 }
}

fn stream_id() -> StreamId {
    StreamId::new("s").unwrap()
}

/// Of every kind.
fn operations() -> Vec<Operation> {
    let fault = RecordFault { index: 1, id: "r1".into(), reason: "WRONG".into(), message: "wrong".into() };
    let fault = FrameFault { reason: "WRONG".into(), message: "wrong".into(), errors: vec![fault], error_count: 2 };
    let removed = |number, if_version| RecordRemoved { id: id(number), if_version, observed_version: None };
    let removed_by_filter = RecordRemoved { observed_version: Some(Sequence(2)), ..removed(2, None) };
    let created = Created { description: "d".into(), default_model_id: "m".into(), spaces: spaces() };
    let updated = Updated { description: Some("e".into()), default_model_id: None, spaces: spaces()[2..].to_vec() };
    let mut conditional = upserted(0..1, &spaces()[0]);
    if let Change::Upserted(upserted) = &mut conditional.change {
        upserted.records[0].if_version = Some(Sequence(1));
        upserted.spaces = spaces()[..1].to_vec();
    }
    let frame = |frame| Some(StreamFrame { stream_id: stream_id(), frame });
    vec![
        Operation::new(Change::Created(created)),
        Operation::new(Change::Updated(updated)),
        Operation { request_key: Some(key(1)), ..upserted(0..4, &spaces()[0]) },
        Operation { stream_frame: frame(1), ..upserted(4..6, &spaces()[1]) },
        Operation { request_key: Some(key(2)), ..conditional },
        Operation { stream_frame: frame(2), ..Operation::new(Change::FrameRefused(Arc::new(fault))) },
        Operation::new(Change::Deleted(vec![removed(0, Some(Sequence(3))), removed(1, None)])),
        Operation { request_key: Some(key(3)), ..Operation::new(Change::Deleted(vec![removed_by_filter])) },
        Operation::new(Change::StreamFinished(stream_id())),
    ]
}

fn submit(collection: &Collection, operation: Operation) {
    // Refused ones are of interest too.
    let _ = collection.submit(operation, Durability::Durable).unwrap().blocking_recv().unwrap();
}

/// A collection with the operations of every kind, and so many rows in each space after them.
fn filled(fs: &SimFs, log: LogOptions, spaces: &[Space], rows: usize) -> Collection {
    let created = Created { spaces: spaces.to_vec(), ..Created::default() };
    let collection = Collection::create(Arc::new(fs.clone()), Path::new("/data"), log, created).unwrap();
    write(&collection, spaces, rows);
    collection
}

fn write(collection: &Collection, spaces: &[Space], rows: usize) {
    if spaces.len() > 1 {
        operations().into_iter().skip(2).take(6).for_each(|operation| submit(collection, operation));
    }
    for (number, space) in spaces.iter().enumerate().filter(|_| rows > 0) {
        let first = 10 + 20 * number;
        submit(collection, upserted(first..first + rows, space));
    }
    if rows > 0 {
        collection.compact(&mut |_, _| ());
        submit(collection, upserted(11..13, &spaces[0]));
        submit(collection, upserted(100..103, &spaces[0]));
    }
}

fn collection(spaces: &[Space], rows: usize) -> Files {
    let fs = SimFs::new();
    let collection = filled(&fs, LogOptions::default(), spaces, rows);
    collection.checkpoint().unwrap();
    drop(collection);
    files(&fs, Path::new("/data"))
}

fn collections() -> Vec<Files> {
    let spaces = spaces();
    let each = spaces.iter().map(|space| collection(std::slice::from_ref(space), 6));
    each.chain([collection(&spaces[..1], 0), collection(&spaces, 5)]).collect()
}

struct Archived {
    catalogue: Files,
    archive: Vec<u8>,
}

fn databases() -> Vec<Archived> {
    let spaces = spaces();
    [&spaces[..1], &spaces[1..2], &spaces[..]].map(archived).into()
}

fn archived(spaces: &[Space]) -> Archived {
    let (folder, fs) = (tempfile::tempdir().unwrap(), SimFs::new());
    fs.create_dir_all(folder.path()).unwrap();
    let (database, _) =
        Database::open(folder.path(), DatabaseOptions { fs: Arc::new(fs.clone()), ..DatabaseOptions::default() })
            .unwrap();
    let (name, snapshot) = (CollectionName::new("c").unwrap(), SnapshotName::new("s").unwrap());
    let created = Created { spaces: spaces.to_vec(), ..Created::default() };
    let collection = database.create(&name, created, Some(key(1))).unwrap();
    write(&collection, spaces, 4);
    database.create_snapshot(&name, &snapshot, 7_000_000, Some(key(2))).unwrap();
    let mut archive = Vec::new();
    database.open_snapshot(&snapshot, true).unwrap().write(0, &mut archive).unwrap();
    database.drop_collection("c", None).unwrap();
    drop((collection, database));
    Archived { catalogue: files(&fs, &folder.path().join("catalogue")), archive }
}

/// Files and their names below a folder.
fn files(fs: &SimFs, root: &Path) -> Files {
    let (mut found, mut folders) = (Files::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for name in fs.list(&folder).unwrap() {
            let path = folder.join(name);
            match fs.open(&path) {
                Ok(file) => {
                    let mut bytes = vec![0; file.len().unwrap() as usize];
                    file.read_exact_at(&mut bytes, 0).unwrap();
                    found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
                }
                Err(_) => folders.push(path),
            }
        }
    }
    found
}

fn pack_log(files: &Files, flags: u8) -> Vec<u8> {
    let mut packed = vec![flags];
    for bytes in files.values() {
        let (mut chunks, mut group) = (vec![0..68], 4096);
        while bytes.get(group..group + 4) == Some(b"VGRP") {
            let length = seal::u64_at(bytes, group + 16).unwrap() as usize;
            chunks.push(group..group + 48 + length);
            group = (group + 48 + length).next_multiple_of(4096);
        }
        pack(bytes, &chunks, &mut packed);
    }
    packed
}

const FRAME_BYTES: usize = 24;

fn message(files: &Files) -> &[u8] {
    &files[Path::new("manifest")][FRAME_BYTES..]
}

fn pack_message(message: &[u8], packed: &mut Vec<u8>) {
    pack(message, std::slice::from_ref(&(0..message.len())), packed);
}

fn pack_sections(bytes: &[u8], packed: &mut Vec<u8>) {
    let mut chunks = vec![0..56];
    chunks.extend(seal::table(bytes).into_iter().map(|(_, place)| place));
    let table = seal::u64_at(bytes, 40).unwrap() as usize;
    chunks.push(table..bytes.len());
    pack(bytes, &chunks, packed);
}

fn pack_collection(files: &Files, flags: u8) -> Vec<u8> {
    let mut packed = vec![flags];
    pack_message(message(files), &mut packed);
    for (_, name, ..) in crate::fuzz::segment::named(message(files)) {
        pack_sections(&files[Path::new(&name)], &mut packed);
    }
    packed
}

fn pack_archive(archive: &[u8]) -> Vec<u8> {
    let (mut packed, mut entries) = (vec![0], tar::Archive::new(archive));
    for (number, entry) in entries.entries().unwrap().enumerate() {
        let entry = entry.unwrap();
        let start = entry.raw_file_position() as usize;
        let bytes = &archive[start..start + entry.size() as usize];
        pack(&archive[start - 512..], std::slice::from_ref(&(0..265)), &mut packed);
        match number {
            0 | 1 => pack_message(&bytes[FRAME_BYTES..], &mut packed),
            _ => pack_sections(bytes, &mut packed),
        }
    }
    packed
}
