//! All collections of a data folder: opening, creating, dropping, listing.
//!
//! ```text
//! data/LOCK                     held while a process uses the folder
//! data/catalogue/               the log of create and drop
//! data/collections/<uuid>/      one collection: its log, and what is beside it
//! data/snapshots/<name>/        a copy of one (`snapshots`)
//! ```
//!
//! Invariants: a collection exists if the catalogue says so; its folder is made, durably, before the catalogue's
//! record and removed after it. A folder that the catalogue says was dropped is removed at the next start; one that it does not know
//! was never finished, or its record was the last one and is lost: nobody can tell, so it is left as it is, and told. A damaged
//! collection is kept apart and named; the others are served.

pub mod benchmark;
mod catalogue;
mod legacy;
mod raw_space;
mod repair;
pub mod snapshots;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use crate::collection::{
    Applied, Collection, CollectionOptions, Created, DiskError, Operation, RecoverError, RequestKey, Residence, Seen,
};
use crate::storage::fs::{Fs, RealFs, create_dir_durably};
use crate::storage::lock::{DirectoryLock, LockError};
use crate::storage::log::{Durability, FileLog, Log, LogError, TornTail};
use crate::storage::memory::MemoryBudget;
use crate::storage::space::{LowSpace, SpaceGuard};
use crate::types::CollectionName;
use crate::types::limits::COLLECTIONS_MAX;
pub use catalogue::CatalogueError;
use catalogue::{Catalogue, CatalogueAnswer, CatalogueChange};
pub use legacy::LegacyError;
pub use raw_space::raw_space;
pub use repair::{LogFound, LogState, Mending, Owner, RepairOptions, repair};

/// An open data folder.
pub struct Database {
    folder: PathBuf,
    fs: Arc<dyn Fs>,
    vectors: Residence,
    memory: MemoryBudget,
    /// Held for a whole create, and for a drop until it is durable; so they happen one after the other.
    catalogue: Mutex<Catalogue>,
    /// Held for a look-up or an exchange only.
    entries: RwLock<BTreeMap<CollectionName, Entry>>,
    catalogue_log: Arc<FileLog>,
    space: Arc<SpaceGuard>,
    snapshots_busy: snapshots::Busy,
    /// Released when the database is dropped, after the collections are closed.
    _lock: DirectoryLock,
}

/// How a data folder is opened.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// The file system of everything but the lock, which is on the real one.
    pub fs: Arc<dyn Fs>,
    /// Where the vectors of segments are.
    pub vectors: Residence,
    /// What may be loaded. A collection that needs more is not opened, and named.
    pub memory: MemoryBudget,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self { fs: Arc::new(RealFs), vectors: Residence::default(), memory: MemoryBudget::default() }
    }
}

/// A collection of the catalogue.
#[derive(Clone)]
pub enum Entry {
    /// Open.
    Open(Arc<Collection>),
    /// Its log could not be opened; the files are left as they are.
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// There is too little memory for it; its files are as they should be.
    NotLoaded {
        /// How much it needs, and how much there is.
        reason: String,
    },
}

/// How a collection came to be there.
enum Made<T> {
    /// Now, filled.
    New(Arc<Collection>, T),
    /// By an earlier call with the same request id.
    Before(Arc<Collection>),
}

/// What was found when the folder was opened.
#[derive(Debug, Default)]
pub struct OpenReport {
    /// Collections that are open.
    pub collections: usize,
    /// Records in them.
    pub records: usize,
    /// What a crash had torn, and was cut off.
    pub torn: Vec<(String, TornTail)>,
    /// Collections that could not be opened, with the reason.
    pub damaged: Vec<(CollectionName, String)>,
    /// Collections for which there is too little memory, with how much they need.
    pub not_loaded: Vec<(CollectionName, String)>,
    /// Folders of collections that the catalogue neither names nor says were dropped. They are left as they are.
    pub unknown: Vec<PathBuf>,
    /// Vectors taken in from `index.json` of earlier Vectron.
    pub imported: Option<usize>,
}

