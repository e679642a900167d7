//! What a snapshot says of itself: the file `info`.

use std::path::Path;

use prost::Message;

use crate::collection::{Figures, REVISION, RequestKey};
use crate::pb::storage as pb;
use crate::storage::fs::Fs;
use crate::storage::manifest::{self, ManifestError};
use crate::types::{CollectionName, Sequence, SnapshotName};

/// The name of the file.
pub const FILE_NAME: &str = "info";
/// An `info` is small: more is none.
pub const BYTES_MAX: u64 = 64 << 10;
/// Snapshots came with this revision of what is stored, and are as they were then.
const REVISION_SNAPSHOT: u32 = 3;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotName,
    /// The collection that it is a copy of.
    pub collection: CollectionName,
    /// When it was made: microseconds since the Unix epoch.
    pub create_time_us: i64,
    /// What it holds.
    pub figures: Figures,
    /// The version of the program that made it.
    pub program_version: String,
    /// The request that made it.
    pub key: Option<RequestKey>,
}

/// Writes it into the folder of a snapshot, durably.
pub fn write(fs: &dyn Fs, folder: &Path, info: &SnapshotInfo) -> Result<(), ManifestError> {
    let (request_id, content_hash) =
        info.key.as_ref().map(|key| (key.request_id.clone(), key.content_hash)).unwrap_or_default();
    let message = pb::SnapshotInfo {
        revision: REVISION_SNAPSHOT,
        name: info.name.to_string(),
        collection: info.collection.to_string(),
        create_time_us: info.create_time_us,
        sequence: info.figures.sequence.0,
        record_count: info.figures.record_count,
        bytes: info.figures.bytes,
        program_version: info.program_version.clone(),
        request_id,
        content_hash,
    };
    manifest::write_named(fs, folder, FILE_NAME, &message.encode_to_vec())
}

/// Reads it; none where the folder is no snapshot.
pub fn read(fs: &dyn Fs, folder: &Path) -> Result<Option<SnapshotInfo>, ManifestError> {
    let Some(message) = manifest::read_named(fs, folder, FILE_NAME)? else { return Ok(None) };
    let file = folder.join(FILE_NAME);
    let damaged = |reason: String| ManifestError::Damaged { file: file.clone(), reason };
    let info = pb::SnapshotInfo::decode(&message[..]).map_err(|error| damaged(error.to_string()))?;
    if info.revision > REVISION {
        return Err(damaged(format!("it has revision {}, this version reads up to {REVISION}", info.revision)));
    }
    let key = RequestKey { request_id: info.request_id, content_hash: info.content_hash };
    Ok(Some(SnapshotInfo {
        name: SnapshotName::new(&info.name).map_err(|error| damaged(error.to_string()))?,
        collection: CollectionName::new(&info.collection).map_err(|error| damaged(error.to_string()))?,
        create_time_us: info.create_time_us,
        figures: Figures { sequence: Sequence(info.sequence), record_count: info.record_count, bytes: info.bytes },
        program_version: info.program_version,
        key: Some(key).filter(|key| !key.request_id.is_empty()),
    }))
}
