//! Ids from the command line, or from standard input, in batches.

use std::io::{self, BufRead};

use crate::cli::exit::Failure;
use crate::types::RecordId;

/// Ids of one call.
const BATCH_IDS: usize = 1_000;

/// Ids to be looked up, in batches. `-` alone means standard input, one id a line; empty lines are passed over.
pub fn batches(arguments: Vec<String>) -> Box<dyn Iterator<Item = Result<Vec<String>, Failure>>> {
    let ids: Box<dyn Iterator<Item = Result<String, Failure>>> = match arguments.as_slice() {
        [only] if only == "-" => {
            let failed = |error: io::Error| Failure::file("read", "standard input", &error);
            let lines = io::stdin().lock().lines().map(move |line| line.map_err(failed));
            Box::new(lines.filter(|line| line.as_ref().map_or(true, |line| !line.is_empty())))
        }
        _ => Box::new(arguments.into_iter().map(Ok)),
    };
    Box::new(Batches { ids })
}

struct Batches {
    ids: Box<dyn Iterator<Item = Result<String, Failure>>>,
}

impl Iterator for Batches {
    type Item = Result<Vec<String>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch: Result<Vec<String>, Failure> = self.ids.by_ref().take(BATCH_IDS).map(|id| checked(id?)).collect();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(batch),
        }
    }
}

fn checked(id: String) -> Result<String, Failure> {
    match RecordId::new(&id) {
        Ok(_) => Ok(id),
        Err(error) => Err(Failure::new(error)),
    }
}
