//! Storage loses nothing: what was acknowledged is there after every accident, and nothing else is.
//!
//! Each module is one kind of accident. In `cargo test` each runs for some seconds; `make torture` runs them one after the
//! other for `TORTURE_MINUTES` and prints a table of what was seen. `TORTURE_SEED` repeats a run's histories. Everything is
//! compared with `model`, which is as simple as can be, through public interfaces alone: the engine's on a simulated disk,
//! and gRPC to the real process. So new kinds of files are covered as soon as they exist.
//!
//! | module | accident |
//! |---|---|
//! | `power` | the power goes at every call that changes the simulated disk |
//! | `flips` | one bit is flipped, a file is cut or gone |
//! | `decoders` | bytes that verify, but that nobody wrote like this |
//! | `kills` | kill -9 of the process at random moments under load |
//! | `calls` | kill -9 at the Nth system call of a kind; syncs that fail |
//! | `images` | power cuts and full disks on real file systems |
//! | `starts` | several processes start on one folder at once |

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures and what was left out are told")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod decoders;
mod effort;
mod engine;
mod figures;
mod flips;
mod history;
mod images;
mod kills;
mod model;
mod power;
mod process;
mod starts;

use std::time::Duration;

use effort::Effort;

/// Its name, its share of the time, and what it does.
type Part = (&'static str, f64, fn(&Effort));

/// All of it, for as long as `TORTURE_MINUTES` says.
#[test]
#[ignore = "takes long: `make torture`"]
fn torture() {
    let minutes = std::env::var("TORTURE_MINUTES").ok().map_or(30.0, |minutes| minutes.parse().expect("minutes"));
    let share = |part: f64| Effort::long(Duration::from_secs_f64(minutes * 60.0 * part));
    let parts: [Part; 10] = [
        ("power cuts, simulated", 0.25, power::cuts_at_every_call),
        ("flipped bits", 0.22, flips::one_bit_of_every_byte),
        ("cut and missing files", 0.05, flips::cut_and_missing_files),
        ("decoders", 0.05, decoders::bytes_that_nobody_wrote),
        ("kill -9 under load", 0.15, kills::at_random_moments),
        ("kill -9 at system calls", 0.1, calls::killed_at_each),
        ("syncs that fail", 0.05, calls::syncs_that_fail),
        ("power cuts, real file system", 0.08, images::power_cuts),
        ("full disks", 0.03, images::full_disks),
        ("starts at once", 0.02, starts::one_winner),
    ];
    for (name, part, run) in parts {
        println!("{name} …");
        run(&share(part));
    }
    println!("{}", figures::table());
}
