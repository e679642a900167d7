//! Runs a history on a file system, compares every answer with the model, and keeps what a caller knows when the power
//! goes: which states each collection has been in, and how far it was promised to be durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vectron::collection::{Answer, Change, Created, Operation, Outcome};
use vectron::database::{Database, DatabaseError, DatabaseOptions, Entry, OpenReport};
use vectron::storage::fs::{Fs, SimFs};
use vectron::storage::log::Durability;
use vectron::types::CollectionName;

use crate::figures;
use crate::history::Step;
use crate::model::Model;

/// All that one collection has been, by sequence. The sequence of the last one is that of the last operation that was sent.
#[derive(Clone, Default)]
pub struct Past {
    states: Vec<Arc<Model>>,
    /// The last sequence that was acknowledged as durable.
    durable: u64,
}

/// What the caller knows.
#[derive(Clone, Default)]
pub struct Known {
    pub collections: BTreeMap<CollectionName, Past>,
    /// A create (with what it would be) or a drop (without) that was not answered.
    doubt: Option<(CollectionName, Option<Past>)>,
}

impl Past {
    fn last(&self) -> &Arc<Model> {
        self.states.last().expect("it was created")
    }

    fn apply(&mut self, operation: &Operation) -> Outcome {
        let mut model = self.states.last().map(|model| Model::clone(model)).unwrap_or_default();
        let outcome = model.apply(operation);
        self.states.push(Arc::new(model));
        outcome
    }

    fn at(&self, sequence: u64) -> Option<&Arc<Model>> {
        self.states.get(usize::try_from(sequence).ok()?.checked_sub(1)?)
    }

    pub fn last_sequence(&self) -> u64 {
        self.states.len() as u64
    }
}

/// A database under a history.
pub struct Run<'a> {
    fs: SimFs,
    folder: &'a Path,
    database: Option<Database>,
    pub known: Known,
    /// Writes on their way, with the outcome that the model foretells.
    pending: Vec<Pending>,
    pending_max: usize,
}

struct Pending {
    name: CollectionName,
    answer: Answer,
    expected: Outcome,
    sequence: u64,
    durability: Durability,
}

/// The run came to its end, or the power went.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    PowerIsOff,
}

impl<'a> Run<'a> {
    /// `folder` exists on the real disk, where its lock is, and not on the simulated one.
    pub fn new(fs: &SimFs, folder: &'a Path, pending_max: usize) -> Self {
        Self { fs: fs.clone(), folder, database: None, known: Known::default(), pending: Vec::new(), pending_max }
    }

    /// Goes on with what was found after an accident.
    pub fn go_on(fs: &SimFs, folder: &'a Path, database: Database, known: Known) -> Self {
        Self { known, database: Some(database), ..Self::new(fs, folder, 1) }
    }

    /// Every error that is not the power's is a failure of the test.
    pub fn play(&mut self, steps: &[Step], scene: &str) -> End {
        for step in steps {
            let done = self.step(step).and_then(|()| match self.pending.len() >= self.pending_max {
                true => self.settle(),
                false => Ok(()),
            });
            if let Err(error) = done {
                // After a cut no call is answered any more.
                assert!(self.fs.exists(Path::new("/")).is_err(), "{scene}: {step:?}: {error}");
                // Some of what is on its way may have been acknowledged before.
                self.settle_what_was_answered();
                self.database = None;
                return End::PowerIsOff;
            }
        }
        match self.settle() {
            Ok(()) => End::Finished,
            Err(error) => {
                assert!(self.fs.exists(Path::new("/")).is_err(), "{scene}: {error}");
                self.settle_what_was_answered();
                self.database = None;
                End::PowerIsOff
            }
        }
    }

