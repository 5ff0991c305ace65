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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token, Waker};

    use super::*;

    const BELL: Token = Token(7);

    /// How often the bell is heard by a poll that does not wait.
    fn rings(poll: &mut Poll) -> usize {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().filter(|event| event.token() == BELL).count()
    }

    #[test]
    fn the_first_arrival_of_a_batch_rings_the_bell() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), BELL).unwrap();
        let mailbox = Mailbox::new(Some(waker));
        assert_eq!(rings(&mut poll), 0);
        for batch in 0..3 {
            assert!(!mailbox.has_arrivals());
            assert!(mailbox.put("first"));
            assert_eq!(rings(&mut poll), 1, "batch {batch}");
            assert!(mailbox.put("second"));
            assert_eq!(rings(&mut poll), 0, "batch {batch}: it was heard");
            assert!(mailbox.has_arrivals());
            assert_eq!(mailbox.take(), ["first", "second"]);
        }
        assert!(mailbox.put("left"));
        assert_eq!(mailbox.close(), ["left"]);
        assert!(!mailbox.put("too late"));
    }
}
