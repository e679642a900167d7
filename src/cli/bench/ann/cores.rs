//! How many cores a part of the work may use.

use std::num::NonZeroUsize;

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::cli::bench::BenchError;

/// Confines this thread, and those that it starts meanwhile, to some of its cores, until this is dropped. The threads stay
/// confined; and who asks how many cores there are is told so many, so that as many threads are started as may run.
pub struct FewCores {
    #[cfg(target_os = "linux")]
    before: CpuSet,
}

impl FewCores {
    /// The first `count` of those that this thread may use.
    #[cfg(target_os = "linux")]
    pub fn confine(count: NonZeroUsize) -> Result<Self, BenchError> {
        let before = sched_getaffinity(None)?;
        let mut few = CpuSet::new();
        let usable = (0..CpuSet::MAX_CPU).filter(|&core| before.is_set(core));
        usable.take(count.get()).for_each(|core| few.set(core));
        sched_setaffinity(None, &few)?;
        Ok(Self { before })
    }

    /// Only Linux can.
    #[cfg(not(target_os = "linux"))]
    pub fn confine(_: NonZeroUsize) -> Result<Self, BenchError> {
        Err("--build-threads needs Linux: leave it out to build on all cores".into())
    }
}

impl Drop for FewCores {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_that_are_started_meanwhile_have_one_core_and_later_ones_all() {
        let core_count = || thread::spawn(|| thread::available_parallelism().unwrap().get()).join().unwrap();
        let all = core_count();
        let few = FewCores::confine(NonZeroUsize::MIN).unwrap();
        assert_eq!(core_count(), 1);
        drop(few);
        assert_eq!(core_count(), all);
    }
}
