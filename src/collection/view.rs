//! What a reader holds: the whole collection as it stood after one log record.
//!
//! A view never changes. Cloning one is cheap, since its parts are shared until they are written to; so the writer
//! works on a clone and publishes it, and a batch appears whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use imbl::{OrdMap, Vector};

use crate::collection::memtable::Row;
use crate::collection::parts::Parts;
use crate::collection::segment::{Place, Segment};
use crate::types::{Dimension, RecordId, Sequence, Space, SpaceName, TextModel};

/// The collection after the log record `sequence`.
#[derive(Clone, Default)]
pub struct View {
    pub(super) sequence: Sequence,
    pub(super) description: String,
    pub(super) default_model_id: String,
    pub(super) spaces: Vec<Space>,
    /// One for each space, in the same order.
    pub(super) parts: Vec<Parts>,
    pub(super) directory: OrdMap<RecordId, Located>,
    /// Where each record lies within its space, by its number: so a record that moves is found again without its id.
    pub(super) places: Vector<Place>,
    /// Numbers of records that are no more, to be used again.
    pub(super) free: Vector<u32>,
    /// The number of the next part or file; the same for all views of a collection.
    pub(super) next_part: Arc<AtomicU32>,
}

/// Which space a record lies in, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub space: u16,
    pub record: u32,
}

/// A segment that was built, and what it takes the place of.
pub(super) struct Installed {
    pub space: SpaceNumber,
    /// None where no row was left.
    pub segment: Option<Arc<Segment>>,
    /// The parts that it was built from.
    pub replaced: Vec<u32>,
    /// Where each of its rows comes from.
    pub origins: Vec<Place>,
}

/// The number of a space of a collection. Spaces are never removed, so it stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceNumber(pub(super) u16);

/// Why a vector has no place.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoPlace {
    /// No space of that name.
    #[error("the collection has no space {name:?}; it has {existing}")]
    NoSuchSpace {
        /// The name that was given.
        name: String,
        /// The spaces that exist.
        existing: String,
    },
    /// The named space has another dimension.
    #[error("space {name:?} holds vectors of dimension {expected}, but this one has dimension {got}")]
    WrongDimension {
        /// The name that was given.
        name: String,
        /// The dimension of the space.
        expected: Dimension,
        /// The dimension of the vector.
        got: Dimension,
    },
    /// No space of that dimension.
    #[error("no space of the collection holds vectors of dimension {got}; it has {existing}")]
    NoSuchDimension {
        /// The dimension of the vector.
        got: Dimension,
        /// The spaces that exist.
        existing: String,
    },
    /// More than one space of that dimension.
    #[error("several spaces hold vectors of dimension {got}: {existing}; name one of them in `space`")]
    Ambiguous {
        /// The dimension of the vector.
        got: Dimension,
        /// Those spaces.
        existing: String,
    },
}

impl View {
    /// The sequence of the last log record in it.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// What the collection is for.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The model for texts that name none; empty: the service's.
    pub fn default_model_id(&self) -> &str {
        &self.default_model_id
    }

    /// The spaces in the order of their creation, each with the number of its records.
    pub fn spaces(&self) -> impl Iterator<Item = (&Space, usize)> {
        self.spaces.iter().zip(self.parts.iter().map(Parts::live_count))
    }

    /// A space by its number.
    pub fn space(&self, number: SpaceNumber) -> &Space {
        &self.spaces[usize::from(number.0)]
    }

    /// Records in all spaces.
    pub fn record_count(&self) -> usize {
        self.directory.len()
    }

    /// The parts of a space.
    pub(super) fn parts(&self, space: SpaceNumber) -> &Parts {
        &self.parts[usize::from(space.0)]
    }

    /// The record of that id, and its space.
    pub fn get(&self, id: &str) -> Option<(Row<'_>, &Space)> {
        self.directory.get(id).map(|&located| self.at(located))
    }

    /// Records in the order of their ids, from the first after `after`.
    pub fn list(&self, after: Option<&RecordId>) -> impl Iterator<Item = (Row<'_>, &Space)> {
        use std::ops::Bound;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.directory.range::<_, RecordId>((start, Bound::Unbounded)).map(|(_, &located)| self.at(located))
    }

    /// The space of that name.
    pub fn space_named(&self, name: &str) -> Option<SpaceNumber> {
        self.find(|space| space.name.as_str() == name)
    }

    /// The space that the texts of a model lie in.
    pub fn space_of_model(&self, model_id: &str) -> Option<SpaceNumber> {
        self.find(|space| space.text_model.as_ref().is_some_and(|model| model.model_id == model_id))
    }

    /// The space that texts embedded by this model lie in: its own with its fingerprint, else that of a model with the same
    /// fingerprint, whose embeddings are as good; another model serves where the one that was asked for cannot, and says so,
    /// and may have a space of its own from before. Else its own with another fingerprint, for whoever tells of the change.
    pub fn space_of_embeddings(&self, model: &TextModel) -> Option<SpaceNumber> {
        let is_same = |other: &TextModel| !model.fingerprint.is_empty() && other.fingerprint == model.fingerprint;
        self.find(|space| space.text_model.as_ref() == Some(model))
            .or_else(|| self.find(|space| space.text_model.as_ref().is_some_and(is_same)))
            .or_else(|| self.space_of_model(&model.model_id))
    }

