//! Bytes that have changed after they were synced.

use super::*;
use crate::storage::log::format::{FileHeader, GroupHeader, LogId, Place};

const BLOCK: usize = 4096;

/// Every byte that means something, and a sample of the padding.
fn positions(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(|at| at % BLOCK < 160 || at % BLOCK >= BLOCK - 8 || at % 29 == 0)
}

#[test]
fn one_flipped_bit_anywhere_is_refused_or_harmless_in_a_log_that_was_closed() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 30);
    log.close();
    let files = contents(&fs);
    let (path, bytes) = &files[0];
    let expected = numbered_up_to(30);
    let (mut damaged, mut harmless) = (0, 0);
    for at in positions(bytes) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 7);
        match replay(&disk_with(&[(path.clone(), flipped)]), quiet()) {
            Ok((payloads, _)) => {
                assert_eq!(payloads, expected, "a record was lost or changed without an error, byte {at}");
                harmless += 1;
            }
            Err(LogError::Damaged { file, offset, sequence, reason }) => {
                let block = at / BLOCK;
                assert_eq!((&file, offset), (path, (block * BLOCK) as u64), "byte {at}: {reason}");
                assert_eq!(sequence, Sequence(block.max(1) as u64), "byte {at}: {reason}");
                damaged += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    println!("{damaged} flips refused, {harmless} harmless");
    assert!(damaged > 30 * 88, "every byte of a header or record counts");
}

#[test]
fn one_flipped_bit_before_the_last_mark_is_refused_in_a_log_that_was_not_closed() {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { segment_bytes_max: 16 * 1024, ..quiet() });
    append_numbered(&log, 10);
    let files = contents(&fs); // four files: 1-3, 4-6, 7-9, 10
    drop(log);
    for (index, (path, bytes)) in files.iter().enumerate() {
        for at in positions(bytes).filter(|at| at % BLOCK < 160) {
            let mut flipped = files.clone();
            flipped[index].1[at] ^= 0x10;
            let sequence = index as u64 * 3 + (at / BLOCK).max(1) as u64;
            match replay(&disk_with(&flipped), quiet()) {
                // The mark of the last group covers the nine before it.
                Ok((payloads, report)) if sequence == 10 => {
                    let kept = if report.torn_tail.is_some() { 9 } else { 10 };
                    assert_eq!(payloads, numbered_up_to(kept), "byte {at} of file {index}");
                }
                Ok((payloads, _)) => assert_eq!(payloads, numbered_up_to(10), "byte {at} of file {index}"),
                Err(LogError::Damaged { file, sequence: named, .. }) => {
                    assert_eq!((&file, named), (path, Sequence(sequence)), "byte {at} of file {index}");
                }
                Err(other) => panic!("byte {at} of file {index}: {other}"),
            }
        }
    }
}

#[test]
fn damage_changes_nothing_on_the_disk() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 5);
    log.close();
    let mut files = contents(&fs);
    files[0].1[2 * BLOCK + 50] ^= 1;
    let fs = disk_with(&files);
    let calls = fs.calls_total();
    let refused = replay(&fs, quiet()).unwrap_err();
    assert_eq!(fs.calls_total(), calls, "{refused}");
    assert_eq!(contents(&fs), files);
    let text = refused.to_string();
    let begin = "log file /data/log/00000000000000000001.log is damaged at offset 8192, where sequence 2 should be: ";
    assert!(text.starts_with(begin), "{text}");
}

#[test]
fn a_missing_file_is_damage_unless_it_is_the_last() {
    let fs = SimFs::new();
    let options = LogOptions { segment_bytes_max: 16 * 1024, ..quiet() };
    let log = create(&fs, options.clone());
    append_numbered(&log, 12);
    drop(log);
    let files = contents(&fs);
    for missing in 1..3 {
        let mut files = files.clone();
        files.remove(missing);
        let refused = replay(&disk_with(&files), options.clone()).unwrap_err();
        assert!(matches!(refused, LogError::Damaged { offset: 0, .. }), "file {missing}: {refused}");
    }
}

#[test]
fn files_of_another_log_and_files_with_another_name_are_damage() {
    let options = LogOptions { segment_bytes_max: 16 * 1024, ..quiet() };
    let [one, other] = [(); 2].map(|()| {
        let fs = SimFs::new();
        let log = create(&fs, options.clone());
        append_numbered(&log, 9);
        drop(log);
        contents(&fs)
    });
    let mixed = [one[0].clone(), other[1].clone(), one[2].clone()];
    let refused = replay(&disk_with(&mixed), quiet()).unwrap_err();
    assert!(refused.to_string().contains("another log"), "{refused}");
    let renamed = [one[0].clone(), (folder().join("00000000000000000005.log"), one[1].1.clone())];
    let refused = replay(&disk_with(&renamed), quiet()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(5), .. }), "{refused}");
}

#[test]
fn a_record_in_the_wrong_place_does_not_verify() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 9);
    log.close();
    let mut files = contents(&fs);
    files[0].1.copy_within(2 * BLOCK..3 * BLOCK, 5 * BLOCK);
    let refused = replay(&disk_with(&files), quiet()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(5), .. }), "{refused}");
}

