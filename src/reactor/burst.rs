//! What a burst leaves behind: lists that have grown are not kept for ever.

/// A list that has had room for more than this is given back when it is empty.
pub(crate) const BURST: usize = 4096;

/// Gives the memory of an empty list back, where it is much.
pub(crate) fn give_back<T>(list: &mut Vec<T>) {
    if BURST < list.capacity() && list.is_empty() {
        *list = Vec::new();
    }
}