/// Why the database does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Another process uses the folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The folder cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The catalogue cannot be read or written.
    #[error("the catalogue: {0}")]
    Catalogue(#[from] CatalogueError),
    /// A collection cannot be made.
    #[error(transparent)]
    Collection(#[from] RecoverError),
    /// `index.json` of earlier Vectron cannot be taken in.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// There is none of that name.
    #[error("there is no collection {name:?}; {}", existing_collections(existing))]
    NotFound {
        /// The name.
        name: String,
        /// Some that exist.
        existing: Vec<String>,
    },
    /// There is one of that name already.
    #[error("there is a collection {name:?} already")]
    AlreadyExists {
        /// The name.
        name: CollectionName,
    },
    /// It could not be opened.
    #[error("collection {name:?} could not be opened: {reason}")]
    Damaged {
        /// The name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// There is too little memory for it.
    #[error("collection {name:?} is not loaded: {reason}")]
    NotLoaded {
        /// The name.
        name: String,
        /// How much it needs, and how much there is.
        reason: String,
    },
    /// The machine has no more files, threads or memory for it.
    #[error("collection {name} cannot be opened: {error}; raise the limits of the process (ulimit -n, ulimit -u)")]
    CannotOpen {
        /// The name.
        name: CollectionName,
        /// What was refused.
        error: Box<RecoverError>,
    },
    /// The disk is nearly full.
    #[error(transparent)]
    LowSpace(#[from] LowSpace),
    /// A write or a sync has failed, so nothing more is written to it.
    #[error("{what} takes no writes: {error}")]
    ReadOnly {
        /// What.
        what: String,
        /// The first failure.
        error: LogError,
    },
    /// There are as many collections as a server takes.
    #[error("a server has at most {COLLECTIONS_MAX} collections")]
    TooMany,
    /// The request id stands for another request.
    #[error("request id {request_id:?} was used before, for a request with another content")]
    RequestIdReused {
        /// The request id.
        request_id: String,
    },
}

fn existing_collections(existing: &[String]) -> String {
    if existing.is_empty() { "there are none yet".to_owned() } else { format!("there are: {}", existing.join(", ")) }
}

impl Database {
    /// Opens the folder, or makes it. Every log is replayed before this returns.
    pub fn open(folder: &Path, options: DatabaseOptions) -> Result<(Self, OpenReport), DatabaseError> {
        let DatabaseOptions { fs, vectors, memory } = options;
        let io = |error| DatabaseError::Io { path: folder.to_owned(), error };
        // First by itself: where it is there already, its own name may not be durable yet.
        create_dir_durably(&*fs, folder).map_err(io)?;
        create_dir_durably(&*fs, &folder.join("collections")).map_err(io)?;
        let lock = DirectoryLock::acquire(folder)?;
        benchmark::remove_leftovers(folder);
        let collection_count = collection_folders(&*fs, folder)?.len();
        let (catalogue, torn) = Catalogue::open(fs.clone(), &folder.join("catalogue"), collection_count)?;
        let is_first_start = catalogue.is_new();
        let database = Self {
            folder: folder.to_owned(),
            space: Arc::new(SpaceGuard::new(fs.clone(), folder, 0)),
            fs,
            vectors,
            memory,
            catalogue_log: catalogue.log(),
            catalogue: Mutex::new(catalogue),
            entries: RwLock::default(),
            snapshots_busy: snapshots::Busy::default(),
            _lock: lock,
        };
        let mut report = OpenReport::default();
        report.torn.extend(torn.map(|torn| ("the catalogue".to_owned(), torn)));
        report.unknown = database.remove_leftovers()?;
        if let Err(error) = database.remove_unfinished_snapshots() {
            tracing::warn!("{error}");
        }
        database.open_collections(&mut report)?;
        if is_first_start {
            report.imported = legacy::import(&database)?;
        }
        for entry in database.entries().values() {
            if let Entry::Open(collection) = entry {
                report.collections += 1;
                report.records += collection.view().record_count();
            }
        }
        Ok((database, report))
    }

    /// From now on keeps so many bytes of the disk free: what would leave less is refused. Nothing is kept free until then.
    pub fn keep_free(&self, bytes: u64) {
        self.space.keep_free(bytes);
    }

    /// Whether so many bytes may be written now. To be asked before an upsert; making a collection asks by itself, and
    /// what makes room, or little, need not ask.
    pub fn admit(&self, bytes: u64) -> Result<(), DatabaseError> {
        Ok(self.space.admit(bytes)?)
    }

    /// Bytes of the data folder's disk that may still be written; none where the system does not tell.
    pub fn free_bytes(&self) -> Option<u64> {
        self.space.free_bytes()
    }

    /// Whether everything that is served can be written to; else the first log that cannot.
    pub fn health(&self) -> Result<(), DatabaseError> {
        let read_only = |what: String| move |error| DatabaseError::ReadOnly { what, error };
        self.catalogue_log.health().map_err(read_only("the catalogue".to_owned()))?;
        for (name, entry) in self.entries().iter() {
            if let Entry::Open(collection) = entry {
                collection.health().map_err(read_only(format!("collection {name}")))?;
            }
        }
        Ok(())
    }

    /// An open collection.
    pub fn get(&self, name: &str) -> Result<Arc<Collection>, DatabaseError> {
        match self.entry(name)? {
            Entry::Open(collection) => Ok(collection),
            Entry::Damaged { reason } => Err(DatabaseError::Damaged { name: name.to_owned(), reason }),
            Entry::NotLoaded { reason } => Err(DatabaseError::NotLoaded { name: name.to_owned(), reason }),
        }
    }

    /// A collection, open or damaged.
    pub fn entry(&self, name: &str) -> Result<Entry, DatabaseError> {
        let entries = self.entries();
        entries.get(name).cloned().ok_or_else(|| {
            let existing = entries.keys().take(10).map(CollectionName::to_string).collect();
            DatabaseError::NotFound { name: name.to_owned(), existing }
        })
    }

    /// All collections in the order of their names, from the first after `after`.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<(CollectionName, Entry)> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries();
        entries
            .range::<str, _>((start, Bound::Unbounded))
            .take(limit)
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect()
    }

    /// Makes a collection, durably. A retry with the same key gets the same one.
    pub fn create(
        &self,
        name: &CollectionName,
        created: Created,
        key: Option<RequestKey>,
    ) -> Result<Arc<Collection>, DatabaseError> {
        match self.create_filled(name, created, key, |_| Ok(()))? {
            Made::New(collection, ()) => Ok(collection),
            Made::Before(collection) => Ok(collection),
        }
    }

    /// Makes a collection with its first operation, before anybody can see it: both happen, or neither. Where another
    /// writer was faster, AlreadyExists.
    pub fn create_with(
        &self,
        name: &CollectionName,
        first: Operation,
        durability: Durability,
    ) -> Result<Applied, DatabaseError> {
        let fill = |collection: &Collection| {
            let answer = collection.submit(first, durability)?;
            Ok(answer.blocking_recv().map_err(|_| LogError::Closed)???)
        };
        match self.create_filled(name, Created::default(), None, fill)? {
            Made::New(_, applied) => Ok(applied),
            Made::Before(_) => Err(DatabaseError::AlreadyExists { name: name.clone() }),
        }
    }

    /// As `create`; the collection is filled before anybody can see it.
    fn create_filled<T>(
        &self,
        name: &CollectionName,
        created: Created,
        key: Option<RequestKey>,
        fill: impl FnOnce(&Collection) -> Result<T, RecoverError>,
    ) -> Result<Made<T>, DatabaseError> {
        let mut catalogue = self.catalogue();
        if let Some(made) = self.made_before(&catalogue, name, key.as_ref())? {
            return Ok(Made::Before(made));
        }
        self.admit(0)?;
        let id = Uuid::new_v4();
        let folder = self.collection_folder(id);
        let made = Collection::create(self.fs.clone(), &folder, self.options(), created)
            .and_then(|collection| fill(&collection).map(|filled| (collection, filled)))
            .map_err(DatabaseError::from)
            .and_then(|made| self.sync_folder(&self.folder.join("collections")).map(|()| made));
        let (collection, filled) = match made {
            Ok(made) => made,
            Err(error) => {
                self.remove_folder(id);
                return Err(error);
            }
        };
        Ok(Made::New(self.publish(&mut catalogue, id, name, key, collection)?, filled))
    }

    /// The collection that an earlier call with the same key has made; none where one of that name can be made now.
    fn made_before(
        &self,
        catalogue: &Catalogue,
        name: &CollectionName,
        key: Option<&RequestKey>,
    ) -> Result<Option<Arc<Collection>>, DatabaseError> {
        match key.map(|key| catalogue.seen(key)) {
            Some(Seen::Answered(_)) => return self.get(name.as_str()).map(Some),
            Some(Seen::Reused) => return Err(reused(key.cloned())),
            Some(Seen::Never) | None => {}
        }
        if self.entries().contains_key(name) {
            return Err(DatabaseError::AlreadyExists { name: name.clone() });
        }
        if self.entries().len() >= COLLECTIONS_MAX {
            return Err(DatabaseError::TooMany);
        }
        Ok(None)
    }

    /// Puts a collection whose folder is durable into the catalogue, and then where others find it.
    fn publish(
        &self,
        catalogue: &mut Catalogue,
        id: Uuid,
        name: &CollectionName,
        key: Option<RequestKey>,
        collection: Collection,
    ) -> Result<Arc<Collection>, DatabaseError> {
        if let Err(error) = catalogue.append(CatalogueChange::Created { id, name: name.clone() }, key) {
            // Unless it surely is not in the catalogue, the next start finds out; the folder stays until then.
            if was_not_written(&error) {
                drop(collection);
                self.remove_folder(id);
            }
            return Err(error.into());
        }
        let collection = Arc::new(collection);
        self.entries_mut().insert(name.clone(), Entry::Open(collection.clone()));
        Ok(collection)
    }

    /// Drops a collection with everything in it, and returns how many records that were. A damaged one can be dropped.
    pub fn drop_collection(&self, name: &str, key: Option<RequestKey>) -> Result<u64, DatabaseError> {
        let mut catalogue = self.catalogue();
        match key.as_ref().map(|key| catalogue.seen(key)) {
            Some(Seen::Answered(CatalogueAnswer::Dropped { record_count })) => return Ok(record_count),
            Some(Seen::Answered(CatalogueAnswer::Created) | Seen::Reused) => return Err(reused(key)),
            Some(Seen::Never) | None => {}
        }
        let Some(id) = catalogue.id(name) else {
            return self.get(name).map(|_| 0);
        };
        let record_count = match self.get(name) {
            Ok(collection) => collection.view().record_count() as u64,
            Err(_) => 0,
        };
        if let Err(error) = catalogue.append(CatalogueChange::Dropped { id, record_count }, key) {
            drop(catalogue);
            if !was_not_written(&error) {
                self.set_aside(name, &error);
            }
            return Err(error.into());
        }
        let entry = self.entries_mut().remove(name);
        // It is dropped. Closing may wait for the disk or a build, and removing for many files: others need not wait for that.
        drop(catalogue);
        if let Some(Entry::Open(collection)) = entry {
            collection.close();
        }
        self.remove_folder(id);
        Ok(record_count)
    }

    /// A drop that failed half way may be found done at the next start. Until then nothing more may be acknowledged.
    fn set_aside(&self, name: &str, error: &LogError) {
        let reason = format!("dropping it has failed ({error}); the next start tells whether it is gone");
        let Some(entry) =
            self.entries_mut().get_mut(name).map(|entry| std::mem::replace(entry, Entry::Damaged { reason }))
        else {
            return;
        };
        if let Entry::Open(collection) = entry {
            collection.close();
        }
    }

    /// Closes every collection: what was accepted is applied and synced. False where a log could not be synced.
    pub fn close(&self) -> bool {
        let mut is_synced = true;
        for (name, entry) in self.list(None, usize::MAX) {
            let Entry::Open(collection) = entry else { continue };
            collection.close();
            if let Err(error) = collection.health() {
                tracing::error!("collection {name}: {error}");
                is_synced = false;
            }
        }
        let catalogue = self.catalogue();
        catalogue.close();
        if let Err(error) = catalogue.health() {
            tracing::error!("the catalogue: {error}");
            is_synced = false;
        }
        is_synced
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn options(&self) -> CollectionOptions {
        CollectionOptions {
            vectors: self.vectors,
            memory: self.memory.clone(),
            space: Some(self.space.clone()),
            ..CollectionOptions::default()
        }
    }

    /// A collection with a damaged log is set aside; where the machine cannot open any more, nothing is served.
    fn open_collections(&self, report: &mut OpenReport) -> Result<(), DatabaseError> {
        let known = self.catalogue().collections();
        for (name, id) in known {
            let opened = Collection::open(self.fs.clone(), &self.collection_folder(id), self.options());
            let entry = match opened {
                Ok((collection, torn)) => {
                    report.torn.extend(torn.map(|torn| (format!("collection {name}"), torn)));
                    Entry::Open(Arc::new(collection))
                }
                Err(error) if error.is_of_the_machine() => {
                    return Err(DatabaseError::CannotOpen { name, error: Box::new(error) });
                }
                Err(error @ RecoverError::Disk(DiskError::NoMemory(_))) => {
                    report.not_loaded.push((name.clone(), error.to_string()));
                    Entry::NotLoaded { reason: error.to_string() }
                }
                Err(error) => {
                    report.damaged.push((name.clone(), error.to_string()));
                    Entry::Damaged { reason: error.to_string() }
                }
            };
            self.entries_mut().insert(name, entry);
        }
        Ok(())
    }

    /// Removes the folders of collections that were dropped when the process ended, and returns those that nobody knows of. Only
    /// names that are ours to give are touched.
    fn remove_leftovers(&self) -> Result<Vec<PathBuf>, DatabaseError> {
        let catalogue = self.catalogue();
        let known: Vec<Uuid> = catalogue.collections().into_values().collect();
        let mut unknown = Vec::new();
        for id in collection_folders(&*self.fs, &self.folder)?.into_iter().filter(|id| !known.contains(id)) {
            if catalogue.was_dropped(id) {
                tracing::warn!(%id, "removing the folder of a collection that was dropped");
                self.remove_folder(id);
            } else {
                unknown.push(self.collection_folder(id));
            }
        }
        unknown.sort();
        Ok(unknown)
    }

    fn remove_folder(&self, id: Uuid) {
        let folder = self.collection_folder(id);
        if let Err(error) = self.fs.remove_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove the folder; the next start tries again");
        }
    }

    fn sync_folder(&self, folder: &Path) -> Result<(), DatabaseError> {
        self.fs.sync_dir(folder).map_err(|error| DatabaseError::Io { path: folder.to_owned(), error })
    }

    fn collection_folder(&self, id: Uuid) -> PathBuf {
        self.folder.join("collections").join(id.to_string())
    }

    fn catalogue(&self) -> MutexGuard<'_, Catalogue> {
        self.catalogue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> RwLockReadGuard<'_, BTreeMap<CollectionName, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<CollectionName, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folders below `collections/` whose names are ours to give.
fn collection_folders(fs: &dyn Fs, folder: &Path) -> Result<Vec<Uuid>, DatabaseError> {
    let path = folder.join("collections");
    let names = fs.list(&path).map_err(|error| DatabaseError::Io { path, error })?;
    Ok(names.iter().filter_map(|name| Uuid::try_parse(name.to_str()?).ok()).collect())
}

/// Whether an append has failed before anything was written. After every other failure nobody knows.
fn was_not_written(error: &LogError) -> bool {
    matches!(error, LogError::NoSpace { .. } | LogError::Full { .. } | LogError::TooLarge { .. } | LogError::Closed)
}

fn reused(key: Option<RequestKey>) -> DatabaseError {
    DatabaseError::RequestIdReused { request_id: key.map(|key| key.request_id).unwrap_or_default() }
}

impl From<LogError> for DatabaseError {
    fn from(error: LogError) -> Self {
        DatabaseError::Catalogue(CatalogueError::Log(error))
    }
}

#[cfg(test)]
mod tests;
