//! Building segments while others write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::kept::{DIMENSION, everything, write};
use super::*;

#[test]
fn putting_in_order_ends_under_a_steady_trickle_of_writes() {
    let folder = tempfile::tempdir().unwrap();
    let spaces = vec![space("a", DIMENSION, Metric::Cosine), space("b", 2, Metric::Euclidean)];
    let collection = create(&folder.path().join("c"), spaces);
    write(&collection, 0..5000);
    run(&collection, upsert(vec![record("other", "b", &[1.0, 2.0], None)])).unwrap();
    let (is_over, trickled) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (5000..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                write(&collection, number..number + 1);
                trickled.store(number - 5000, Ordering::Relaxed);
            }
        });
        let (sender, receiver) = mpsc::channel();
        scope.spawn(|| {
            let sender = sender;
            collection.compact(&mut |_, _| {});
            sender.send(()).unwrap();
        });
        let ended = receiver.recv_timeout(Duration::from_secs(30));
        // Without writes it ends in any case, and the test with it.
        is_over.store(true, Ordering::Relaxed);
        ended
    });
    let trickled = trickled.into_inner();
    ended.unwrap_or_else(|error| panic!("{error}, {trickled} records came meanwhile"));
    assert!(trickled > 0, "something was written meanwhile");
    let statistics = collection.statistics();
    assert!(statistics.segment_rows > 5000, "{statistics:?}");
    assert_eq!(everything(&collection).len(), 5002 + trickled);
}
