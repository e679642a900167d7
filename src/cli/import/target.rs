//! What is known about the collection before anything is sent: which vectors it takes.
//!
//! The server decides; this finds most mistakes earlier, with their lines. The rules are those of `View::place`.

use super::draft::VectorFacts;
use crate::pb::v1 as pb;
use crate::types::limits::DIMENSION_MAX;

/// The spaces of the collection that is imported into.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// `None`: nobody was asked.
    spaces: Option<Vec<Space>>,
    creates_missing: bool,
}

#[derive(Clone, Debug)]
struct Space {
    name: String,
    dimension: usize,
    is_cosine: bool,
    is_raw: bool,
}

impl Target {
    /// Takes everything.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// A collection as the server describes it; `None`: it does not exist yet.
    pub fn new(collection: Option<&pb::Collection>, creates_missing: bool) -> Self {
        let spaces = collection.map(|collection| collection.spaces.as_slice()).unwrap_or_default();
        let spaces = spaces.iter().map(|space| Space {
            name: space.name.clone(),
            dimension: space.dimension as usize,
            is_cosine: matches!(pb::Metric::try_from(space.metric), Ok(pb::Metric::Cosine | pb::Metric::Unspecified)),
            is_raw: space.text_model.is_none(),
        });
        Self { spaces: Some(spaces.collect()), creates_missing }
    }

    /// Whether there is a space for the vector. The first one may make a space, where there is none of raw vectors.
    pub fn check(&mut self, vector: VectorFacts, space: &str) -> Result<(), String> {
        let Some(spaces) = &mut self.spaces else { return Ok(()) };
        let dimension = vector.dimension.get();
        assert!(dimension <= DIMENSION_MAX, "checked when the line was read");
        // A name that the first vector would get anyway is as good as none.
        let is_known = spaces.iter().any(|known| known.name == space);
        let space = if !is_known && space == format!("raw-{dimension}") { "" } else { space };
        let place = match space {
            "" => {
                let fitting = || spaces.iter().filter(|space| space.dimension == dimension);
                let raw: Vec<&Space> = fitting().filter(|space| space.is_raw).collect();
                let all: Vec<&Space> = fitting().collect();
                match (&raw[..], &all[..]) {
                    ([only], _) | ([], [only]) => only,
                    (_, []) if self.creates_missing && spaces.iter().all(|space| !space.is_raw) => {
                        let name = format!("raw-{dimension}");
                        spaces.push(Space { name, dimension, is_cosine: true, is_raw: true });
                        &spaces[spaces.len() - 1]
                    }
                    (_, []) => {
                        let existing = describe(spaces);
                        return Err(format!("the vector has {dimension} numbers, but the collection has {existing}"));
                    }
                    _ => {
                        let existing = describe(&all);
                        return Err(format!(
                            "several spaces take vectors of {dimension} numbers: {existing}; name one"
                        ));
                    }
                }
            }
            name => {
                let Some(place) = spaces.iter().find(|space| space.name == name) else {
                    let existing = describe(spaces);
                    let advice = "add it with `vectron collections add-space` and import with --restart, or say --ignore for the field that names it";
                    return Err(format!("there is no space {name:?}: the collection has {existing}; {advice}"));
                };
                if place.dimension != dimension {
                    let expected = place.dimension;
                    return Err(format!(
                        "space {name:?} has vectors of {expected} numbers, but this one has {dimension}"
                    ));
                }
                place
            }
        };
        if place.is_cosine && !vector.has_direction {
            return Err(format!("space {:?} compares by cosine, which a zero vector does not have", place.name));
        }
        Ok(())
    }
}

fn describe<S: std::borrow::Borrow<Space>>(spaces: &[S]) -> String {
    let told: Vec<String> = spaces
        .iter()
        .map(|space| {
            let Space { name, dimension, .. } = space.borrow();
            format!("{name} ({dimension})")
        })
        .collect();
    if told.is_empty() { "no spaces".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Dimension;

    fn vector(dimension: usize) -> VectorFacts {
        VectorFacts { dimension: Dimension::new(dimension).unwrap(), has_direction: true }
    }

    fn collection() -> pb::Collection {
        let space = |name: &str, dimension, model: Option<&str>, metric: pb::Metric| pb::Space {
            name: name.to_owned(),
            dimension,
            metric: metric.into(),
            text_model: model.map(|id| pb::TextModel { model_id: id.to_owned(), fingerprint: String::new() }),
            record_count: 0,
        };
        let spaces = vec![
            space("minilm", 384, Some("minilm"), pb::Metric::Cosine),
            space("bge", 384, Some("bge"), pb::Metric::Cosine),
            space("pixels", 3, None, pb::Metric::Euclidean),
        ];
        pb::Collection { spaces, ..pb::Collection::default() }
    }

    #[test]
    fn a_vector_needs_a_space_of_its_dimension() {
        let mut target = Target::new(Some(&collection()), true);
        assert_eq!(target.check(vector(3), ""), Ok(()));
        assert_eq!(target.check(vector(384), "bge"), Ok(()));
        assert_eq!(
            target.check(vector(4), "").unwrap_err(),
            "the vector has 4 numbers, but the collection has minilm (384), bge (384), pixels (3)"
        );
        assert!(target.check(vector(384), "").unwrap_err().contains("several spaces take vectors of 384 numbers"));
        assert!(target.check(vector(3), "x").unwrap_err().contains("there is no space \"x\""));
        assert!(target.check(vector(4), "pixels").unwrap_err().contains("has vectors of 3 numbers"));
    }

    #[test]
    fn a_zero_vector_has_a_distance_but_no_cosine() {
        let mut target = Target::new(Some(&collection()), true);
        let zero = |dimension| VectorFacts { has_direction: false, ..vector(dimension) };
        assert_eq!(target.check(zero(3), ""), Ok(()));
        assert!(target.check(zero(384), "minilm").unwrap_err().contains("zero vector"));
    }

    #[test]
    fn the_first_vector_makes_the_space_of_a_new_collection() {
        let mut target = Target::new(None, true);
        assert_eq!(target.check(vector(2), ""), Ok(()));
        assert_eq!(target.check(vector(2), ""), Ok(()));
        assert!(target.check(vector(3), "").unwrap_err().contains("the collection has raw-2 (2)"));
        assert_eq!(Target::new(None, true).check(vector(2), "raw-2"), Ok(()), "as it was exported");
        assert!(Target::new(None, true).check(vector(2), "raw-3").is_err());
        assert!(Target::new(None, false).check(vector(2), "").unwrap_err().contains("no spaces"));
        assert_eq!(Target::unknown().check(vector(2), "any"), Ok(()));
    }
}
