//! The archive of a snapshot, taken in, sent again and restored.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use vectron::database::{Database, DatabaseOptions};
use vectron::pb::storage as pb;
use vectron::storage::fs::SimFs;
use vectron::types::{CollectionName, SnapshotName};

use super::log::FOLDER;
use super::packed::{Unpacked, unpack};
use super::seal::{self, Left};
use super::{read, segment};

/// A bit of the first byte: the archive ends where its last file does.
const ENDS_EARLY: u8 = 0x80;
const BLOCK_BYTES: usize = 512;

/// `input` is a byte of what is left wrong, then packed: for each entry of the archive its header, and its content (of info
/// and manifest the message).
pub fn run(input: &[u8]) {
    let Some((&flags, packed)) = input.split_first() else { return };
    let archive = archive(unpack(packed).into(), flags);
    let fs = SimFs::new();
    let (database, _) = Database::open(&FOLDER, DatabaseOptions { fs: Arc::new(fs), ..DatabaseOptions::default() })
        .expect("the disk is new");
    let name = SnapshotName::new("s").expect("a letter is a name");
    match database.receive_snapshot(&name, &archive[..], archive.len() as u64) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(database.snapshots().expect("the disk is on").is_empty(), "something is left of what was refused");
        }
        Ok(info) => {
            assert_eq!(database.verify_snapshot(&name).expect("it was just received"), info);
            let sent = database.open_snapshot(&name, true).expect("it was just received");
            let mut bytes = Vec::new();
            sent.write(0, &mut bytes).expect("memory can be written to");
            assert_eq!(bytes.len() as u64, sent.bytes());
            let restored = database.restore_snapshot(&name, &CollectionName::new("c").expect("a name"), None);
            if let Ok(collection) = restored {
                assert_eq!(collection.view().record_count() as u64, info.figures.record_count);
                read::everything(&collection);
            }
        }
    }
}

fn archive(mut files: VecDeque<Unpacked>, flags: u8) -> Vec<u8> {
    let left = Left(flags);
    let mut entries: Vec<(Vec<u8>, Unpacked)> = Vec::new();
    while let (Some(header), content) = (files.pop_front(), files.pop_front()) {
        entries.push((header.bytes, content.unwrap_or_default()));
    }
    let message = entries.get(1).map(|(_, manifest)| manifest.bytes.clone()).unwrap_or_default();
    let mut named = VecDeque::from(segment::named(&message));
    let mut sealed: Vec<(Vec<u8>, Option<String>, Vec<u8>)> = Vec::new();
    for (number, (header, content)) in entries.into_iter().enumerate() {
        sealed.push(match number {
            0 => (header, Some("info".to_owned()), content.bytes),
            1 => (header, Some("manifest".to_owned()), seal::manifest(&content.bytes, left)),
            _ => match named.pop_front() {
                Some((_, name, id, rows_id)) => (header, Some(name), segment::sealed(content, id, rows_id, left)),
                None => (header, None, content.bytes),
            },
        });
    }
    if let Some((.., info)) = sealed.first() {
        let bytes: usize = sealed.iter().skip(1).map(|(.., content)| content.len()).sum();
        sealed[0].2 = sealed_info(info, &message, bytes, left);
    }
    let mut archive = Vec::new();
    for (mut header, name, content) in sealed {
        header.resize(BLOCK_BYTES, 0);
        seal_header(&mut header, name.as_deref(), content.len(), left);
        archive.extend_from_slice(&header);
        archive.extend_from_slice(&content);
        archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    if flags & ENDS_EARLY == 0 {
        archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    }
    archive
}

/// With the figures that the manifest has.
fn sealed_info(info: &[u8], manifest: &[u8], bytes: usize, left: Left) -> Vec<u8> {
    let message = match (pb::SnapshotInfo::decode(info), pb::Manifest::decode(manifest)) {
        (Ok(mut info), Ok(manifest)) if left.mends(Left::NUMBERS) => {
            let dead = |part: &pb::Part| {
                let dead = roaring::RoaringBitmap::deserialize_from(&part.dead[..]);
                dead.map_or(0, |dead| dead.len())
            };
            let live = |part: &pb::Part| u64::from(part.row_count).saturating_sub(dead(part));
            info.sequence = manifest.sequence;
            info.record_count = manifest.parts.iter().map(live).sum();
            info.bytes = bytes as u64;
            info.encode_to_vec()
        }
        _ => info.to_vec(),
    };
    seal::manifest(&message, left)
}

/// Name, size and checksum, where POSIX ustar has them.
fn seal_header(header: &mut [u8], name: Option<&str>, bytes: usize, left: Left) {
    if let Some(name) = name.filter(|_| left.mends(Left::LINKS)) {
        header[..100].fill(0);
        header[..name.len()].copy_from_slice(name.as_bytes());
    }
    if left.mends(Left::LENGTHS) {
        header[124..136].copy_from_slice(format!("{bytes:011o}\0").as_bytes());
    }
    if left.mends(Left::CHECKSUMS) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
