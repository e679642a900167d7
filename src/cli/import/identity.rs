//! The name of an import's stream: the same for the same file and the same options, so that the server knows how far it
//! came. Nothing is kept on this machine.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

/// Raised whenever the same file would give other frames.
const FRAMING_VERSION: u32 = 1;
/// Of each file the first and the last part is read: all of it would take as long as importing it.
const PART_BYTES: u64 = 1 << 20;

/// The name for files that are read with `options`, which is everything that decides what is in which frame.
pub fn stream_id(files: &[&Path], options: &impl Serialize) -> io::Result<String> {
    let mut hasher = Xxh3::new();
    hasher.update(&FRAMING_VERSION.to_le_bytes());
    hasher.update(&serde_json::to_vec(options)?);
    for path in files {
        add_file(&mut hasher, path)?;
    }
    Ok(format!("import-{:032x}", hasher.digest128()))
}

/// The name for what cannot be read again.
pub fn unique_stream_id() -> String {
    format!("import-{}", uuid::Uuid::new_v4().simple())
}

fn add_file(hasher: &mut Xxh3, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    hasher.update(&metadata.len().to_le_bytes());
    hasher.update(&modified.to_le_bytes());
    let mut part = Vec::new();
    (&mut file).take(PART_BYTES).read_to_end(&mut part)?;
    if metadata.len() > PART_BYTES {
        file.seek(SeekFrom::Start(metadata.len() - PART_BYTES))?;
        file.take(PART_BYTES).read_to_end(&mut part)?;
    }
    hasher.update(&part);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_stands_for_content_and_options() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let name = |options: u32| stream_id(&[&path], &options).unwrap();
        fs::write(&path, "one").unwrap();
        let first = name(1);
        assert_eq!(first, name(1));
        assert!(first.len() <= 64 && first.starts_with("import-"), "{first}");
        assert_ne!(first, name(2));
        fs::write(&path, "two").unwrap();
        assert_ne!(first, name(1));
        assert_ne!(unique_stream_id(), unique_stream_id());
    }

    #[test]
    fn the_end_of_a_large_file_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut bytes = vec![b'x'; 3 << 20];
        let name = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let time = UNIX_EPOCH + std::time::Duration::from_secs(1);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            stream_id(&[&path], &()).unwrap()
        };
        let first = name(&bytes);
        *bytes.last_mut().unwrap() = b'y';
        assert_ne!(first, name(&bytes));
    }
}
