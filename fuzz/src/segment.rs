//! A collection's manifest and files beside its log, which is empty.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use vectron::collection::{Collection, examine_files, verify_copy};
use vectron::pb::storage as pb;
use vectron::storage::fs::SimFs;
use vectron::storage::log::{FileLog, LogOptions};
use vectron::types::Sequence;

use super::packed::{Unpacked, unpack};
use super::read;
use super::seal::{self, Left};

/// A bit of the first byte: what was let in is built, written to files and read again.
const IS_WRITTEN_AGAIN: u8 = 0x40;
/// In a graph: the id of its rows file.
const ROWS_ID: u32 = 100;

/// `input` is a byte of what is left wrong, then packed: the manifest's message, then its files.
pub fn run(input: &[u8]) {
    let Some((&flags, packed)) = input.split_first() else { return };
    let mut files = VecDeque::from(unpack(packed));
    let Some(manifest) = files.pop_front() else { return };
    open(&manifest.bytes, flags, |_| files.pop_front());
}

/// A file that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows.
    Rows,
    /// A graph.
    Graph,
    /// Answers.
    Answers,
}

/// Kind, name below the collection's folder, its own id, and that of the rows it was built over.
pub type Named = (Kind, String, Option<[u8; 16]>, Option<[u8; 16]>);

/// The files that a manifest names.
pub fn named(message: &[u8]) -> Vec<Named> {
    let Ok(manifest) = pb::Manifest::decode(message) else { return Vec::new() };
    let mut named = Vec::new();
    let id = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok();
    for part in &manifest.parts {
        named.push((Kind::Rows, format!("parts/{:010}.rows", part.number), id(&part.rows_id), None));
        if !part.graph_id.is_empty() {
            let name = format!("parts/{:010}.graph", part.number);
            named.push((Kind::Graph, name, id(&part.graph_id), id(&part.rows_id)));
        }
    }
    for file in &manifest.answers {
        named.push((Kind::Answers, format!("parts/{:010}.answers", file.number), id(&file.id), None));
    }
    named
}

/// A file of a collection as it lies on the disk.
pub fn sealed(mut file: Unpacked, id: Option<[u8; 16]>, rows_id: Option<[u8; 16]>, left: Left) -> Vec<u8> {
    let place = seal::section(&file.bytes, ROWS_ID).filter(|place| place.len() == 16);
    if let (Some(place), Some(rows_id), true) = (place, rows_id, left.mends(Left::LINKS)) {
        file.bytes[place].copy_from_slice(&rows_id);
    }
    seal::sections(&mut file, id, left);
    file.bytes
}

/// Opens a collection of that manifest and of the files that `next` gives, kind by kind.
pub fn open(message: &[u8], flags: u8, mut next: impl FnMut(Kind) -> Option<Unpacked>) {
    let (left, folder, fs) = (Left(flags), Path::new("/data"), SimFs::new());
    read::put(&fs, &folder.join("manifest"), &seal::manifest(message, left));
    for (kind, name, id, rows_id) in named(message) {
        if let Some(file) = next(kind) {
            read::put(&fs, &folder.join(name), &sealed(file, id, rows_id, left));
        }
    }
    let sequence = pb::Manifest::decode(message).map_or(0, |manifest| manifest.sequence);
    let first = sequence.checked_add(1).unwrap_or(1);
    FileLog::begin(Arc::new(fs.clone()), &folder.join("log"), Sequence(first)).expect("there is none yet");
    let looked = [examine_files(&fs, folder).map(drop), verify_copy(&fs, folder).map(drop)];
    assert!(looked.iter().flat_map(Result::as_ref).all(|()| true));
    match Collection::open(Arc::new(fs.clone()), folder, LogOptions::default()) {
        Err(error) => assert!(error.to_string().contains("/data"), "no file is named: {error}"),
        Ok((collection, _)) => {
            read::everything(&collection);
            if flags & IS_WRITTEN_AGAIN != 0 {
                again(collection, fs, folder);
            }
        }
    }
}

/// What the engine does by itself sooner or later.
fn again(collection: Collection, fs: SimFs, folder: &Path) {
    let count = collection.view().record_count();
    collection.compact(&mut |_, _| ());
    read::everything(&collection);
    collection.checkpoint().expect("the disk is on");
    drop(collection);
    let (collection, _) = Collection::open(Arc::new(fs), folder, LogOptions::default())
        .unwrap_or_else(|error| panic!("what was let in and written again is refused: {error}"));
    assert_eq!(collection.view().record_count(), count);
    read::everything(&collection);
}
