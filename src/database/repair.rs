//! Examines every log of a data folder that no server uses, and mends what is damaged where the loss is accepted.
//!
//! The log of a collection is cut at its break (`storage::log::Damage`). The catalogue is not cut but written anew from what
//! can be read of it: a collection that nothing names any more gets a name of its own, `recovered-…`, and so does one that a whole
//! catalogue does not know, whose record may have been torn off its end. The old catalogue is kept aside. Two renames put the new one in place; where the power
//! goes between them, the next repair finishes it, and a start refuses to begin an empty catalogue.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::{CatalogueError, DatabaseError, catalogue, collection_folders};
use crate::collection::{DamagedFile, DecodeError, Operation, RecoverError, begin_log_anew, examine_files, leave_out};
use crate::storage::fs::{Fs, RealFs};
use crate::storage::lock::DirectoryLock;
use crate::storage::log::{Damage, End, Examined, LogError, LogOptions, OpenError, examine};
use crate::storage::manifest;
use crate::types::{CollectionName, Sequence};

/// The new catalogue, until it is in place.
const CATALOGUE_NEW: &str = "catalogue-repaired";

/// What to repair, and how far to go.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// This collection alone; else every collection and the catalogue.
    pub collection: Option<CollectionName>,
    /// Mend what is damaged, and lose what cannot be read. Without it nothing is changed.
    pub accept_loss: bool,
    /// For the names of folders: seconds since the Unix epoch.
    pub now_unix_s: u64,
}

/// A log and how it was found.
#[derive(Debug)]
pub struct LogFound {
    /// Whose it is.
    pub owner: Owner,
    /// Its folder.
    pub folder: PathBuf,
    /// How it was found.
    pub state: LogState,
    /// A collection's files beside the log that do not verify.
    pub damaged_files: Vec<DamagedFile>,
    /// What was done about those.
    pub files_mending: Mending,
}

impl LogFound {
    /// Whether what it belongs to opens now.
    pub fn opens(&self) -> bool {
        let files_open = self.damaged_files.is_empty() || matches!(self.files_mending, Mending::Done { .. });
        self.state.opens() && files_open
    }
}

/// Whose a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The database's.
    Catalogue,
    /// A collection's.
    Collection(CollectionName),
    /// A collection's whose name cannot be read.
    Unnamed(Uuid),
}

