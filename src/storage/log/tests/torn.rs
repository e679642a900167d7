//! Tails that a power cut has torn.

use super::*;
use crate::storage::log::format::{GroupHeader, LogId, Place};

#[test]
fn the_file_is_cut_at_every_byte_of_the_last_three_groups() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 12);
    let files = contents(&fs);
    let (path, bytes) = &files[0];
    let group_start = |number: usize| number * 4096;
    let group_end = |number: usize| group_start(number) + 48 + 40 + numbered(number as u64).len();
    for cut in group_start(10)..=group_start(13) {
        let fs = disk_with(&[(path.clone(), bytes[..cut].to_vec())]);
        let (payloads, report) = replay(&fs, quiet()).unwrap();
        let whole = (1..=12).rev().find(|&number| group_end(number) <= cut).unwrap();
        assert_eq!(payloads, numbered_up_to(whole as u64), "cut at {cut}");
        let left = &bytes[group_start(whole + 1).min(cut)..cut];
        let torn_bytes = left.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let torn = (torn_bytes > 0).then(|| TornTail {
            file: path.clone(),
            offset: group_start(whole + 1) as u64,
            bytes_dropped: torn_bytes,
            after_sequence: Sequence(whole as u64),
        });
        assert_eq!(report.torn_tail, torn, "cut at {cut}");

        // What was cut off stays off, and the log goes on.
        if cut % 61 == 0 {
            let (log, _, report) = open(&fs, quiet());
            assert_eq!(report.torn_tail, None, "cut at {cut}");
            append_numbered(&log, 2);
            drop(log);
            assert_eq!(replay(&fs, quiet()).unwrap().0, numbered_up_to(whole as u64 + 2), "cut at {cut}");
        }
    }
}

#[test]
fn files_after_a_torn_one_are_removed() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { segment_bytes_max: 16 * 1024, ..quiet() });
    for number in 1..=9 {
        append(&log, numbered(number), Durability::Buffered);
    }
    let mut files = contents(&fs);
    assert_eq!(files.len(), 3);
    files[0].1[3 * 4096 + 50] ^= 1; // the third record, of nine that were never synced
    let fs = disk_with(&files);
    let (payloads, report) = replay(&fs, quiet()).unwrap();
    assert_eq!(payloads, numbered_up_to(2));
    let torn = report.torn_tail.unwrap();
    assert_eq!((torn.file, torn.offset, torn.after_sequence), (files[0].0.clone(), 3 * 4096, Sequence(2)));
    assert_eq!(log_files(&fs), [files[0].0.clone()]);
}

#[test]
fn a_group_that_is_half_good_goes_as_a_whole() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 1);
    log.append(numbered_up_to(5), Durability::Buffered).unwrap().wait().unwrap();
    let mut files = contents(&fs);
    let end = 2 * 4096 + 48 + 5 * 48;
    files[0].1[end - 1] ^= 1; // the last byte of the last record
    let (payloads, report) = replay(&disk_with(&files), quiet()).unwrap();
    assert_eq!(payloads, numbered_up_to(1));
    assert_eq!(report.torn_tail.unwrap().bytes_dropped, 48 + 5 * 48);
}

