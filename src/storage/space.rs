//! Room on the disk: refuses what would fill it up, before anything is written.
//!
//! A full disk breaks no promise (the log refuses the group that does not fit), but then nothing works that needs a little
//! room, deleting among it. So some is kept free. The file system is asked at most once a second and before large writes;
//! in between, what was admitted counts as used. Where it cannot be asked, everything is admitted. What is kept free is not
//! exact: a log allocates up to 16 MiB ahead, which its next writes fill without asking the disk for more.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::storage::fs::Fs;

/// How long an answer of the file system is believed.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// A write from this size on is worth a look of its own.
const LARGE_BYTES: u64 = 1024 * 1024;

/// Keeps some of a disk free.
pub struct SpaceGuard {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    /// Zero: nothing is kept free, and nobody looks.
    free_bytes_min: AtomicU64,
    /// Held for a system call once a second; whoever waits for it would have had to ask as well.
    look: Mutex<Option<Look>>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    free_bytes: u64,
}

/// A write that would leave too little room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk of {} has {free_bytes} bytes free and this write asks for {asked_bytes}, but {free_bytes_min} are kept free \
     (--disk-free-bytes-min): make room; reads, searches and deletes go on, and writes do again within a second of it",
    folder.display()
)]
pub struct LowSpace {
    /// A folder on that disk.
    pub folder: PathBuf,
    /// What is free.
    pub free_bytes: u64,
    /// What was to be written.
    pub asked_bytes: u64,
    /// What is to stay free.
    pub free_bytes_min: u64,
}

impl SpaceGuard {
    /// Keeps `free_bytes_min` of the disk of `folder` free.
    pub fn new(fs: Arc<dyn Fs>, folder: &Path, free_bytes_min: u64) -> Self {
        Self { fs, folder: folder.to_owned(), free_bytes_min: free_bytes_min.into(), look: Mutex::default() }
    }

    /// From now on keeps so much free.
    pub fn keep_free(&self, bytes: u64) {
        self.free_bytes_min.store(bytes, Ordering::Relaxed);
    }

    /// Whether so much may be written now.
    pub fn admit(&self, bytes: u64) -> Result<(), LowSpace> {
        let free_bytes_min = self.free_bytes_min.load(Ordering::Relaxed);
        if free_bytes_min == 0 {
            return Ok(());
        }
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = look.filter(|look| bytes < LARGE_BYTES && look.at.elapsed() < LOOK_PERIOD);
        let present = believed.unwrap_or_else(|| Look { at: Instant::now(), free_bytes: self.ask() });
        let left = present.free_bytes.saturating_sub(bytes);
        let is_admitted = left >= free_bytes_min;
        *look = Some(Look { free_bytes: if is_admitted { left } else { present.free_bytes }, ..present });
        if is_admitted {
            return Ok(());
        }
        Err(LowSpace {
            folder: self.folder.clone(),
            free_bytes: present.free_bytes,
            asked_bytes: bytes,
            free_bytes_min,
        })
    }

    /// What an ordinary process may still write to the disk, in bytes; none where it cannot be asked.
    pub fn free_bytes(&self) -> Option<u64> {
        self.fs.free_bytes(&self.folder).ok()
    }

    fn ask(&self) -> u64 {
        self.fs.free_bytes(&self.folder).unwrap_or_else(|error| {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot ask how much of the disk is free");
            u64::MAX
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fs::SimFs;

    const MIB: u64 = 1024 * 1024;

    fn guard(fs: &SimFs, free_bytes_min: u64) -> SpaceGuard {
        SpaceGuard::new(Arc::new(fs.clone()), Path::new("/"), free_bytes_min)
    }

    #[test]
    fn what_would_leave_too_little_is_refused_with_the_figures() {
        let fs = SimFs::new();
        fs.set_free_bytes(10 * MIB);
        let guard = guard(&fs, 4 * MIB);
        guard.admit(6 * MIB).unwrap();
        let refused = guard.admit(6 * MIB + 1).unwrap_err();
        assert_eq!((refused.free_bytes, refused.asked_bytes, refused.free_bytes_min), (10 * MIB, 6 * MIB + 1, 4 * MIB));
        let text = refused.to_string();
        for part in ["10485760 bytes free", "asks for 6291457", "4194304 are kept free", "--disk-free-bytes-min"] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    #[test]
    fn small_writes_count_between_two_looks_and_a_large_one_looks_itself() {
        let fs = SimFs::new();
        fs.set_free_bytes(5 * MIB);
        let guard = guard(&fs, 4 * MIB);
        for _ in 0..4 {
            guard.admit(MIB / 4).unwrap();
        }
        guard.admit(1).unwrap_err();
        // Room was made: it is seen by whoever looks.
        fs.set_free_bytes(7 * MIB);
        guard.admit(MIB).unwrap();
        guard.admit(1).unwrap();
        fs.set_free_bytes(4 * MIB);
        guard.admit(MIB).unwrap_err();
        std::thread::sleep(LOOK_PERIOD);
        fs.set_free_bytes(5 * MIB);
        guard.admit(1).unwrap();
    }

    #[test]
    fn zero_keeps_nothing_free() {
        let fs = SimFs::new();
        fs.set_free_bytes(0);
        guard(&fs, 0).admit(u64::MAX).unwrap();
    }

    #[test]
    fn a_disk_that_cannot_be_asked_refuses_nothing() {
        let fs = SimFs::new();
        fs.stop_at(1);
        let _ = fs.sync_dir(Path::new("/"));
        guard(&fs, MIB).admit(MIB).unwrap();
    }

    #[test]
    fn the_real_disk_tells() {
        let folder = tempfile::tempdir().unwrap();
        let free_bytes = crate::storage::fs::RealFs.free_bytes(folder.path()).unwrap();
        assert!(free_bytes > 0 && free_bytes < u64::MAX / 2, "{free_bytes}");
    }
}
