//! Making a collection, and bringing one back from its log.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::collection::compact::Compactor;
use crate::collection::disk::DiskError;
use crate::collection::keep::Keeper;
use crate::collection::load::{Loaded, load, remove_leftovers};
use crate::collection::op::{Created, DecodeError, Operation};
use crate::collection::view::View;
use crate::collection::write::{self, Shared, Work, Writer};
use crate::collection::{Change, Collection, Outcome, Refusal};
use crate::index::graph::Residence;
use crate::storage::fs::Fs;
use crate::storage::log::{Durability, FileLog, Log, LogError, LogOptions, LogRecord, OpenError, TornTail};
use crate::storage::memory::MemoryBudget;
use crate::storage::space::SpaceGuard;
use crate::types::Sequence;

/// Why a collection could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log is whole, but a record of it is not of this version.
    #[error("record {sequence} of the log in {folder}: {error}")]
    Operation {
        /// The folder of the log.
        folder: PathBuf,
        /// The record.
        sequence: Sequence,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The first spaces contradict each other.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log holds nothing: the collection was never finished.
    #[error("the log in {folder} is empty: its first record, which creates the collection, is missing")]
    Empty {
        /// The folder of the log.
        folder: PathBuf,
    },
    /// A file beside the log cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The machine gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl RecoverError {
    /// Whether the machine lacks something, so that the log itself may be whole.
    pub fn is_of_the_machine(&self) -> bool {
        use std::io::ErrorKind;
        let error = match self {
            RecoverError::Thread(_) => return true,
            RecoverError::Log(LogError::Io { error, .. }) => Some(&**error),
            RecoverError::Disk(error) => error.io(),
            _ => None,
        };
        // 24 and 23: too many open files, in the process and in the system.
        error.is_some_and(|error| {
            matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == ErrorKind::OutOfMemory
        })
    }
}

/// How a collection is kept.
#[derive(Clone, Default)]
pub struct CollectionOptions {
    /// Its log.
    pub log: LogOptions,
    /// Where the vectors of segments are.
    pub vectors: Residence,
    /// What is asked before parts are loaded.
    pub memory: MemoryBudget,
    /// What is asked before a part is written; none: nothing is kept free.
    pub space: Option<Arc<SpaceGuard>>,
}

impl From<LogOptions> for CollectionOptions {
    fn from(log: LogOptions) -> Self {
        Self { log, ..Self::default() }
    }
}

impl Collection {
    /// Makes a collection in a folder that does not exist yet, durably.
    pub fn create(
        fs: Arc<dyn Fs>,
        folder: &Path,
        options: impl Into<CollectionOptions>,
        created: Created,
    ) -> Result<Self, RecoverError> {
        let options = options.into();
        let log = FileLog::create(fs.clone(), &log_folder(folder), options.log.clone())?;
        let collection = start(fs, folder, log, Loaded::default(), options)?;
        let operation = Operation::new(Change::Created(created));
        let answer = collection.submit(operation, Durability::Durable)?;
        answer.blocking_recv().map_err(|_| LogError::Closed)???;
        Ok(collection)
    }

    /// Opens a collection: as it stood at its latest checkpoint, and every later record of its log is applied again. Also
    /// returns what was cut off the end, if a crash had torn it.
    pub fn open(
        fs: Arc<dyn Fs>,
        folder: &Path,
        options: impl Into<CollectionOptions>,
    ) -> Result<(Self, Option<TornTail>), RecoverError> {
        let mut options = options.into();
        let log_folder = log_folder(folder);
        let mut loaded = load(&*fs, folder, options.vectors, &options.memory)?;
        options.vectors = loaded.residence;
        let Loaded { view, ledger, kept, .. } = &mut loaded;
        let mut log_options = options.log.clone();
        // Without a manifest all of it: then nothing was ever cut off.
        (log_options.first_needed, log_options.known_durable) = (kept.sequence.next(), kept.sequence);
        let replay = |record: LogRecord<'_>| {
            if record.sequence <= kept.sequence {
                return Ok(());
            }
            let operation = Operation::decode(record.payload.to_vec().into())?;
            check_places(view, &operation)?;
            let _: Outcome = view.apply(record.sequence, operation, ledger);
            if view.is_due() {
                view.seal();
            }
            Ok::<(), DecodeError>(())
        };
        let (log, report) =
            FileLog::open(fs.clone(), &log_folder, log_options, replay).map_err(|error| match error {
                OpenError::Log(error) => RecoverError::Log(error),
                OpenError::Replay { sequence, error } => {
                    RecoverError::Operation { folder: log_folder.clone(), sequence, error }
                }
            })?;
        if loaded.view.sequence() == Sequence::ZERO {
            return Err(RecoverError::Empty { folder: log_folder });
        }
        remove_leftovers(&*fs, folder)?;
        Ok((start(fs, folder, log, loaded, options)?, report.torn_tail))
    }
}

/// A write names spaces that exist, or brings them, and its vectors fit. One that does not was not written by us, though
/// its checksum holds; it may still contradict a space, and is refused then.
fn check_places(view: &View, operation: &Operation) -> Result<(), DecodeError> {
    let Change::Upserted(upserted) = &operation.change else { return Ok(()) };
    for record in &upserted.records {
        let existing = view.space_named(record.space.as_str()).map(|number| view.space(number));
        let brought = upserted.spaces.iter().filter(|space| space.name == record.space);
        let dimension = record.vector.dimension();
        if !existing.into_iter().chain(brought).any(|space| space.dimension == dimension) {
            let (id, space) = (&record.id, &record.space);
            return Err(DecodeError::Invalid(format!("record {id:?}: no space {space} of dimension {dimension}")));
        }
    }
    Ok(())
}

pub(super) fn log_folder(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn start(
    fs: Arc<dyn Fs>,
    folder: &Path,
    log: FileLog,
    loaded: Loaded,
    options: CollectionOptions,
) -> Result<Collection, RecoverError> {
    let Loaded { view, ledger, kept, memory, .. } = loaded;
    let has_unkept =
        view.parts.iter().flat_map(|parts| parts.sealed()).any(|one| !kept.files.contains_key(&one.number));
    let shared = Arc::new(Shared {
        visible: watch::Sender::new(view.sequence()),
        view: ArcSwap::from_pointee(view),
        ledger: Mutex::new(ledger),
        unapplied_bytes: AtomicU64::new(0),
    });
    let log: Arc<dyn Log> = Arc::new(log);
    let keeper = Keeper::new(fs.clone(), folder, log.clone(), kept, options);
    let (writer, queue) = Writer::new(log, shared.clone());
    let writer = Arc::new(writer);
    let compactor = Compactor::new(writer.clone());
    let applier = thread::Builder::new().name("vectron-apply".to_owned()).spawn({
        let (shared, compactor, keeper) = (shared.clone(), compactor.handle(), keeper.clone());
        move || write::apply_all(&queue, &shared, |view| compactor.look(view), |checkpoint| keeper.offer(checkpoint))
    })?;
    if has_unkept {
        // Much was replayed: the next start shall not have to.
        writer.arrange(Work::Seal);
    }
    // Once somebody can put segments in place.
    compactor.look(&shared.view.load());
    let (folder, applier) = (folder.to_owned(), Mutex::new(Some(applier)));
    Ok(Collection { fs, folder, shared, writer, applier, compactor, keeper, _memory: memory })
}
