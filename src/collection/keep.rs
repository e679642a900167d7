//! Keeping a collection on disk: parts in files of their own, and a manifest that says from where the log is to be replayed.
//!
//! A *checkpoint* is the collection between two records of its log, at a moment when every memtable is empty: what came later is
//! in the log, everything else in parts. The applier makes one where a memtable is full, or much was logged; a thread of its own
//! writes the parts that no file has yet, then the manifest, and then gives back what of the log is needed no more. Nobody waits for
//! it. Where it fails (no space, for example), the log stays as it is, and the same checkpoint is tried again after a second, then less
//! and less often, at least once a minute, until it is written or a later one takes its place.
//!
//! Invariants: the manifest names files that are synced, and records of the log that are durable; the log is cut after the manifest
//! was switched, never before; files that no manifest names are removed after that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::collection::CheckpointError;
use crate::collection::apply::Outcome;
use crate::collection::disk::{self, AnswersFile, DiskError, Manifest, PartEntry};
use crate::collection::ledger::Ledger;
use crate::collection::recover::CollectionOptions;
use crate::collection::request::Remembered;
use crate::collection::stream::StreamMark;
use crate::collection::view::{SpaceNumber, View};
use crate::collection::write::lock;
use crate::index::graph::Residence;
use crate::storage::fs::Fs;
use crate::storage::log::Log;
use crate::storage::space::SpaceGuard;
use crate::types::limits::REQUEST_IDS_MAX;
use crate::types::{Sequence, StreamId};

/// With more files of answers they are put together.
const ANSWERS_FILES_MAX: usize = 16;
/// How often a log is asked whether a record is durable.
const DURABLE_AGAIN: Duration = Duration::from_millis(5);
/// Time until a checkpoint that could not be written is tried again, doubled each time, and the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// A collection between two records of its log.
pub(super) struct Checkpoint {
    /// Memtables are empty.
    view: View,
    streams: Vec<(StreamId, StreamMark)>,
    /// Those since the checkpoint before.
    answers: Vec<Remembered<Outcome>>,
    /// Its place among those that were offered.
    number: u64,
}

impl Checkpoint {
    /// Of a view whose memtables are empty.
    pub fn new(view: &View, ledger: &mut Ledger) -> Self {
        let streams = ledger.streams.marks().map(|(stream_id, mark)| (stream_id.clone(), mark.clone())).collect();
        Self { view: view.clone(), streams, answers: ledger.requests.take_new(), number: 0 }
    }
}

/// What is on disk.
#[derive(Default)]
pub(super) struct Kept {
    /// The checkpoint that the manifest has.
    pub sequence: Sequence,
    /// Files of parts, by the number of the part.
    pub files: HashMap<u32, PartFiles>,
    /// Files of answers, oldest first.
    pub answers: Vec<AnswersFile>,
}

/// The files of a part.
#[derive(Clone, Copy)]
pub(super) struct PartFiles {
    pub rows_id: Uuid,
    pub graph_id: Option<Uuid>,
}

/// How keeping a collection on disk goes.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Bytes of the files beside the log, as of the latest checkpoint that was tried.
    pub parts_bytes: u64,
    /// Since the latest checkpoint was written; since the collection was opened, where none was.
    pub age: Duration,
    /// Attempts to write one that have failed since the collection was opened.
    pub failures: u64,
    /// Why the latest attempt has failed; none where it has not.
    pub error: Option<CheckpointError>,
}

/// Writes checkpoints.
pub(super) struct Keeper {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    log: Arc<dyn Log>,
    vectors: Residence,
    space: Option<Arc<SpaceGuard>>,
    state: Mutex<State>,
    /// Told when a checkpoint is to be written, was written, or could not be.
    changed: Condvar,
    /// Held by the thread that writes.
    kept: Mutex<Kept>,
    /// Told without waiting for that thread.
    parts_bytes: AtomicU64,
}

struct State {
    /// The latest that waits.
    waiting: Option<Checkpoint>,
    /// Where it was tried before: not again until then.
    not_before: Option<Instant>,
    /// Answers of checkpoints that could not be written.
    unkept_answers: Vec<Remembered<Outcome>>,
    thread: Option<JoinHandle<()>>,
    is_running: bool,
    is_closed: bool,
    /// A manifest could not be written: there are no checkpoints until the collection is opened anew.
    is_stuck: bool,
    /// Checkpoints that were offered, the latest of them that was tried, and the latest that was written.
    offered: u64,
    tried: u64,
    kept: u64,
    /// When the latest was written, or the collection was opened.
    kept_at: Instant,
    /// Attempts that have failed one after another, and in all.
    failures: u32,
    failures_total: u64,
    /// Why the latest could not be written.
    failure: Option<Arc<DiskError>>,
}

