//! For tests: files of sections that verify, though no program of ours has written them like this.

use std::fs;
use std::path::Path;

/// Changes a section where it is, and puts every checksum right. The file becomes one of its own: its other names keep the old one.
pub fn rewrite_section(path: &Path, tag: u32, change: impl FnOnce(&mut [u8])) {
    const PIECE_BYTES: usize = 1 << 20;
    let mut bytes = fs::read(path).unwrap();
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let (table, table_bytes) = (long(&bytes, 40), long(&bytes, 48));
    let mut entry = table;
    while number(&bytes, entry) != tag as usize {
        entry += 24 + 4 * number(&bytes, entry + 4);
        assert!(entry < table + table_bytes, "the file has a section {tag}");
    }
    let (offset, length) = (long(&bytes, entry + 8), long(&bytes, entry + 16));
    change(&mut bytes[offset..offset + length]);
    let sums: Vec<u32> = bytes[offset..offset + length].chunks(PIECE_BYTES).map(crc32c::crc32c).collect();
    for (piece, sum) in sums.into_iter().enumerate() {
        bytes[entry + 24 + 4 * piece..][..4].copy_from_slice(&sum.to_le_bytes());
    }
    let of_table = crc32c::crc32c(&bytes[table..table + table_bytes]);
    bytes[36..40].copy_from_slice(&of_table.to_le_bytes());
    let of_header = crc32c::crc32c(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&of_header.to_le_bytes());
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}
