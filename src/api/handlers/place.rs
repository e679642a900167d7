//! Where a record goes: the space of its text's model, or of its vector.

use crate::api::convert::{AtFault, NewRecord};
use crate::api::error::{ApiError, Reason};
use crate::collection::{NoPlace, RecordWritten, Refusal, Upserted, View, describe, has_direction};
use crate::database::raw_space;
use crate::embedding::{Embedded, Embedding};
use crate::types::{Metric, RecordId, Space, SpaceName, TextModel, Vector};

/// The texts of the records that come without a vector, in their order.
pub fn texts_to_embed(records: &[NewRecord]) -> Vec<String> {
    let without_vector = records.iter().filter(|record| record.vector.is_none());
    without_vector.filter_map(|record| record.content.text.as_deref()).map(str::to_owned).collect()
}

/// Finds the space of each record, and the spaces that are to be added.
pub struct Placement<'a> {
    view: &'a View,
    create_missing: bool,
    new_spaces: Vec<Space>,
}

impl<'a> Placement<'a> {
    /// For records that are to be written to a collection as it stands in `view`.
    pub fn new(view: &'a View, create_missing: bool) -> Self {
        Self { view, create_missing, new_spaces: Vec::new() }
    }

    /// `embedded` has an embedding for each of `texts_to_embed`.
    pub fn place(
        mut self,
        records: Vec<NewRecord>,
        embedded: Option<Embedded>,
        mut at_fault: impl AtFault,
    ) -> Result<Upserted, ApiError> {
        let (text_space, embeddings) = match embedded {
            Some(embedded) => (Some(self.place_text(&embedded)?), embedded.embeddings),
            None => (None, Vec::new()),
        };
        let mut embeddings = embeddings.into_iter();
        let mut truncated_ids = Vec::new();
        let mut written = Vec::with_capacity(records.len());
        for record in records {
            let NewRecord { index, id, vector, content, if_version } = record;
            let (vector, space) = match vector {
                Some((vector, space)) => match self.place_vector(&id, &vector, space.as_ref()) {
                    Ok(space) => (vector, space),
                    Err(error) => {
                        at_fault(index, id.as_str(), error)?;
                        continue;
                    }
                },
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
        Ok(Upserted { spaces: self.new_spaces, records: written, truncated_ids })
    }

    fn place_text(&mut self, embedded: &Embedded) -> Result<SpaceName, ApiError> {
        let model = &embedded.model;
        if let Some(number) = self.view.space_of_embeddings(model) {
            let space = self.view.space(number);
            for embedding in &embedded.embeddings {
                check_embedding(space, model, embedding)?;
            }
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
        let space = Space { name: name.clone(), dimension, metric: Metric::Cosine, text_model };
        for embedding in &embedded.embeddings {
            check_embedding(&space, model, embedding)?;
        }
        self.new_spaces.push(space);
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
            // By the name that it would get: so what was exported comes back into a new collection.
            Err(NoPlace::NoSuchSpace { name, .. })
                if self.create_missing && name == raw_space(vector.dimension()).name.as_str() =>
            {
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

/// Embeddings of another fingerprint cannot be compared with those of the space. A service that says the same fingerprint and
/// sends something else is not believed: what was logged must be applicable for good.
pub fn check_embedding(space: &Space, model: &TextModel, embedding: &Embedding) -> Result<(), ApiError> {
    check_fingerprint(space, model)?;
    let dimension = embedding.vector.dimension();
    if dimension != space.dimension {
        let message = format_args!(
            "space {} has embeddings of dimension {}, but the embedding service now sends {dimension}: the model has changed",
            space.name, space.dimension
        );
        return Err(ApiError::new(Reason::ModelChanged, message));
    }
    if space.metric == Metric::Cosine && !has_direction(&embedding.vector) {
        let message =
            format_args!("the embedding service sent a zero vector, which has no cosine, for space {}", space.name);
        return Err(ApiError::new(Reason::EmbeddingUnavailable, message));
    }
    Ok(())
}

fn check_fingerprint(space: &Space, model: &TextModel) -> Result<(), ApiError> {
    let expected = space.text_model.as_ref().map_or("", |model| &model.fingerprint);
    if expected == model.fingerprint {
        return Ok(());
    }
    let message = format!(
        "space {} holds embeddings of model {:?} with fingerprint {expected}, but the embedding service now has {}: \
         the two cannot be compared; bring back what made them (`--precision f32` if int8 was not the default then), or \
         `vectron export --no-vectors` and import the texts into another collection",
        space.name, model.model_id, model.fingerprint
    );
    Err(ApiError::new(Reason::ModelChanged, message))
}
