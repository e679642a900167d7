//! Building segments in the background: sealed tables become segments, small segments larger ones, and what is dead is left
//! behind.
//!
//! The policy keeps one large segment and few small ones at rest, and builds a row few times on the way: whatever is sealed
//! by the time that a build begins is built at once, together with the segments that are no larger than it. So in a bulk load
//! builds grow as fast as the collection, and a row is built little more than once. Where a quarter of the largest segment is dead, or
//! lies in smaller ones while nothing is written, it is built anew with them.
//!
//! One thread for each collection that has something to build, for as long as it has; of all collections one builds at a
//! time, on as many threads as there are cores, of lower priority than searches. Readers never wait: a build reads a view, and
//! its segment is put in place by the applier, between two operations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::collection::memtable::Row;
use crate::collection::parts::{HeldSegment, Parts};
use crate::collection::segment::{Origin, Segment};
use crate::collection::view::{Installed, SpaceNumber, View};
use crate::collection::write::{Work, Writer, lock};
use crate::index::graph::{GraphOptions, Task};
use crate::types::Sequence;

/// Time without writes after which a collection is at rest.
const REST: Duration = Duration::from_millis(1000);
/// How often a build that waits for its turn looks.
const TURN_AGAIN: Duration = Duration::from_millis(5);
/// Time until a build that has failed (no memory, no threads) is tried again, at the next write.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// How often a collection that is not at rest is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Rows of a memtable that are built when the collection is at rest; fewer are as fast to scan.
const REST_ROWS_MIN: usize = 2048;
/// Sealed tables of few rows that wait for more.
const SEALED_MAX: usize = 4;
/// Smaller segments beside the largest, at rest.
const SMALL_SEGMENTS_MAX: usize = 3;
/// Dead rows that are worth a build while others are written.
const STALE_ROWS_MIN: usize = 512;
/// The part of the largest segment that may be dead, or lie in smaller ones at rest: one of so many.
const STALE_SHARE: usize = 4;

/// Has a collection's parts built. Dropping it stops a build that goes on.
pub(super) struct Compactor {
    writer: Arc<Writer>,
    state: Arc<Mutex<State>>,
    task: Arc<Task>,
    rows_built: Arc<AtomicU64>,
    build_us: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    /// The thread that builds, while there is something to build.
    thread: Option<JoinHandle<()>>,
    is_running: bool,
    is_closed: bool,
    /// After a failure nothing is tried until then.
    not_before: Option<Instant>,
}

/// One build of all collections at a time: two would only take the cores from each other.
static BUILDING: Mutex<()> = Mutex::new(());

/// What is built into one segment.
struct Job {
    space: SpaceNumber,
    parts: Vec<u32>,
}

/// What to do next.
enum Next {
    Build(Job),
    Seal,
    /// Nothing now, but something once the collection is at rest.
    Later,
    Nothing,
}

impl Compactor {
    pub fn new(writer: Arc<Writer>) -> Self {
        Self {
            writer,
            state: Arc::default(),
            task: Arc::default(),
            rows_built: Arc::default(),
            build_us: Arc::default(),
        }
    }

