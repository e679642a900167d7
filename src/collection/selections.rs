use std::sync::{Arc, Mutex};

use crate::collection::write::lock;
use crate::filter::{Filter, MetadataIndex, Selection};

/// Filters that are remembered; the same few are asked again and again.
const REMEMBERED_MAX: usize = 16;

/// What filters select of a segment, which does not change: the latest are remembered.
#[derive(Default)]
pub struct Selections {
    /// The one that was used last is the last.
    latest: Mutex<Vec<(Arc<Filter>, Arc<Selection>)>>,
}

impl Selections {
    /// As [`MetadataIndex::select`].
    pub fn get(&self, filter: &Arc<Filter>, metadata: &MetadataIndex) -> Arc<Selection> {
        let mut latest = lock(&self.latest);
        if let Some(place) = latest.iter().position(|(known, _)| Arc::ptr_eq(known, filter) || known == filter) {
            latest[place..].rotate_left(1);
        } else {
            drop(latest);
            let selection = Arc::new(metadata.select(filter));
            latest = lock(&self.latest);
            if latest.len() == REMEMBERED_MAX {
                latest.remove(0);
            }
            latest.push((filter.clone(), selection));
        }
        latest.last().expect("one was just put there").1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Metadata, Value};

    #[test]
    fn what_is_remembered_is_what_is_selected_whatever_came_in_between() {
        let rows: Vec<Metadata> =
            (0..40).map(|row| Metadata::new([("kind".to_owned(), Value::Int(row % 20))].into()).unwrap()).collect();
        let metadata = MetadataIndex::build(rows.iter());
        let selections = Selections::default();
        for round in 0..3 {
            for kind in (0..20).chain([3, 3, 19]) {
                let filter = Arc::new(Filter::equals("kind", Value::Int(kind)).unwrap());
                let selected: Vec<u32> = selections.get(&filter, &metadata).rows.iter().collect();
                assert_eq!(selected, [kind as u32, kind as u32 + 20], "{round}");
                assert!(lock(&selections.latest).len() <= REMEMBERED_MAX);
            }
        }
        let again = Arc::new(Filter::equals("kind", Value::Int(19)).unwrap());
        let (first, second) = (selections.get(&again, &metadata), selections.get(&again, &metadata));
        assert!(Arc::ptr_eq(&first, &second), "not selected again");
    }
}
