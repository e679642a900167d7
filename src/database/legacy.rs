//! Taking in `index.json` of earlier Vectron: `[{"id": "…", "vector": […]}, …]`, dimensions may differ.
//!
//! Happens once, when the catalogue is still empty. The file is only read; all of it is taken in, or nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Database, DatabaseError, raw_space};
use crate::collection::{
    Change, Collection, Content, Created, Operation, RecordWritten, RecoverError, Upserted, has_direction,
};
use crate::storage::log::{Durability, LogError};
use crate::types::limits::SPACES_MAX;
use crate::types::{CollectionName, Dimension, RecordId, Space, Vector};

/// The collection that the vectors go to.
const COLLECTION: &str = "default";
/// Records of one operation of the log.
const BATCH_RECORDS: usize = 1_000;

/// Why the file cannot be taken in.
#[derive(Debug, thiserror::Error)]
#[error("cannot take in {}: {reason}; mend the file, or move it away to start without it", path.display())]
pub struct LegacyError {
    path: PathBuf,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegacyRecord {
    id: String,
    vector: Vec<f32>,
}

/// Returns how many vectors were taken in; `None` where there is no such file.
pub(super) fn import(database: &Database) -> Result<Option<usize>, DatabaseError> {
    let path = database.folder().join("index.json");
    let Some(records) = read(&path)? else { return Ok(None) };
    let fail = |reason: String| LegacyError { path: path.clone(), reason };
    let mut dimensions: BTreeMap<Dimension, Space> = BTreeMap::new();
    for record in &records {
        dimensions.entry(record.vector.dimension()).or_insert_with(|| raw_space(record.vector.dimension()));
    }
    if dimensions.len() > SPACES_MAX {
        return Err(fail(format!("it has {} dimensions, more than {SPACES_MAX}", dimensions.len())).into());
    }
    let created = Created { spaces: dimensions.into_values().collect(), ..Created::default() };
    let name = CollectionName::new(COLLECTION).expect("the name is valid");
    let count = records.len();
    database.create_filled(&name, created, None, |collection| write(collection, records))?;
    Ok(Some(count))
}

fn read(path: &Path) -> Result<Option<Vec<RecordWritten>>, DatabaseError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(DatabaseError::Io { path: path.to_owned(), error });
        }
    };
    let fail = |reason: String| LegacyError { path: path.to_owned(), reason };
    let records: Vec<LegacyRecord> = serde_json::from_reader(BufReader::new(file))
        .map_err(|error| fail(format!("expected [{{\"id\": text, \"vector\": [numbers]}}, …], but {error}")))?;
    let mut last_of_id = HashMap::new();
    for (position, record) in records.into_iter().enumerate() {
        let name = format!("entry {position} (id {:?})", record.id);
        let id = RecordId::new(&record.id).map_err(|error| fail(format!("{name}: {error}")))?;
        let vector = Vector::new(record.vector).map_err(|error| fail(format!("{name}: {error}")))?;
        if !has_direction(&vector) {
            return Err(fail(format!("{name}: a zero vector has no cosine, so it could never be found")).into());
        }
        let space = raw_space(vector.dimension()).name;
        let content = Arc::new(Content::default());
        last_of_id.insert(id.clone(), (position, RecordWritten { id, space, vector, content, if_version: None }));
    }
    let mut records: Vec<(usize, RecordWritten)> = last_of_id.into_values().collect();
    records.sort_by_key(|(position, _)| *position);
    Ok(Some(records.into_iter().map(|(_, record)| record).collect()))
}

fn write(collection: &Collection, records: Vec<RecordWritten>) -> Result<(), RecoverError> {
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        let batch: Vec<RecordWritten> = records.by_ref().take(BATCH_RECORDS).collect();
        let is_last = records.peek().is_none();
        // The last sync covers all that was written before it.
        let durability = if is_last { Durability::Durable } else { Durability::Buffered };
        let change = Change::Upserted(Upserted { records: batch, ..Upserted::default() });
        let answer = collection.submit(Operation::new(change), durability)?;
        answer.blocking_recv().map_err(|_| LogError::Closed)???;
    }
    Ok(())
}