    /// The space for a raw vector: the named one, else the only raw one of its dimension, else the only one. So raw
    /// vectors go on to the space that they went to before texts came.
    pub fn place(&self, dimension: Dimension, space: Option<&SpaceName>) -> Result<SpaceNumber, NoPlace> {
        if let Some(name) = space {
            let Some(number) = self.space_named(name.as_str()) else {
                return Err(NoPlace::NoSuchSpace { name: name.to_string(), existing: describe(&self.spaces) });
            };
            let expected = self.space(number).dimension;
            if expected != dimension {
                return Err(NoPlace::WrongDimension { name: name.to_string(), expected, got: dimension });
            }
            return Ok(number);
        }
        let fits = |space: &&Space| space.dimension == dimension;
        let is_raw = |space: &&Space| space.text_model.is_none();
        let fitting: Vec<&Space> = self.spaces.iter().filter(fits).collect();
        let raw: Vec<&Space> = fitting.iter().copied().filter(is_raw).collect();
        match (&raw[..], &fitting[..]) {
            (_, []) => Err(NoPlace::NoSuchDimension { got: dimension, existing: describe(&self.spaces) }),
            ([only], _) | ([], [only]) => Ok(self.space_named(only.name.as_str()).expect("it was just found")),
            _ => Err(NoPlace::Ambiguous { got: dimension, existing: describe(fitting) }),
        }
    }

    pub(super) fn version(&self, id: &str) -> Option<Sequence> {
        self.get(id).map(|(row, _)| row.version)
    }

    /// Writes a record over the one of that id, if there is one.
    pub(super) fn write_row(&mut self, space: u16, row: Row<'_>) {
        let located = self.directory.get(row.id.as_str()).copied();
        let record = match located {
            Some(located) => located.record,
            None => self.new_record(),
        };
        let place = self.places[record as usize];
        let old = match located {
            Some(located) if located.space == space => Some(place),
            Some(elsewhere) => {
                self.parts[usize::from(elsewhere.space)].remove(place);
                None
            }
            None => None,
        };
        let new = self.parts[usize::from(space)].write(record, old, row);
        if new != place {
            self.places.set(record as usize, new);
        }
        if located != Some(Located { space, record }) {
            self.directory.insert(row.id.clone(), Located { space, record });
        }
    }

    fn new_record(&mut self) -> u32 {
        self.free.pop_back().unwrap_or_else(|| {
            self.places.push_back(Place::NOWHERE);
            self.places.len() as u32 - 1
        })
    }

    /// Removes a record. Returns whether there was one.
    pub(super) fn remove_row(&mut self, id: &str) -> bool {
        let Some(located) = self.directory.remove(id) else { return false };
        self.parts[usize::from(located.space)].remove(self.places[located.record as usize]);
        self.places.set(located.record as usize, Place::NOWHERE);
        self.free.push_back(located.record);
        true
    }

    /// Whether a memtable is full.
    pub(super) fn is_due(&self) -> bool {
        self.parts.iter().any(|parts| parts.memtable().is_full())
    }

    /// Seals the memtables of all spaces, so that everything up to here lies in parts that take no more rows.
    pub(super) fn seal(&mut self) {
        let next_part = &self.next_part;
        self.parts.iter_mut().for_each(|parts| parts.seal(|| next_part.fetch_add(1, Ordering::Relaxed)));
    }

    /// A number that no part and no file has.
    pub(super) fn new_number(&self) -> u32 {
        self.next_part.fetch_add(1, Ordering::Relaxed)
    }

    /// Puts a segment in the place of what it was built from. Rows that were written or deleted meanwhile are dead in it.
    pub(super) fn install(&mut self, installed: Installed) {
        let Installed { space, segment, replaced, origins } = installed;
        let number = self.new_number();
        let places = &mut self.places;
        self.parts[usize::from(space.0)].install(number, segment, &replaced, &origins, |origin, row| {
            // A number that was given to another record since points to another place.
            let is_there = places.get(origin.record as usize) == Some(&origin.place);
            if is_there {
                places.set(origin.record as usize, Place { part: number, row });
            }
            is_there
        });
    }

    fn at(&self, located: Located) -> (Row<'_>, &Space) {
        let space = usize::from(located.space);
        (self.parts[space].row(self.places[located.record as usize]), &self.spaces[space])
    }

    fn find(&self, wanted: impl Fn(&Space) -> bool) -> Option<SpaceNumber> {
        self.spaces.iter().position(wanted).map(|position| SpaceNumber(position as u16))
    }
}

/// Spaces that a message names; more are counted.
const DESCRIBED_SPACES_MAX: usize = 10;

/// For messages: each space with its dimension.
pub fn describe<'a>(spaces: impl IntoIterator<Item = &'a Space>) -> String {
    let spaces: Vec<&Space> = spaces.into_iter().collect();
    if spaces.is_empty() {
        return "no spaces yet".to_owned();
    }
    let named = spaces.iter().take(DESCRIBED_SPACES_MAX);
    let mut described: Vec<String> =
        named.map(|space| format!("{} (dimension {})", space.name, space.dimension)).collect();
    if spaces.len() > DESCRIBED_SPACES_MAX {
        described.push(format!("and {} more", spaces.len() - DESCRIBED_SPACES_MAX));
    }
    described.join(", ")
}
