//! Examining a log, and cutting a damaged one.

use super::*;

const BLOCK: usize = 4096;
const ASIDE: &str = "/data/damaged-1";

fn look(fs: &SimFs) -> Examined {
    let payloads = &mut Vec::new();
    examine(fs, folder(), &quiet(), collect(payloads)).unwrap()
}

fn damage_of(examined: &Examined) -> &Damage {
    match &examined.end {
        End::Damaged(damage) => damage,
        other => panic!("not damaged: {other:?}"),
    }
}

/// Ten records in four files: 1-3, 4-6, 7-9, 10 with the last mark.
fn files_of_a_closed_log() -> Vec<(PathBuf, Vec<u8>)> {
    let fs = SimFs::new();
    let log = create(&fs, LogOptions { segment_bytes_max: 16 * 1024, ..quiet() });
    append_numbered(&log, 10);
    log.close();
    let files = contents(&fs);
    assert_eq!(files.len(), 4);
    files
}

fn with_flip(file: usize, at: usize) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = files_of_a_closed_log();
    files[file].1[at] ^= 0x10;
    files
}

#[test]
fn a_whole_log_is_whole_and_a_torn_one_is_left_to_the_next_start() {
    let fs = SimFs::new();
    let log = create(&fs, quiet());
    append_numbered(&log, 3);
    let whole = Examined { records: 3, last: Sequence(3), end: End::Whole };
    assert_eq!(look(&fs), whole);
    let mut files = contents(&fs);
    files[0].1[3 * BLOCK + 50] ^= 1; // the last record, which no mark covers yet
    let examined = look(&disk_with(&files));
    let torn = End::Torn { file: files[0].0.clone(), offset: 3 * BLOCK as u64 };
    assert_eq!(examined, Examined { records: 2, last: Sequence(2), end: torn });
    assert!(matches!(
        examine(&SimFs::new(), folder(), &quiet(), collect(&mut Vec::new())),
        Err(OpenError::Log(LogError::Missing { .. }))
    ));
}

#[test]
fn wherever_a_bit_flips_what_is_before_it_stays_and_the_rest_is_kept_aside() {
    let original = files_of_a_closed_log();
    let (mut cut, mut hopeless) = (0, 0);
    for (index, (path, bytes)) in original.iter().enumerate() {
        let positions = (0..bytes.len()).filter(|at| at % BLOCK < 160 || at % BLOCK >= BLOCK - 8 || at % 97 == 0);
        for at in positions {
            let mut files = original.clone();
            files[index].1[at] ^= 1 << (at % 7);
            let fs = disk_with(&files);
            let calls = fs.calls_total();
            let examined = look(&fs);
            assert_eq!(fs.calls_total(), calls, "examining changes nothing");
            // The same judgement as opening.
            let Err(LogError::Damaged { file, offset, sequence, .. }) = replay(&disk_with(&files), quiet()) else {
                // Harmless, or a tear of the last mark, which nothing behind it covers.
                assert_eq!(examined.records, 10, "byte {at} of file {index}");
                assert!(!matches!(examined.end, End::Damaged(_)), "byte {at} of file {index}");
                continue;
            };
            let damage = damage_of(&examined);
            assert_eq!((&damage.file, damage.offset, damage.sequence), (&file, offset, sequence));
            assert_eq!((&damage.file, examined.last.next()), (path, damage.sequence.max(Sequence(1))));
            if !damage.can_be_cut() {
                assert_eq!((index, at / BLOCK), (0, 0), "only the first header takes everything with it");
                hopeless += 1;
                continue;
            }
            assert_eq!(damage.last_seen, Sequence(10), "byte {at} of file {index}");
            assert_eq!(damage.records_lost(), 11 - sequence.0);

            damage.cut_off(&fs, folder(), Path::new(ASIDE)).unwrap();
            for (path, bytes) in &files[index..] {
                assert_eq!(&content(&fs, &Path::new(ASIDE).join(path.file_name().unwrap())), bytes);
            }
            let fs = fs.crash(at as u64); // all of it is durable
            let (log, payloads, report) = open(&fs, quiet());
            assert_eq!(payloads, numbered_up_to(sequence.0 - 1), "byte {at} of file {index}");
            assert_eq!(report.torn_tail, None);
            append_numbered(&log, 2);
            drop(log);
            assert_eq!(replay(&fs, quiet()).unwrap().0, numbered_up_to(sequence.0 + 1));
            cut += 1;
        }
    }
    println!("{cut} flips cut off, {hopeless} leave nothing");
    assert!(cut > 10 * 88 && hopeless > 0);
}

