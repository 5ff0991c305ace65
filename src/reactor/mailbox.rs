//! The mailbox: other threads put closures in, and wake the loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A queue from other threads to the loop, which keeps the order of each thread.
pub(crate) struct Mailbox<T> {
    /// `None` when the reactor has ended.
    arrivals: Mutex<Option<Vec<T>>>,
    /// The loop was woken and has not taken the arrivals yet. Threads that come meanwhile need no
    /// system call of their own: the loop takes theirs as well.
    is_woken: AtomicBool,
    waker: Option<mio::Waker>,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(waker: Option<mio::Waker>) -> Mailbox<T> {
        Mailbox {
            arrivals: Mutex::new(Some(Vec::new())),
            is_woken: AtomicBool::new(false),
            waker,
        }
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    /// Takes everything that has arrived.
    pub(crate) fn take(&self) -> Vec<T> {
        // The flag before the list: an arrival that comes in between wakes the loop once more for
        // nothing. In the other order it could be left in the list with no one to wake the loop.
        if !self.is_woken.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.arrivals()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Closes the mailbox, and returns what was not taken. The caller drops it without the lock:
    /// dropping runs code of the application, which may call `put`.
    pub(crate) fn close(&self) -> Vec<T> {
        self.arrivals().take().unwrap_or_default()
    }

    /// Puts an arrival in and wakes the loop. Returns `false` when the reactor has ended.
    pub(crate) fn put(&self, arrival: T) -> bool {
        match &mut *self.arrivals() {
            Some(arrivals) => arrivals.push(arrival),
            None => return false,
        }
        if !self.is_woken.swap(true, Ordering::AcqRel)
            && let Some(waker) = &self.waker
        {
            return waker.wake().is_ok();
        }
        true
    }

    /// Wakes the loop for something that is not an arrival.
    pub(crate) fn ring(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel)
            && let Some(waker) = &self.waker
        {
            // The loop has ended when it cannot be woken.
            let _ = waker.wake();
        }
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
