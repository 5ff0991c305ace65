//! The time that the messages of one connection may take in a turn.
//!
//! A byte budget alone is not enough: one read can hold a hundred thousand small messages. The
//! clock is read only once in many steps, because for small messages reading it costs as much as
//! handling them.

use std::time::Duration;

use super::time::clock::nanos;

/// The steps between two readings of the clock. A message or a request is one step, and so are
/// eight members that a publication is offered to, and one comparison to a pattern.
pub(crate) const STEPS_PER_CLOCK: u32 = 64;

/// The upper limit of the time that a long flush gives to the messages of the next dispatch, in
/// nanoseconds.
///
/// The messages of a dispatch may take as long together as the flush before it took. With a fan-out
/// to thousands of members each turn ends with thousands of writes; fewer messages in a turn mean
/// more flushes, and so more writes, for the same publications.
const FLUSH_NANOS_MAX: u64 = 50_000_000;

/// The time that the connection which is being read may use in this turn.
pub(crate) struct Budget {
    limit_nanos: u64,
    /// Steps of work since the clock was read for this connection.
    steps: u32,
    /// When the last poll returned.
    woke: u64,
    /// How long flushing took since messages were last delivered; at most [`FLUSH_NANOS_MAX`].
    flush_nanos: u64,
}

impl Budget {
    pub(crate) fn new(limit: Duration) -> Budget {
        Budget {
            limit_nanos: nanos(limit),
            steps: 0,
            woke: 0,
            flush_nanos: 0,
        }
    }

    /// The poll has returned.
    #[inline]
    pub(crate) fn note_wake(&mut self, now: u64) {
        self.woke = now;
    }

    /// Forgets the time of earlier flushes, after a dispatch has used it.
    #[inline]
    pub(crate) fn forget_flush(&mut self) {
        self.flush_nanos = 0;
    }

    /// Adds the time of a flush.
    pub(crate) fn note_flush(&mut self, took_nanos: u64) {
        self.flush_nanos = (self.flush_nanos + took_nanos).min(FLUSH_NANOS_MAX);
    }

    /// The next connection is read.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.steps = 0;
    }

    /// Counts work for the connection that is being read.
    #[inline]
    pub(crate) fn charge(&mut self, steps: u32) {
        self.steps = self.steps.saturating_add(steps);
    }

    /// Counts one message. Returns whether the clock is to be read now.
    #[inline]
    pub(crate) fn charge_message(&mut self) -> bool {
        if self.steps < STEPS_PER_CLOCK {
            self.steps += 1;
            return false;
        }
        self.steps = 0;
        true
    }

    /// Whether the connection that has been read since `began` has used its time.
    pub(crate) fn is_used(&self, began: u64, now: u64) -> bool {
        self.limit_nanos < now - began && self.flush_nanos < now - self.woke
    }
}
