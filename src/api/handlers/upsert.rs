//! Upsert: read, embed, place, append.

use prost::Message;

use crate::api::convert::{read_durability, read_model_id, read_records, read_request_key, refuse};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::place::{Placement, texts_to_embed};
use crate::api::handlers::{Handlers, blocking, read_name};
use crate::collection::{Applied, Change, Collection, Operation, Refusal, RequestKey, Seen};
use crate::database::DatabaseError;
use crate::embedding::InputType;
use crate::pb::v1 as pb;
use crate::storage::log::Durability;
use crate::types::{CollectionName, Sequence};

impl Handlers {
    /// `VectorService.Upsert`. Nothing is written, and nothing created, unless the whole batch is right.
    pub async fn upsert(&self, request: pb::UpsertRequest) -> Result<pb::UpsertResponse, ApiError> {
        let request_key = read_request_key(&request.request_id, &request)?;
        let bytes = request.encoded_len();
        let durability = read_durability(request.durability)?;
        let name = read_name("collection", &request.collection)?;
        let model_id = read_model_id("model_id", &request.model_id)?;
        let records = read_records(request.records, refuse)?;
        let existing = match self.database()?.get(name.as_str()) {
            Ok(collection) => Some(collection),
            Err(DatabaseError::NotFound { .. }) if request.create_missing => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = seen_before(existing.as_deref(), request_key.as_ref())? {
            // Decided is not yet visible: the first call may still wait for its view to be published.
            if let Some(collection) = &existing {
                collection.wait_for(Sequence(answer.sequence)).await;
            }
            return Ok(answer);
        }
        self.admit(bytes)?;
        let view = existing.as_ref().map(|collection| collection.view()).unwrap_or_default();
        let model_id = if model_id.is_empty() { view.default_model_id() } else { &model_id };
        let texts = texts_to_embed(&records);
        let embedded = match texts.is_empty() {
            true => None,
            false => Some(self.embed_texts(texts, model_id, InputType::Document).await?),
        };
        let upserted = Placement::new(&view, request.create_missing).place(records, embedded, refuse)?;
        let operation = Operation { change: Change::Upserted(upserted), stream_frame: None, request_key };
        to_response(match existing {
            Some(collection) => self.write(&collection, operation, durability).await?,
            None => self.write_first(name, operation, durability).await?,
        })
    }

    /// Makes the collection with its first write: both happen, or neither.
    async fn write_first(
        &self,
        name: CollectionName,
        operation: Operation,
        durability: Durability,
    ) -> Result<Applied, ApiError> {
        let database = self.database()?.clone();
        let (made, first) = (name.clone(), operation.clone());
        match blocking(move || Ok(database.create_with(&made, first, durability))).await? {
            // Another writer was faster.
            Err(DatabaseError::AlreadyExists { .. }) => {
                let collection = self.collection(name.as_str())?;
                self.write(&collection, operation, durability).await
            }
            applied => Ok(applied?),
        }
    }
}

/// The answer that was given to the same request before. Asked first, so that a retry needs no embedding service.
fn seen_before(
    collection: Option<&Collection>,
    key: Option<&RequestKey>,
) -> Result<Option<pb::UpsertResponse>, ApiError> {
    let (Some(collection), Some(key)) = (collection, key) else {
        return Ok(None);
    };
    match collection.seen(key) {
        Seen::Never => Ok(None),
        Seen::Answered(outcome) => to_response(outcome?).map(Some),
        Seen::Reused => Err(Refusal::RequestIdReused { request_id: key.request_id.clone() }.into()),
    }
}

fn to_response(applied: Applied) -> Result<pb::UpsertResponse, ApiError> {
    let Applied::Upserted { sequence, record_count, truncated_ids } = applied else {
        return Err(ApiError::new(Reason::Internal, "an upsert was answered as something else"));
    };
    Ok(pb::UpsertResponse {
        sequence: sequence.0,
        record_count: record_count as u32,
        truncated_ids: truncated_ids.iter().map(|id| id.as_str().to_owned()).collect(),
    })
}
