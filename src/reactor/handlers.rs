//! The handlers that the loop calls, each at its key.

use super::panics::drop_all_guarded;
use super::reactor::{Handler, Reactor};

/// The handlers, each at its key.
pub(super) struct Handlers<S>(Vec<Option<Box<dyn Handler<S>>>>);

impl<S: 'static> Handlers<S> {
    pub(super) fn new() -> Handlers<S> {
        Handlers(Vec::new())
    }

    /// Takes over handlers that callbacks have added. A callback cannot add one here itself,
    /// because the caller of the callback borrows this list.
    #[inline(always)]
    pub(super) fn adopt(&mut self, reactor: &mut Reactor<S>) {
        if !reactor.new_handlers.is_empty() {
            self.adopt_new(reactor);
        }
    }

    #[cold]
    fn adopt_new(&mut self, reactor: &mut Reactor<S>) {
        for (key, handler) in reactor.new_handlers.drain(..) {
            let key = key as usize;
            if self.0.len() <= key {
                self.0.resize_with(key + 1, || None);
            }
            self.0[key] = Some(handler);
        }
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut dyn Handler<S>> {
        match self.0.get_mut(key as usize) {
            Some(Some(handler)) => Some(handler.as_mut()),
            Some(None) | None => None,
        }
    }

    /// Whether the handler serves one connection only.
    pub(super) fn is_single(&self, key: u32) -> bool {
        matches!(self.0.get(key as usize), Some(Some(handler)) if handler.is_single())
    }

    /// Takes out a handler, with the application's closures that it holds.
    pub(super) fn remove(&mut self, key: u32) -> Option<Box<dyn Handler<S>>> {
        self.0.get_mut(key as usize)?.take()
    }
}

impl<S> Drop for Handlers<S> {
    fn drop(&mut self) {
        drop_all_guarded(&"a handler", self.0.drain(..));
    }
}
