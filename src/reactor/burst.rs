//! Lists that a burst has made long are given back, so that an idle server is small again.

use std::collections::VecDeque;

/// An empty list with room for more entries than this is given back. Smaller ones are kept:
/// allocating them again at each turn would cost more than their memory.
pub(crate) const BURST: usize = 4096;

/// Memory that a burst took is given back this many nanoseconds after the last burst. Not at once: a
/// topic with many members has a burst at each publication, and allocating the memory again would cost
/// as much as the publication itself.
const KEPT_NANOS: u64 = 1_000_000_000;

/// When the last burst was, and when its memory is to be given back.
pub(crate) struct LastBurst {
    at: u64,
    /// `u64::MAX` once the memory was given back.
    ends_at: u64,
}

impl Default for LastBurst {
    fn default() -> LastBurst {
        LastBurst {
            at: 0,
            ends_at: u64::MAX,
        }
    }
}

impl LastBurst {
    /// Notes a burst at `now`, in nanoseconds.
    pub(crate) fn begin(&mut self, now: u64) {
        self.at = now;
        self.ends_at = now + KEPT_NANOS;
    }

    /// Returns whether the last burst is long over, and its memory is to be given back now.
    #[inline]
    pub(crate) fn end(&mut self, now: u64) -> bool {
        let is_over = KEPT_NANOS <= now - self.at;
        if is_over {
            self.ends_at = u64::MAX;
        }
        is_over
    }

    /// When the memory is to be given back, in nanoseconds; `u64::MAX` when it was.
    #[inline]
    pub(crate) fn ends_at(&self) -> u64 {
        self.ends_at
    }
}

/// Gives the memory of an empty list back if it has room for more than [`BURST`] entries.
pub(crate) fn give_back<T>(list: &mut Vec<T>) {
    if BURST < list.capacity() && list.is_empty() {
        *list = Vec::new();
    }
}

/// As [`give_back`], for a queue.
pub(crate) fn give_back_queue<T>(queue: &mut VecDeque<T>) {
    if BURST < queue.capacity() && queue.is_empty() {
        *queue = VecDeque::new();
    }
}
