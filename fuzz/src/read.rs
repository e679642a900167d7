//! Reads everything that an open collection has: whatever was let in, no reader may stumble over it.

use std::path::Path;
use std::sync::Arc;

use vectron::collection::{Collection, Effort, Search};
use vectron::filter::Filter;
use vectron::storage::fs::{Fs, SimFs};
use vectron::types::{SpaceName, Value, Vector};

/// Gets, lists and searches.
pub fn everything(collection: &Collection) {
    let view = collection.view();
    let mut listed = 0;
    for (row, space) in view.list(None) {
        let (again, _) = view.get(row.id.as_str()).expect("what is listed is there");
        assert_eq!((row.id, row.version), (again.id, again.version));
        assert_eq!(row.components.len(), space.dimension.get());
        assert!(row.components.iter().all(|component| component.is_finite()), "a component that no write could have");
        listed += 1;
    }
    assert_eq!(listed, view.record_count());
    assert_eq!(listed, view.spaces().map(|(_, count)| count).sum::<usize>());
    let spaces: Vec<(SpaceName, usize)> = view.spaces().map(|(space, count)| (space.name.clone(), count)).collect();
    for (name, count) in spaces {
        let number = view.space_named(name.as_str()).expect("it has that name");
        let dimension = view.space(number).dimension.get();
        let components = (0..dimension).map(|at| if at % 3 == 0 { 0.5 } else { -0.25 }).collect();
        let vector = Vector::new(components).expect("finite and short");
        let is_set = Filter::exists("group").expect("a name");
        let is_first = Filter::equals("n", Value::Int(1)).expect("a name and a number");
        for filter in [None, Some(is_set), Some(is_first)] {
            for effort in [Effort::Exact, Effort::Recall(0.9)] {
                let (vector, filter) = (vector.clone(), filter.clone().map(Arc::new));
                let is_filtered = filter.is_some();
                let found = Search { space: number, vector, top_k: 5, filter, effort }.run(view.clone());
                assert!(is_filtered || found.len() == count.min(5), "{} hits of {count} records", found.len());
                assert!(found.hits().all(|(score, row)| !score.is_nan() && view.get(row.id.as_str()).is_some()));
            }
        }
    }
    let _ = collection.statistics();
}

/// Puts a file on a disk, and the folder that it lies in.
pub fn put(fs: &SimFs, path: &Path, bytes: &[u8]) {
    fs.create_dir_all(path.parent().expect("a file lies in a folder")).expect("the disk is on");
    // Mutated names may be the same.
    if let Ok(file) = fs.create_new(path) {
        file.write_all_at(bytes, 0).expect("the disk is on");
    }
}
