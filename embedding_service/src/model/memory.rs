//! The memory that models may take, and which of them give theirs up.
//!
//! A model takes its part before it is loaded, and gives it back when it is dropped, which is when the last call that uses
//! it has ended. Where there is no room, the model that was used longest ago is asked to leave; the default model never
//! is. What a model takes is told by the sizes of its files: the weights are kept packed, in as many bytes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::slot::Slot;

/// For those who use a model that was asked to leave.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(30);
/// Another model may be in use only now, so that it could be asked to leave.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The memory of all models.
pub(super) struct Memory {
    bytes_max: usize,
    /// Guards two numbers, for moments; told of every part that comes back.
    bytes: Mutex<Bytes>,
    freed: Condvar,
    slots: OnceLock<Vec<Weak<Slot>>>,
}

#[derive(Default)]
struct Bytes {
    taken: usize,
    /// Of these, what does not come back.
    staying: usize,
}

/// A model's part of the memory, until it is dropped.
pub(super) struct Part {
    memory: Arc<Memory>,
    bytes: usize,
    stays: Stays,
}

/// How long a model stays in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// Once it is there.
    Always,
    /// Until another one needs the room.
    UntilRoomIsNeeded,
}

impl Memory {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        let (bytes, freed) = (Mutex::new(Bytes::default()), Condvar::new());
        Arc::new(Self { bytes_max, bytes, freed, slots: OnceLock::new() })
    }

    /// Says which models there are that can be asked to leave. Called once.
    pub(super) fn watch_over(&self, slots: &[Arc<Slot>]) {
        let set = self.slots.set(slots.iter().map(Arc::downgrade).collect());
        assert!(set.is_ok(), "they are told once");
    }

    /// A part for the model `id`; waits for others to leave. Blocks.
    pub(super) fn take(self: &Arc<Self>, id: &str, bytes: usize, stays: Stays) -> Result<Part, String> {
        let since = Instant::now();
        loop {
            let mut taken = self.lock();
            let room = self.bytes_max.saturating_sub(taken.taken);
            if bytes <= room {
                taken.taken += bytes;
                taken.staying += if stays == Stays::Always { bytes } else { 0 };
                return Ok(Part { memory: self.clone(), bytes, stays });
            }
            // Before others leave in vain.
            if taken.staying.saturating_add(bytes) > self.bytes_max || since.elapsed() > LEAVE_TIME_MAX {
                return Err(format!(
                    "it needs {bytes} bytes of memory, and {room} of the {} that --models-memory-bytes-max allows are free",
                    self.bytes_max
                ));
            }
            drop(taken);
            // Not under the lock: whoever leaves takes it.
            if !self.ask_one_to_leave(id) {
                let taken = self.lock();
                drop(self.freed.wait_timeout(taken, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn ask_one_to_leave(&self, id: &str) -> bool {
        let slots = self.slots.get().into_iter().flatten().filter_map(Weak::upgrade);
        let mut others: Vec<_> = slots.filter(|slot| slot.may_leave() && slot.spec().id != id).collect();
        others.sort_by_key(|slot| slot.used());
        others.iter().any(|slot| slot.leave())
    }

    /// Nothing that runs under the lock leaves it half changed, so a poisoned one is as good as another.
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.memory.lock();
        taken.taken -= self.bytes;
        taken.staying -= if self.stays == Stays::Always { self.bytes } else { 0 };
        drop(taken);
        self.memory.freed.notify_all();
    }
}
