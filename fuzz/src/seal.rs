//! Puts right what no mutation could: checksums, and the numbers that follow from others. `docs/data_format.md` has the
//! bytes. Works on any bytes; what it does not understand stays as it is.

use std::ops::Range;

use super::packed::{ALIGNMENT, Unpacked};

/// The first byte of an input: each set bit leaves something as it is, so that it is wrong once in a while.
#[derive(Clone, Copy, Debug)]
pub struct Left(pub u8);

impl Left {
    /// The chain of records, ids of files.
    pub const LINKS: u8 = 1;
    /// Sequences, counts, figures.
    pub const NUMBERS: u8 = 2;
    /// Lengths, and where something begins.
    pub const LENGTHS: u8 = 4;
    /// Checksums.
    pub const CHECKSUMS: u8 = 8;

    /// Whether that is put right.
    pub fn mends(self, what: u8) -> bool {
        self.0 & what == 0
    }
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

fn put_checksum(bytes: &mut [u8], at: usize, covered: Range<usize>) {
    if let Some(sum) = bytes.get(covered).map(crc32c::crc32c) {
        put(bytes, at, &sum.to_le_bytes());
    }
}

/// A message in the frame of a manifest.
pub fn manifest(message: &[u8], left: Left) -> Vec<u8> {
    if !left.mends(Left::CHECKSUMS) {
        return message.to_vec();
    }
    let mut file = b"VECTRMAN".to_vec();
    file.extend_from_slice(&1_u32.to_le_bytes());
    let length = (message.len() as u64).to_le_bytes();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&[&1_u32.to_le_bytes()[..], &length].concat()), message);
    file.extend_from_slice(&sum.to_le_bytes());
    file.extend_from_slice(&length);
    file.extend_from_slice(message);
    file
}

/// A file of sections. Its chunks are the header, the sections, and the table.
pub fn sections(file: &mut Unpacked, id: Option<[u8; 16]>, left: Left) {
    let Unpacked { bytes, chunks } = file;
    if let Some(id) = id.filter(|_| left.mends(Left::LINKS)) {
        put(bytes, 16, &id);
    }
    if let ([_, contents @ .., place], true) = (&mut chunks[..], left.mends(Left::LENGTHS)) {
        put(bytes, 40, &(place.start as u64).to_le_bytes());
        put(bytes, 48, &(place.len() as u64).to_le_bytes());
        let tags: Vec<u32> = table(bytes).into_iter().map(|(tag, _)| tag).collect();
        bytes.truncate(place.start);
        for (tag, content) in tags.into_iter().zip(contents) {
            bytes.extend_from_slice(&tag.to_le_bytes());
            // Chunks are shorter than a piece.
            let pieces = u32::from(content.start < content.end);
            bytes.extend_from_slice(&pieces.to_le_bytes());
            bytes.extend_from_slice(&(content.start as u64).to_le_bytes());
            bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
            bytes.resize(bytes.len() + 4 * pieces as usize, 0);
        }
        place.end = bytes.len();
        let length = place.len() as u64;
        put(bytes, 48, &length.to_le_bytes());
    }
    if !left.mends(Left::CHECKSUMS) {
        return;
    }
    let (start, length) = (u64_at(bytes, 40).unwrap_or(0) as usize, u64_at(bytes, 48).unwrap_or(0) as usize);
    let end = start.saturating_add(length).min(bytes.len());
    let mut entry = start;
    while entry < end {
        let (Some(pieces), Some(offset), Some(length)) =
            (u32_at(bytes, entry + 4), u64_at(bytes, entry + 8), u64_at(bytes, entry + 16))
        else {
            break;
        };
        let content = offset as usize..(offset as usize).saturating_add(length as usize);
        if pieces == 1 {
            put_checksum(bytes, entry + 24, content);
        }
        entry = entry.saturating_add(24).saturating_add((pieces as usize).saturating_mul(4));
    }
    put_checksum(bytes, 36, start.min(end)..end);
    put_checksum(bytes, ALIGNMENT - 4, 0..ALIGNMENT - 4);
}

/// Where a section of that tag lies: for packing, and to change it.
pub fn section(bytes: &[u8], tag: u32) -> Option<Range<usize>> {
    let found = table(bytes).into_iter().find(|(found, _)| *found == tag);
    found.map(|(_, range)| range).filter(|range| range.end <= bytes.len())
}

