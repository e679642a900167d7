//! The bytes of a log file: file header, group header, record. Encoding and decoding only; no input or output.
//!
//! `docs/data_format.md` is the definition; the offsets below are its tables. Decoding takes any bytes, never panics
//! and never allocates: what does not hold comes back as a [`Defect`].

use std::fmt;

use super::LogRecord;
use crate::types::Sequence;

/// Header blocks and groups start at multiples of this.
pub(super) const BLOCK_BYTES: u64 = 4096;
pub(super) const GROUP_HEADER_BYTES: usize = 48;
pub(super) const RECORD_HEADER_BYTES: usize = 40;
/// The newest format this version reads, and the one it writes: of files, groups and records alike.
pub(super) const FORMAT: u32 = 1;

const FILE_MAGIC: &[u8; 8] = b"VECTRLOG";
const GROUP_MAGIC: &[u8; 4] = b"VGRP";
const FILE_CHECKSUM_AT: usize = BLOCK_BYTES as usize - 4;

/// Rounds up to the next multiple of [`BLOCK_BYTES`].
pub(super) fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Defect {
    /// Written by a later version: the checksum holds, the format is newer.
    NewerFormat(u32),
    /// Expected and found.
    Broken(String),
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerFormat(found) => write!(f, "format {found}, this version reads up to {FORMAT}"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

fn broken(reason: impl Into<String>) -> Defect {
    Defect::Broken(reason.into())
}

/// The random name of a log, the same in all of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId(pub [u8; 16]);

impl LogId {
    pub(super) fn random() -> Self {
        Self(*uuid::Uuid::new_v4().as_bytes())
    }

    /// The chain value before the first record of the log.
    pub(super) fn first_chain(self) -> u32 {
        crc32c::crc32c(&self.0)
    }
}

/// The first block of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub log_id: LogId,
    pub number: u64,
    pub first: Sequence,
    pub durable: Sequence,
    pub fence: u64,
    pub chain: u32,
}

impl FileHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        block[..8].copy_from_slice(FILE_MAGIC);
        block[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        block[16..32].copy_from_slice(&self.log_id.0);
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        block[40..48].copy_from_slice(&self.first.0.to_le_bytes());
        block[48..56].copy_from_slice(&self.durable.0.to_le_bytes());
        block[56..64].copy_from_slice(&self.fence.to_le_bytes());
        block[64..68].copy_from_slice(&self.chain.to_le_bytes());
        let checksum = crc32c::crc32c(&block[..FILE_CHECKSUM_AT]);
        block[FILE_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    pub(super) fn decode(block: &[u8]) -> Result<Self, Defect> {
        if block.len() != BLOCK_BYTES as usize {
            return Err(broken(format!("a file header has {BLOCK_BYTES} bytes, found {}", block.len())));
        }
        if &block[..8] != FILE_MAGIC {
            return Err(broken("the file header does not begin with VECTRLOG"));
        }
        let (stored, computed) = (u32_at(block, FILE_CHECKSUM_AT), crc32c::crc32c(&block[..FILE_CHECKSUM_AT]));
        if stored != computed {
            return Err(broken(format!("file header has checksum {stored:08x}, its bytes give {computed:08x}")));
        }
        known_format(u32_at(block, 8))?;
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&block[16..32]);
        Ok(Self {
            log_id: LogId(log_id),
            number: u64_at(block, 32),
            first: Sequence(u64_at(block, 40)),
            durable: Sequence(u64_at(block, 48)),
            fence: u64_at(block, 56),
            chain: u32_at(block, 64),
        })
    }
}

/// Where a group lies. It is part of the checksum, so that a group verifies only at its own place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub log_id: LogId,
    pub file_number: u64,
    pub offset: u64,
}

/// The head of a group; a mark is a group without records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub records: u32,
    pub records_bytes: u64,
    pub first: Sequence,
    pub durable: Sequence,
    pub fence: u64,
}

