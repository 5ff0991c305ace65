//! Where other threads put what the loop is to run, and the bell that they ring.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What other threads hand over, in the order of each thread.
pub(crate) struct Mailbox<T> {
    /// `None` when the reactor has ended.
    arrivals: Mutex<Option<Vec<T>>>,
    /// The bell was rung and not heard yet: one system call a batch.
    rung: AtomicBool,
    waker: Option<mio::Waker>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(waker: Option<mio::Waker>) -> Mailbox<T> {
        Mailbox {
            arrivals: Mutex::new(Some(Vec::new())),
            rung: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// Everything that has arrived.
    pub(crate) fn take(&self) -> Vec<T> {
        if !self.rung.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.arrivals()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Takes nothing more, and gives back what was not taken. Dropping it may run code of the
    /// application, which may hand over again: not under the lock.
    pub(crate) fn close(&self) -> Vec<T> {
        self.arrivals().take().unwrap_or_default()
    }

    /// Puts something in and rings the bell. `false` when the reactor has ended.
    pub(crate) fn put(&self, arrival: T) -> bool {
        match &mut *self.arrivals() {
            Some(arrivals) => arrivals.push(arrival),
            None => return false,
        }
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Some(waker) = &self.waker
        {
            return waker.wake().is_ok();
        }
        true
    }

    fn arrivals(&self) -> MutexGuard<'_, Option<Vec<T>>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