/// Tags and places of all sections, as far as the table can be followed.
pub fn table(bytes: &[u8]) -> Vec<(u32, Range<usize>)> {
    let mut found = Vec::new();
    let (Some(start), Some(length)) = (u64_at(bytes, 40), u64_at(bytes, 48)) else { return found };
    let (mut entry, end) = (start as usize, (start as usize).saturating_add(length as usize).min(bytes.len()));
    while entry < end {
        let (Some(tag), Some(pieces), Some(offset), Some(length)) =
            (u32_at(bytes, entry), u32_at(bytes, entry + 4), u64_at(bytes, entry + 8), u64_at(bytes, entry + 16))
        else {
            break;
        };
        found.push((tag, offset as usize..(offset as usize).saturating_add(length as usize)));
        entry = entry.saturating_add(24).saturating_add((pieces as usize).saturating_mul(4));
    }
    found
}

const GROUP_BYTES: usize = 48;
const RECORD_BYTES: usize = 40;

/// What goes from one file of a log to the next.
#[derive(Default)]
pub struct LogState {
    log_id: Option<[u8; 16]>,
    number: u64,
    sequence: u64,
    chain: u32,
}

/// A file of a log, after those before it. Its chunks are the header and the groups.
pub fn log_file(file: &mut Unpacked, state: &mut LogState, left: Left) {
    let Unpacked { bytes, chunks } = file;
    if bytes.len() < ALIGNMENT {
        return;
    }
    if let (Some(log_id), true) = (state.log_id, left.mends(Left::LINKS)) {
        put(bytes, 16, &log_id);
        put(bytes, 64, &state.chain.to_le_bytes());
    }
    if let (Some(_), true) = (state.log_id, left.mends(Left::NUMBERS)) {
        put(bytes, 32, &state.number.wrapping_add(1).to_le_bytes());
        put(bytes, 40, &state.sequence.to_le_bytes());
    }
    let mut log_id = [0; 16];
    log_id.copy_from_slice(&bytes[16..32]);
    state.log_id = Some(log_id);
    state.number = u64_at(bytes, 32).unwrap_or(0);
    state.sequence = u64_at(bytes, 40).unwrap_or(0);
    if left.mends(Left::LINKS) && state.sequence == 1 {
        put(bytes, 64, &crc32c::crc32c(&log_id).to_le_bytes());
    }
    state.chain = u32_at(bytes, 64).unwrap_or(0);
    if left.mends(Left::CHECKSUMS) {
        put_checksum(bytes, ALIGNMENT - 4, 0..ALIGNMENT - 4);
    }
    for group in chunks.iter().skip(1) {
        seal_group(bytes, group, state, left);
    }
}

fn seal_group(bytes: &mut [u8], group: &Range<usize>, state: &mut LogState, left: Left) {
    if group.len() < GROUP_BYTES {
        return;
    }
    let start = group.start;
    if left.mends(Left::NUMBERS) {
        put(bytes, start + 24, &state.sequence.to_le_bytes());
    }
    if left.mends(Left::LENGTHS) {
        put(bytes, start + 16, &((group.len() - GROUP_BYTES) as u64).to_le_bytes());
    }
    let (mut record, mut records) = (start + GROUP_BYTES, 0_u32);
    while group.end - record >= RECORD_BYTES {
        let mut length = u32_at(bytes, record + 8).unwrap_or(0) as usize;
        let room = group.end - record - RECORD_BYTES;
        // The last one takes what is left.
        if left.mends(Left::LENGTHS) && (length > room || room - length < RECORD_BYTES) {
            length = room;
            put(bytes, record + 8, &(length as u32).to_le_bytes());
        }
        if left.mends(Left::LINKS) {
            put(bytes, record + 12, &state.chain.to_le_bytes());
        }
        if left.mends(Left::NUMBERS) {
            put(bytes, record + 16, &state.sequence.to_le_bytes());
        }
        if length > room {
            break;
        }
        let end = record + RECORD_BYTES + length;
        if left.mends(Left::CHECKSUMS) {
            put_checksum(bytes, record, record + 4..end);
        }
        state.chain = u32_at(bytes, record).unwrap_or(0);
        state.sequence = state.sequence.wrapping_add(1);
        (record, records) = (end, records + 1);
    }
    if left.mends(Left::NUMBERS) {
        put(bytes, start + 12, &records.to_le_bytes());
    }
    if left.mends(Left::CHECKSUMS) {
        let mut covered = state.log_id.unwrap_or_default().to_vec();
        covered.extend_from_slice(&state.number.to_le_bytes());
        covered.extend_from_slice(&(start as u64).to_le_bytes());
        covered.extend_from_slice(&bytes[start + 8..start + GROUP_BYTES]);
        put(bytes, start + 4, &crc32c::crc32c(&covered).to_le_bytes());
    }
}
