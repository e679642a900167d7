//! A lock on a folder: keeps a second process out, and says who is in.
//!
//! The lock is `flock` on a file named `LOCK` that is kept open, so it ends with the process, however that ends; a file
//! left behind by a killed process locks nothing. The number of the process is written inside only to be shown. The
//! file itself is never removed: between removing and creating it two processes could each lock a file of that name.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const LOCK_FILE: &str = "LOCK";

/// Why a folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, has it.
    #[error("{} is in use by {}", folder.display(), holder(*pid))]
    Held {
        /// The folder that was asked for.
        folder: PathBuf,
        /// Who has it, as far as it has said so yet.
        pid: Option<u32>,
    },
    /// The lock file could not be opened, locked or written.
    #[error("cannot lock {}: {error}", folder.display())]
    Io {
        /// The folder that was asked for.
        folder: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// A folder that is ours until this is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Locks `folder`, which must exist. Does not wait.
    pub fn acquire(folder: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io { folder: folder.to_owned(), error };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // before the lock is ours, the number inside is somebody else's
            .open(folder.join(LOCK_FILE))
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { folder: folder.to_owned(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        write_pid(&mut file).map_err(io)?;
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Only what is shown: the lock itself is released by closing the file.
        let _ = self.file.set_len(0);
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_with_the_process_that_holds_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(folder.path()).unwrap();
        let refused = DirectoryLock::acquire(folder.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{refused}");
        assert!(refused.to_string().ends_with(&format!("is in use by process {}", std::process::id())), "{refused}");
        drop(first);
        DirectoryLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_behind_locks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "4294967295\n").unwrap();
        let _lock = DirectoryLock::acquire(folder.path()).unwrap();
        let inside = std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(inside, format!("{}\n", std::process::id()));
    }

    #[test]
    fn of_many_at_the_same_moment_exactly_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..100 {
            let start = std::sync::Barrier::new(4);
            let won: Vec<_> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            DirectoryLock::acquire(folder.path()).ok()
                        })
                    })
                    .collect();
                racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect()
            });
            assert_eq!(won.len(), 1);
        }
    }

    #[test]
    fn a_missing_folder_is_an_error_and_not_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let refused = DirectoryLock::acquire(&folder.path().join("absent")).unwrap_err();
        assert!(matches!(refused, LockError::Io { .. }), "{refused}");
    }
}