    /// Has everything built, and written to files beside the logs.
    pub fn checkpoint(&self) {
        let database = self.database.as_ref().expect("it is open");
        for name in self.known.collections.keys() {
            let collection = database.get(name.as_str()).unwrap_or_else(|error| panic!("{error}"));
            collection.compact(&mut |_, _| ());
            collection.checkpoint().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Closes the database as a shutdown does.
    pub fn close(&mut self) {
        if let Some(database) = self.database.take() {
            database.close();
        }
    }

    /// Compares every collection with the model as it stands.
    pub fn compare(&self, scene: &str) {
        let Some(database) = &self.database else { return };
        for (name, past) in &self.known.collections {
            let collection = database.get(name.as_str()).unwrap_or_else(|error| panic!("{scene}: {error}"));
            past.last().compare(&collection).unwrap_or_else(|error| panic!("{scene}: wrong answer: {name}: {error}"));
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        if self.database.is_none() {
            let (database, _) = open(&self.fs, self.folder)?;
            self.database = Some(database);
        }
        let database = self.database.as_ref().expect("it was just opened");
        match step {
            Step::Write { name, operation, durability } => {
                let collection = database.get(name.as_str()).map_err(|error| error.to_string())?;
                let past = self.known.collections.get_mut(name).expect("the history created it");
                let answer = collection.submit(operation.clone(), *durability).map_err(|error| error.to_string())?;
                let expected = past.apply(operation);
                let (name, sequence) = (name.clone(), past.last_sequence());
                self.pending.push(Pending { name, answer, expected, sequence, durability: *durability });
                return Ok(());
            }
            Step::Settle => {
                self.settle()?;
                self.compare("after a settle");
                return Ok(());
            }
            _ => self.settle()?,
        }
        let database = self.database.as_ref().expect("it was just opened");
        match step {
            Step::Create { name, created, key } => {
                let mut past = Past::default();
                let _ = past.apply(&Operation::new(Change::Created(created.clone())));
                past.durable = 1;
                self.known.doubt = Some((name.clone(), Some(past)));
                database.create(name, created.clone(), Some(key.clone())).map_err(|error| error.to_string())?;
                self.resolve();
            }
            Step::CreateWith { name, first, durability } => {
                let mut past = Past::default();
                let _ = past.apply(&Operation::new(Change::Created(Created::default())));
                let expected = past.apply(first);
                // The catalogue comes last: if it is there, its first write was as durable as it was to be.
                past.durable = if *durability == Durability::Durable { 2 } else { 1 };
                self.known.doubt = Some((name.clone(), Some(past)));
                let applied =
                    database.create_with(name, first.clone(), *durability).map_err(|error| error.to_string())?;
                assert_eq!(Ok(applied), expected, "the first write of {name}");
                self.resolve();
            }
            Step::Drop { name, key } => {
                self.known.doubt = Some((name.clone(), None));
                let count = database.drop_collection(name.as_str(), Some(key.clone())).map_err(|e| e.to_string())?;
                assert_eq!(count, self.known.collections[name].last().records.len() as u64, "records dropped");
                self.resolve();
            }
            Step::Compact { name } => {
                let collection = database.get(name.as_str()).map_err(|error| error.to_string())?;
                collection.compact(&mut |_, _| ());
                drop(collection);
                self.compare_if_on("after a compaction");
            }
            Step::Reopen => {
                self.close();
                let (database, report) = open(&self.fs, self.folder)?;
                self.database = Some(database);
                if report.torn.is_empty() && report.damaged.is_empty() {
                    self.compare_if_on("after a restart");
                } else {
                    self.fs.exists(Path::new("/")).map_err(|error| error.to_string())?;
                    panic!("a restart without an accident: {report:?}");
                }
            }
            Step::Write { .. } | Step::Settle => {}
        }
        Ok(())
    }

    fn compare_if_on(&self, scene: &str) {
        // Reads of what is in memory go on without power, but what was not finished is not to be compared.
        if self.fs.exists(Path::new("/")).is_ok() {
            self.compare(scene);
        }
    }

    /// The create or drop was answered.
    fn resolve(&mut self) {
        match self.known.doubt.take() {
            Some((name, Some(past))) => drop(self.known.collections.insert(name, past)),
            Some((name, None)) => drop(self.known.collections.remove(&name)),
            None => {}
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        while !self.pending.is_empty() {
            let Pending { name, answer, expected, sequence, durability } = self.pending.remove(0);
            let outcome = answer
                .blocking_recv()
                .map_err(|_| "the applier has gone".to_owned())?
                .map_err(|error| error.to_string())?;
            assert_eq!(outcome, expected, "the answer to operation {sequence} of {name}");
            figures::add("acknowledged writes, simulated disk", 1);
            let past = self.known.collections.get_mut(&name).expect("it is not dropped while writes are on their way");
            if durability == Durability::Durable {
                past.durable = past.durable.max(sequence);
            }
        }
        Ok(())
    }

    fn settle_what_was_answered(&mut self) {
        while !self.pending.is_empty() {
            let _ = self.settle(); // each failure takes one away
        }
    }
}

pub fn open(fs: &SimFs, folder: &Path) -> Result<(Database, OpenReport), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Database::open(folder, DatabaseOptions { fs: Arc::new(fs.clone()), ..DatabaseOptions::default() }) {
            // Another test starts a process: until that runs its own program it has a copy of our lock.
            Err(DatabaseError::Locked(_)) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}

impl Known {
    /// The collections as they stand.
    pub fn models(&self) -> BTreeMap<CollectionName, Model> {
        self.collections.iter().map(|(name, past)| (name.clone(), Model::clone(past.last()))).collect()
    }

    /// The promises, on a disk as it is found after a power cut. Returns the open database, and what is known from now on:
    /// opening has made durable what it found.
    pub fn check(&self, fs: &SimFs, folder: &Path, scene: &str) -> (Database, Known) {
        let (database, report) = open(fs, folder).unwrap_or_else(|error| panic!("{scene}: it does not open: {error}"));
        assert!(report.damaged.is_empty(), "{scene}: {:?}", report.damaged);
        let mut found = Known::default();
        for (name, entry) in database.list(None, 10_000) {
            let Entry::Open(collection) = entry else { panic!("{scene}: {name} is not open") };
            let in_doubt = self.doubt.as_ref().filter(|(doubtful, _)| *doubtful == name);
            let created = in_doubt.and_then(|(_, past)| past.as_ref());
            let past = self.collections.get(&name).or(created);
            let past = past.unwrap_or_else(|| panic!("{scene}: {name} was never created, or was dropped"));
            let sequence = collection.view().sequence().0;
            assert!(
                sequence >= past.durable,
                "{scene}: lost: {name} ends at {sequence}, {} was acknowledged",
                past.durable
            );
            let model = past.at(sequence).unwrap_or_else(|| panic!("{scene}: {name}: {sequence} was never sent"));
            model.compare(&collection).unwrap_or_else(|error| panic!("{scene}: {name} at {sequence}: {error}"));
            let states = past.states[..sequence as usize].to_vec();
            found.collections.insert(name, Past { states, durable: sequence });
        }
        for name in self.collections.keys().filter(|name| !found.collections.contains_key(*name)) {
            let is_dropped = matches!(&self.doubt, Some((doubtful, None)) if doubtful == name);
            assert!(is_dropped, "{scene}: lost: the collection {name} is gone");
        }
        (database, found)
    }

    /// What is wrong with a database whose bytes were changed. `is_fewer_allowed`: the end of a log may be missing.
    pub fn judge(&self, database: &Database, report: &OpenReport, fewer: Fewer) -> Result<Judged, String> {
        let mut judged = Judged::Equal;
        for (name, past) in &self.collections {
            match database.entry(name.as_str()) {
                Ok(Entry::Damaged { reason } | Entry::NotLoaded { reason }) => judged = Judged::Refused(reason),
                Ok(Entry::Open(collection)) => {
                    let sequence = collection.view().sequence().0;
                    let model = past.at(sequence).ok_or_else(|| format!("{name}: {sequence} was never sent"))?;
                    model.compare(&collection).map_err(|error| format!("{name} at {sequence}: {error}"))?;
                    if sequence < past.last_sequence() {
                        let is_told = !report.torn.is_empty() || fewer == Fewer::Quietly;
                        if fewer == Fewer::No || !is_told {
                            return Err(format!("{name}: records after {sequence} are lost, and nobody says so"));
                        }
                        judged = Judged::Fewer;
                    }
                }
                Err(_) if fewer != Fewer::No && (fewer == Fewer::Quietly || !report.torn.is_empty()) => {
                    judged = Judged::Fewer;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        match database.list(None, 10_000).iter().find(|(name, _)| !self.collections.contains_key(name)) {
            Some((name, _)) => Err(format!("{name} was never created, or was dropped")),
            None => Ok(judged),
        }
    }
}

/// Whether the end of a log may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fewer {
    No,
    /// If the report of the opening says that something was torn.
    Told,
    /// Also without a word: where a file ends between two groups, nothing tells that there was more.
    Quietly,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Judged {
    Equal,
    Fewer,
    Refused(String),
}
