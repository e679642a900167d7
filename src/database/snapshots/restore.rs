//! A snapshot becomes a collection.

use std::sync::Arc;

use uuid::Uuid;

use super::{SnapshotError, Use, compare};
use crate::collection::{Collection, RequestKey};
use crate::database::Database;
use crate::types::{CollectionName, SnapshotName};

impl Database {
    /// Makes a collection that begins as the snapshot, durably: both are there, or only the snapshot. A retry with the same key
    /// gets the same collection.
    pub fn restore_snapshot(
        &self,
        name: &SnapshotName,
        collection: &CollectionName,
        key: Option<RequestKey>,
    ) -> Result<Arc<Collection>, SnapshotError> {
        // Looked at twice: reading may take long, and nobody shall wait for it to make another collection.
        if let Some(made) = self.made_before(&self.catalogue(), collection, key.as_ref())? {
            return Ok(made);
        }
        self.admit(0)?;
        let _reserved = self.reserve(name, Use::Read)?;
        let info = self.snapshot(name)?;
        let id = Uuid::new_v4();
        let folder = self.collection_folder(id);
        let restored = Collection::restore(self.fs.clone(), &self.snapshot_folder(name), &folder, self.options())
            .map_err(|error| SnapshotError::of_restored(name, error))
            .and_then(|(restored, figures)| compare(&info, figures).map(|()| restored))
            .and_then(|restored| Ok(self.sync_folder(&self.folder.join("collections")).map(|()| restored)?));
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.remove_folder(id);
                return Err(error);
            }
        };
        let mut catalogue = self.catalogue();
        match self.made_before(&catalogue, collection, key.as_ref()) {
            Ok(None) => Ok(self.publish(&mut catalogue, id, collection, key, restored)?),
            made => {
                drop(restored);
                self.remove_folder(id);
                Ok(made?.expect("a collection was found"))
            }
        }
    }
}
