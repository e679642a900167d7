//! Upsert: read, embed, place, append.

use crate::api::convert::{NewRecord, read_durability, read_model_id, read_records, read_request_key};
use crate::api::error::{ApiError, Reason};
use crate::api::handlers::{Handlers, blocking, read_name};
use crate::collection::{
    Applied, Change, Collection, NoPlace, Operation, RecordWritten, Refusal, RequestKey, Seen, Upserted, View,
    describe, has_direction,
};
use crate::database::{DatabaseError, raw_space};
use crate::embedding::{Embedded, Embedding, InputType};
use crate::pb::v1 as pb;
use crate::storage::log::Durability;
use crate::types::{CollectionName, Metric, RecordId, Sequence, Space, SpaceName, TextModel, Vector};

impl Handlers {
    /// `VectorService.Upsert`. Nothing is written, and nothing created, unless the whole batch is right.
    pub async fn upsert(&self, request: pb::UpsertRequest) -> Result<pb::UpsertResponse, ApiError> {
        let request_key = read_request_key(&request.request_id, &request)?;
        let durability = read_durability(request.durability)?;
        let name = read_name("collection", &request.collection)?;
        let model_id = read_model_id("model_id", &request.model_id)?;
        let records = read_records(request.records)?;
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
        let view = existing.as_ref().map(|collection| collection.view()).unwrap_or_default();
        let model_id = if model_id.is_empty() { view.default_model_id() } else { &model_id };
        let texts = texts_to_embed(&records);
        let embedded = match texts.is_empty() {
            true => None,
            false => Some(self.embed_texts(texts, model_id, InputType::Document).await?),
        };
        let mut placement = Placement { view: &view, create_missing: request.create_missing, new_spaces: Vec::new() };
        let upserted = placement.place(records, embedded)?;
        let operation = Operation { change: Change::Upserted(upserted), request_key };
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

fn texts_to_embed(records: &[NewRecord]) -> Vec<String> {
    let without_vector = records.iter().filter(|record| record.vector.is_none());
    without_vector.filter_map(|record| record.content.text.as_deref()).map(str::to_owned).collect()
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

/// Finds the space of each record, and the spaces that are to be added.
struct Placement<'a> {
    view: &'a View,
    create_missing: bool,
    new_spaces: Vec<Space>,
}

impl Placement<'_> {
    fn place(&mut self, records: Vec<NewRecord>, embedded: Option<Embedded>) -> Result<Upserted, ApiError> {
        let (text_space, embeddings) = match embedded {
            Some(embedded) => (Some(self.place_text(&embedded)?), embedded.embeddings),
            None => (None, Vec::new()),
        };
        let mut embeddings = embeddings.into_iter();
        let mut truncated_ids = Vec::new();
        let mut written = Vec::with_capacity(records.len());
        for record in records {
            let NewRecord { id, vector, content, if_version } = record;
            let (vector, space) = match vector {
                Some((vector, space)) => {
                    let space = self.place_vector(&id, &vector, space.as_ref())?;
                    (vector, space)
                }
                None => {
                    let Embedding { vector, is_truncated } =
                        embeddings.next().expect("there is an embedding for each text");
                    if is_truncated {
                        truncated_ids.push(id.clone());
                    }
                    (vector, text_space.clone().expect("there is a space where there are embeddings"))
                }
            };
            written.push(RecordWritten { id, space, vector, content, if_version });
        }
        Ok(Upserted { spaces: std::mem::take(&mut self.new_spaces), records: written, truncated_ids })
    }

    fn place_text(&mut self, embedded: &Embedded) -> Result<SpaceName, ApiError> {
        let model = &embedded.model;
        if let Some(number) = self.view.space_of_model(&model.model_id) {
            let space = self.view.space(number);
            check_fingerprint(space, model)?;
            return Ok(space.name.clone());
        }
        if !self.create_missing {
            let message = format!(
                "the collection has no space for model {:?}; it has {}; add one with UpdateCollection, \
                 or set `create_missing`",
                model.model_id,
                describe(self.view.spaces().map(|(space, _)| space))
            );
            return Err(ApiError::new(Reason::SpaceNotFound, message));
        }
        let name = SpaceName::new(&model.model_id).map_err(|error| ApiError::new(Reason::Internal, error))?;
        let dimension = embedded.embeddings[0].vector.dimension();
        let text_model = Some(model.clone());
        self.new_spaces.push(Space { name: name.clone(), dimension, metric: Metric::Cosine, text_model });
        Ok(name)
    }

    fn place_vector(
        &mut self,
        id: &RecordId,
        vector: &Vector,
        space: Option<&SpaceName>,
    ) -> Result<SpaceName, ApiError> {
        let name_record =
            |error: ApiError| ApiError { message: format!("record {:?}: {}", id.as_str(), error.message), ..error };
        let space = match self.view.place(vector.dimension(), space) {
            Ok(number) => self.view.space(number).clone(),
            Err(NoPlace::NoSuchDimension { .. }) if self.create_missing => {
                self.add_raw_space(vector).map_err(name_record)?
            }
            Err(error) => return Err(name_record(error.into())),
        };
        if space.metric == Metric::Cosine && !has_direction(vector) {
            let message = format_args!("space {} compares by cosine, which a zero vector does not have", space.name);
            return Err(name_record(ApiError::new(Reason::ZeroVector, message)));
        }
        Ok(space.name)
    }

    /// One space of raw vectors may come with a first write; the fold of the log has the last word.
    fn add_raw_space(&mut self, vector: &Vector) -> Result<Space, ApiError> {
        let space = raw_space(vector.dimension());
        if self.new_spaces.contains(&space) {
            return Ok(space);
        }
        let existing: Vec<&Space> = self.view.spaces().map(|(space, _)| space).chain(&self.new_spaces).collect();
        if existing.iter().any(|space| space.text_model.is_none()) {
            let existing = describe(existing);
            return Err(Refusal::SecondRawSpace { got: vector.dimension(), existing }.into());
        }
        self.new_spaces.push(space.clone());
        Ok(space)
    }
}

/// Embeddings of another fingerprint cannot be compared with those of the space.
pub(super) fn check_fingerprint(space: &Space, model: &TextModel) -> Result<(), ApiError> {
    let expected = space.text_model.as_ref().map_or("", |model| &model.fingerprint);
    if expected == model.fingerprint {
        return Ok(());
    }
    let message = format!(
        "space {} holds embeddings of model {:?} with fingerprint {expected}, but the embedding service now has {}: \
         the two cannot be compared",
        space.name, model.model_id, model.fingerprint
    );
    Err(ApiError::new(Reason::ModelChanged, message))
}
