//! Making a collection, and bringing one back from its log.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::thread;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::collection::compact::Compactor;
use crate::collection::ledger::Ledger;
use crate::collection::op::{Created, DecodeError, Operation};
use crate::collection::view::View;
use crate::collection::write::{self, Shared, Writer};
use crate::collection::{Change, Collection, Outcome, Refusal};
use crate::storage::fs::Fs;
use crate::storage::log::{Durability, FileLog, LogError, LogOptions, LogRecord, OpenError, TornTail};
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
    /// The machine gives no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl RecoverError {
    /// Whether the machine lacks something, so that the log itself may be whole.
    pub fn is_of_the_machine(&self) -> bool {
        use std::io::ErrorKind;
        match self {
            RecoverError::Thread(_) => true,
            RecoverError::Log(LogError::Io { error, .. }) => {
                // 24 and 23: too many open files, in the process and in the system.
                matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == ErrorKind::OutOfMemory
            }
            _ => false,
        }
    }
}

impl Collection {
    /// Makes a collection in a folder that does not exist yet, durably.
    pub fn create(fs: Arc<dyn Fs>, folder: &Path, options: LogOptions, created: Created) -> Result<Self, RecoverError> {
        let log = FileLog::create(fs, &log_folder(folder), options)?;
        let collection = start(folder, log, View::default(), Ledger::default())?;
        let operation = Operation::new(Change::Created(created));
        let answer = collection.submit(operation, Durability::Durable)?;
        answer.blocking_recv().map_err(|_| LogError::Closed)???;
        Ok(collection)
    }

    /// Opens a collection: every record of its log is applied again. Also returns what was cut off the end, if a
    /// crash had torn it.
    pub fn open(fs: Arc<dyn Fs>, folder: &Path, options: LogOptions) -> Result<(Self, Option<TornTail>), RecoverError> {
        let log_folder = log_folder(folder);
        let mut view = View::default();
        let mut ledger = Ledger::default();
        let replay = |record: LogRecord<'_>| {
            let operation = Operation::decode(record.payload.to_vec().into())?;
            check_places(&view, &operation)?;
            let _: Outcome = view.apply(record.sequence, operation, &mut ledger);
            Ok::<(), DecodeError>(())
        };
        let (log, report) = FileLog::open(fs, &log_folder, options, replay).map_err(|error| match error {
            OpenError::Log(error) => RecoverError::Log(error),
            OpenError::Replay { sequence, error } => {
                RecoverError::Operation { folder: log_folder.clone(), sequence, error }
            }
        })?;
        if view.sequence() == Sequence::ZERO {
            return Err(RecoverError::Empty { folder: log_folder });
        }
        Ok((start(folder, log, view, ledger)?, report.torn_tail))
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

fn log_folder(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn start(folder: &Path, log: FileLog, view: View, ledger: Ledger) -> Result<Collection, RecoverError> {
    let shared = Arc::new(Shared {
        visible: watch::Sender::new(view.sequence()),
        view: ArcSwap::from_pointee(view),
        ledger: Mutex::new(ledger),
        unapplied_bytes: AtomicU64::new(0),
    });
    let (writer, queue) = Writer::new(Arc::new(log), shared.clone());
    let writer = Arc::new(writer);
    let compactor = Compactor::new(writer.clone());
    let applier = thread::Builder::new().name("vectron-apply".to_owned()).spawn({
        let (shared, compactor) = (shared.clone(), compactor.handle());
        move || write::apply_all(&queue, &shared, |view| compactor.look(view))
    })?;
    // Once somebody can put segments in place.
    compactor.look(&shared.view.load());
    Ok(Collection { folder: folder.to_owned(), shared, writer, applier: Mutex::new(Some(applier)), compactor })
}
