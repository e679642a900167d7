//! What the log does when nothing goes wrong.

use super::*;
use crate::storage::fs::RealFs;

#[test]
fn what_was_appended_is_there_after_reopening() {
    let disk = tempfile::tempdir().unwrap();
    let folder = disk.path().join("a/log");
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let large: Vec<u8> = (0..3 * 1024 * 1024).map(|i| (i % 251) as u8).collect();
    let payloads = [b"first".to_vec(), Vec::new(), large, b"last".to_vec()];

    let options = LogOptions { epoch: 7, ..quiet() };
    let log = FileLog::create(fs.clone(), &folder, options.clone()).unwrap();
    let committed = log.append(vec![payloads[0].clone(), payloads[1].clone()], Durability::Durable).unwrap().wait();
    assert_eq!(committed.unwrap(), Committed { first: Sequence(1), last: Sequence(2), time_us: 1_700_000_000_000_000 });
    append(&log, payloads[2].clone(), Durability::Buffered);
    append(&log, payloads[3].clone(), Durability::Durable);
    assert_eq!((log.last(), log.durable()), (Sequence(4), Sequence(4)));
    drop(log);

    let mut found = Vec::new();
    let (log, report) = FileLog::open(fs, &folder, options, |record| {
        assert_eq!((record.epoch, record.time_us), (7, 1_700_000_000_000_000));
        found.push(record.payload.to_vec());
        Ok::<(), String>(())
    })
    .unwrap();
    assert_eq!(found, payloads);
    assert_eq!((report.records, report.last, report.torn_tail), (4, Sequence(4), None));
    assert_eq!(append(&log, "more", Durability::Durable).first, Sequence(5));
    let on_disk: u64 = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(log.bytes(), on_disk);
}

#[test]
fn a_log_can_begin_after_what_lies_elsewhere() {
    let fs = SimFs::new();
    let options = || LogOptions { first_needed: Sequence(41), known_durable: Sequence(40), ..quiet() };
    FileLog::begin(Arc::new(fs.clone()), folder(), Sequence(41)).unwrap();
    for seed in 0..20 {
        let (log, found, report) = open(&fs.crash(seed), options());
        assert_eq!((found.len(), report.first, report.last), (0, Sequence(41), Sequence(40)));
        assert_eq!((log.last(), log.durable()), (Sequence(40), Sequence(40)));
    }
    let (log, ..) = open(&fs, options());
    assert_eq!(append(&log, "more", Durability::Durable).first, Sequence(41));
    drop(log);
    let (_, found, report) = open(&fs, options());
    assert_eq!((found, report.last), (vec![b"more".to_vec()], Sequence(41)));
    assert!(matches!(FileLog::begin(Arc::new(fs), folder(), Sequence(41)), Err(LogError::Exists { .. })));
}

#[test]
fn files_are_rotated_and_the_first_ones_dropped() {
    let fs = SimFs::new();
    let options = LogOptions { segment_bytes_max: 32 * 1024, ..quiet() };
    let log = create(&fs, options.clone());
    append_numbered(&log, 40);
    append(&log, vec![9; 100_000], Durability::Durable); // larger than a file should be: one of its own
    append(&log, "after", Durability::Durable);
    let names = log_files(&fs);
    assert_eq!(names.len(), 8, "{names:?}");
    assert_eq!(names[1], folder().join("00000000000000000008.log"));
    assert_eq!(names[7], folder().join("00000000000000000042.log"));

    log.truncate_before(Sequence(22)).unwrap();
    assert_eq!(log_files(&fs)[0], folder().join("00000000000000000022.log"));
    log.truncate_before(Sequence(28)).unwrap();
    assert_eq!(log_files(&fs).len(), 5);
    assert!(matches!(log.tail(Sequence(21)), Err(LogError::Truncated { first: Sequence(22), .. })));
    drop(log);

    let (payloads, report) = replay(&fs, options.clone()).unwrap();
    assert_eq!((report.first, report.last, report.records), (Sequence(22), Sequence(42), 21));
    assert_eq!(payloads[0], numbered(22));
    let needed = LogOptions { first_needed: Sequence(22), ..options.clone() };
    assert_eq!(replay(&fs, needed).unwrap().1.records, 21);
    let needed = LogOptions { first_needed: Sequence(21), ..options };
    let refused = replay(&fs, needed).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(21), .. }), "{refused}");
}

#[test]
fn the_last_file_is_never_dropped() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 3);
    log.truncate_before(Sequence(1000)).unwrap();
    drop(log);
    assert_eq!(open(&fs, quiet()).1, numbered_up_to(3));
}

#[test]
fn a_tail_follows_what_is_appended() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { segment_bytes_max: 40 * 1024, mark_delay: Duration::ZERO, ..quiet() });
    let mut tail = log.tail(Sequence(1)).unwrap();
    assert_eq!(tail.next().unwrap(), None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=500 {
                let durability = if number % 7 == 0 { Durability::Durable } else { Durability::Buffered };
                append(&log, numbered(number), durability);
            }
        });
        for number in 1..=500 {
            let record = loop {
                match tail.next().unwrap() {
                    Some(record) => break record.payload.to_vec(),
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(record, numbered(number));
        }
    });
    for from in [1, 2, 250, 499, 500] {
        let mut tail = log.tail(Sequence(from)).unwrap();
        for number in from..=500 {
            let record = tail.next().unwrap().unwrap();
            assert_eq!((record.sequence, record.payload), (Sequence(number), &numbered(number)[..]));
        }
        assert_eq!(tail.next().unwrap(), None);
    }
}

