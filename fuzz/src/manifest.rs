//! A manifest over parts that are as they should be: those of a collection in the corpus of `segment`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::packed::{Unpacked, unpack};
use super::segment::{self, Kind};

static BASE: LazyLock<Vec<(Kind, Unpacked)>> = LazyLock::new(|| {
    let mut files = unpack(include_bytes!("../base").split_first().map_or(&[][..], |(_, packed)| packed)).into_iter();
    // Empty where the first seeds are made.
    let manifest = files.next().unwrap_or_default();
    segment::named(&manifest.bytes).into_iter().map(|(kind, ..)| kind).zip(files).collect()
});

/// `input` is a byte of what is left wrong, then the manifest's message.
pub fn run(input: &[u8]) {
    let Some((&flags, message)) = input.split_first() else { return };
    let mut given: HashMap<u8, usize> = HashMap::new();
    segment::open(message, flags, |kind| {
        let of_kind: Vec<_> = BASE.iter().filter(|(found, _)| *found == kind).collect();
        let number = given.entry(kind as u8).or_default();
        *number += 1;
        of_kind.get(*number - 1).map(|(_, file)| file.clone())
    });
}
