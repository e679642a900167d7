//! Checkpoints that could not be written.

use std::time::Instant;

use super::kept::{DIMENSION, everything, small_files, write};
use super::*;

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_checkpoint_that_failed_is_tried_again_though_nobody_writes() {
    let (fs, path) = (SimFs::new(), Path::new("/c"));
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let collection = Collection::create(Arc::new(fs.clone()), path, small_files(), created).unwrap();
    (0..300).for_each(|number| write(&collection, number..number + 1));
    let (before, log_bytes) = (everything(&collection), collection.log_bytes());
    // Twice: the second attempt fails as well.
    fs.fail_next(Call::Rename, std::io::ErrorKind::StorageFull);
    fs.fail_next(Call::Rename, std::io::ErrorKind::StorageFull);
    let error = collection.checkpoint().unwrap_err().to_string();
    assert!(error.contains("cannot rename"), "{error}");
    assert_eq!(examine_files(&fs, path).unwrap().sequence, Sequence::ZERO);
    let keeping = collection.keeping();
    assert_eq!((keeping.failures, keeping.error.unwrap().to_string()), (1, error));
    let failed = Instant::now();
    wait_until("the log is cut", || collection.log_bytes() < log_bytes / 2);
    assert!(failed.elapsed() > Duration::from_secs(2), "it waits before each attempt: {:?}", failed.elapsed());
    wait_until("it is told", || collection.keeping().error.is_none());
    let keeping = collection.keeping();
    assert_eq!(keeping.failures, 2);
    assert!(keeping.age < failed.elapsed() && keeping.parts_bytes > 3 * 4096, "{keeping:?}");
    assert_eq!(examine_files(&fs, path).unwrap().sequence, collection.view().sequence());
    let (again, _) = Collection::open(Arc::new(fs.crash(1)), path, small_files()).unwrap();
    assert_eq!(everything(&again), before);
}

#[test]
fn a_collection_closes_at_once_while_a_checkpoint_waits_for_another_attempt() {
    let (fs, path) = (SimFs::new(), Path::new("/c"));
    let created = Created { spaces: vec![space("a", DIMENSION, Metric::Cosine)], ..Created::default() };
    let collection = Collection::create(Arc::new(fs.clone()), path, small_files(), created).unwrap();
    write(&collection, 0..50);
    for attempt in 0..5 {
        fs.fail_next(Call::Rename, std::io::ErrorKind::StorageFull);
        assert!(collection.checkpoint().is_err(), "attempt {attempt}");
    }
    // By now the next attempt is many seconds away.
    let closing = Instant::now();
    drop(collection);
    assert!(closing.elapsed() < Duration::from_secs(5), "{:?}", closing.elapsed());
}
