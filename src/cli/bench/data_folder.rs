//! Where a benchmark has its data.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use super::BenchError;

/// A new folder, removed when this is dropped. Never one that was there before.
pub struct DataFolder(PathBuf);

impl DataFolder {
    /// Makes it in this folder, which is made as well; without one in the system's for temporary files.
    pub fn new(parent: Option<&Path>) -> Result<Self, BenchError> {
        let parent = parent.map_or_else(env::temp_dir, Path::to_owned);
        fs::create_dir_all(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        let nanos = std::time::UNIX_EPOCH.elapsed()?.subsec_nanos();
        let folder = parent.join(format!("bench-vectron-{}-{nanos}", process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_is_new_and_leaves_what_is_beside_it() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("mine"), "kept").unwrap();
        let folder = DataFolder::new(Some(parent.path())).unwrap();
        fs::write(folder.0.join("log"), "gone").unwrap();
        drop(folder);
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine"]);
    }
}
