//! The one handle that other threads may hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reactor::handler::Cx;

pub(crate) type Arrival<S> = Box<dyn FnOnce(&mut Cx<'_, S>) + Send>;

/// What other threads hand over, and the bell they ring.
pub(crate) struct Mailbox<S> {
    /// `None` when the reactor has ended.
    arrivals: Mutex<Option<Vec<Arrival<S>>>>,
    /// The bell was rung and not heard yet: one system call a batch.
    rung: AtomicBool,
    waker: Option<mio::Waker>,
}

impl<S> Mailbox<S> {
    pub(crate) fn new(waker: Option<mio::Waker>) -> Mailbox<S> {
        Mailbox {
            arrivals: Mutex::new(Some(Vec::new())),
            rung: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Everything that has arrived, in the order of each thread.
    pub(crate) fn take(&self) -> Vec<Arrival<S>> {
        if !self.rung.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.arrivals()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Takes nothing more, and drops what was not run. Dropping may run code of the application,
    /// which may hand over again: not under the lock.
    pub(crate) fn close(&self) {
        let arrivals = self.arrivals().take();
        drop(arrivals);
    }

    fn arrivals(&self) -> MutexGuard<'_, Option<Vec<Arrival<S>>>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs closures on the loop from any thread. `Send`, `Sync`, and cheap to clone.
pub struct Remote<S> {
    pub(crate) mailbox: Arc<Mailbox<S>>,
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Remote {
            mailbox: Arc::clone(&self.mailbox),
        }
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
    pub fn run<R>(
        &self,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + Send + 'static,
    ) -> Result<(), ReactorEnded> {
        let mailbox = &*self.mailbox;
        let arrival: Arrival<S> = Box::new(move |cx| {
            call(cx);
        });
        match &mut *mailbox.arrivals() {
            Some(arrivals) => arrivals.push(arrival),
            None => return Err(ReactorEnded),
        }
        if !mailbox.rung.swap(true, Ordering::AcqRel)
            && let Some(waker) = &mailbox.waker
        {
            waker.wake().map_err(|_| ReactorEnded)?;
        }
        Ok(())
    }
}
