//! Random histories against the simplest log there is: a vector.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<u8>>, Durability),
    Reopen,
    /// Power goes, with this seed, after everything was made durable.
    PowerCut(u64),
    /// In hundredths of what is there.
    TruncateBefore(u64),
    Tail(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let payload = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..10_000),
    ];
    let batch = prop::collection::vec(payload, 1..5);
    let durability = prop_oneof![Just(Durability::Durable), Just(Durability::Buffered)];
    prop_oneof![
        10 => (batch, durability).prop_map(|(batch, durability)| Step::Append(batch, durability)),
        2 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => (0..100u64).prop_map(Step::TruncateBefore),
        2 => (0..100u64).prop_map(Step::Tail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_log_is_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        let mut fs = SimFs::new();
        let options = LogOptions { segment_bytes_max: 24 * 1024, ..quiet() };
        let mut log = create(&fs, options.clone());
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut first = 1;
        for step in steps {
            match step {
                Step::Append(batch, durability) => {
                    let committed = log.append(batch.clone(), durability).unwrap().wait().unwrap();
                    prop_assert_eq!(committed.first, Sequence(model.len() as u64 + 1));
                    model.extend(batch);
                    prop_assert_eq!(committed.last, Sequence(model.len() as u64));
                }
                Step::Reopen | Step::PowerCut(_) => {
                    drop(log);
                    if let Step::PowerCut(seed) = step {
                        fs = fs.crash(seed);
                    }
                    let (opened, payloads, report) = open(&fs, options.clone());
                    log = opened;
                    prop_assert_eq!(report.first, log_first(&mut first, report.first));
                    prop_assert_eq!(&payloads[..], &model[first as usize - 1..]);
                    prop_assert_eq!(report.torn_tail, None);
                }
                Step::TruncateBefore(hundredths) => {
                    let before = model.len() as u64 * hundredths / 100;
                    log.truncate_before(Sequence(before)).unwrap();
                }
                Step::Tail(hundredths) => {
                    let from = (model.len() as u64 * hundredths / 100).max(1);
                    match log.tail(Sequence(from)) {
                        Ok(mut tail) => {
                            for expected in &model[from as usize - 1..] {
                                prop_assert_eq!(tail.next().unwrap().unwrap().payload, &expected[..]);
                            }
                            prop_assert_eq!(tail.next().unwrap(), None);
                        }
                        Err(error) => prop_assert!(matches!(error, LogError::Truncated { .. }), "{}", error),
                    }
                }
            }
        }
    }
}

/// The log may begin later than it did, never earlier.
fn log_first(known: &mut u64, found: Sequence) -> Sequence {
    *known = found.0.max(*known);
    Sequence(*known)
}