/// How a log was found.
#[derive(Debug)]
pub enum LogState {
    /// Whole.
    Whole {
        /// Operations in it.
        records: u64,
    },
    /// Torn by a power cut; the next start cuts off what was never known to be durable.
    Torn {
        /// The file.
        file: PathBuf,
        /// Where the torn part begins.
        offset: u64,
    },
    /// Damaged.
    Damaged {
        /// Operations before the break.
        records: u64,
        /// The break.
        damage: Damage,
        /// What was done about it.
        mending: Mending,
    },
    /// It cannot be read, or not be understood; nothing can be said about what is in it.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// What was done about a damaged log.
#[derive(Debug, PartialEq, Eq)]
pub enum Mending {
    /// Nothing, because nobody has accepted the loss.
    NotAsked,
    /// Nothing, because nothing would be left to open.
    Hopeless,
    /// It opens again.
    Done {
        /// Where what was damaged is kept.
        aside: PathBuf,
        /// Collections that nothing named any more, under the names that they have now.
        named_anew: Vec<CollectionName>,
    },
}

impl LogState {
    /// Whether the log opens now.
    pub fn opens(&self) -> bool {
        match self {
            Self::Whole { .. } | Self::Torn { .. } => true,
            Self::Damaged { mending, .. } => matches!(mending, Mending::Done { .. }),
            Self::Unreadable { .. } => false,
        }
    }
}

/// Examines the logs of a folder, and mends them if that is asked for. The catalogue comes first. A server that uses the folder
/// keeps this out, and this keeps servers out.
pub fn repair(folder: &Path, options: &RepairOptions) -> Result<Vec<LogFound>, DatabaseError> {
    let collections = folder.join("collections");
    // A folder that was named wrongly must not become a data folder.
    if !collections.is_dir() {
        let error = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no data of Vectron here");
        return Err(DatabaseError::Io { path: folder.to_owned(), error });
    }
    let _lock = DirectoryLock::acquire(folder)?;
    repair_on(Arc::new(RealFs), folder, options)
}

pub(super) fn repair_on(
    fs: Arc<dyn Fs>,
    folder: &Path,
    options: &RepairOptions,
) -> Result<Vec<LogFound>, DatabaseError> {
    let place = Place { fs, folder };
    if options.accept_loss {
        place.finish_catalogue()?;
    }
    let (names, dropped, found) = place.catalogue(options)?;
    if let Some(name) = &options.collection {
        let Some(&id) = names.get(name) else {
            let existing = names.keys().take(10).map(CollectionName::to_string).collect();
            return Err(DatabaseError::NotFound { name: name.to_string(), existing });
        };
        let log = place.collection(Owner::Collection(name.clone()), id, options)?;
        // A catalogue that does not open is told, though it is not what was asked for.
        return Ok(found.into_iter().filter(|found| !found.opens()).chain([log]).collect());
    }
    let mut all = Vec::from_iter(found);
    let named = names.iter().map(|(name, id)| (Owner::Collection(name.clone()), *id));
    let catalogue_opens = all.iter().all(LogFound::opens);
    for (owner, id) in named {
        all.push(place.collection(owner, id, options)?);
    }
    for id in place.ids()?.into_iter().filter(|id| !names.values().any(|named| named == id) && !dropped.contains(id)) {
        // Of one that was never finished there is nothing to tell.
        if !catalogue_opens || place.holds_records(id)? {
            all.push(place.collection(Owner::Unnamed(id), id, options)?);
        }
    }
    Ok(all)
}

type Names = BTreeMap<CollectionName, Uuid>;

struct Place<'a> {
    fs: Arc<dyn Fs>,
    folder: &'a Path,
}

