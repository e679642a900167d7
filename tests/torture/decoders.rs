//! Bytes that verify, but that nobody wrote like this: a checksum keeps damage away from the decoders, and not a program
//! with a fault, or somebody who means ill. Real records are the corpus; bytes of them are changed, cut out, doubled and
//! put together. Whatever comes, nothing panics, and what is refused is refused with a reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::RngExt;
use prost::Message;
use vectron::collection::{Change, Collection, Created, Operation};
use vectron::database::{Database, DatabaseOptions};
use vectron::pb::storage as pb;
use vectron::storage::fs::{Fs, SimFs};
use vectron::storage::log::{Durability, FileLog, Log, LogOptions};

use crate::effort::{Dice, Effort, dice};
use crate::figures;
use crate::history::{self, Size, Step};

#[test]
fn bytes_that_verify_but_mean_nothing_are_refused() {
    bytes_that_nobody_wrote(&Effort::short(3));
}

const LOG: &str = "/data/log";

pub fn bytes_that_nobody_wrote(effort: &Effort) {
    figures::watch_panics();
    let mut dice = dice(effort.seed);
    let operations = operations(effort.seed);
    let catalogue = catalogue_records();
    let mut rounds = 0;
    while effort.has_time() {
        let seed: u64 = dice.random();
        let scene = format!("seed {seed}");
        let mut dice = crate::effort::dice(seed);
        without_panic(&scene, || decode(&mutant(&operations, &mut dice), &scene));
        if rounds % 20 == 0 {
            without_panic(&scene, || replay(&operations, &mut dice));
            without_panic(&scene, || open_catalogue(&catalogue, &mut dice));
            without_panic(&scene, || read_resealed_file(&operations, &mut dice));
        }
        rounds += 1;
    }
    figures::add("mutants given to the decoder of operations", rounds);
    assert_eq!(figures::panics(), 0, "the engine panicked");
}

fn without_panic(scene: &str, run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        panic!("{scene}: {}", figures::text(&*panic));
    }
}

/// Encoded operations of all kinds.
fn operations(seed: u64) -> Vec<Vec<u8>> {
    let steps = history::random(seed, Size { steps: 300, collections: 2, ids: 20, batch: 4 });
    let mut found: Vec<Vec<u8>> = steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Write { operation, .. } => Some(operation.encode()),
            Step::Create { created, .. } => Some(Operation::new(Change::Created(created)).encode()),
            _ => None,
        })
        .collect();
    found.push(Operation::new(Change::Created(Created::default())).encode());
    found
}

fn catalogue_records() -> Vec<Vec<u8>> {
    use pb::catalogue_operation::Kind;
    let id = "0f7c7dd8-66c8-4a5b-9d0c-1e8d1e3a9a01".to_owned();
    let created = Kind::Created(pb::CatalogueCreated { collection_id: id.clone(), name: "a".to_owned() });
    let dropped = Kind::Dropped(pb::CatalogueDropped { collection_id: id, record_count: 3 });
    let key = pb::RequestKey { request_id: "r".to_owned(), content_hash: 1 };
    [created, dropped]
        .map(|kind| {
            pb::CatalogueOperation { revision: 1, kind: Some(kind), request_key: Some(key.clone()) }.encode_to_vec()
        })
        .into()
}

