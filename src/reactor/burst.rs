//! Lists that a burst has made long are given back, so that an idle server is small again.

use std::collections::VecDeque;

/// An empty list with room for more entries than this is given back. Smaller ones are kept:
/// allocating them again at each turn would cost more than their memory.
pub(crate) const BURST: usize = 4096;

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
