//! Room in memory: what a start may load, so that it does not end in the kernel killing the process, again and again.
//!
//! What is loaded at the start is as large as its files, so it can be told beforehand. What comes later, by writes, is not
//! counted here: it is bounded where it comes in.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may be loaded, and how much of it is left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    bytes_max: u64,
    bytes_taken: Arc<AtomicU64>,
}

/// What was taken; given back when it is dropped.
#[derive(Debug)]
pub struct MemoryShare {
    bytes: u64,
    bytes_taken: Arc<AtomicU64>,
}

/// More than there is room for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs about {asked_bytes} bytes of memory even with its vectors in their file, and of the {bytes_max} that may be \
     loaded at the start {bytes_left} are left: give the process more memory, or raise --memory-bytes-max"
)]
pub struct NoMemory {
    /// What was to be loaded.
    pub asked_bytes: u64,
    /// What is left.
    pub bytes_left: u64,
    /// What may be loaded in all.
    pub bytes_max: u64,
}

impl MemoryBudget {
    /// One of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes_taken: Arc::default() }
    }

    /// Takes so much, if it is there.
    pub fn take(&self, bytes: u64) -> Result<MemoryShare, NoMemory> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.bytes_max);
        match self.bytes_taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(MemoryShare { bytes, bytes_taken: self.bytes_taken.clone() }),
            Err(taken) => {
                let bytes_max = self.bytes_max;
                Err(NoMemory { asked_bytes: bytes, bytes_left: bytes_max - taken, bytes_max })
            }
        }
    }
}

/// Without a bound.
impl Default for MemoryBudget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.bytes_taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The memory that this process may have: that of the machine, or the least that one of its control groups allows. None where
/// the system does not tell.
///
/// Sources: proc(5), cgroups(7), and memory.max (version 2) and memory.limit_in_bytes (version 1) in the kernel's
/// admin-guide.
pub fn system_bytes() -> Option<u64> {
    bytes_below(Path::new("/"))
}

fn bytes_below(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = total.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    Some(groups.lines().flat_map(|group| limits(root, group)).fold(total, u64::min))
}

/// The limits of a control group and of all above it. In a container its own path may not be visible, but what limits it is the
/// root there.
fn limits(root: &Path, group: &str) -> Vec<u64> {
    let mut parts = group.splitn(3, ':');
    let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (folder, file) = match controllers.split(',').any(|controller| controller == "memory") {
        true => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        false if number == "0" => ("sys/fs/cgroup", "memory.max"),
        false => return Vec::new(),
    };
    let own = Path::new(path.trim_start_matches('/'));
    // "max" where there is none.
    let limit = |group: &Path| fs::read_to_string(root.join(folder).join(group).join(file)).ok()?.trim().parse().ok();
    own.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/meminfo", "MemTotal:       24684092 kB\nMemFree: 1 kB\n")].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_machine_without_control_groups_has_its_memory() {
        assert_eq!(bytes_below(machine(&[]).path()), Some(24_684_092 * 1024));
        assert_eq!(bytes_below(Path::new("/nowhere")), None);
    }

    #[test]
    fn the_least_of_all_groups_above_holds() {
        let version_2 = machine(&[
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/memory.max", "3000000000\n"),
        ]);
        assert_eq!(bytes_below(version_2.path()), Some(3_000_000_000));
        let version_1 = machine(&[
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n"),
            ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "700000000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(bytes_below(version_1.path()), Some(700_000_000));
    }

    #[test]
    fn a_container_sees_its_limit_at_the_root() {
        let container = machine(&[
            ("proc/self/cgroup", "4:memory:/docker/0123\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000000\n"),
        ]);
        assert_eq!(bytes_below(container.path()), Some(500_000_000));
    }

    #[test]
    fn what_is_taken_is_not_there_until_it_is_given_back() {
        let budget = MemoryBudget::new(100);
        let most = budget.take(60).unwrap();
        assert_eq!(budget.take(60).unwrap_err(), NoMemory { asked_bytes: 60, bytes_left: 40, bytes_max: 100 });
        let rest = budget.take(40).unwrap();
        drop(most);
        assert_eq!(budget.take(61).unwrap_err().bytes_left, 60);
        drop(rest);
        budget.take(100).unwrap();
        MemoryBudget::default().take(u64::MAX).unwrap();
    }
}
