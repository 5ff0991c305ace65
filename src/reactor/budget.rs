//! How long the messages of one connection may take in a turn.

use std::time::Duration;

use super::time::clock::nanos;

/// Messages, requests, deliveries by eights and looks at patterns between two readings of the
/// clock.
pub(crate) const STEPS_PER_CLOCK: u32 = 64;

/// The messages of a turn may take as long together as flushing took since they were last
/// delivered, because fewer at a time would leave with more writes; but not longer than this, in
/// nanoseconds.
const FLUSH_NANOS_MAX: u64 = 50_000_000;

/// The share of a turn that the connection which is being read may use.
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

    /// Messages are delivered from here on; what flushing took before counts for them no more.
    #[inline]
    pub(crate) fn forget_flush(&mut self) {
        self.flush_nanos = 0;
    }

    /// A flush took so long.
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

    /// Counts one message. Whether the clock is to be read now.
    #[inline]
    pub(crate) fn charge_message(&mut self) -> bool {
        if self.steps < STEPS_PER_CLOCK {
            self.steps += 1;
            return false;
        }
        self.steps = 0;
        true
    }

    /// Whether the connection that has been read since `began` has used its share.
    pub(crate) fn is_used(&self, began: u64, now: u64) -> bool {
        self.limit_nanos < now - began && self.flush_nanos < now - self.woke
    }
}