#[test]
fn a_tail_begins_in_the_middle_of_a_group() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    log.append(numbered_up_to(10), Durability::Buffered).unwrap().wait().unwrap();
    let mut tail = log.tail(Sequence(7)).unwrap();
    log.close();
    for number in 7..=10 {
        assert_eq!(tail.next().unwrap().unwrap().payload, numbered(number));
    }
    assert_eq!(tail.next().unwrap(), None);
}

#[test]
fn many_threads_share_groups_and_leave_no_gap() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions::default());
    let mut committed: Vec<(Committed, Vec<Vec<u8>>)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    let append = |number| {
                        let payloads = vec![format!("{writer}/{number}").into_bytes(); 1 + number % 3];
                        let completion = log.append(payloads.clone(), Durability::Durable).unwrap();
                        let committed = completion.wait().unwrap();
                        assert!(log.durable() >= committed.last);
                        (committed, payloads)
                    };
                    (0..50usize).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    committed.sort_by_key(|(committed, _)| committed.first);
    let mut next = Sequence(1);
    for (committed, payloads) in &committed {
        assert_eq!(committed.first, next);
        next = Sequence(next.0 + payloads.len() as u64);
        assert_eq!(committed.last.next(), next);
    }
    drop(log);
    let expected: Vec<_> = committed.into_iter().flat_map(|(_, payloads)| payloads).collect();
    assert_eq!(open(&fs, quiet()).1, expected);
}

#[test]
fn an_idle_log_writes_one_mark_and_closing_writes_the_last() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { mark_delay: Duration::from_millis(20), ..LogOptions::default() });
    append(&log, "a", Durability::Durable);
    let marks = |fs: &SimFs| {
        let bytes = content(fs, &log_files(fs)[0]);
        bytes.chunks(4096).skip(1).filter(|block| block.starts_with(b"VGRP") && block[12..16] == [0; 4]).count()
    };
    while marks(&fs) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Long enough for a second one, if it came.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(marks(&fs), 1);
    append(&log, "b", Durability::Buffered);
    log.close();
    log.close();
    assert_eq!(marks(&fs), 2);
    assert!(matches!(log.append(vec![vec![]], Durability::Durable), Err(LogError::Closed)));
    assert_eq!(log.durable(), Sequence(2));
}

#[test]
fn buffered_records_are_synced_by_themselves_soon_after() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { sync_delay: Duration::from_millis(5), ..quiet() });
    append(&log, "a", Durability::Buffered);
    let mut waited_ms = 0;
    while log.durable() < Sequence(1) {
        std::thread::sleep(Duration::from_millis(1));
        waited_ms += 1;
        assert!(waited_ms < 5000, "never synced");
    }
}

#[test]
fn a_dropped_completion_cancels_nothing() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    drop(log.append(vec![b"a".to_vec()], Durability::Durable).unwrap());
    drop(log);
    assert_eq!(open(&fs, quiet()).1, [b"a"]);
}

#[test]
fn a_fenced_writer_is_refused_also_after_a_restart() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { epoch: 3, ..quiet() });
    append(&log, "a", Durability::Durable);
    log.fence(3).unwrap();
    append(&log, "b", Durability::Durable);
    log.fence(5).unwrap();
    let refused = log.append(vec![b"c".to_vec()], Durability::Durable).unwrap_err();
    assert!(matches!(refused, LogError::Fenced { epoch: 3, fence: 5 }), "{refused}");

    // What `fence` promised holds after a power cut at this moment.
    for seed in 0..20 {
        let (log, payloads, _) = open(&fs.crash(seed), LogOptions { epoch: 4, ..quiet() });
        assert_eq!(payloads, [b"a", b"b"], "seed {seed}");
        assert!(matches!(log.append(vec![vec![]], Durability::Durable), Err(LogError::Fenced { epoch: 4, fence: 5 })));
    }
    drop(log);
    let (log, _, _) = open(&fs, LogOptions { epoch: 5, ..quiet() });
    append(&log, "c", Durability::Durable);
}

#[test]
fn appends_that_can_never_fit_are_refused() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { pending_bytes_max: 1000, ..quiet() });
    assert!(matches!(log.append(vec![], Durability::Durable), Err(LogError::Empty)));
    assert!(matches!(log.append(vec![vec![0; 1000]], Durability::Durable), Err(LogError::TooLarge { .. })));
    append(&log, vec![0; 960], Durability::Durable);
}

#[test]
fn a_log_is_not_created_over_another_and_not_opened_where_there_is_none() {
    let fs = SimFs::new();
    let missing = replay(&fs, quiet()).unwrap_err();
    assert!(matches!(missing, LogError::Missing { .. }), "{missing}");
    drop(create(&fs, quiet()));
    let exists = FileLog::create(Arc::new(fs.clone()), folder(), quiet()).err().unwrap();
    assert!(matches!(exists, LogError::Exists { .. }), "{exists}");
}

#[test]
fn leftovers_are_removed_and_strangers_left_alone() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 2);
    drop(log);
    let leftover = folder().join("00000000000000000003.log.tmp");
    let strangers = ["notes.txt", "3.log", "0000000000000000000x.log", "some.log.tmp"];
    for name in strangers {
        fs.create_new(&folder().join(name)).unwrap();
    }
    fs.create_new(&leftover).unwrap();
    assert_eq!(open(&fs, quiet()).1, numbered_up_to(2));
    assert!(!fs.exists(&leftover).unwrap());
    for name in strangers {
        assert!(fs.exists(&folder().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_refused_record_stops_the_replay_and_is_named() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 3);
    drop(log);
    let refused = FileLog::open(Arc::new(fs), folder(), quiet(), |record| match record.sequence {
        Sequence(2) => Err("an operation this version does not know"),
        _ => Ok(()),
    });
    let error = refused.err().unwrap();
    assert_eq!(error.to_string(), "cannot replay the record with sequence 2: an operation this version does not know");
}
