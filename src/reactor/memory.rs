//! The account of the memory that clients make a reactor hold, and its limit for all of them
//! together.
//!
//! Each connection has its own limits, but a thousand connections that each stay a byte below
//! theirs can take more memory than there is. The account is a sum of four parts, and each has one
//! place that tells it the differences:
//!
//! ```text
//!  connections      what each holds of its own: its place, the beginning of a head or a frame, a message or
//!                   a body that is coming                    connection/end.rs, `charge`
//!  queues           a node for each queued message, its own bytes, and a shared body once
//!                                                            connection/queue.rs
//!  subscriptions    entries and names                        pubsub/topics.rs
//!  others           the reactors that share the limit: each adds its difference to one number at the end of
//!                   a turn, and reads the sum of the others there
//! ```
//!
//! Memory is *short* above seven eighths of `Config::memory_bytes_max`: no connections are accepted
//! then, for one `accept_backoff`; when it is short after that, the connections that hold most end,
//! so that strangers cannot keep others out by holding what they have. It is *over* above the
//! limit: the connections that hold most end at once, until three quarters of the limit are used.
//! If it stopped closer to the limit, the next event would pass it again and search all connections
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::log_limit::LogLimit;

/// A connection that holds less than this, in bytes, is not ended for memory. Thousands of them
/// would have to go for a megabyte.
pub(super) const DEBT_BYTES_MIN: usize = 8 * 1024;

/// The part of the account that is not in the rooms that hold the bytes.
#[derive(Debug)]
pub(super) struct Memory {
    /// `usize::MAX` without a limit.
    limit: usize,
    connection_bytes: usize,
    subscription_bytes: usize,
    others_bytes: usize,
    /// The bytes of connections that have ended in this turn, whose memory is given back at its
    /// end. They are no reason to end others.
    releasing_bytes: usize,
    /// The sum of all reactors that share the limit, and this reactor's share in it.
    group: Option<(Arc<AtomicUsize>, usize)>,
    ends: LogLimit,
}

impl Memory {
    pub(super) fn new(limit: Option<usize>) -> Memory {
        Memory {
            limit: limit.unwrap_or(usize::MAX),
            connection_bytes: 0,
            subscription_bytes: 0,
            others_bytes: 0,
            releasing_bytes: 0,
            group: None,
            ends: LogLimit::default(),
        }
    }

    /// Shares the limit with the other reactors that add to this sum.
    pub(super) fn share(&mut self, sum: Arc<AtomicUsize>) {
        self.group = Some((sum, 0));
    }

    // ── differences ──────────────────────────────────────────────────────────────────────────

    /// Counts that a connection holds `now` bytes; `charged` is what it held when this was last
    /// called.
    #[inline]
    pub(super) fn charge(&mut self, charged: &mut u32, now: usize) {
        // A connection holds less than 4 GiB: its limits are below that in any sensible
        // configuration, and otherwise it counts as 4 GiB.
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        self.connection_bytes = self.connection_bytes - *charged as usize + now as usize;
        *charged = now;
    }

    pub(super) fn set_subscription_bytes(&mut self, bytes: usize) {
        self.subscription_bytes = bytes;
    }

    /// Notes that this many bytes are given back at the end of the turn.
    pub(super) fn note_releasing(&mut self, bytes: usize) {
        self.releasing_bytes += bytes;
    }

    /// Ends a turn with `queue_bytes` in the queues: the memory that was to be given back is free
    /// now, but for `releasing_bytes`, and the other reactors learn the difference.
    pub(super) fn end_turn(&mut self, queue_bytes: usize, releasing_bytes: usize) {
        self.releasing_bytes = releasing_bytes;
        let own = self.own_bytes(queue_bytes);
        if let Some((sum, announced)) = &mut self.group {
            let before = match *announced <= own {
                true => sum.fetch_add(own - *announced, Ordering::Relaxed),
                false => sum.fetch_sub(*announced - own, Ordering::Relaxed),
            };
            self.others_bytes = before.saturating_sub(*announced);
            *announced = own;
        }
    }

    /// Gives its share back to the reactors that share the limit.
    pub(super) fn leave_group(&mut self) {
        if let Some((sum, announced)) = self.group.take() {
            sum.fetch_sub(announced, Ordering::Relaxed);
        }
    }

    // ── questions ────────────────────────────────────────────────────────────────────────────

    fn own_bytes(&self, queue_bytes: usize) -> usize {
        self.connection_bytes + self.subscription_bytes + queue_bytes
    }

    /// The bytes that are held now, those of other reactors included.
    #[inline]
    pub(super) fn used_bytes(&self, queue_bytes: usize) -> usize {
        (self.own_bytes(queue_bytes) + self.others_bytes).saturating_sub(self.releasing_bytes)
    }

    /// Whether the limit is passed, so that connections must end.
    #[inline]
    pub(super) fn is_over(&self, queue_bytes: usize) -> bool {
        self.limit < self.used_bytes(queue_bytes)
    }

    /// Whether so little is left that no connection is accepted.
    pub(super) fn is_short(&self, queue_bytes: usize) -> bool {
        self.limit - self.limit / 8 < self.used_bytes(queue_bytes)
    }

    /// Whether enough is left that no further connection must end.
    pub(super) fn is_relieved(&self, queue_bytes: usize) -> bool {
        self.used_bytes(queue_bytes) <= self.limit - self.limit / 4
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Log lines about connections that end for memory.
    pub(super) fn ends_mut(&mut self) -> &mut LogLimit {
        &mut self.ends
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.leave_group();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_limit() {
        let mut memory = Memory::new(Some(1000));
        let mut charged = 0;
        let cases = [
            (750, (true, false, false)),
            (751, (false, false, false)),
            (875, (false, false, false)),
            (876, (false, true, false)),
            (1000, (false, true, false)),
            (1001, (false, true, true)),
        ];
        for (bytes, expected) in cases {
            memory.charge(&mut charged, bytes - 100);
            let levels = (
                memory.is_relieved(100),
                memory.is_short(100),
                memory.is_over(100),
            );
            assert_eq!(levels, expected, "{bytes} bytes");
        }
        memory.note_releasing(300);
        assert!(memory.is_relieved(100));
        memory.end_turn(100, 0);
        assert!(memory.is_over(100));
        let mut unlimited = Memory::new(None);
        unlimited.charge(&mut 0, usize::MAX);
        assert!(!unlimited.is_over(1000) && !unlimited.is_short(1000));
    }

    #[test]
    fn reactors_share_a_sum() {
        let sum = Arc::new(AtomicUsize::new(0));
        let mut memories = [Some(1000), Some(1000)].map(Memory::new);
        let mut charged = [0; 2];
        for memory in &mut memories {
            memory.share(Arc::clone(&sum));
        }
        let [one, other] = &mut memories;
        one.charge(&mut charged[0], 600);
        one.end_turn(0, 0);
        other.charge(&mut charged[1], 500);
        assert!(
            !other.is_over(0),
            "it learns of the others at the end of a turn"
        );
        other.end_turn(0, 0);
        assert!(other.is_over(0) && !one.is_over(0));
        one.charge(&mut charged[0], 100);
        one.end_turn(0, 0);
        other.end_turn(0, 0);
        assert_eq!((one.used_bytes(0), other.used_bytes(0)), (600, 600));
        drop(memories);
        assert_eq!(sum.load(Ordering::Relaxed), 0);
    }
}