impl GroupHeader {
    pub(super) fn encode(&self, place: Place) -> [u8; GROUP_HEADER_BYTES] {
        let mut header = [0; GROUP_HEADER_BYTES];
        header[..4].copy_from_slice(GROUP_MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[12..16].copy_from_slice(&self.records.to_le_bytes());
        header[16..24].copy_from_slice(&self.records_bytes.to_le_bytes());
        header[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        header[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        header[40..48].copy_from_slice(&self.fence.to_le_bytes());
        let checksum = group_checksum(&header, place);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// `bytes` begin with the header and may go on.
    pub(super) fn decode(bytes: &[u8], place: Place) -> Result<Self, Defect> {
        let Some(header) = bytes.first_chunk::<GROUP_HEADER_BYTES>() else {
            return Err(broken(format!("a group header has {GROUP_HEADER_BYTES} bytes, found {}", bytes.len())));
        };
        if &header[..4] != GROUP_MAGIC {
            return Err(broken("a group does not begin with VGRP"));
        }
        let (stored, computed) = (u32_at(header, 4), group_checksum(header, place));
        if stored != computed {
            return Err(broken(format!("group header has checksum {stored:08x}, its bytes give {computed:08x}")));
        }
        known_format(u32_at(header, 8))?;
        let header = Self {
            records: u32_at(header, 12),
            records_bytes: u64_at(header, 16),
            first: Sequence(u64_at(header, 24)),
            durable: Sequence(u64_at(header, 32)),
            fence: u64_at(header, 40),
        };
        if header.durable >= header.first {
            return Err(broken(format!("group begins at {}, but marks {} as durable", header.first, header.durable)));
        }
        Ok(header)
    }

    /// One past the group's last record.
    pub(super) fn end(&self) -> Sequence {
        Sequence(self.first.0.saturating_add(u64::from(self.records)))
    }

    /// Header and records, without padding; `None` if no file can be that large.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.records_bytes.checked_add(GROUP_HEADER_BYTES as u64)
    }
}

fn group_checksum(header: &[u8; GROUP_HEADER_BYTES], place: Place) -> u32 {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&place.log_id.0);
    key[16..24].copy_from_slice(&place.file_number.to_le_bytes());
    key[24..].copy_from_slice(&place.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&key), &header[8..])
}

/// Appends one record to `group` and returns its checksum: the chain value of the record after it.
///
/// The payload is shorter than 4 GiB: `append` refuses others.
pub(super) fn encode_record(group: &mut Vec<u8>, record: &LogRecord<'_>, chain: u32) -> u32 {
    let payload_bytes = u32::try_from(record.payload.len()).expect("append refuses payloads of 4 GiB and more");
    let start = group.len();
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    header[8..12].copy_from_slice(&payload_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&chain.to_le_bytes());
    header[16..24].copy_from_slice(&record.sequence.0.to_le_bytes());
    header[24..32].copy_from_slice(&record.epoch.to_le_bytes());
    header[32..40].copy_from_slice(&record.time_us.to_le_bytes());
    group.extend_from_slice(&header);
    group.extend_from_slice(record.payload);
    let checksum = crc32c::crc32c(&group[start + 4..]);
    group[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// A record with what ties it to its neighbours.
#[derive(Debug)]
pub(super) struct DecodedRecord<'a> {
    pub record: LogRecord<'a>,
    pub chain: u32,
    pub checksum: u32,
    /// Header and payload.
    pub bytes: usize,
}

/// Decodes and verifies the record that `bytes` begin with.
pub(super) fn decode_record(bytes: &[u8]) -> Result<DecodedRecord<'_>, Defect> {
    let decoded = parse_record(bytes)?;
    let (stored, computed) = (decoded.checksum, crc32c::crc32c(&bytes[4..decoded.bytes]));
    if stored != computed {
        return Err(broken(format!("a record has checksum {stored:08x}, its bytes give {computed:08x}")));
    }
    known_format(u32_at(bytes, 4))?;
    Ok(decoded)
}

/// As [`decode_record`], for bytes that were verified before.
pub(super) fn parse_record(bytes: &[u8]) -> Result<DecodedRecord<'_>, Defect> {
    let Some(header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Err(broken(format!("a record header has {RECORD_HEADER_BYTES} bytes, found {}", bytes.len())));
    };
    let end = RECORD_HEADER_BYTES as u64 + u64::from(u32_at(header, 8));
    if end > bytes.len() as u64 {
        return Err(broken(format!(
            "a record of {end} bytes reaches beyond its group, which has {} left",
            bytes.len()
        )));
    }
    let record = LogRecord {
        sequence: Sequence(u64_at(header, 16)),
        epoch: u64_at(header, 24),
        time_us: u64_at(header, 32).cast_signed(),
        payload: &bytes[RECORD_HEADER_BYTES..end as usize],
    };
    Ok(DecodedRecord { record, chain: u32_at(header, 12), checksum: u32_at(header, 0), bytes: end as usize })
}

/// Zero is no format: a checksum over nothing but zeros must not pass for one.
fn known_format(format: u32) -> Result<(), Defect> {
    match format {
        FORMAT => Ok(()),
        0 => Err(broken("format 0 does not exist")),
        newer => Err(Defect::NewerFormat(newer)),
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(value)
}
