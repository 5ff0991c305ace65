//! Buffers of large messages, kept to be used again.

/// Smallest buffer that is kept, in bytes of capacity. A smaller one costs the allocator too little
/// to be worth a place here.
pub(super) const SPARE_BYTES_MIN: usize = 64 * 1024;

/// Most that is kept, in bytes of capacity.
const SPARE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Keeps the buffers of large messages for the next ones, at most 16 MiB.
///
/// A message of a megabyte does not fit into one read, so it is put together in a buffer of its
/// own. When each such buffer is new, the system's page faults cost more than copying the bytes.
#[derive(Debug, Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    is_used: bool,
}

impl Spare {
    /// A store without buffers.
    pub fn new() -> Spare {
        Spare::default()
    }

    /// An empty buffer: one that was kept, of any capacity, or else a new one without capacity.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer that is not needed any more, if it is large and the limit allows it. Drops it
    /// otherwise.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if SPARE_BYTES_MIN <= capacity && self.bytes + capacity <= SPARE_BYTES_MAX {
            buffer.clear();
            self.is_used = true;
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }

    /// Whether a buffer was kept since the last call. A caller that hears `false` for a while may
    /// drop this store, to give the memory back.
    pub fn is_used(&mut self) -> bool {
        std::mem::take(&mut self.is_used)
    }

    /// Whether no buffer is kept.
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
