//! Power cuts at every call that changes the disk, each with several outcomes.

use super::*;

const APPENDS: u64 = 60;
const SEEDS: u64 = 12;

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Each append is waited for: the same calls in every run.
    OneByOne,
    /// Several are on their way: groups, syncs and files overlap.
    ManyAtOnce,
}

/// What the caller knows when the power goes.
#[derive(Default)]
struct Known {
    /// All that was ever handed over, in order.
    payloads: Vec<Vec<u8>>,
    /// Where an append ends: the only lengths a log may be found with.
    ends: Vec<u64>,
    /// The last sequence acknowledged as durable.
    durable: u64,
    /// The log may begin up to here.
    truncated_before: u64,
    created: bool,
}

fn options() -> LogOptions {
    LogOptions { segment_bytes_max: 28 * 1024, ..quiet() }
}

fn payload(number: u64) -> Vec<u8> {
    let bytes = [3, 700, 0, 4100, 60, 1500, 12_000][number as usize % 7];
    number.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

/// Runs until it is through or the disk stops.
fn run_script(fs: &SimFs, pace: Pace) -> Known {
    let mut known = Known::default();
    let Ok(log) = FileLog::create(Arc::new(fs.clone()), folder(), options()) else {
        return known;
    };
    known.created = true;
    let mut pending = Vec::new();
    for number in 0..APPENDS {
        let batch: Vec<_> = (0..1 + number % 3).map(|part| payload(number * 3 + part)).collect();
        let durability = if number % 5 < 2 { Durability::Buffered } else { Durability::Durable };
        let Ok(completion) = log.append(batch.clone(), durability) else {
            break;
        };
        known.payloads.extend(batch);
        known.ends.push(known.payloads.len() as u64);
        pending.push((completion, durability));
        if matches!(pace, Pace::OneByOne) || number % 4 == 3 {
            settle(&mut pending, &mut known);
        }
        if number == 40 {
            known.truncated_before = 50;
            let _ = log.truncate_before(Sequence(50));
        }
    }
    settle(&mut pending, &mut known);
    log.close();
    known
}

fn settle(pending: &mut Vec<(Completion, Durability)>, known: &mut Known) {
    for (completion, durability) in pending.drain(..) {
        if let (Ok(committed), Durability::Durable) = (completion.wait(), durability) {
            known.durable = known.durable.max(committed.last.0);
        }
    }
}

/// The promises: whatever was acknowledged as durable is there, nothing has gaps, no append is there in part.
fn check(fs: &SimFs, known: &Known, scene: &str) {
    match replay(fs, options()) {
        Ok((payloads, report)) => {
            let (first, last) = (report.first.0, report.last.0);
            assert!(last >= known.durable, "{scene}: {last} is the last, {} was acknowledged", known.durable);
            assert!(last == 0 || known.ends.contains(&last), "{scene}: {last} is in the middle of an append");
            assert!(first == 1 || first <= known.truncated_before, "{scene}: the log begins at {first}");
            assert_eq!(payloads, known.payloads[first as usize - 1..last as usize], "{scene}");
        }
        Err(LogError::Missing { .. }) => assert!(!known.created, "{scene}: the log is gone"),
        Err(other) => panic!("{scene}: {other}"),
    }
}

fn cut_everywhere(pace: Pace) -> u64 {
    let rehearsal = SimFs::new();
    run_script(&rehearsal, pace);
    let calls = rehearsal.calls_total();
    let mut crash_points = 0;
    for stop in 1..=calls + 1 {
        let fs = SimFs::new();
        fs.stop_at(stop);
        let known = run_script(&fs, pace);
        for seed in 0..SEEDS {
            let scene = format!("{pace:?}, stopped at call {stop} of {calls}, seed {seed}");
            check(&fs.crash(stop * 1000 + seed), &known, &scene);
            crash_points += 1;
        }
    }
    crash_points
}

#[test]
fn power_cut_at_every_call() {
    let crash_points = cut_everywhere(Pace::OneByOne);
    println!("{crash_points} crash points");
}

#[test]
fn power_cut_at_every_call_with_many_appends_at_once() {
    let crash_points = cut_everywhere(Pace::ManyAtOnce);
    println!("{crash_points} crash points");
}

/// The repair of a torn tail is itself cut short, at every call, and then the log is opened again.
#[test]
fn power_cut_during_the_recovery_from_a_power_cut() {
    let mut crash_points = 0;
    let rehearsal = SimFs::new();
    run_script(&rehearsal, Pace::ManyAtOnce);
    for stop in (3..=rehearsal.calls_total()).step_by(5) {
        let fs = SimFs::new();
        fs.stop_at(stop);
        let known = run_script(&fs, Pace::ManyAtOnce);
        for seed in 0..4 {
            for stop_again in 1..8 {
                let again = fs.crash(stop * 1000 + seed);
                again.stop_at(stop_again);
                let _ = replay(&again, options());
                let scene = format!("stopped at {stop}, seed {seed}, then at {stop_again}");
                check(&again.crash(seed), &known, &scene);
                crash_points += 1;
            }
        }
    }
    println!("{crash_points} crash points");
}

/// What was found after a power cut is durable from then on, and the log goes on from there.
#[test]
fn life_goes_on_after_a_power_cut() {
    for seed in 0..40 {
        let fs = SimFs::new();
        fs.stop_at(20 + seed * 3);
        run_script(&fs, Pace::ManyAtOnce);
        let fs = fs.crash(seed);
        let Ok((mut expected, _)) = replay(&fs, options()) else {
            continue;
        };
        let (log, payloads, report) = open(&fs, options());
        assert_eq!(payloads, expected, "seed {seed}");
        assert_eq!(report.torn_tail, None, "seed {seed}: the first opening has cut it off");
        for number in 0..5 {
            append(&log, numbered(number), Durability::Durable);
            expected.push(numbered(number));
        }
        assert_eq!(replay(&fs.crash(seed + 1), options()).unwrap().0, expected, "seed {seed}");
    }
}

/// Several lives, each ended by a power cut, with marks and syncs that come by themselves: what an earlier life has
/// left behind its end must never come back.
#[test]
fn power_cut_after_power_cut() {
    let restless = || LogOptions { sync_delay: Duration::ZERO, mark_delay: Duration::ZERO, ..options() };
    for seed in 0..150 {
        let mut fs = SimFs::new();
        drop(create(&fs, restless()));
        let mut known = Known { created: true, truncated_before: 1, ..Known::default() };
        for life in 0..6 {
            let (log, payloads, report) = open(&fs, restless());
            assert_eq!(report.first, Sequence(1));
            assert!(report.last.0 >= known.durable, "seed {seed}, life {life}");
            assert_eq!(payloads[..], known.payloads[..payloads.len()], "seed {seed}, life {life}");
            known.payloads = payloads;
            known.durable = report.last.0; // opening has synced it
            known.ends.retain(|&end| end <= report.last.0);
            fs.stop_at(fs.calls_total() + 1 + (seed * 7 + life * 13) % 40);
            let mut pending = Vec::new();
            for number in 0..20 {
                let durability = if number % 3 == 0 { Durability::Durable } else { Durability::Buffered };
                let batch: Vec<_> =
                    (0..1 + number % 2).map(|part| payload(seed + life * 100 + number + part)).collect();
                let Ok(completion) = log.append(batch.clone(), durability) else {
                    break;
                };
                known.payloads.extend(batch);
                known.ends.push(known.payloads.len() as u64);
                pending.push((completion, durability));
                if number % 4 == 3 {
                    settle(&mut pending, &mut known);
                }
            }
            settle(&mut pending, &mut known);
            drop(log);
            fs = fs.crash(seed * 10 + life);
            check(&fs.crash(0), &known, &format!("seed {seed}, life {life}"));
        }
    }
}
