//! The system's allocator with a limit on a single allocation: the inputs have kilobytes, so whoever asks for a hundred
//! megabytes has believed a length that nobody has checked. The memory may never be touched, so no limit on what is
//! resident would tell.

use std::alloc::{GlobalAlloc, Layout, System};

/// The most that may be asked for at once.
const BYTES_MAX: usize = 96 << 20;

/// See the module.
pub struct Limited;

#[allow(clippy::print_stderr, reason = "a fuzzer reads it")]
fn check(bytes: usize) {
    if bytes > BYTES_MAX {
        // Once only: a panic asks for memory too, and an abort is what a fuzzer looks for.
        eprintln!("{bytes} bytes are asked for at once, the most is {BYTES_MAX}");
        std::process::abort();
    }
}

// SAFETY: every call is handed on as it came.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: what the caller has promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what the caller has promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        // SAFETY: what the caller has promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        check(bytes);
        // SAFETY: what the caller has promised.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}
