//! Large arrays on large pages: a search jumps about in them, and with pages of 4 KiB most jumps would also miss the
//! table of pages.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mremap_fixed, munmap};

/// An array of plain numbers, zero at first, at the beginning of a page.
pub struct Array<T: Plain> {
    start: NonNull<u8>,
    bytes: usize,
    len: usize,
    numbers: PhantomData<T>,
}

/// Numbers for which every pattern of bits is one, zeros among them.
///
/// # Safety
///
/// The type must have no invalid patterns of bits, no padding, and nothing to drop.
pub unsafe trait Plain: Copy + Send + Sync {}
// SAFETY: every pattern of bits is a number.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

// SAFETY: the array owns its memory, and what lies in it may be sent.
unsafe impl<T: Plain> Send for Array<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Plain> Sync for Array<T> {}

/// Pages of this size are asked for; the system may have none.
const LARGE_PAGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;

impl<T: Plain> Array<T> {
    /// So many zeros. Panics where the system gives no memory, as every allocation does.
    pub fn zeroed(len: usize) -> Self {
        let bytes = (len * size_of::<T>()).next_multiple_of(LARGE_PAGE_BYTES).max(LARGE_PAGE_BYTES);
        // Small arrays need no large page; what is not touched costs nothing.
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the system's choice touches nobody's memory.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) };
        let start = mapped.ok().and_then(|start| NonNull::new(start.cast::<u8>())).expect("memory for an index");
        if len * size_of::<T>() >= LARGE_PAGE_BYTES {
            // SAFETY: the range was just mapped. Where the system has no large pages, small ones do as well.
            let _ = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        Self { start, bytes, len, numbers: PhantomData }
    }

    /// The numbers of a file from `offset` on, a multiple of 4,096: the memory is the system's cache of the file, which it takes back
    /// where it needs it. The file must not change or be cut as long as the array lives; files of ours never are.
    pub fn of_file(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        let bytes = (len * size_of::<T>()).next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        // SAFETY: a new mapping at an address of the system's choice touches nobody's memory.
        let mapped = unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, offset) }?;
        let start = NonNull::new(mapped.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes, len, numbers: PhantomData })
    }

    /// Puts a file that holds the same numbers from `offset` on in the place of the memory, which goes back to the system. Readers
    /// see the same numbers all the while. False, and nothing has changed, where the file holds others.
    pub fn lie_in_file(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<bool> {
        let other = Self::of_file(file, offset, self.len)?;
        if bytes_of(&other[..]) != bytes_of(&self[..]) {
            return Ok(false);
        }
        let (from, to) = (other.start.as_ptr().cast(), self.start.as_ptr().cast());
        // SAFETY: the range is the beginning of this array's own mapping, which is as long as the other or longer, and holds the
        // same bytes as what takes its place at once; from here on it is unmapped by this array alone.
        let moved = unsafe { mremap_fixed(from, other.bytes, other.bytes, MremapFlags::MAYMOVE, to) };
        if moved.is_err() {
            // The system may have taken the old pages away before it failed, and readers are in them. The log has everything.
            std::process::abort();
        }
        std::mem::forget(other);
        Ok(true)
    }

    /// The numbers as bytes, to be filled from a file.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        const { assert!(cfg!(target_endian = "little"), "files are little endian, and so is the memory they are read into") };
        // SAFETY: the mapping has room for so many bytes, and every pattern of bits is a number; `&mut self` makes it the only
        // reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len * size_of::<T>()) }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Plain> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the range was mapped when the array was made, and nobody can hold a reference into it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be given back");
    }
}

impl<T: Plain> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping has room for `len` numbers, is aligned to a page, and every pattern of bits is a number.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above; `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len) }
    }
}

/// Numbers as the bytes that they are in a file.
pub fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "files are little endian, and so is the memory they are written from") };
    // SAFETY: the numbers have no padding, and every byte of theirs may be read.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Fetches bytes into the cache, a line of 64 bytes at a time.
#[inline(always)]
pub fn prefetch<T: Plain>(numbers: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let bytes = size_of_val(numbers);
        for at in (0..bytes).step_by(64) {
            // SAFETY: the address lies within the slice; a prefetch reads nothing that can be seen.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(numbers.as_ptr().cast::<i8>().add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_array_lies_in_a_file_that_holds_the_same_and_in_no_other() {
        let numbers: Vec<f32> = (0..700_000).map(|number| number as f32).collect();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[&[0; 8192], bytes_of(&numbers)].concat()).unwrap();
        let mut array = Array::<f32>::zeroed(numbers.len());
        array.copy_from_slice(&numbers);
        let held = &array[5..9];
        assert!(!array.lie_in_file(file.as_fd(), 4096).unwrap(), "other numbers");
        assert!(array.lie_in_file(file.as_fd(), 8192).unwrap());
        assert_eq!(held, [5.0, 6.0, 7.0, 8.0]);
        assert!(array[..] == numbers[..]);
        drop(array);
        let mapped = Array::<f32>::of_file(file.as_fd(), 8192, 1000).unwrap();
        assert!(mapped[..] == numbers[..1000]);
    }
}
