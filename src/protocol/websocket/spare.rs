//! Buffers of large messages, used again.

/// Smaller buffers cost the allocator nothing that would be felt.
pub(super) const SPARE_BYTES_MIN: usize = 64 * 1024;

/// Most that is kept, in bytes of capacity.
const SPARE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps the buffers of large messages for the next ones, 16 MiB at the most.
///
/// A message of a megabyte is longer than what one read brings, so it is put together in a buffer
/// of its own. Taken anew from the system each time, its pages would cost more than its bytes.
#[derive(Debug, Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    is_used: bool,
}

impl Spare {
    /// Keeps nothing yet.
    pub fn new() -> Spare {
        Spare::default()
    }

    /// An empty buffer: one that was kept, where there is one, so with any capacity.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer that is not needed any more, if it is large and there is room.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if SPARE_BYTES_MIN <= capacity && self.bytes + capacity <= SPARE_BYTES_MAX {
            buffer.clear();
            self.is_used = true;
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }

    /// Whether something was given since this was asked last: a spare that is not used is a waste.
    pub fn is_used(&mut self) -> bool {
        std::mem::take(&mut self.is_used)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_kept_up_to_a_limit() {
        let mut spare = Spare::new();
        spare.give(Vec::with_capacity(SPARE_BYTES_MIN - 1));
        assert!(spare.is_empty());
        spare.give(vec![1; SPARE_BYTES_MAX]);
        spare.give(vec![2; SPARE_BYTES_MIN]);
        let buffer = spare.take();
        assert_eq!((buffer.len(), buffer.capacity()), (0, SPARE_BYTES_MAX));
        assert!(spare.is_empty());
        assert_eq!(spare.take().capacity(), 0);
        spare.give(vec![2; SPARE_BYTES_MIN]);
        assert!(!spare.is_empty());
    }
}