    /// A second handle on the same work.
    pub fn handle(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            state: self.state.clone(),
            task: self.task.clone(),
            rows_built: self.rows_built.clone(),
            build_us: self.build_us.clone(),
        }
    }

    /// Rows that were built into segments since the start, and the time that it took.
    pub fn built(&self) -> (u64, Duration) {
        (self.rows_built.load(Ordering::Relaxed), Duration::from_micros(self.build_us.load(Ordering::Relaxed)))
    }

    /// Whether there is something to build, now or once the collection is at rest.
    pub fn is_running(&self) -> bool {
        lock(&self.state).is_running
    }

    /// Begins to build where there is something to build and nobody does yet.
    pub fn look(&self, view: &View) {
        if matches!(plan(view, false), Next::Nothing) {
            return;
        }
        let mut state = lock(&self.state);
        let is_too_early = state.not_before.is_some_and(|time| Instant::now() < time);
        if state.is_running || state.is_closed || is_too_early {
            return;
        }
        if let Some(thread) = state.thread.take() {
            // It has ended, or is about to: it took itself off before.
            let _ = thread.join();
        }
        let own = self.handle();
        let spawned = thread::Builder::new().name("vectron-build".to_owned()).spawn(move || own.run());
        match spawned {
            Ok(thread) => {
                state.thread = Some(thread);
                state.is_running = true;
            }
            // The next write tries again; until then tables are scanned.
            Err(error) => tracing::warn!("cannot start a thread to build segments: {error}"),
        }
    }

    fn run(&self) {
        let running = Running(self);
        lower_priority();
        let mut rest = Rest::new(&self.writer.shared.view.load());
        let mut first = 0;
        loop {
            let view = self.writer.shared.view.load_full();
            let next = plan_from(&view, rest.is_at_rest(&view), first);
            if let Next::Build(job) = &next {
                first = job.space.0 + 1;
            }
            if self.task.is_stopped() {
                break;
            }
            let goes_on = match next {
                Next::Build(job) => self.wait_for_turn().is_some_and(|turn| self.build(&view, &job, &turn)),
                Next::Seal => self.writer.arrange(Work::Seal).is_some(),
                Next::Later => {
                    drop(view);
                    thread::sleep(LOOK_AGAIN);
                    true
                }
                Next::Nothing => {
                    let mut state = lock(&self.state);
                    // What came since was seen by `look`, which found this thread running.
                    if matches!(plan(&self.writer.shared.view.load(), false), Next::Nothing) {
                        state.is_running = false;
                        // From here on another thread may be running.
                        std::mem::forget(running);
                        return;
                    }
                    true
                }
            };
            if !goes_on {
                break;
            }
        }
    }

    /// Builds what is there now into one segment for each space, and waits for it. What is written meanwhile may be left for later, so
    /// that this ends while others write. `progress` is told (rows built, rows in all).
    pub fn compact(&self, progress: &mut dyn FnMut(u64, u64)) {
        let spaces = self.writer.shared.view.load().spaces.len() as u16;
        for space in (0..spaces).map(SpaceNumber) {
            // From here on no build takes a part away, so that what is seen below is still there when it is built.
            let Some(turn) = self.wait_for_turn() else { return };
            let has_loose_rows = self.writer.shared.view.load().parts(space).memtable().live_count() > 0;
            if has_loose_rows && self.writer.arrange(Work::Seal).is_none() {
                return;
            }
            let view = self.writer.shared.view.load_full();
            let parts = view.parts(space);
            let is_one = parts.sealed().iter().all(|sealed| sealed.table.live_count() == 0)
                && parts.segments().len() <= 1
                && parts.segments().iter().all(|held| held.dead.len() == 0);
            if is_one {
                continue;
            }
            progress(0, parts.live_count() as u64);
            let sealed = parts.sealed().iter().map(|sealed| sealed.number);
            let job = Job { space, parts: sealed.chain(parts.segments().iter().map(|held| held.number)).collect() };
            if !self.build(&view, &job, &turn) {
                return;
            }
            progress(parts.live_count() as u64, parts.live_count() as u64);
        }
    }

    /// False where the collection is closing, or nobody can put the segment in place.
    fn build(&self, view: &View, job: &Job, _turn: &MutexGuard<'static, ()>) -> bool {
        let parts = view.parts(job.space);
        let is_stale = |number: &u32| {
            let now = self.writer.shared.view.load();
            !now.parts(job.space).has(*number)
        };
        // Another build may have taken the same parts while this one waited for its turn.
        if job.parts.iter().any(is_stale) {
            return true;
        }
        let started = Instant::now();
        let rows: Vec<(Row<'_>, Origin)> = job.parts.iter().flat_map(|&part| parts.live_rows(part)).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let options = GraphOptions { threads, ..GraphOptions::default() };
        let (segment, origins) = if rows.is_empty() {
            (None, Vec::new())
        } else {
            match Segment::build(view.space(job.space), &rows, &options, &self.task) {
                Ok((segment, origins)) => (Some(Arc::new(segment)), origins),
                Err(_stopped) => return false,
            }
        };
        self.rows_built.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.build_us.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        tracing::debug!(rows = rows.len(), parts = job.parts.len(), "built a segment in {:?}", started.elapsed());
        let installed = Installed { space: job.space, segment, replaced: job.parts.clone(), origins };
        // What was built is worth a checkpoint: a start then need not build it again. Little is not.
        let is_worth_it = rows.len() >= REST_ROWS_MIN;
        self.writer.arrange(|done| Work::Install(Box::new(installed), done)).is_some()
            && (!is_worth_it || self.writer.arrange(Work::Seal).is_some())
    }

    /// None where the collection is closing: another one's build may take minutes.
    fn wait_for_turn(&self) -> Option<MutexGuard<'static, ()>> {
        while !self.task.is_stopped() {
            match BUILDING.try_lock() {
                Ok(turn) => return Some(turn),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(TURN_AGAIN),
            }
        }
        None
    }

    /// Stops what goes on, and waits for it.
    pub fn close(&self) {
        self.task.stop();
        let thread = {
            let mut state: MutexGuard<'_, State> = lock(&self.state);
            state.is_closed = true;
            state.thread.take()
        };
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread that builds segments had panicked");
        }
    }
}

