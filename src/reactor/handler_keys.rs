//! The keys of handlers, and who still needs each handler.

use slab::Slab;

/// The reasons why a handler is still needed.
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
    /// Handlers of closed listeners whose connections have all ended. Dropped at the end of the
    /// turn, because one of them may be the caller now.
    unused: Vec<u32>,
}

impl HandlerKeys {
    pub(super) fn insert(&mut self) -> u32 {
        self.uses.insert(HandlerUse::default()) as u32
    }

    /// Frees a key, whose object has been dropped or was never called.
    pub(super) fn remove(&mut self, key: u32) {
        self.uses.try_remove(key as usize);
    }

    /// Counts a connection that the handler's listener has accepted.
    pub(super) fn count_accepted(&mut self, key: u32) {
        if let Some(used) = self.uses.get_mut(key as usize) {
            used.accepted_count += 1;
        }
    }

    /// Counts a connection of the handler as ended: its last callback has been called.
    pub(super) fn count_closed(&mut self, key: u32) {
        if let Some(used) = self.uses.get_mut(key as usize) {
            // The connection of a client was never counted, because no listener accepted it.
            used.accepted_count = used.accepted_count.saturating_sub(1);
            self.list_if_unused(key);
        }
    }

    /// Notes that the handler's listener was closed.
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

    /// Takes the keys of handlers that are no longer needed.
    pub(super) fn take_unused(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unused)
    }
}