impl Place<'_> {
    /// The names that can be read, what was dropped and, where there is one, the state of the catalogue.
    fn catalogue(&self, options: &RepairOptions) -> Result<(Names, HashSet<Uuid>, Option<LogFound>), DatabaseError> {
        let folder = self.folder.join("catalogue");
        let (mut names, mut dropped) = (Names::new(), HashSet::new());
        let state = match catalogue::examine(&*self.fs, &folder) {
            Ok(found) => {
                (names, dropped) = (found.names, found.dropped);
                let is_to_mend = options.accept_loss && options.collection.is_none();
                match found.log.end {
                    End::Damaged(damage) => {
                        let mending = if is_to_mend {
                            let unnamed = self.unknown(&names, &dropped)?;
                            self.write_catalogue_anew(&mut names, &dropped, unnamed, options.now_unix_s)?
                        } else {
                            Mending::NotAsked
                        };
                        LogState::Damaged { records: found.log.records, damage, mending }
                    }
                    _ => {
                        let mut unnamed = if is_to_mend { self.unknown(&names, &dropped)? } else { Vec::new() };
                        let holds = unnamed.iter().map(|id| self.holds_records(*id)).collect::<Result<Vec<_>, _>>()?;
                        let mut holds = holds.into_iter();
                        unnamed.retain(|_| holds.next().unwrap_or(false));
                        if !unnamed.is_empty() {
                            self.write_catalogue_anew(&mut names, &dropped, unnamed, options.now_unix_s)?;
                        }
                        not_damaged(found.log)
                    }
                }
            }
            // The very first start was cut short.
            Err(CatalogueError::Log(LogError::Missing { .. })) if self.ids()?.is_empty() => {
                return Ok((names, dropped, None));
            }
            Err(error) if self.exists(&self.folder.join(CATALOGUE_NEW))? => {
                let reason = format!("{error}: a repair was cut short, run it again with --accept-loss");
                LogState::Unreadable { reason }
            }
            Err(error) => LogState::Unreadable { reason: error.to_string() },
        };
        let (damaged_files, files_mending) = (Vec::new(), Mending::NotAsked);
        let found = LogFound { owner: Owner::Catalogue, folder, state, damaged_files, files_mending };
        Ok((names, dropped, Some(found)))
    }

    /// Folders that a catalogue neither names nor says were dropped.
    fn unknown(&self, names: &Names, dropped: &HashSet<Uuid>) -> Result<Vec<Uuid>, DatabaseError> {
        let is_known = |id: &Uuid| dropped.contains(id) || names.values().any(|named| named == id);
        Ok(self.ids()?.into_iter().filter(|id| !is_known(id)).collect())
    }

    /// Whether a folder opens as a collection, or did once: its creation came further than its log.
    fn holds_records(&self, id: Uuid) -> Result<bool, DatabaseError> {
        let as_it_is = RepairOptions { collection: None, accept_loss: false, now_unix_s: 0 };
        let found = self.collection(Owner::Unnamed(id), id, &as_it_is)?;
        Ok(match found.state {
            LogState::Whole { records } => {
                records > 0 || self.exists(&self.collection_folder(id).join(manifest::FILE_NAME))?
            }
            LogState::Torn { .. } | LogState::Damaged { .. } => true,
            LogState::Unreadable { .. } => false,
        })
    }

    fn collection(&self, owner: Owner, id: Uuid, options: &RepairOptions) -> Result<LogFound, DatabaseError> {
        let collection = self.collection_folder(id);
        let folder = collection.join("log");
        let aside = self.free_name(&collection, options.now_unix_s)?;
        let mut files = match examine_files(&*self.fs, &collection) {
            Ok(files) => files,
            Err(error) => {
                let (state, files_mending) = (LogState::Unreadable { reason: error.to_string() }, Mending::NotAsked);
                return Ok(LogFound { owner, folder, state, damaged_files: Vec::new(), files_mending });
            }
        };
        let understood = |record: crate::storage::log::LogRecord<'_>| {
            let _: Operation = Operation::decode(record.payload.to_vec().into())?;
            Ok::<(), DecodeError>(())
        };
        let mut checkpoint = files.sequence;
        let from = |first_needed, known_durable| LogOptions { first_needed, known_durable, ..LogOptions::default() };
        if !files.damaged.is_empty() && checkpoint > Sequence::ZERO {
            let all = from(Sequence::ZERO.next(), checkpoint);
            if let Ok(Examined { end: End::Whole, .. }) = examine(&*self.fs, &folder, &all, understood) {
                files.go_back_to_log(&collection);
                checkpoint = Sequence::ZERO;
            }
        }
        let log_options = from(checkpoint.next(), checkpoint);
        let state = match examine(&*self.fs, &folder, &log_options, understood) {
            Ok(Examined { records, end: End::Damaged(damage), .. }) => {
                let in_parts = checkpoint > Sequence::ZERO && damage.sequence <= checkpoint.next();
                // Without its first record, which creates it, no collection opens, unless it lies in parts.
                let is_lost = (records == 0 || !damage.can_be_cut()) && checkpoint == Sequence::ZERO;
                let mending = if is_lost {
                    Mending::Hopeless
                } else if !options.accept_loss {
                    Mending::NotAsked
                } else {
                    if in_parts || !damage.can_be_cut() {
                        begin_log_anew(self.fs.clone(), &collection, &aside, checkpoint)?;
                    } else {
                        damage.cut_off(&*self.fs, &folder, &aside)?;
                    }
                    Mending::Done { aside, named_anew: Vec::new() }
                };
                LogState::Damaged { records, damage, mending }
            }
            Ok(examined) => not_damaged(examined),
            // An earlier repair ended before it had begun the new log.
            Err(OpenError::Log(LogError::Missing { .. })) if checkpoint > Sequence::ZERO && options.accept_loss => {
                begin_log_anew(self.fs.clone(), &collection, &aside, checkpoint)?;
                LogState::Whole { records: 0 }
            }
            Err(OpenError::Log(error)) => LogState::Unreadable { reason: error.to_string() },
            Err(OpenError::Replay { sequence, error }) => {
                LogState::Unreadable { reason: format!("record {sequence}: {error}") }
            }
        };
        let files_mending = if files.is_manifest_lost() && !state.opens() {
            // Only the log could tell what is in it.
            Mending::Hopeless
        } else if options.accept_loss && !files.damaged.is_empty() {
            let aside = self.free_name(&collection, options.now_unix_s)?;
            leave_out(&*self.fs, &collection, &aside, &files).map_err(RecoverError::from)?;
            Mending::Done { aside, named_anew: Vec::new() }
        } else {
            Mending::NotAsked
        };
        Ok(LogFound { owner, folder, state, damaged_files: files.damaged, files_mending })
    }

    /// Adds names for the folders that have none, leaves out names without a folder, and puts a catalogue of what is
    /// left in the place of the old one.
    fn write_catalogue_anew(
        &self,
        names: &mut Names,
        dropped: &HashSet<Uuid>,
        unnamed: Vec<Uuid>,
        now_unix_s: u64,
    ) -> Result<Mending, DatabaseError> {
        let ids = self.ids()?;
        // What was dropped behind the break.
        names.retain(|_, id| ids.contains(id));
        let mut named_anew = Vec::new();
        for id in unnamed {
            let name =
                CollectionName::new(&format!("recovered-{}", id.simple())).expect("a UUID has no odd characters");
            names.insert(name.clone(), id);
            named_anew.push(name);
        }
        let new = self.folder.join(CATALOGUE_NEW);
        if self.exists(&new)? {
            self.fs.remove_dir_all(&new).map_err(|error| self.io(&new, error))?;
        }
        // Their folders go at the next start.
        let dropped = ids.into_iter().filter(|id| dropped.contains(id));
        catalogue::write_new(self.fs.clone(), &new, names, dropped)?;
        let aside = self.free_name(self.folder, now_unix_s)?;
        self.rename(&self.folder.join("catalogue"), &aside)?;
        self.finish_catalogue()?;
        Ok(Mending::Done { aside, named_anew })
    }

    /// Puts a new catalogue in place where there is no other. The old one goes only after the new one is whole.
    fn finish_catalogue(&self) -> Result<(), DatabaseError> {
        let (new, catalogue) = (self.folder.join(CATALOGUE_NEW), self.folder.join("catalogue"));
        if self.exists(&new)? && !self.exists(&catalogue)? { self.rename(&new, &catalogue) } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DatabaseError> {
        self.fs.rename(from, to).map_err(|error| self.io(from, error))?;
        self.fs.sync_dir(self.folder).map_err(|error| self.io(self.folder, error))
    }

    fn free_name(&self, folder: &Path, now_unix_s: u64) -> Result<PathBuf, DatabaseError> {
        let mut number = now_unix_s;
        loop {
            let path = folder.join(format!("damaged-{number}"));
            if !self.exists(&path)? {
                return Ok(path);
            }
            number += 1;
        }
    }

    fn collection_folder(&self, id: Uuid) -> PathBuf {
        self.folder.join("collections").join(id.to_string())
    }

    fn ids(&self) -> Result<Vec<Uuid>, DatabaseError> {
        collection_folders(&*self.fs, self.folder)
    }

    fn exists(&self, path: &Path) -> Result<bool, DatabaseError> {
        self.fs.exists(path).map_err(|error| self.io(path, error))
    }

    fn io(&self, path: &Path, error: std::io::Error) -> DatabaseError {
        DatabaseError::Io { path: path.to_owned(), error }
    }
}

fn not_damaged(examined: Examined) -> LogState {
    match examined.end {
        End::Torn { file, offset } => LogState::Torn { file, offset },
        _ => LogState::Whole { records: examined.records },
    }
}