#[test]
fn a_header_that_does_not_hold_behind_an_earlier_break_does_not_hide_it() {
    let mut files = with_flip(0, 2 * BLOCK + 50);
    files[2].1[20] ^= 1;
    let fs = disk_with(&files);
    let examined = look(&fs);
    let damage = damage_of(&examined);
    assert_eq!((&damage.file, damage.sequence, damage.last_seen), (&files[0].0, Sequence(2), Sequence(10)));
    damage.cut_off(&fs, folder(), Path::new(ASIDE)).unwrap();
    assert_eq!(replay(&fs, quiet()).unwrap().0, numbered_up_to(1));
    assert_eq!(fs.list(Path::new(ASIDE)).unwrap().len(), 4);
}

#[test]
fn a_missing_file_is_cut_off_with_those_behind_it() {
    let mut files = files_of_a_closed_log();
    files.remove(1);
    let fs = disk_with(&files);
    let examined = look(&fs);
    let damage = damage_of(&examined);
    assert_eq!((damage.offset, damage.sequence, damage.records_lost()), (0, Sequence(4), 7));
    damage.cut_off(&fs, folder(), Path::new(ASIDE)).unwrap();
    assert_eq!(replay(&fs, quiet()).unwrap().0, numbered_up_to(3));
}

#[test]
fn what_the_caller_knows_to_be_durable_counts_as_lost() {
    let fs = disk_with(&files_of_a_closed_log());
    let options = LogOptions { known_durable: Sequence(12), ..quiet() };
    let examined = examine(&fs, folder(), &options, collect(&mut Vec::new())).unwrap();
    let damage = damage_of(&examined);
    assert_eq!((examined.records, damage.sequence, damage.records_lost()), (10, Sequence(11), 2));
}

/// The power goes during each call of a cut, and each time the disk is found in several states.
#[test]
fn a_power_cut_in_the_middle_of_a_cut_loses_nothing_that_is_not_kept_aside() {
    for (file, at) in [(1, 2 * BLOCK + 50), (1, 20), (0, 3 * BLOCK + 50)] {
        let original = with_flip(file, at);
        let kept = damage_of(&look(&disk_with(&original))).sequence.0 - 1;
        let calls_of_a_cut = {
            let fs = disk_with(&original);
            let before = fs.calls_total();
            damage_of(&look(&fs)).cut_off(&fs, folder(), Path::new(ASIDE)).unwrap();
            fs.calls_total() - before
        };
        for call in 1..=calls_of_a_cut {
            for seed in 0..20 {
                let fs = disk_with(&original);
                let examined = look(&fs);
                fs.stop_at(fs.calls_total() + call);
                damage_of(&examined).cut_off(&fs, folder(), Path::new(ASIDE)).unwrap_err();
                let fs = fs.crash(seed);
                if let End::Damaged(damage) = look(&fs).end {
                    damage.cut_off(&fs, folder(), Path::new("/data/damaged-2")).unwrap();
                }
                let payloads = replay(&fs, quiet()).unwrap().0;
                assert_eq!(payloads, numbered_up_to(kept), "call {call}, seed {seed}");
                for (path, bytes) in &original[file..] {
                    let copies =
                        [ASIDE, "/data/damaged-2"].map(|aside| Path::new(aside).join(path.file_name().unwrap()));
                    let is_kept = copies.iter().any(|copy| fs.exists(copy).unwrap() && content(&fs, copy) == *bytes);
                    assert!(is_kept, "{} is lost: call {call}, seed {seed}", path.display());
                }
            }
        }
    }
}
