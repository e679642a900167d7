//! Collections and their spaces.

use std::collections::HashSet;

use crate::api::convert::{invalid, read_model_id, unknown_enum};
use crate::api::error::{ApiError, Reason};
use crate::database::Entry;
use crate::pb::v1 as pb;
use crate::types::limits::{DIMENSION_MAX, SPACES_MAX};
use crate::types::{CollectionName, Dimension, Metric, Space, SpaceName};

/// A space to be added, before its model was asked for its dimension and fingerprint.
pub struct NewSpace {
    /// Its name.
    pub name: SpaceName,
    /// Components of each vector; `None`: the model's.
    pub dimension: Option<Dimension>,
    /// How vectors are compared.
    pub metric: Metric,
    /// The model, where texts are to be embedded.
    pub model_id: Option<String>,
}

/// Spaces to be added; their names are distinct.
pub fn read_new_spaces(spaces: &[pb::Space]) -> Result<Vec<NewSpace>, ApiError> {
    if spaces.len() > SPACES_MAX {
        return Err(invalid("spaces", format_args!("expected at most {SPACES_MAX}, but got {}", spaces.len())));
    }
    let mut names = HashSet::new();
    for (index, space) in spaces.iter().enumerate() {
        if !names.insert(&space.name) {
            return Err(invalid(format!("spaces[{index}].name"), format_args!("{:?} comes twice", space.name)));
        }
    }
    let mut models = HashSet::new();
    for (index, model) in
        spaces.iter().enumerate().filter_map(|(index, space)| Some((index, space.text_model.as_ref()?)))
    {
        if !models.insert(&model.model_id) {
            let message = format_args!("a model has one space, but {:?} comes twice", model.model_id);
            return Err(invalid(format!("spaces[{index}].text_model"), message));
        }
    }
    spaces.iter().enumerate().map(|(index, space)| read_new_space(&format!("spaces[{index}]"), space)).collect()
}

fn read_new_space(field: &str, space: &pb::Space) -> Result<NewSpace, ApiError> {
    let name = SpaceName::new(&space.name).map_err(|error| invalid(format!("{field}.name"), error))?;
    let metric = match pb::Metric::try_from(space.metric) {
        Ok(pb::Metric::Unspecified | pb::Metric::Cosine) => Metric::Cosine,
        Ok(pb::Metric::DotProduct) => Metric::DotProduct,
        Ok(pb::Metric::Euclidean) => Metric::Euclidean,
        Err(_) => return Err(unknown_enum(&format!("{field}.metric"), space.metric)),
    };
    let model_id = space.text_model.as_ref();
    let model_id =
        model_id.map(|model| read_model_id(&format!("{field}.text_model.model_id"), &model.model_id)).transpose()?;
    let dimension = Dimension::new(space.dimension as usize);
    if dimension.is_none() && (space.dimension != 0 || model_id.is_none()) {
        let message = format_args!("expected 1 to {DIMENSION_MAX}, but got {}", space.dimension);
        return Err(ApiError::field(Reason::DimensionMismatch, format!("{field}.dimension"), message));
    }
    Ok(NewSpace { name, dimension, metric, model_id })
}

/// A collection as the contract tells it.
pub fn to_collection(name: &CollectionName, entry: &Entry) -> pb::Collection {
    let name = name.as_str().to_owned();
    let unopened = |state: pb::CollectionState, reason: &String| pb::Collection {
        name: name.clone(),
        state: state.into(),
        state_reason: reason.clone(),
        ..pb::Collection::default()
    };
    let collection = match entry {
        Entry::Open(collection) => collection,
        Entry::Damaged { reason } => return unopened(pb::CollectionState::Damaged, reason),
        Entry::NotLoaded { reason } => return unopened(pb::CollectionState::NotLoaded, reason),
    };
    let (state, state_reason) = match collection.health() {
        Ok(()) => (pb::CollectionState::Ready, String::new()),
        Err(error) => (pb::CollectionState::ReadOnly, error.to_string()),
    };
    let view = collection.view();
    pb::Collection {
        name,
        description: view.description().to_owned(),
        spaces: view.spaces().map(|(space, record_count)| to_space(space, record_count)).collect(),
        default_model_id: view.default_model_id().to_owned(),
        record_count: view.record_count() as u64,
        sequence: view.sequence().0,
        state: state.into(),
        state_reason,
    }
}

fn to_space(space: &Space, record_count: usize) -> pb::Space {
    let metric = match space.metric {
        Metric::Cosine => pb::Metric::Cosine,
        Metric::DotProduct => pb::Metric::DotProduct,
        Metric::Euclidean => pb::Metric::Euclidean,
    };
    pb::Space {
        name: space.name.as_str().to_owned(),
        dimension: space.dimension.get() as u32,
        metric: metric.into(),
        text_model: space
            .text_model
            .as_ref()
            .map(|model| pb::TextModel { model_id: model.model_id.clone(), fingerprint: model.fingerprint.clone() }),
        record_count: record_count as u64,
    }
}
