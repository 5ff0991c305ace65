//! Sources that are no connections: their place is in the table, and they are kept here with their callbacks, so
//! that a callback can be called while the reactor is borrowed mutably.

use super::Running;
use super::call::Caller;
use super::id::ConnId;
use super::reactor::{NextStep, Reactor, Watched};
use super::transport::memory::Readiness;

impl<S: 'static> Reactor<S> {
    /// Takes a source out of the poll and out of the table. `None` if it is gone, or if its callback is running: the
    /// source then ends behind the callback.
    pub(super) fn remove_watched(&mut self, id: ConnId) -> Option<Box<dyn Watched<S>>> {
        if !self.table.sources_mut().remove_watched(id) {
            return None;
        }
        let mut watched = self.watched.remove(&id.index)?;
        if let Some(registry) = self.table.registry() {
            watched.deregister(registry);
        }
        Some(watched)
    }
}

impl<S: 'static> Running<S> {
    /// Calls a source that is ready.
    pub(super) fn watched_ready(&mut self, index: u32, readiness: Readiness) {
        let Some(id) = self.reactor.table.sources().watched_id(index) else {
            return;
        };
        let Some(mut watched) = self.reactor.watched.remove(&index) else {
            return;
        };
        let (kind, place) = watched.made_at();
        let caller = Caller::Watched(kind, place);
        let mut step = None;
        self.call(caller, |cx| {
            step = Some(watched.ready(cx, id, readiness));
        });
        let step = step.unwrap_or_else(|| watched.after_panic(&mut self.reactor, id));
        let is_removed = !self.reactor.table.sources().has_watched(id);
        if is_removed || step == NextStep::End || self.reactor.is_stopped {
            if let Some(registry) = self.reactor.table.registry() {
                watched.deregister(registry);
            }
            self.reactor.table.sources_mut().remove_watched(id);
            return self.drop_value(&caller, watched);
        }
        self.reactor.watched.insert(index, watched);
    }
}
