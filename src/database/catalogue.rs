//! The log of create and drop, and the names that follow from it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use uuid::Uuid;

use crate::collection::{REVISION, RequestKey, RequestTable, Seen};
use crate::pb::storage as pb;
use crate::storage::fs::Fs;
use crate::storage::log::{
    Durability, Examined, FileLog, Log, LogError, LogOptions, LogRecord, OpenError, TornTail, examine as examine_log,
};
use crate::types::{CollectionName, Sequence};

/// Which collections there are.
pub(super) struct Catalogue {
    log: Arc<FileLog>,
    names: Names,
}

/// The fold of the log.
#[derive(Default)]
struct Names {
    ids: BTreeMap<CollectionName, Uuid>,
    dropped: HashSet<Uuid>,
    requests: RequestTable<CatalogueAnswer>,
}

/// One record of the log.
pub(super) enum CatalogueChange {
    Created { id: Uuid, name: CollectionName },
    Dropped { id: Uuid, record_count: u64 },
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CatalogueAnswer {
    Created,
    Dropped { record_count: u64 },
}

/// Why the catalogue cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// There are collections, but nothing says which.
    #[error("its log is missing in {}, but there are {collection_count} folders of collections: restore it", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// How many collections would be lost.
        collection_count: usize,
    },
    /// The log is whole, but a record of it is not of this version.
    #[error("record {sequence} cannot be understood: {reason}")]
    Record {
        /// The record.
        sequence: Sequence,
        /// What is wrong with it.
        reason: String,
    },
}

impl Catalogue {
    /// `collection_count`: how many folders of collections there are. With any, a missing catalogue is not begun anew:
    /// it would name none of them.
    pub fn open(
        fs: Arc<dyn Fs>,
        folder: &Path,
        collection_count: usize,
    ) -> Result<(Self, Option<TornTail>), CatalogueError> {
        let mut names = Names::default();
        let replay = |record: LogRecord<'_>| {
            let (change, key) = decode(record.payload)?;
            names.apply(change, key.as_ref());
            Ok::<(), String>(())
        };
        let (log, torn_tail) = match FileLog::open(fs.clone(), folder, LogOptions::default(), replay) {
            Ok((log, report)) => (log, report.torn_tail),
            // The very first start, or one that a crash cut short.
            Err(OpenError::Log(LogError::Missing { .. })) if collection_count == 0 => {
                (FileLog::create(fs, folder, LogOptions::default())?, None)
            }
            Err(OpenError::Log(LogError::Missing { .. })) => {
                return Err(CatalogueError::Missing { folder: folder.to_owned(), collection_count });
            }
            Err(OpenError::Log(error)) => return Err(error.into()),
            Err(OpenError::Replay { sequence, error: reason }) => {
                return Err(CatalogueError::Record { sequence, reason });
            }
        };
        Ok((Self { log: Arc::new(log), names }, torn_tail))
    }

    /// Its log, to ask after its health while a create or drop has the catalogue.
    pub fn log(&self) -> Arc<FileLog> {
        self.log.clone()
    }

    /// Whether nothing was ever created.
    pub fn is_new(&self) -> bool {
        self.log.last() == Sequence::ZERO
    }

    pub fn collections(&self) -> BTreeMap<CollectionName, Uuid> {
        self.names.ids.clone()
    }

    pub fn id(&self, name: &str) -> Option<Uuid> {
        self.names.ids.get(name).copied()
    }

    /// Whether there was a collection of that id, which was dropped.
    pub fn was_dropped(&self, id: Uuid) -> bool {
        self.names.dropped.contains(&id)
    }

    pub fn seen(&self, key: &RequestKey) -> Seen<CatalogueAnswer> {
        self.names.requests.seen(key)
    }

    /// Returns when the change is durable.
    pub fn append(&mut self, change: CatalogueChange, key: Option<RequestKey>) -> Result<(), LogError> {
        self.log.append(vec![encode(&change, key.as_ref())], Durability::Durable)?.wait()?;
        self.names.apply(change, key.as_ref());
        Ok(())
    }

    pub fn close(&self) {
        self.log.close();
    }

    pub fn health(&self) -> Result<(), LogError> {
        self.log.health()
    }
}