/// A user stores a copy of a group header, and it comes to lie where a header is looked for after a break.
#[test]
fn a_copy_of_a_group_header_in_a_payload_is_not_taken_for_one() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 2);
    let bytes = content(&fs, &log_files(&fs)[0]);
    let log_id = LogId(bytes[16..32].try_into().unwrap());
    let header = GroupHeader { records: 0, records_bytes: 0, first: Sequence(1001), durable: Sequence(1000), fence: 0 };
    // The payload's second block lies at offset 4 x 4096; the third record begins at 3 x 4096 + 48.
    let with_copy_for = |offset| {
        let place = Place { log_id, file_number: 1, offset };
        let mut payload = vec![0; 4096 - 48 - 40];
        payload.extend(header.encode(place));
        payload
    };
    let copies = [bytes[2 * 4096..][..48].to_vec(), with_copy_for(2 * 4096)[4096 - 88..].to_vec()];
    for copy in copies {
        let mut payload = vec![0; 4096 - 48 - 40];
        payload.extend(copy);
        append(&log, payload, Durability::Buffered);
    }
    let (payloads, report) = replay(&disk_with(&contents(&fs)), quiet()).unwrap();
    assert_eq!((payloads.len(), report.torn_tail), (4, None));
    let mut files = contents(&fs);
    files[0].1[3 * 4096 + 60] ^= 1;
    let (payloads, report) = replay(&disk_with(&files), quiet()).unwrap();
    assert_eq!((payloads.len(), report.torn_tail.unwrap().offset), (2, 3 * 4096));

    // The proof that it would have mattered: the same header, made for the very place, is believed.
    files[0].1[4 * 4096..][..48].copy_from_slice(&with_copy_for(4 * 4096)[4096 - 88..]);
    assert!(matches!(replay(&disk_with(&files), quiet()), Err(LogError::Damaged { sequence: Sequence(3), .. })));
}

#[test]
fn a_tail_that_the_caller_knows_to_be_durable_is_not_cut() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 5);
    let mut files = contents(&fs);
    files[0].1[5 * 4096 + 50] ^= 1;
    let known = |sequence| LogOptions { known_durable: Sequence(sequence), ..quiet() };
    assert_eq!(replay(&disk_with(&files), known(4)).unwrap().0, numbered_up_to(4));
    assert!(matches!(replay(&disk_with(&files), known(5)), Err(LogError::Damaged { sequence: Sequence(5), .. })));
    files[0].1.truncate(5 * 4096);
    let missing = replay(&disk_with(&files), known(5)).unwrap_err();
    assert!(matches!(missing, LogError::Damaged { sequence: Sequence(5), .. }), "{missing}");
}

/// The process was killed, so that what it had written is there without being durable. Then the power goes.
#[test]
fn what_opening_has_replayed_survives_a_power_cut() {
    for buffered in [1, 2, 5] {
        let fs = SimFs::new();
        let log = create(&fs, LogOptions { segment_bytes_max: 16 * 1024, ..quiet() });
        append_numbered(&log, 2);
        log.fence(0).unwrap(); // a group with a mark for both of them
        for number in 3..3 + buffered {
            append(&log, numbered(number), Durability::Buffered);
        }
        std::mem::forget(log); // killed: neither closed nor synced
        let (log, payloads, _) = open(&fs, quiet());
        assert_eq!(payloads, numbered_up_to(2 + buffered));
        assert_eq!(log.durable(), Sequence(2 + buffered));
        for seed in 0..30 {
            assert_eq!(replay(&fs.crash(seed), quiet()).unwrap().0, payloads, "seed {seed}, {buffered} buffered");
        }
    }
}

/// Removing the files after a tear is cut short as well: what is left must look like a torn tail, never like damage.
#[test]
fn the_removal_of_many_files_after_a_tear_may_stop_anywhere() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { segment_bytes_max: 8 * 1024, ..quiet() });
    for number in 1..=8 {
        append(&log, numbered(number), Durability::Buffered);
    }
    let mut files = contents(&fs);
    assert_eq!(files.len(), 8);
    files[1].1[4096 + 50] ^= 1;
    for stop in 1..=20 {
        for seed in 0..40 {
            let fs = disk_with(&files);
            fs.stop_at(fs.calls_total() + stop);
            let _ = replay(&fs, quiet());
            let found = replay(&fs.crash(seed), quiet());
            let (payloads, _) = found.unwrap_or_else(|error| panic!("stopped at {stop}, seed {seed}: {error}"));
            assert_eq!(payloads, numbered_up_to(1), "stopped at {stop}, seed {seed}");
        }
    }
}
