//! Working memory that begins at a line of the cache, and is kept between batches.

/// Bytes of a line, and of the widest register: one that lies across two lines is read in two pieces.
const LINE_BYTES: usize = 64;

/// Numbers whose first lies at the beginning of a line. Never shrinks: what is in it is whatever was left there.
#[derive(Default)]
pub(super) struct Buffer<T> {
    numbers: Vec<T>,
}

impl<T: Copy + Default> Buffer<T> {
    /// The first `count`, to be overwritten.
    pub(super) fn take(&mut self, count: usize) -> &mut [T] {
        let with_room = count + LINE_BYTES / size_of::<T>();
        if self.numbers.len() < with_room {
            // Not resized: what is there need not be copied.
            self.numbers = vec![T::default(); with_room];
        }
        let start = self.start();
        &mut self.numbers[start..start + count]
    }

    /// The first `count`, of those that were taken.
    pub(super) fn get(&self, count: usize) -> &[T] {
        &self.numbers[self.start()..][..count]
    }

    fn start(&self) -> usize {
        self.numbers.as_ptr().align_offset(LINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_begins_at_a_line_and_keeps_what_is_in_it() {
        let mut buffer = Buffer::<f32>::default();
        for count in [1, 100, 1000, 7] {
            let numbers = buffer.take(count);
            assert_eq!((numbers.len(), numbers.as_ptr().addr() % LINE_BYTES), (count, 0));
            numbers[count - 1] = 1.5;
            assert_eq!(buffer.get(count)[count - 1], 1.5);
        }
    }
}