/// A backup was taken, both copies went on, and then parts of them were mixed: log, place and sequence agree.
#[test]
fn two_histories_of_one_log_do_not_join() {
    let options = || LogOptions { segment_bytes_max: 16 * 1024, ..quiet() };
    let fs = SimFs::new();
    let log = create(&fs, options());
    append_numbered(&log, 1);
    log.close();
    let backup = contents(&fs);
    let [one, other] = ["one", "other"].map(|history| {
        let fs = disk_with(&backup);
        let (log, _, _) = open(&fs, options());
        for number in 2..=6 {
            append(&log, format!("{history} {number}").into_bytes(), Durability::Durable);
        }
        drop(log);
        contents(&fs)
    });
    assert_eq!(one.len(), 3); // the records 1 with a mark and 2; 3 to 5; 6
    let mut mixed = one.clone();
    mixed[1].1[2 * BLOCK..3 * BLOCK].copy_from_slice(&other[1].1[2 * BLOCK..3 * BLOCK]);
    let refused = replay(&disk_with(&mixed), quiet()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(4), .. }), "{refused}");
    let mixed = [one[0].clone(), other[1].clone(), other[2].clone()];
    let refused = replay(&disk_with(&mixed), quiet()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(3), offset: 0, .. }), "{refused}");
}

#[test]
fn a_mark_that_does_not_continue_the_log_is_not_passed_over() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 2);
    let mut files = contents(&fs);
    let log_id = LogId(files[0].1[16..32].try_into().unwrap());
    let place = Place { log_id, file_number: 1, offset: 3 * BLOCK as u64 };
    let mut mark_with = |first| {
        let mark = GroupHeader { records: 0, records_bytes: 0, first: Sequence(first), durable: Sequence(2), fence: 0 };
        files[0].1[3 * BLOCK..][..48].copy_from_slice(&mark.encode(place));
        replay(&disk_with(&files), quiet()).unwrap().1.torn_tail
    };
    assert_eq!(mark_with(3), None);
    assert_eq!(mark_with(4).unwrap().offset, 3 * BLOCK as u64);
}

#[test]
fn the_header_of_a_file_without_groups_is_a_mark_too() {
    let fs = SimFs::new();
    let options = LogOptions { segment_bytes_max: 16 * 1024, ..quiet() };
    let log = create(&fs, options);
    append_numbered(&log, 3);
    fs.fail_next(crate::storage::fs::Call::Allocate, std::io::ErrorKind::StorageFull);
    fs.fail_next(crate::storage::fs::Call::Allocate, std::io::ErrorKind::StorageFull);
    log.append(vec![vec![]], Durability::Durable).unwrap().wait().unwrap_err();
    let mut files = contents(&fs);
    assert_eq!((files.len(), files[1].1.len()), (2, BLOCK));
    files[0].1[3 * BLOCK + 50] ^= 1;
    let refused = replay(&disk_with(&files), quiet()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { sequence: Sequence(3), .. }), "{refused}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 2);
    drop(log);
    let files = contents(&fs);
    let (path, bytes) = &files[0];
    let log_id = LogId(bytes[16..32].try_into().unwrap());

    let mut newer = FileHeader::decode(&bytes[..BLOCK]).unwrap().encode();
    newer[8] = 7;
    let checksum = crc32c::crc32c(&newer[..BLOCK - 4]);
    newer[BLOCK - 4..].copy_from_slice(&checksum.to_le_bytes());
    let newer_file = [&newer, &bytes[BLOCK..]].concat();

    let place = Place { log_id, file_number: 1, offset: 2 * BLOCK as u64 };
    let mut newer_group = bytes.clone();
    newer_group[2 * BLOCK + 8] = 7;
    let key = [&log_id.0[..], &1u64.to_le_bytes(), &place.offset.to_le_bytes()].concat();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &newer_group[2 * BLOCK + 8..][..40]);
    newer_group[2 * BLOCK + 4..][..4].copy_from_slice(&checksum.to_le_bytes());
    assert!(GroupHeader::decode(&newer_group[2 * BLOCK..], place).is_err());

    let mut newer_record = bytes.clone();
    let record = 2 * BLOCK + 48;
    newer_record[record + 4] = 7;
    let checksum = crc32c::crc32c(&newer_record[record + 4..][..36 + numbered(2).len()]);
    newer_record[record..][..4].copy_from_slice(&checksum.to_le_bytes());

    for bytes in [newer_file, newer_group, newer_record] {
        let refused = replay(&disk_with(&[(path.clone(), bytes)]), quiet()).unwrap_err();
        let text = "log file /data/log/00000000000000000001.log has format 7, this version reads up to 1";
        assert_eq!(refused.to_string(), text);
    }
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Never a panic, and never an allocation beyond the file: a length that lies is refused before it is used.
        #[test]
        fn never_panic(
            header in prop::bool::ANY,
            bytes in prop::collection::vec(any::<u8>(), 0..9000),
            records in any::<u32>(), records_bytes in any::<u64>(), first in any::<u64>(), durable in any::<u64>(),
        ) {
            let log_id = LogId([7; 16]);
            let first_file = FileHeader {
                log_id, number: 1, first: Sequence(1), durable: Sequence::ZERO, fence: 0, chain: 0,
            };
            let mut file = if header { first_file.encode() } else { Vec::new() };
            if first % 2 == 0 {
                let group = GroupHeader {
                    records, records_bytes, first: Sequence(first % 3), durable: Sequence(durable), fence: 0,
                };
                file.extend(group.encode(Place { log_id, file_number: 1, offset: BLOCK as u64 }));
            }
            file.extend(bytes);
            let _ = replay(&disk_with(&[(folder().join("00000000000000000001.log"), file)]), quiet());
        }
    }
}
