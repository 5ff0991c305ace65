//! Which handlers there are, and what still needs each.

use slab::Slab;

/// What still needs a handler.
#[derive(Default)]
struct HandlerUse {
    /// Connections that its listener has accepted and whose `on_close` was not called yet.
    accepted_count: usize,
    /// Its listener was closed.
    is_closed: bool,
}

/// The keys of all handlers.
#[derive(Default)]
pub(super) struct HandlerKeys {
    uses: Slab<HandlerUse>,
    /// Handlers of closed listeners whose connections have all ended; dropped after the turn.
    unused: Vec<u32>,
}

impl HandlerKeys {
    pub(super) fn insert(&mut self) -> u32 {
        self.uses.insert(HandlerUse::default()) as u32
    }

    /// The object is gone, or was never called: its key may be given again.
    pub(super) fn remove(&mut self, key: u32) {
        self.uses.try_remove(key as usize);
    }

    /// A listener of this handler has accepted a connection.
    pub(super) fn count_accepted(&mut self, key: u32) {
        if let Some(used) = self.uses.get_mut(key as usize) {
            used.accepted_count += 1;
        }
    }

    /// The last callback of one of its connections has been called.
    pub(super) fn count_closed(&mut self, key: u32) {
        if let Some(used) = self.uses.get_mut(key as usize) {
            // A client's connection was not accepted.
            used.accepted_count = used.accepted_count.saturating_sub(1);
            self.list_if_unused(key);
        }
    }

    /// Its listener was closed.
    pub(super) fn close(&mut self, key: u32) {
        if let Some(used) = self.uses.get_mut(key as usize) {
            used.is_closed = true;
            self.list_if_unused(key);
        }
    }

    fn list_if_unused(&mut self, key: u32) {
        let used = self.uses.get(key as usize);
        if used.is_some_and(|used| used.is_closed && used.accepted_count == 0) {
            self.unused.push(key);
        }
    }

    #[inline]
    pub(super) fn has_unused(&self) -> bool {
        !self.unused.is_empty()
    }

    /// The handlers that nothing needs any more.
    pub(super) fn take_unused(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unused)
    }
}
