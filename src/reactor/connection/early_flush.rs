//! Flushes before the flush of the turn, and what waits when they have taken their share of the time.
//!
//! A policy may act only on a queue that was offered to the kernel, so that a queue above its high
//! watermark is written at once. One publication can bring the queues of all members of a topic above
//! their marks; writing them all would hold the loop beyond `flush_time_budget`. From a certain cost on
//! such queues therefore take one message more without being written, up to twice the mark. The
//! connection that has published them is not read until the flush has offered everything to the kernel:
//! it would otherwise queue more than the flushes can take.

use crate::reactor::id::ConnId;

/// The cost of early flushes between two flushes of the turn, in bytes. The kernel copies this much in
/// some milliseconds.
const COST_MAX: u64 = 4 * 1024 * 1024;

/// The cost of writing one queue beside its bytes: the kernel copies so many in as long.
const COST_OF_WRITE: u64 = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct EarlyFlushes {
    cost: u64,
    /// Whether the event that goes on has queued a message above a high watermark.
    has_overrun: bool,
    /// Connections that are not read until everything that is queued was offered to the kernel.
    paused: Vec<ConnId>,
}

impl EarlyFlushes {
    /// The flush of the turn begins.
    pub(super) fn begin_flush(&mut self) {
        self.cost = 0;
        self.has_overrun = false;
    }

    /// Counts a queue of which so many bytes were written early.
    pub(super) fn charge(&mut self, bytes: u64) {
        self.cost += bytes + COST_OF_WRITE;
    }

    /// Whether early flushes have taken their share of the time.
    pub(super) fn is_spent(&self) -> bool {
        COST_MAX <= self.cost
    }

    /// Notes that the event that goes on has queued a message above a high watermark.
    pub(super) fn note_overrun(&mut self) {
        self.has_overrun = true;
    }

    #[inline]
    pub(super) fn has_overrun(&self) -> bool {
        self.has_overrun
    }

    /// Ends the event of a connection. Returns whether the connection is to be paused until
    /// [`take_paused`](Self::take_paused).
    #[inline]
    pub(super) fn end_event(&mut self, id: ConnId) -> bool {
        let has_overrun = std::mem::take(&mut self.has_overrun);
        if has_overrun {
            self.paused.push(id);
        }
        has_overrun
    }

    /// The connections to read again, because everything was offered to the kernel.
    #[inline]
    pub(super) fn take_paused(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.paused)
    }
}
