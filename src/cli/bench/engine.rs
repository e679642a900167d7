//! A scratch collection in this process.

use std::path::Path;
use std::sync::Arc;

use super::BenchError;
use crate::collection::{Collection, Created, SpaceNumber};
use crate::database::{Database, DatabaseOptions};
use crate::types::{CollectionName, Dimension, Metric, Space, SpaceName};

/// An empty collection with one space.
pub struct Engine {
    /// Holds the folder's lock.
    _database: Database,
    /// The collection.
    pub collection: Arc<Collection>,
    /// Its only space.
    pub space: Space,
    /// The number of it.
    pub number: SpaceNumber,
}

impl Engine {
    /// Makes it in a folder of its own.
    pub fn create(folder: &Path, dimension: usize, metric: Metric) -> Result<Self, BenchError> {
        let (database, _) = Database::open(folder, DatabaseOptions::default())?;
        let space = Space {
            name: SpaceName::new("vectors")?,
            dimension: Dimension::new(dimension).ok_or("a vector has at least one component")?,
            metric,
            text_model: None,
        };
        let created = Created { spaces: vec![space.clone()], ..Created::default() };
        let collection = database.create(&CollectionName::new("bench")?, created, None)?;
        let number = collection.view().place(space.dimension, None)?;
        Ok(Self { _database: database, collection, space, number })
    }
}
