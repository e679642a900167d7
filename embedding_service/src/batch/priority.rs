//! The priority of the threads that tokenize and run models: lower than that of the rest of the process, so that
//! searching next to embedding keeps its latency.

/// Added to the niceness that the process was started with.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// For the calling thread. Elsewhere than on Linux this would hold for the whole process.
#[cfg(target_os = "linux")]
pub(super) fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!("embedding threads keep the priority of the process: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn lower_priority() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn priority_is_lowered_from_where_it_is() {
        // A thread of its own: niceness cannot be taken back.
        let after = std::thread::spawn(|| {
            let before = rustix::process::nice(3).unwrap();
            lower_priority();
            (before, rustix::process::nice(0).unwrap())
        });
        let (before, after) = after.join().unwrap();
        assert_eq!(after, (before + NICENESS).min(19));
    }
}
