//! What was seen: counters that `make torture` prints, and panics on threads that nobody joins.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

static FIGURES: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
static PANICS: AtomicU64 = AtomicU64::new(0);

/// What must stay zero. It is listed also where nothing was counted; what is found ends the run as well.
const MUST_BE_ZERO: [&str; 4] =
    ["acknowledged writes lost", "batches applied in part", "wrong answers", "panics of the engine"];

pub fn add(name: &'static str, count: u64) {
    *FIGURES.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += count;
}

/// Counts panics of the engine's own threads from now on.
pub fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("vectron")) {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

pub fn panics() -> u64 {
    PANICS.load(Ordering::SeqCst)
}

/// What a panic said.
pub fn text(panic: &(dyn Any + Send)) -> String {
    let known = panic.downcast_ref::<String>().cloned();
    known.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

pub fn table() -> String {
    let figures = FIGURES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut table = String::from("\n");
    for (name, count) in figures.iter() {
        writeln!(table, "{name:<58} {count:>12}").expect("a String takes everything");
    }
    for name in MUST_BE_ZERO {
        // The first one that is found ends the run with what it is: whoever comes here has seen none.
        let count = if name == "panics of the engine" { panics() } else { 0 };
        writeln!(table, "{name:<58} {count:>12}").expect("a String takes everything");
    }
    table
}
