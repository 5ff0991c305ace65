//! The one handle that other threads may hold.

use std::panic::Location;
use std::sync::Arc;

use super::mailbox::Mailbox;
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

/// Two are equal when they are handles of the same reactor.
impl<S> PartialEq for Remote<S> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }
}

/// The reactor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorEnded;

impl std::fmt::Display for ReactorEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reactor has ended")
    }
}

impl std::error::Error for ReactorEnded {}

impl<S> Remote<S> {
    /// Has `call` run on the loop, after what this thread handed over before.
    ///
    /// Does not wait for it. The queue is not bounded: a thread that hands over faster than the
    /// loop runs should count what it has under way.
    ///
    /// # Errors
    ///
    /// [`ReactorEnded`] when the reactor has ended; the closure is dropped.
    #[track_caller]
    pub fn run<R>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) -> Result<(), ReactorEnded> {
        let arrival = Arrival {
            handed_over_at: Location::caller(),
            call: Box::new(move |cx| {
                call(cx);
            }),
        };
        match self.mailbox.put(arrival) {
            true => Ok(()),
            false => Err(ReactorEnded),
        }
    }
}

impl<S: 'static> Reactor<S> {
    /// A handle for other threads.
    pub fn remote(&self) -> Remote<S> {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
        }
    }
}