/// What a catalogue says that nobody has open.
pub(super) struct Found {
    /// The collections that it names.
    pub names: BTreeMap<CollectionName, Uuid>,
    /// Those that were dropped.
    pub dropped: HashSet<Uuid>,
    pub log: Examined,
}

/// A catalogue that nobody has open, as far as it can be read. Changes nothing.
pub(super) fn examine(fs: &dyn Fs, folder: &Path) -> Result<Found, CatalogueError> {
    let mut names = Names::default();
    let replay = |record: LogRecord<'_>| {
        let (change, _) = decode(record.payload)?;
        names.apply(change, None);
        Ok::<(), String>(())
    };
    match examine_log(fs, folder, &LogOptions::default(), replay) {
        Ok(log) => Ok(Found { names: names.ids, dropped: names.dropped, log }),
        Err(OpenError::Log(error)) => Err(error.into()),
        Err(OpenError::Replay { sequence, error: reason }) => Err(CatalogueError::Record { sequence, reason }),
    }
}

/// Makes a catalogue that names these collections and says that the others were dropped, in a folder that does not exist yet;
/// durable when this returns.
pub(super) fn write_new(
    fs: Arc<dyn Fs>,
    folder: &Path,
    names: &BTreeMap<CollectionName, Uuid>,
    dropped: impl Iterator<Item = Uuid>,
) -> Result<(), CatalogueError> {
    let log = FileLog::create(fs, folder, LogOptions::default())?;
    // An empty catalogue would pass for that of a first start, which takes in earlier Vectron's file.
    let dropped = [Uuid::nil()].into_iter().chain(dropped).map(|id| CatalogueChange::Dropped { id, record_count: 0 });
    let created = names.iter().map(|(name, id)| CatalogueChange::Created { id: *id, name: name.clone() });
    let payloads = dropped.chain(created).map(|change| encode(&change, None)).collect();
    log.append(payloads, Durability::Durable)?.wait()?;
    log.close();
    Ok(log.health()?)
}

impl Names {
    fn apply(&mut self, change: CatalogueChange, key: Option<&RequestKey>) {
        let answer = match change {
            CatalogueChange::Created { id, name } => {
                self.ids.insert(name, id);
                CatalogueAnswer::Created
            }
            CatalogueChange::Dropped { id, record_count } => {
                self.ids.retain(|_, existing| *existing != id);
                self.dropped.insert(id);
                CatalogueAnswer::Dropped { record_count }
            }
        };
        if let Some(key) = key {
            self.requests.remember(key, answer);
        }
    }
}

fn encode(change: &CatalogueChange, key: Option<&RequestKey>) -> Vec<u8> {
    use pb::catalogue_operation::Kind;
    let kind = match change {
        CatalogueChange::Created { id, name } => {
            Kind::Created(pb::CatalogueCreated { collection_id: id.to_string(), name: name.as_str().to_owned() })
        }
        CatalogueChange::Dropped { id, record_count } => {
            Kind::Dropped(pb::CatalogueDropped { collection_id: id.to_string(), record_count: *record_count })
        }
    };
    let request_key = key.map(RequestKey::encode);
    pb::CatalogueOperation { revision: REVISION, kind: Some(kind), request_key }.encode_to_vec()
}

fn decode(payload: &[u8]) -> Result<(CatalogueChange, Option<RequestKey>), String> {
    use pb::catalogue_operation::Kind;
    let operation = pb::CatalogueOperation::decode(payload).map_err(|error| error.to_string())?;
    if operation.revision > REVISION {
        return Err(format!(
            "it has revision {}, but this version reads revisions up to {REVISION}",
            operation.revision
        ));
    }
    let parse_id = |id: &str| Uuid::try_parse(id).map_err(|_| format!("collection id {id:?} is no UUID"));
    let change = match operation.kind {
        Some(Kind::Created(created)) => CatalogueChange::Created {
            id: parse_id(&created.collection_id)?,
            name: CollectionName::new(&created.name).map_err(|error| error.to_string())?,
        },
        Some(Kind::Dropped(dropped)) => {
            CatalogueChange::Dropped { id: parse_id(&dropped.collection_id)?, record_count: dropped.record_count }
        }
        None => return Err("it is of a kind that this version does not know".to_owned()),
    };
    Ok((change, operation.request_key.map(RequestKey::decode)))
}
