//! Several files in few bytes. Most of a file is zeros up to the next multiple of 4,096, which a fuzzer would change in vain:
//! they are left out.
//!
//! A packed input is a list of chunks: two bytes (little endian; the highest bit begins a new file, the others are the
//! length), then the chunk's bytes. A chunk that another one of the same file follows is filled up with zeros to the next
//! multiple of 4,096. Any bytes unpack to something.

use std::ops::Range;

/// What chunks begin at multiples of.
pub const ALIGNMENT: usize = 4096;
const BEGINS_FILE: u16 = 1 << 15;

/// A file as it was unpacked.
#[derive(Clone, Debug, Default)]
pub struct Unpacked {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where its chunks lie.
    pub chunks: Vec<Range<usize>>,
}

/// The files of a packed input.
pub fn unpack(mut input: &[u8]) -> Vec<Unpacked> {
    let mut files: Vec<Unpacked> = Vec::new();
    while let Some((head, rest)) = input.split_first_chunk::<2>() {
        let head = u16::from_le_bytes(*head);
        let (chunk, rest) = rest.split_at(rest.len().min((head & !BEGINS_FILE).into()));
        input = rest;
        if head & BEGINS_FILE != 0 || files.is_empty() {
            files.push(Unpacked::default());
        }
        let file = files.last_mut().expect("there is one now");
        let start = file.bytes.len().next_multiple_of(ALIGNMENT);
        file.bytes.resize(start, 0);
        file.bytes.extend_from_slice(chunk);
        file.chunks.push(start..file.bytes.len());
    }
    files
}

/// Packs a file, of which only `chunks` is not zero. Each begins where the one before it, filled up, ends.
pub fn pack(file: &[u8], chunks: &[Range<usize>], packed: &mut Vec<u8>) {
    for (number, chunk) in chunks.iter().enumerate() {
        let begins = if number == 0 { BEGINS_FILE } else { 0 };
        let length = u16::try_from(chunk.len()).ok().filter(|length| length & BEGINS_FILE == 0);
        let length = length.unwrap_or_else(|| panic!("a chunk has at most 32767 bytes, got {}", chunk.len()));
        packed.extend_from_slice(&(begins | length).to_le_bytes());
        packed.extend_from_slice(&file[chunk.clone()]);
    }
}
