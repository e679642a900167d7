//! The log in a folder of files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::commit::Shared;
use super::files::{self, LogFile};
use super::format::LogId;
use super::recover::{OpenReport, recover};
use super::repair::keep_aside;
use super::tail::FileTail;
use super::writer::{Writer, create_first_file};
use super::{Completion, Durability, Log, LogError, LogOptions, LogRecord, OpenError, Tail};
use crate::storage::fs::{Fs, create_dir_durably};
use crate::types::Sequence;

/// A log in a folder of its own, written by this process alone: see `storage::lock`. Dropping it closes it.
pub struct FileLog {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    log_id: LogId,
    shared: Arc<Shared>,
    /// The commit threads, until they are joined. Locked for the whole of `close`, so that a second one waits for it.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Two at a time would remove files twice. Never held with another lock but for bookkeeping.
    truncating: Mutex<()>,
}

impl FileLog {
    /// Creates a log in a folder that is absent or holds none, durably: folder, file and their names are synced.
    pub fn create(fs: Arc<dyn Fs>, folder: &Path, options: LogOptions) -> Result<Self, LogError> {
        Self::begin(fs.clone(), folder, Sequence::ZERO.next())?;
        let opened = Self::open(fs, folder, options, |_| Ok::<(), std::convert::Infallible>(()));
        opened.map(|(log, _)| log).map_err(|error| match error {
            OpenError::Log(error) => error,
            OpenError::Replay { error, .. } => match error {},
        })
    }

    /// As `create`, for records from `first` on, and without opening it: what came before lies elsewhere, in a snapshot.
    pub fn begin(fs: Arc<dyn Fs>, folder: &Path, first: Sequence) -> Result<(), LogError> {
        create_dir_durably(fs.as_ref(), folder).map_err(LogError::io("create", folder))?;
        let (present, temporary) = files::list(fs.as_ref(), folder)?;
        if !present.is_empty() {
            return Err(LogError::Exists { folder: folder.to_owned() });
        }
        files::remove_temporary(fs.as_ref(), folder, &temporary)?;
        create_first_file(fs.as_ref(), folder, first)
    }

    /// Takes all files from a log that nobody has open, and keeps them in the folder `aside`, durably. It can be interrupted, and done
    /// again.
    pub fn put_aside(fs: &dyn Fs, folder: &Path, aside: &Path) -> Result<(), LogError> {
        if !fs.exists(folder).map_err(LogError::io("find", folder))? {
            return Ok(());
        }
        let (paths, _) = files::list(fs, folder)?;
        keep_aside(fs, &paths, aside)?;
        for path in paths.iter().rev() {
            fs.remove_file(path).map_err(LogError::io("remove", path))?;
            fs.sync_dir(folder).map_err(LogError::io("sync", folder))?;
        }
        Ok(())
    }

    /// Opens a log, verifies it, and replays all records in order. A torn tail is cut off and reported.
    ///
    /// When this fails, `replay` may have seen records: what it has built is to be thrown away.
    pub fn open<E>(
        fs: Arc<dyn Fs>,
        folder: &Path,
        options: LogOptions,
        replay: impl FnMut(LogRecord<'_>) -> Result<(), E>,
    ) -> Result<(Self, OpenReport), OpenError<E>> {
        let recovered = recover(&fs, folder, &options, replay)?;
        let writer = Writer::new(fs.clone(), folder, options.segment_bytes_max, &recovered)?;
        let shared = Arc::new(Shared::new(&recovered, options));
        let log = Self {
            fs,
            folder: folder.to_owned(),
            log_id: recovered.log_id,
            shared: shared.clone(),
            threads: Mutex::default(),
            truncating: Mutex::new(()),
        };
        // Should the second thread not start, dropping `log` ends the first.
        let syncing = shared.clone();
        log.spawn("log-sync", move || syncing.run_sync())?;
        log.spawn("log-append", move || shared.run_append(writer))?;
        Ok((log, recovered.report))
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        let thread = thread.map_err(LogError::io("start a thread for", &self.folder))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Takes the oldest file off the list if it holds only records before `sequence`. The last file always stays.
    fn take_oldest_before(&self, sequence: Sequence) -> Option<LogFile> {
        let mut state = self.shared.lock();
        match state.files.get(1) {
            Some(second) if second.first <= sequence => Some(state.files.remove(0)),
            _ => None,
        }
    }
}

impl Log for FileLog {
    fn append(&self, payloads: Vec<Vec<u8>>, durability: Durability) -> Result<Completion, LogError> {
        self.shared.append(payloads, durability)
    }

    fn tail(&self, from: Sequence) -> Result<Tail, LogError> {
        Ok(Box::new(FileTail::new(self.fs.clone(), self.shared.clone(), self.log_id, from)?))
    }

    fn last(&self) -> Sequence {
        self.shared.lock().written
    }

    fn durable(&self) -> Sequence {
        self.shared.lock().durable
    }

    fn truncate_before(&self, sequence: Sequence) -> Result<(), LogError> {
        let _one_at_a_time = self.truncating.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(file) = self.take_oldest_before(sequence) {
            if let Err(error) = self.fs.remove_file(&file.path) {
                let error = LogError::io("remove", &file.path)(error);
                // Else the one after it would be removed the next time, and leave a gap.
                self.shared.lock().files.insert(0, file);
                return Err(error);
            }
            // Before the next one goes: after a power cut the missing files have to be the first ones.
            self.fs.sync_dir(&self.folder).map_err(LogError::io("sync", &self.folder))?;
        }
        Ok(())
    }

    fn fence(&self, epoch: u64) -> Result<(), LogError> {
        self.shared.fence(epoch)
    }

    fn bytes(&self) -> u64 {
        self.shared.lock().files.iter().map(|file| file.bytes).sum()
    }

    fn health(&self) -> Result<(), LogError> {
        self.shared.lock().health()
    }

    fn close(&self) {
        self.shared.close();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic has poisoned the log and is reported by `health`.
            let _ = thread.join();
        }
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        self.close();
    }
}
