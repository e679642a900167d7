//! The files of a log: opened, or refused and then examined as a repair does.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use vectron::collection::{Collection, DecodeError, Operation};
use vectron::database::{Database, DatabaseOptions};
use vectron::storage::fs::SimFs;
use vectron::storage::log::{End, LogOptions, LogRecord, examine};

use super::packed::unpack;
use super::read;
use super::seal::{self, Left, LogState};

/// A bit of the first byte: the log is the catalogue's.
const IS_CATALOGUE: u8 = 0x80;

/// The lock of a database is on the real disk.
pub static FOLDER: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("vectron-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    folder
});

/// `input` is a byte of what is left wrong, then the packed files of a log.
pub fn run(input: &[u8]) {
    let Some((&flags, packed)) = input.split_first() else { return };
    let (left, mut state) = (Left(flags), LogState::default());
    let is_catalogue = flags & IS_CATALOGUE != 0;
    let data = if is_catalogue { FOLDER.as_path() } else { Path::new("/data") };
    let folder = data.join(if is_catalogue { "catalogue" } else { "log" });
    let fs = SimFs::new();
    for mut file in unpack(packed) {
        seal::log_file(&mut file, &mut state, left);
        let first = seal::u64_at(&file.bytes, 40).unwrap_or(0);
        read::put(&fs, &folder.join(format!("{first:020}.log")), &file.bytes);
    }
    if is_catalogue {
        match Database::open(data, DatabaseOptions { fs: Arc::new(fs.clone()), ..DatabaseOptions::default() }) {
            Ok((database, _)) => drop(database.list(None, 100)),
            Err(error) => assert!(error.to_string().contains("catalogue"), "{error}"),
        }
        return;
    }
    match Collection::open(Arc::new(fs.clone()), data, LogOptions::default()) {
        Ok((collection, _)) => read::everything(&collection),
        Err(error) => {
            assert!(error.to_string().contains("/data/log"), "the log is not named: {error}");
            repair(&fs, &folder);
        }
    }
}

/// What a repair says is left is there when it is done.
fn repair(fs: &SimFs, folder: &Path) {
    let decode = |record: LogRecord<'_>| {
        Operation::decode(record.payload.to_vec().into()).map(|_| ()).map_err(|error: DecodeError| error)
    };
    let Ok(found) = examine(fs, folder, &LogOptions::default(), decode) else { return };
    let End::Damaged(damage) = found.end else { return };
    let _ = damage.records_lost();
    if damage.can_be_cut() {
        damage.cut_off(fs, folder, Path::new("/data/damaged")).expect("the disk is on");
        let again = examine(fs, folder, &LogOptions::default(), decode);
        let again = again.unwrap_or_else(|error| panic!("after it was cut: {error}"));
        assert_eq!((again.records, again.last, again.end), (found.records, found.last, End::Whole));
    }
}
