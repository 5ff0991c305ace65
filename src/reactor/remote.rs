//! The one handle of the reactor that other threads may hold.

use std::panic::Location;
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::outcome::Outcome;
use super::reactor::{Arrival, Cx, Reactor};

/// Runs closures on the loop from any thread. `Send`, `Sync`, and cheap to clone.
pub struct Remote<S> {
    mailbox: Arc<Mailbox<Arrival<S>>>,
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}

/// Two handles are equal when they belong to the same reactor.
impl<S> PartialEq for Remote<S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }
}

/// The loop of the reactor has ended: it was stopped, has drained, or was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorEnded;

impl std::fmt::Display for ReactorEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reactor has ended")
    }
}

impl std::error::Error for ReactorEnded {}

impl<S: 'static> Remote<S> {
    /// Queues `call` to run on the loop, and wakes the loop if it sleeps. Closures of one thread
    /// run in the order in which that thread queued them.
    ///
    /// Does not wait until it has run. The queue is not bounded: a thread that queues faster than
    /// the loop runs should count the closures that it has under way, and wait.
    ///
    /// # Errors
    ///
    /// [`ReactorEnded`] when the loop has ended; the closure is dropped. A closure that was queued
    /// before the end and has not run is dropped at the end.
    #[track_caller]
    pub fn run<R: Outcome>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) -> Result<(), ReactorEnded> {
        let arrival = Arrival {
            queued_at: Location::caller(),
            call: Box::new(move |cx| {
                let outcome = call(cx);
                cx.reactor.note_outcome(outcome);
            }),
        };
        match self.mailbox.put(arrival) {
            true => Ok(()),
            false => Err(ReactorEnded),
        }
    }
}

impl<S: 'static> Reactor<S> {
    /// Returns a handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::reactor::sim::Sim;

    #[test]
    fn remotes_are_equal_when_they_are_of_one_reactor() {
        let mut sims = [(), ()].map(|()| Sim::new((), |_| {}));
        let [first, second] = sims.each_mut().map(|sim| sim.reactor().remote());
        assert!(first == first.clone());
        assert!(first == sims[0].reactor().remote());
        assert!(first != second);
    }
}
