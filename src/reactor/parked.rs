//! Calls that wait for the answers of other threads. A call cannot leave its reactor, so other threads know it by a
//! number.

use std::collections::HashMap;

/// The calls that wait. Their owner bounds how many there are.
pub(super) struct Parked<C> {
    last_id: u64,
    calls: HashMap<u64, C>,
}

impl<C> Default for Parked<C> {
    fn default() -> Self {
        Parked {
            last_id: 0,
            calls: HashMap::new(),
        }
    }
}

impl<C> Parked<C> {
    /// Keeps a call, and returns its number.
    pub(super) fn add(&mut self, call: C) -> u64 {
        let id = self.reserve();
        self.put(id, call);
        id
    }

    /// Returns a number for a call that is [put](Self::put) there later.
    pub(super) fn reserve(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Keeps a call under a number that was reserved for it.
    pub(super) fn put(&mut self, id: u64, call: C) {
        self.calls.insert(id, call);
    }

    pub(super) fn count(&self) -> usize {
        self.calls.len()
    }

    /// Takes all calls, in no order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = C> + use<C> {
        std::mem::take(&mut self.calls).into_values()
    }

    /// Takes the call with a number. `None` where it was taken before.
    pub(super) fn take(&mut self, id: u64) -> Option<C> {
        self.calls.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_once() {
        let mut parked = Parked::default();
        let ids = ["a", "b"].map(|call| parked.add(call));
        assert_ne!(ids[0], ids[1]);
        let taken = [ids[1], ids[1], 7, ids[0]].map(|id| parked.take(id));
        assert_eq!(taken, [Some("b"), None, None, Some("a")]);
    }
}