/// One of the corpus, changed in some places.
fn mutant(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = corpus[dice.random_range(0..corpus.len())].clone();
    for _ in 0..dice.random_range(1..4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = dice.random_range(0..bytes.len());
        let end = (at + dice.random_range(1..24)).min(bytes.len());
        match dice.random_range(0..6) {
            0 => bytes[at] ^= 1 << dice.random_range(0..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.random_range(0..5)],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            _ => {
                let other = &corpus[dice.random_range(0..corpus.len())];
                let from = dice.random_range(0..other.len());
                let to = (from + dice.random_range(1..40)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

/// What is understood is understood the same when it is written again.
fn decode(bytes: &[u8], scene: &str) {
    match Operation::decode(bytes.to_vec().into()) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(operation) => {
            let again = Operation::decode(operation.encode().into()).expect("it was just encoded");
            assert_eq!(again.encode(), operation.encode(), "{scene}");
            figures::add("mutants that were understood", 1);
        }
    }
}

fn disk() -> SimFs {
    let fs = SimFs::new();
    fs.create_dir_all(Path::new("/data")).expect("the disk is new");
    fs
}

/// A log with records as they are and one mutant, in which every checksum is right.
fn replay(operations: &[Vec<u8>], dice: &mut Dice) {
    let fs = disk();
    let log = FileLog::create(Arc::new(fs.clone()), Path::new(LOG), LogOptions::default()).expect("the disk is new");
    let first = operations.iter().rev().find(|bytes| {
        matches!(Operation::decode(bytes.to_vec().into()), Ok(operation) if matches!(operation.change, Change::Created(_)))
    });
    let mut payloads = vec![first.expect("the corpus has one").clone()];
    payloads.extend((0..6).map(|_| operations[dice.random_range(0..operations.len())].clone()));
    let at = dice.random_range(0..payloads.len());
    payloads[at] = mutant(operations, dice);
    log.append(payloads, Durability::Durable).expect("it is open").wait().expect("the disk is on");
    log.close();
    drop(log);
    match Collection::open(Arc::new(fs), Path::new("/data"), LogOptions::default()) {
        Ok((collection, _)) => {
            assert_eq!(collection.view().sequence().0, 7);
            figures::add("logs with a mutant that were replayed", 1);
        }
        Err(error) => {
            assert!(error.to_string().contains(LOG), "the log is not named: {error}");
            figures::add("logs with a mutant that were refused by name", 1);
        }
    }
}

fn open_catalogue(records: &[Vec<u8>], dice: &mut Dice) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fs = SimFs::new();
    let path = folder.path().join("catalogue");
    let log = FileLog::create(Arc::new(fs.clone()), &path, LogOptions::default()).expect("the disk is new");
    let payloads = vec![records[0].clone(), mutant(records, dice), records[1].clone()];
    log.append(payloads, Durability::Durable).expect("it is open").wait().expect("the disk is on");
    drop(log);
    match Database::open(folder.path(), DatabaseOptions { fs: Arc::new(fs), ..DatabaseOptions::default() }) {
        Ok(_) => figures::add("catalogues with a mutant that were read", 1),
        Err(error) => {
            assert!(error.to_string().contains("catalogue"), "{error}");
            figures::add("catalogues with a mutant that were refused", 1);
        }
    }
}

/// A file of a log with changed headers and lengths, whose checksums are put right again: see `docs/data_format.md`.
fn read_resealed_file(operations: &[Vec<u8>], dice: &mut Dice) {
    const BLOCK: usize = 4096;
    const GROUP_HEADER: usize = 48;
    let fs = disk();
    let log = FileLog::create(Arc::new(fs.clone()), Path::new(LOG), LogOptions::default()).expect("the disk is new");
    for _ in 0..4 {
        let payload = operations[dice.random_range(0..operations.len())].clone();
        log.append(vec![payload], Durability::Durable).expect("it is open").wait().expect("the disk is on");
    }
    log.close();
    drop(log);
    let path = Path::new(LOG).join("00000000000000000001.log");
    let file = fs.open(&path).expect("it was just written");
    let mut bytes = vec![0; file.len().expect("it is open") as usize];
    file.read_exact_at(&mut bytes, 0).expect("it is that long");

    if dice.random_range(0..5) == 0 {
        let at = dice.random_range(8..80);
        bytes[at] = dice.random();
        let sum = crc32c::crc32c(&bytes[..BLOCK - 4]);
        bytes[BLOCK - 4..BLOCK].copy_from_slice(&sum.to_le_bytes());
    } else {
        let group = dice.random_range(1..5) * BLOCK;
        let at = group + dice.random_range(8..GROUP_HEADER + 40);
        bytes[at] = [0, 1, 0x7f, 0x80, 0xff, dice.random()][dice.random_range(0..6)];
        let length = u64::from_le_bytes(bytes[group + 16..group + 24].try_into().expect("8 bytes")) as usize;
        let record = group + GROUP_HEADER;
        if let Some(content) = bytes.get(record + 4..record.saturating_add(length)) {
            let sum = crc32c::crc32c(content);
            bytes[record..record + 4].copy_from_slice(&sum.to_le_bytes());
        }
        let mut keyed = bytes[16..40].to_vec(); // log id and file number
        keyed.extend_from_slice(&(group as u64).to_le_bytes());
        keyed.extend_from_slice(&bytes[group + 8..group + GROUP_HEADER]);
        let sum = crc32c::crc32c(&keyed);
        bytes[group + 4..group + 8].copy_from_slice(&sum.to_le_bytes());
    }
    file.write_all_at(&bytes, 0).expect("the disk is on");
    let opened = FileLog::open(Arc::new(fs), Path::new(LOG), LogOptions::default(), |_| Ok::<(), String>(()));
    match opened {
        Ok(_) => figures::add("log files with changed headers that were read", 1),
        Err(error) => {
            assert!(error.to_string().contains(LOG), "the file is not named: {error}");
            figures::add("log files with changed headers that were refused by name", 1);
        }
    }
}
