//! Several processes start on one folder at once: one serves it, the others say who has it.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{self, Texts, data_folder};
use crate::effort::Effort;
use crate::figures;
use crate::process::Process;

const RACERS: usize = 3;

#[test]
fn of_several_starts_at_once_one_wins() {
    one_winner(&Effort::short(2));
}

pub fn one_winner(effort: &Effort) {
    let data = data_folder();
    let mut races = 0;
    while effort.has_time() || races < 3 {
        // A folder that was there before, and one that is new.
        let folder = data.path().join((races / 4).to_string());
        let racers: Vec<_> = (0..RACERS).map(|_| Process::spawn(common::command(&folder, Texts::Away))).collect();
        let mut winners = Vec::new();
        for mut racer in racers {
            let status = loop {
                match racer.has_ended() {
                    Some(status) => break Some(status),
                    None if racer.logged().contains("vectron::server: ready after") => break None,
                    None => thread::sleep(Duration::from_millis(2)),
                }
            };
            match status {
                None => winners.push(racer),
                Some(status) => {
                    // Its last words are read on another thread, which may have to wait for its turn.
                    let deadline = Instant::now() + Duration::from_secs(10);
                    while !racer.logged().contains("in use by") && Instant::now() < deadline {
                        thread::sleep(Duration::from_millis(2));
                    }
                    let said = racer.logged();
                    assert_eq!(status.code(), Some(1), "race {races}: {said}");
                    assert!(said.contains("in use by"), "race {races}: {said}");
                }
            }
        }
        assert_eq!(winners.len(), 1, "race {races}");
        winners.into_iter().for_each(Process::kill);
        races += 1;
    }
    figures::add("races of starts with one winner", races);
}
