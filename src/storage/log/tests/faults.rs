//! Disks that refuse.

use std::io::ErrorKind;

use super::*;
use crate::storage::fs::Call;

#[test]
fn a_failed_sync_acknowledges_nothing_and_is_never_repeated() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 2);
    append(&log, "buffered", Durability::Buffered);
    let syncs = fs.calls(Call::SyncData);
    fs.fail_next(Call::SyncData, ErrorKind::Other);

    let completion = log.append(vec![b"x".to_vec()], Durability::Durable).unwrap();
    assert!(is_poisoned(completion.wait()));
    for durability in [Durability::Durable, Durability::Buffered] {
        assert!(is_poisoned(log.append(vec![b"y".to_vec()], durability)));
    }
    assert!(is_poisoned(log.health()));
    assert!(is_poisoned(log.fence(9)));
    assert_eq!(log.durable(), Sequence(2));
    let writes = fs.calls(Call::Write);
    drop(log);
    assert_eq!(fs.calls(Call::SyncData), syncs + 1, "the sync was repeated");
    assert_eq!(fs.calls(Call::Write), writes, "something was written after the failure");

    let (log, payloads, _) = open(&fs.crash(1), quiet());
    assert_eq!(payloads[..2], numbered_up_to(2)[..]);
    log.health().unwrap();
}

#[test]
fn a_failed_write_poisons() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 1);
    fs.fail_next(Call::Write, ErrorKind::Other);
    let completion = log.append(vec![b"x".to_vec()], Durability::Buffered).unwrap();
    let error = completion.wait().unwrap_err();
    assert!(error.to_string().contains("cannot write /data/log/00000000000000000001.log"), "{error}");
    assert!(is_poisoned(log.health()));
}

#[test]
fn a_full_disk_refuses_the_group_and_nothing_else() {
    let fs = SimFs::new();
    let options = LogOptions { segment_bytes_max: 128 * 1024, ..quiet() };
    let log = create(&fs, options.clone());
    append_numbered(&log, 1);
    let refuse = |payload_bytes: usize, call: Call, times: usize| {
        for _ in 0..times {
            fs.fail_next(call, ErrorKind::StorageFull);
        }
        let refused = log.append(vec![vec![0; payload_bytes]], Durability::Durable).unwrap().wait().unwrap_err();
        assert!(matches!(refused, LogError::NoSpace { .. }), "{refused}");
        log.health().unwrap();
    };
    refuse(70_000, Call::Allocate, 2); // the step, and then the bare need
    append_numbered(&log, 1);
    refuse(150_000, Call::CreateNew, 1); // this would have begun a file
    append_numbered(&log, 1);
    refuse(150_000, Call::Write, 1); // its header
    refuse(150_000, Call::Write, 1); // and again: the first attempt has left nothing behind
    append_numbered(&log, 1);
    refuse(150_000, Call::Allocate, 1); // the file is begun, its group refused
    append_numbered(&log, 1);
    assert_eq!(log_files(&fs).len(), 2);
    drop(log);
    assert_eq!(replay(&fs, options).unwrap().0, numbered_up_to(5));
}

#[test]
fn the_last_bytes_of_a_disk_are_used() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    fs.fail_next(Call::Allocate, ErrorKind::StorageFull);
    append_numbered(&log, 1);
    assert_eq!(log.bytes(), 2 * 4096);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let fs = SimFs::new();
    // The clock is read when a group is formed: holding it holds the append thread.
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let clock = Arc::new(move || held.lock().unwrap().recv().map_or(0, |()| 0));
    let log = create(&fs, LogOptions { pending_bytes_max: 1000, clock, ..quiet() });
    let first = log.append(vec![vec![1; 400]], Durability::Buffered).unwrap();
    let second = log.append(vec![vec![2; 400]], Durability::Buffered).unwrap();
    let refused = log.append(vec![vec![3; 400]], Durability::Buffered).unwrap_err();
    assert!(
        matches!(refused, LogError::Full { pending_bytes: 880, append_bytes: 440, pending_bytes_max: 1000 }),
        "{refused}"
    );
    drop(let_go);
    first.wait().unwrap();
    second.wait().unwrap();
    append(&log, vec![3; 400], Durability::Durable);
}

#[test]
fn a_thread_that_panics_leaves_nobody_waiting() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { clock: Arc::new(|| panic!("a broken clock")), ..quiet() });
    let completion = log.append(vec![b"x".to_vec()], Durability::Durable).unwrap();
    assert!(is_poisoned(completion.wait()));
    assert!(is_poisoned(log.health()));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_no_tear() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 3);
    log.close();
    fs.stop_at(fs.calls_total() + 1);
    let _ = fs.sync_dir(folder());
    assert!(matches!(replay(&fs, quiet()), Err(LogError::Io { .. })));
}
