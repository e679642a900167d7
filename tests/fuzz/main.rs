//! The corpus of `fuzz/`, and every input that once found something, through the same code as the fuzzer's, without one.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges begins with one")]

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;
mod seeds;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: fuzz::allocator::Limited = fuzz::allocator::Limited;

/// Panics of any thread: those of the engine's own are joined by nobody who would tell.
static PANICS: AtomicU64 = AtomicU64::new(0);

fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
    let mut inputs: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    inputs.sort();
    inputs
}

#[test]
fn the_corpus_and_all_that_was_once_found_is_read_or_refused() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    let mut failed = Vec::new();
    for (target, run) in fuzz::TARGETS {
        let corpus = inputs("corpus", target);
        assert!(corpus.len() >= 3, "the corpus of {target} is missing");
        for path in corpus.into_iter().chain(inputs("found", target)) {
            let input = std::fs::read(&path).unwrap();
            let panics = PANICS.load(Ordering::SeqCst);
            let _ = std::panic::catch_unwind(|| run(&input));
            if PANICS.load(Ordering::SeqCst) > panics {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Not a test: `make fuzz-seeds` writes what the corpus begins with, from files that the engine writes now.
#[test]
#[ignore = "writes files"]
fn write_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let put = |path: PathBuf, bytes: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for (target, name, input) in seeds::all() {
        let (_, run) = fuzz::TARGETS.into_iter().find(|(known, _)| *known == target).unwrap();
        run(&input);
        put(root.join("corpus").join(target).join(name), &input);
    }
    put(root.join("base"), &seeds::base());
}
