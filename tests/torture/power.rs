//! The power goes at every call that changes the disk, with several outcomes each: of what was not synced any part is
//! there, torn and out of order.

use std::thread;

use proptest::prelude::RngExt;
use vectron::storage::fs::SimFs;

use crate::effort::{Effort, dice};
use crate::engine::{End, Run};
use crate::figures;
use crate::history::{self, Size, Step};

#[test]
fn the_power_goes_at_every_call_of_a_random_history() {
    cuts_at_every_call(&Effort::short(8));
}

#[test]
fn random_histories_answer_as_the_model_does() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..15 {
        let steps = history::random(seed, Size { steps: 120, collections: 3, ids: 60, batch: 20 });
        let fs = SimFs::new();
        let mut run = Run::new(&fs, folder.path(), 1 + seed as usize % 5);
        assert_eq!(run.play(&steps, &format!("history {seed}")), End::Finished);
        run.compare(&format!("the end of history {seed}"));
        run.close();
    }
    assert_eq!(figures::panics(), 0);
}

pub fn cuts_at_every_call(effort: &Effort) {
    figures::watch_panics();
    let workers = if effort.is_long { 2 } else { 1 };
    thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for history in 0.. {
                    if !effort.has_time() {
                        break;
                    }
                    cut_one_history(effort, effort.seed + history * workers + worker);
                }
            });
        }
    });
    assert_eq!(figures::panics(), 0, "the engine panicked");
}

fn cut_one_history(effort: &Effort, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = dice(seed);
    let size = Size { steps: dice.random_range(20..60), collections: 3, ids: 25, batch: 8 };
    let pending_max = [1, 4][dice.random_range(0..2)];
    let outcomes = if effort.is_long { 12 } else { 5 };
    let steps = history::random(seed, size);
    let rehearsal = SimFs::new();
    let mut run = Run::new(&rehearsal, folder.path(), pending_max);
    assert_eq!(run.play(&steps, &format!("history {seed}")), End::Finished);
    run.close();
    figures::add("histories cut at every call", 1);

    for stop in 1..=rehearsal.calls_total() + 1 {
        if !effort.has_time() {
            return;
        }
        let scene = format!("history {seed}, {pending_max} at once, stopped at call {stop}");
        let fs = SimFs::new();
        fs.stop_at(stop);
        let mut run = Run::new(&fs, folder.path(), pending_max);
        if run.play(&steps, &scene) == End::Finished {
            run.close();
        }
        for outcome in 0..outcomes {
            let scene = format!("{scene}, outcome {outcome}");
            let after = fs.crash(seed ^ (stop << 20) ^ (outcome << 50));
            let (database, known) = run.known.check(&after, folder.path(), &scene);
            figures::add("crash points, simulated disk", 1);
            // Now and then life goes on, and ends with another cut.
            if (stop + outcome) % 7 != 0 {
                continue;
            }
            let next: Vec<Step> = history::continued(seed + stop, &known);
            let mut second = Run::go_on(&after, folder.path(), database, known);
            after.stop_at(after.calls_total() + 1 + dice.random_range(0..40));
            let scene = format!("{scene}, a second life");
            if second.play(&next, &scene) == End::Finished {
                second.close();
            }
            let again = after.crash(outcome);
            second.known.check(&again, folder.path(), &scene);
            figures::add("crash points, simulated disk", 1);
        }
    }
}
