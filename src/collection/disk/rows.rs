//! What a rows file has beside vectors: ids, versions, texts and metadata, in the order of the rows.

use std::sync::Arc;

use prost::Message;

use super::DiskError;
use crate::collection::memtable::Row;
use crate::collection::op::{Content, DecodeError, decode_fields, decode_id, encode_fields};
use crate::pb::storage as pb;
use crate::storage::sections::{Kind, SectionFile, SectionWriter};
use crate::types::{Metadata, RecordId, Sequence};

pub const KIND: Kind = Kind { number: 1, name: "rows", format: 1 };

/// u64 for each row.
const VERSIONS: u32 = 3;
/// Where the id of each row ends, u64; and the ids one after another.
const ID_ENDS: u32 = 4;
const IDS: u32 = 5;
/// The same for texts and metadata. A row without either has no bytes.
const CONTENT_ENDS: u32 = 6;
const CONTENTS: u32 = 7;

/// Writes the sections.
pub fn write<'a>(writer: &mut SectionWriter<'_>, rows: impl Iterator<Item = Row<'a>> + Clone) -> Result<(), DiskError> {
    writer.begin(VERSIONS)?;
    rows.clone().try_for_each(|row| writer.write(&row.version.0.to_le_bytes()))?;
    let (mut ends, mut end) = (Vec::new(), 0_u64);
    writer.begin(IDS)?;
    for row in rows.clone() {
        let id = row.id.as_str().as_bytes();
        end += id.len() as u64;
        ends.extend_from_slice(&end.to_le_bytes());
        writer.write(id)?;
    }
    writer.section(ID_ENDS, &ends)?;
    ends.clear();
    end = 0;
    writer.begin(CONTENTS)?;
    for row in rows {
        let content = encode(row.content).encode_to_vec();
        end += content.len() as u64;
        ends.extend_from_slice(&end.to_le_bytes());
        writer.write(&content)?;
    }
    Ok(writer.section(CONTENT_ENDS, &ends)?)
}

/// What was read back.
pub struct RowsRead {
    pub ids: Vec<RecordId>,
    pub versions: Vec<Sequence>,
    pub contents: Vec<Arc<Content>>,
}

/// Reads the sections of so many rows.
pub fn read(file: &SectionFile, row_count: usize) -> Result<RowsRead, DiskError> {
    let numbers = |tag: u32| -> Result<Vec<u64>, DiskError> {
        let bytes = file.read(tag)?;
        if bytes.len() != 8 * row_count {
            let reason = format!("expected {} bytes of section {tag}, got {}", 8 * row_count, bytes.len());
            return Err(file.nonsense(tag, reason).into());
        }
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    };
    let of_content = |error| DiskError::Content { file: file.path().to_owned(), error };
    let ids = Slices::new(file, IDS, numbers(ID_ENDS)?)?;
    let contents = Slices::new(file, CONTENTS, numbers(CONTENT_ENDS)?)?;
    let empty: Arc<Content> = Arc::default();
    let id = |row| {
        let text = std::str::from_utf8(ids.get(row)).map_err(|error| DecodeError::Invalid(format!("id: {error}")))?;
        decode_id(text)
    };
    let content = |row| match contents.get(row) {
        [] => Ok(empty.clone()),
        bytes => pb::RowContent::decode(bytes).map_err(DecodeError::from).and_then(decode).map(Arc::new),
    };
    Ok(RowsRead {
        ids: (0..row_count).map(id).collect::<Result<_, _>>().map_err(of_content)?,
        versions: numbers(VERSIONS)?.into_iter().map(Sequence).collect(),
        contents: (0..row_count).map(content).collect::<Result<_, _>>().map_err(of_content)?,
    })
}

/// Pieces of a section that lie one after another.
struct Slices {
    bytes: Vec<u8>,
    ends: Vec<u64>,
}

impl Slices {
    fn new(file: &SectionFile, tag: u32, ends: Vec<u64>) -> Result<Self, DiskError> {
        let bytes = file.read(tag)?;
        if !ends.is_sorted() || ends.last().copied().unwrap_or(0) != bytes.len() as u64 {
            return Err(file.nonsense(tag, format!("the pieces of section {tag} do not fill it")).into());
        }
        Ok(Self { bytes, ends })
    }

    fn get(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start as usize..self.ends[row] as usize]
    }
}

fn encode(content: &Content) -> pb::RowContent {
    pb::RowContent {
        text: content.text.as_deref().map(str::to_owned),
        metadata: encode_fields(content.metadata.fields()),
    }
}

fn decode(content: pb::RowContent) -> Result<Content, DecodeError> {
    let fields = decode_fields(content.metadata);
    let metadata = Metadata::new(fields).map_err(|error| DecodeError::Invalid(format!("metadata: {error}")))?;
    Ok(Content { text: content.text.map(String::into_boxed_str), metadata })
}