impl Keeper {
    pub fn new(fs: Arc<dyn Fs>, folder: &Path, log: Arc<dyn Log>, kept: Kept, options: CollectionOptions) -> Arc<Self> {
        let CollectionOptions { vectors, space, .. } = options;
        let state = State {
            waiting: None,
            not_before: None,
            unkept_answers: Vec::new(),
            thread: None,
            is_running: false,
            is_closed: false,
            is_stuck: false,
            offered: 0,
            tried: 0,
            kept: 0,
            kept_at: Instant::now(),
            failures: 0,
            failures_total: 0,
            failure: None,
        };
        let keeper = Self {
            fs,
            folder: folder.to_owned(),
            log,
            vectors,
            space,
            state: Mutex::new(state),
            changed: Condvar::new(),
            kept: Mutex::new(kept),
            parts_bytes: AtomicU64::new(0),
        };
        keeper.count_bytes();
        Arc::new(keeper)
    }

    /// How it goes.
    pub fn keeping(&self) -> Keeping {
        let state = lock(&self.state);
        Keeping {
            parts_bytes: self.parts_bytes.load(Ordering::Relaxed),
            age: state.kept_at.elapsed(),
            failures: state.failures_total,
            error: state.failure.clone().map(CheckpointError),
        }
    }

    /// Where they cannot be counted, the figure stays as it was: nothing depends on it.
    fn count_bytes(&self) {
        if let Ok(bytes) = disk::file_bytes(&*self.fs, &self.folder) {
            self.parts_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// Has a checkpoint written, in place of one that waits.
    pub fn offer(self: &Arc<Self>, mut checkpoint: Checkpoint) {
        let mut state = lock(&self.state);
        state.offered += 1;
        checkpoint.number = state.offered;
        if state.is_closed || state.is_stuck {
            return;
        }
        if let Some(mut older) = state.waiting.take() {
            older.answers.append(&mut checkpoint.answers);
            checkpoint.answers = older.answers;
        }
        state.waiting = Some(checkpoint);
        // Much may have changed since an older one has failed, and somebody may be waiting for this one.
        state.not_before = None;
        if state.is_running {
            self.changed.notify_all();
            return;
        }
        if let Some(ended) = state.thread.take() {
            let _ = ended.join();
        }
        let own = self.clone();
        match thread::Builder::new().name("vectron-keep".to_owned()).spawn(move || own.run()) {
            Ok(thread) => {
                state.thread = Some(thread);
                state.is_running = true;
            }
            // The next checkpoint tries again; until then the log has everything.
            Err(error) => tracing::warn!("cannot start a thread to write a checkpoint: {error}"),
        }
    }

    /// Waits until the checkpoint that was offered last, or a later one, was written. An error where it could not be; it is tried again
    /// all the same.
    pub fn wait(&self) -> Result<(), Arc<DiskError>> {
        let mut state = lock(&self.state);
        let offered = state.offered;
        while state.kept < offered {
            if state.tried >= offered || !state.is_running || state.is_closed {
                return Err(state.failure.clone().unwrap_or_else(|| Arc::new(DiskError::Stopped)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits until no checkpoint is being written, and lets none be written until the guard goes.
    pub fn hold(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// Whether the collection was closed.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// Stops what goes on, and waits for it.
    pub fn close(&self) {
        let thread = {
            let mut state = lock(&self.state);
            state.is_closed = true;
            state.waiting = None;
            state.thread.take()
        };
        self.changed.notify_all();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(folder = %self.folder.display(), "the thread that writes checkpoints had panicked");
        }
    }

    fn run(&self) {
        let running = Running(self);
        loop {
            let mut state = self.wait_for_turn();
            let Some(mut checkpoint) = state.waiting.take() else {
                state.is_running = false;
                std::mem::forget(running);
                self.changed.notify_all();
                return;
            };
            let mut answers = std::mem::take(&mut state.unkept_answers);
            answers.append(&mut checkpoint.answers);
            checkpoint.answers = answers;
            drop(state);
            let kept = self.try_to_keep(&checkpoint);
            self.count_bytes();
            let mut state = lock(&self.state);
            state.tried = checkpoint.number;
            match kept {
                Ok(()) => {
                    state.kept = checkpoint.number;
                    (state.kept_at, state.failures, state.failure) = (Instant::now(), 0, None);
                }
                Err(error) => self.put_off(&mut state, checkpoint, error),
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Returns when the checkpoint that waits may be tried, or none waits.
    fn wait_for_turn(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        while state.waiting.is_some()
            && let Some(left) = state.not_before.and_then(|time| time.checked_duration_since(Instant::now()))
            && !left.is_zero()
        {
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Has a checkpoint that could not be written wait for another attempt, unless a later one waits, or none can succeed.
    fn put_off(&self, state: &mut State, mut checkpoint: Checkpoint, error: DiskError) {
        state.unkept_answers.append(&mut checkpoint.answers);
        let excess = state.unkept_answers.len().saturating_sub(REQUEST_IDS_MAX);
        state.unkept_answers.drain(..excess);
        let is_final = matches!(error, DiskError::Stopped) || state.is_closed || state.is_stuck;
        if !matches!(error, DiskError::Stopped) {
            let again = if is_final { ", and none is until the collection is opened anew" } else { "" };
            tracing::warn!(
                folder = %self.folder.display(),
                "a checkpoint could not be written{again}, so the log goes on growing: {error}"
            );
        }
        state.failures_total += u64::from(!matches!(error, DiskError::Stopped));
        state.failure = Some(Arc::new(error));
        if is_final || state.waiting.is_some() {
            return;
        }
        let pause = RETRY_FIRST.saturating_mul(1 << state.failures.min(16)).min(RETRY_LAST);
        state.failures += 1;
        (state.waiting, state.not_before) = (Some(checkpoint), Some(Instant::now() + pause));
    }

    /// After a failure what was written on the way counts for nothing: a sync that is tried again may succeed for bytes that were
    /// dropped the first time.
    fn try_to_keep(&self, checkpoint: &Checkpoint) -> Result<(), DiskError> {
        let mut kept = lock(&self.kept);
        let before = kept.files.clone();
        self.keep(checkpoint, &mut kept).inspect_err(|_| kept.files = before)
    }

    fn keep(&self, checkpoint: &Checkpoint, kept: &mut Kept) -> Result<(), DiskError> {
        let (fs, folder) = (&*self.fs, &*self.folder);
        let view = &checkpoint.view;
        disk::create_folder(fs, folder)?;
        let mut parts = Vec::new();
        for space in 0..view.spaces.len() as u16 {
            self.keep_parts(view, SpaceNumber(space), kept, &mut parts)?;
        }
        let mut answers = kept.answers.clone();
        self.keep_answers(&checkpoint.answers, view, &mut answers)?;
        disk::sync_folder(fs, folder)?;
        let manifest = Manifest {
            sequence: view.sequence(),
            description: view.description.clone(),
            default_model_id: view.default_model_id.clone(),
            spaces: view.spaces.clone(),
            parts,
            next_part: view.new_number(),
            streams: checkpoint.streams.clone(),
            answers,
        };
        self.wait_until_durable(manifest.sequence)?;
        if let Err(error) = disk::write_manifest(fs, folder, &manifest) {
            // Nobody knows which manifest is there, so no file that either names may change until that is found out.
            lock(&self.state).is_stuck = true;
            return Err(error);
        }
        let is_needed = |number: &u32| manifest.parts.iter().any(|part| part.number == *number);
        kept.files.retain(|number, _| is_needed(number));
        kept.answers.clone_from(&manifest.answers);
        kept.sequence = manifest.sequence;
        // From here on nothing can go wrong that the next checkpoint does not mend.
        if let Err(error) = self.log.truncate_before(manifest.sequence.next()) {
            tracing::warn!(folder = %folder.display(), "the log could not be cut: {error}");
        }
        if let Err(error) = disk::remove_others(fs, folder, |number, kind| manifest.names(number, kind)) {
            tracing::warn!(folder = %folder.display(), "files that are needed no more could not be removed: {error}");
        }
        Ok(())
    }

    /// Writes the parts of a space that no file has.
    fn keep_parts(
        &self,
        view: &View,
        space: SpaceNumber,
        kept: &mut Kept,
        entries: &mut Vec<PartEntry>,
    ) -> Result<(), DiskError> {
        let parts = view.parts(space);
        assert_eq!(parts.memtable().row_count(), 0, "a checkpoint has everything in parts");
        for sealed in parts.sealed().iter().filter(|sealed| sealed.table.live_count() > 0) {
            let dead = sealed.table.dead().collect();
            let (code_bytes, vector_bytes) = sealed.table.bytes();
            let files = self.files_of(kept, sealed.number, code_bytes + vector_bytes, || {
                let rows_id = disk::write_table(&*self.fs, &self.folder, sealed.number, &sealed.table)?;
                Ok(PartFiles { rows_id, graph_id: None })
            })?;
            entries.push(entry(sealed.number, space, files, sealed.table.row_count(), dead));
        }
        for held in parts.segments().iter().filter(|held| held.live_count() > 0) {
            let bytes = held.segment.graph().bytes();
            let bytes = bytes.blocks + bytes.codes + bytes.vectors + held.segment.record_bytes();
            let files = self.files_of(kept, held.number, bytes, || {
                let (rows_id, graph_id) = disk::write_segment(&*self.fs, &self.folder, held.number, &held.segment)?;
                if self.vectors == Residence::Mapped
                    && !disk::lie_in_file(&*self.fs, &self.folder, held.number, rows_id, &held.segment)
                {
                    tracing::warn!(folder = %self.folder.display(), "the vectors of a segment stay in memory: its file could not be mapped");
                }
                Ok(PartFiles { rows_id, graph_id: Some(graph_id) })
            })?;
            entries.push(entry(held.number, space, files, held.segment.row_count(), held.dead.iter().collect()));
        }
        Ok(())
    }

    fn files_of(
        &self,
        kept: &mut Kept,
        number: u32,
        bytes: usize,
        write: impl FnOnce() -> Result<PartFiles, DiskError>,
    ) -> Result<PartFiles, DiskError> {
        if lock(&self.state).is_closed {
            return Err(DiskError::Stopped);
        }
        if let Some(&files) = kept.files.get(&number) {
            return Ok(files);
        }
        self.space.as_ref().map_or(Ok(()), |space| space.admit(bytes as u64))?;
        let files = write()?;
        kept.files.insert(number, files);
        Ok(files)
    }

    fn keep_answers(
        &self,
        new: &[Remembered<Outcome>],
        view: &View,
        files: &mut Vec<AnswersFile>,
    ) -> Result<(), DiskError> {
        let (fs, folder) = (&*self.fs, &*self.folder);
        let write = |answers: &[Remembered<Outcome>]| {
            let number = view.new_number();
            let id = disk::write_answers(fs, folder, number, answers)?;
            Ok::<_, DiskError>(AnswersFile { number, id, count: answers.len() as u32 })
        };
        if !new.is_empty() {
            files.push(write(new)?);
        }
        if files.len() > ANSWERS_FILES_MAX {
            let read = files.iter().map(|file| disk::read_answers(fs, folder, file.number, file.id));
            match read.collect::<Result<Vec<_>, _>>() {
                Ok(all) => {
                    let mut all = all.concat();
                    all.drain(..all.len().saturating_sub(REQUEST_IDS_MAX));
                    *files = vec![write(&all)?];
                }
                // The next start will name it; until then checkpoints go on.
                Err(error) => tracing::error!("{error}"),
            }
        }
        Ok(())
    }

    fn wait_until_durable(&self, sequence: Sequence) -> Result<(), DiskError> {
        while self.log.durable() < sequence {
            if self.log.health().is_err() || lock(&self.state).is_closed {
                return Err(DiskError::Stopped);
            }
            thread::sleep(DURABLE_AGAIN);
        }
        Ok(())
    }
}

fn entry(number: u32, space: SpaceNumber, files: PartFiles, row_count: usize, dead: RoaringBitmap) -> PartEntry {
    let PartFiles { rows_id, graph_id } = files;
    PartEntry { number, space: space.0, rows_id, row_count: row_count as u32, dead, graph_id }
}

/// A thread that writes, until it ends in whatever way.
struct Running<'a>(&'a Keeper);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state: MutexGuard<'_, State> = lock(&self.0.state);
        state.is_running = false;
        drop(state);
        self.0.changed.notify_all();
    }
}