/// A build thread that runs, until it ends in whatever way.
struct Running<'a>(&'a Compactor);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_running = false;
        if thread::panicking() {
            tracing::error!("building a segment has failed; until it is tried again, rows are searched one by one");
            state.not_before = Some(Instant::now() + AFTER_FAILURE);
        }
    }
}

/// Whether a collection is at rest.
struct Rest {
    sequence: Sequence,
    since: Instant,
}

impl Rest {
    fn new(view: &View) -> Self {
        Self { sequence: view.sequence(), since: Instant::now() }
    }

    fn is_at_rest(&mut self, view: &View) -> bool {
        if view.sequence() != self.sequence {
            *self = Self::new(view);
        }
        self.since.elapsed() >= REST
    }
}

/// Whether there is nothing to build, also once the collection is at rest. What is being built is there until it is in place.
pub(super) fn is_settled(view: &View) -> bool {
    matches!(plan(view, true), Next::Nothing)
}

/// What to do next, for the first space that has something.
fn plan(view: &View, is_at_rest: bool) -> Next {
    plan_from(view, is_at_rest, 0)
}

/// The same, beginning with the space of that number, so that none waits for ever.
fn plan_from(view: &View, is_at_rest: bool, first: u16) -> Next {
    let mut is_later = false;
    let spaces = view.spaces.len() as u16;
    for space in (0..spaces).map(|number| SpaceNumber((number + first) % spaces)) {
        match plan_space(view.parts(space), space, is_at_rest) {
            Next::Nothing => {}
            Next::Later => is_later = true,
            next => return next,
        }
    }
    if is_later { Next::Later } else { Next::Nothing }
}

fn plan_space(parts: &Parts, space: SpaceNumber, is_at_rest: bool) -> Next {
    let segments = parts.segments();
    let sealed_rows: usize = parts.sealed().iter().map(|sealed| sealed.table.live_count()).sum();
    // At rest alone: few rows that are written again and again would have parts built as often.
    let sealed_dead = is_at_rest && parts.sealed().iter().any(|sealed| sealed.table.live_count() == 0);
    if sealed_rows >= REST_ROWS_MIN || parts.sealed().len() > SEALED_MAX || sealed_dead {
        let numbers = parts.sealed().iter().map(|sealed| sealed.number).collect();
        return Next::Build(with_small_ones(space, numbers, sealed_rows, segments));
    }
    let is_stale = |held: &&HeldSegment| {
        held.dead.len() * STALE_SHARE >= held.segment.row_count() && (is_at_rest || held.dead.len() >= STALE_ROWS_MIN)
    };
    if let Some(stale) = segments.iter().find(is_stale) {
        let others: Vec<HeldSegment> = segments.iter().filter(|held| held.number != stale.number).cloned().collect();
        return Next::Build(with_small_ones(space, vec![stale.number], stale.live_count(), &others));
    }
    let has_much = sealed_rows + parts.memtable().live_count() >= REST_ROWS_MIN;
    let small: usize = segments.iter().skip(1).map(HeldSegment::live_count).sum();
    let largest = segments.first().map_or(0, HeldSegment::live_count);
    let is_uneven = small > 0 && (small * STALE_SHARE >= largest || segments.len() > 1 + SMALL_SEGMENTS_MAX);
    let has_dead = !is_at_rest
        && (parts.sealed().iter().any(|sealed| sealed.table.live_count() == 0)
            || segments.iter().any(|held| held.dead.len() * STALE_SHARE >= held.segment.row_count()));
    match (is_at_rest, has_much, is_uneven) {
        (_, false, false) if has_dead => Next::Later,
        (_, false, false) => Next::Nothing,
        (false, ..) => Next::Later,
        (true, true, _) => Next::Seal,
        (true, false, true) => {
            let numbers = segments.iter().skip(1).map(|held| held.number).collect();
            Next::Build(with_small_ones(space, numbers, small * STALE_SHARE, &segments[..1]))
        }
    }
}

/// Adds the segments that are no larger than what is built anyhow, the smallest first.
fn with_small_ones(space: SpaceNumber, mut parts: Vec<u32>, mut rows: usize, segments: &[HeldSegment]) -> Job {
    for held in segments.iter().rev() {
        if held.live_count() > rows {
            break;
        }
        rows += held.live_count();
        parts.push(held.number);
    }
    Job { space, parts }
}

/// Added to the niceness of the process, for threads that build: searches next to them keep their latency.
#[cfg(target_os = "linux")]
fn lower_priority() {
    const NICENESS: i32 = 15;
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!("threads that build segments keep the priority of the process: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}
