//! CollectionService: create, get, list, update, delete.

use std::sync::Arc;

use crate::api::convert::{NewSpace, invalid, read_model_id, read_new_spaces, read_request_key, to_collection};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking, read_name};
use crate::collection::{Change, Collection, Created, Operation, Updated};
use crate::database::Entry;
use crate::embedding::InputType;
use crate::pb::v1 as pb;
use crate::storage::log::Durability;
use crate::types::limits::DESCRIPTION_BYTES_MAX;
use crate::types::{CollectionName, Space};

/// Collections of a page where the client does not say.
const PAGE_COLLECTIONS_DEFAULT: usize = 100;
/// Collections of a page at the most.
const PAGE_COLLECTIONS_MAX: usize = 1_000;
/// Embedded to learn a model's dimension and fingerprint.
const PROBE_TEXT: &str = "dimension";

impl Handlers {
    /// `CollectionService.CreateCollection`.
    pub async fn create_collection(
        &self,
        request: pb::CreateCollectionRequest,
    ) -> Result<pb::CreateCollectionResponse, ApiError> {
        let key = read_request_key(&request.request_id, &request)?;
        let collection = request.collection.ok_or_else(|| invalid("collection", "must be set"))?;
        let name = read_name("collection.name", &collection.name)?;
        check_description(&collection.description)?;
        let spaces = self.complete(read_new_spaces(&collection.spaces)?).await?;
        let default_model_id = read_model_id("collection.default_model_id", &collection.default_model_id)?;
        let created = Created { description: collection.description, default_model_id, spaces };
        let database = self.database()?.clone();
        let (name, collection) = blocking(move || {
            let collection = database.create(&name, created, key)?;
            Ok((name, collection))
        })
        .await?;
        Ok(pb::CreateCollectionResponse { collection: Some(describe(&name, collection)) })
    }

    /// `CollectionService.GetCollection`. A damaged collection is described too.
    pub async fn get_collection(
        &self,
        request: pb::GetCollectionRequest,
    ) -> Result<pb::GetCollectionResponse, ApiError> {
        let name = read_name("name", &request.name)?;
        let entry = self.database()?.entry(name.as_str())?;
        Ok(pb::GetCollectionResponse { collection: Some(to_collection(&name, &entry)) })
    }

    /// `CollectionService.ListCollections`.
    pub async fn list_collections(
        &self,
        request: pb::ListCollectionsRequest,
    ) -> Result<pb::ListCollectionsResponse, ApiError> {
        let page_size = match request.page_size as usize {
            0 => PAGE_COLLECTIONS_DEFAULT,
            size if size <= PAGE_COLLECTIONS_MAX => size,
            size => {
                return Err(invalid("page_size", format_args!("expected 1 to {PAGE_COLLECTIONS_MAX}, but got {size}")));
            }
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(read_name("page_token", token)?),
        };
        let after = after.as_ref().map(CollectionName::as_str);
        let mut page = self.database()?.list(after, page_size + 1);
        let has_more = page.len() > page_size;
        page.truncate(page_size);
        let next_page_token = match page.last() {
            Some((name, _)) if has_more => name.to_string(),
            _ => String::new(),
        };
        let collections = page.iter().map(|(name, entry)| to_collection(name, entry)).collect();
        Ok(pb::ListCollectionsResponse { collections, next_page_token })
    }

    /// `CollectionService.UpdateCollection`.
    pub async fn update_collection(
        &self,
        request: pb::UpdateCollectionRequest,
    ) -> Result<pb::UpdateCollectionResponse, ApiError> {
        let request_key = read_request_key(&request.request_id, &request)?;
        let wanted = request.collection.ok_or_else(|| invalid("collection", "must be set"))?;
        let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            return Err(invalid("update_mask", "must name what to change"));
        }
        let mut updated = Updated::default();
        for path in paths {
            match path.as_str() {
                "description" => {
                    check_description(&wanted.description)?;
                    updated.description = Some(wanted.description.clone());
                }
                "default_model_id" => {
                    let model_id = read_model_id("collection.default_model_id", &wanted.default_model_id)?;
                    updated.default_model_id = Some(model_id);
                }
                "spaces" => updated.spaces = self.complete(read_new_spaces(&wanted.spaces)?).await?,
                _ => {
                    let expected = "expected `description`, `default_model_id` or `spaces`";
                    return Err(invalid("update_mask", format_args!("{expected}, but got {path:?}")));
                }
            }
        }
        let name = read_name("collection.name", &wanted.name)?;
        let collection = self.collection(name.as_str())?;
        let operation = Operation { change: Change::Updated(updated), stream_frame: None, request_key };
        self.write(&collection, operation, Durability::Durable).await?;
        Ok(pb::UpdateCollectionResponse { collection: Some(describe(&name, collection)) })
    }

    /// `CollectionService.DeleteCollection`.
    pub async fn delete_collection(
        &self,
        request: pb::DeleteCollectionRequest,
    ) -> Result<pb::DeleteCollectionResponse, ApiError> {
        let key = read_request_key(&request.request_id, &request)?;
        let name = read_name("name", &request.name)?;
        let database = self.database()?.clone();
        let record_count = blocking(move || Ok(database.drop_collection(name.as_str(), key)?)).await?;
        Ok(pb::DeleteCollectionResponse { record_count })
    }

    /// Asks the models of new spaces for what is not known here: dimension and fingerprint.
    async fn complete(&self, spaces: Vec<NewSpace>) -> Result<Vec<Space>, ApiError> {
        let mut completed = Vec::with_capacity(spaces.len());
        for NewSpace { name, dimension, metric, model_id } in spaces {
            let space = match (model_id, dimension) {
                (None, Some(dimension)) => Space { name, dimension, metric, text_model: None },
                (None, None) => return Err(invalid("spaces.dimension", "a space without a model needs a dimension")),
                (Some(model_id), dimension) => {
                    let embedded =
                        self.embed_texts(vec![PROBE_TEXT.to_owned()], &model_id, InputType::Document).await?;
                    let models = embedded.embeddings[0].vector.dimension();
                    if dimension.is_some_and(|dimension| dimension != models) {
                        let message = format!("model {model_id:?} has dimension {models}, and so has its space");
                        return Err(ApiError::field(Reason::DimensionMismatch, "spaces.dimension", message));
                    }
                    Space { name, dimension: models, metric, text_model: Some(embedded.model) }
                }
            };
            completed.push(space);
        }
        Ok(completed)
    }
}

fn check_description(description: &str) -> Result<(), ApiError> {
    if description.len() <= DESCRIPTION_BYTES_MAX {
        return Ok(());
    }
    let got = description.len();
    Err(invalid(
        "collection.description",
        format_args!("expected at most {DESCRIPTION_BYTES_MAX} bytes, but got {got}"),
    ))
}

fn describe(name: &CollectionName, collection: Arc<Collection>) -> pb::Collection {
    to_collection(name, &Entry::Open(collection))
}
