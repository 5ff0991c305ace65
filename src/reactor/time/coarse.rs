//! Deadlines of connections: coarse, lazy, eight bytes each.
//!
//! A connection carries its own deadline in a field and changes it for nothing. Here it is filed
//! at most once, in the bucket of some moment that is not after the deadline. When the bucket
//! comes up the connection is asked again: not due yet, and it is filed anew. So a message costs
//! no timer work, however often it moves the deadline.
//!
//! Time is counted in ticks of 2^26 ns, about 67 ms: a deadline passes that much late at the most,
//! and never early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::reactor::id::ConnId;
use crate::reactor::time::clock::nanos;

/// A moment, in ticks since the start of the reactor; zero is "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u32);

const TICK_SHIFT: u32 = 26;

impl Tick {
    pub(crate) const NEVER: Tick = Tick(0);

    /// The first tick at which `after` has passed since `now` (nanoseconds).
    pub(crate) fn after(now: u64, after: Duration) -> Tick {
        Tick::after_nanos(now, Tick::bounded_nanos(after))
    }

    /// As [`after`](Self::after), for a time that [`bounded_nanos`](Self::bounded_nanos) has made
    /// a number.
    #[inline]
    pub(crate) fn after_nanos(now: u64, after: u64) -> Tick {
        Tick(((now + after) >> TICK_SHIFT) as u32 + 1)
    }

    /// A time in nanoseconds, at most half of what ticks can count.
    pub(crate) fn bounded_nanos(time: Duration) -> u64 {
        nanos(time).min(u64::from(u32::MAX) << (TICK_SHIFT - 1))
    }

    pub(crate) fn later_by(self, time: Duration) -> Tick {
        Tick(self.0.saturating_add((nanos(time) >> TICK_SHIFT) as u32))
    }

    pub(crate) fn nanos(self) -> u64 {
        u64::from(self.0) << TICK_SHIFT
    }

    /// The earlier of two, where "never" is later than anything.
    pub(crate) fn earlier(self, other: Tick) -> Tick {
        if self.0.wrapping_sub(1) <= other.0.wrapping_sub(1) {
            self
        } else {
            other
        }
    }
}

pub(crate) struct Deadlines {
    buckets: BTreeMap<Tick, Vec<ConnId>>,
    /// When the earliest comes up, in nanoseconds; `u64::MAX` without any. Asked every turn.
    next_due: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            buckets: BTreeMap::new(),
            next_due: u64::MAX,
        }
    }
}

impl Deadlines {
    pub(crate) fn file(&mut self, at: Tick, id: ConnId) {
        self.buckets.entry(at).or_default().push(id);
        self.next_due = self.next_due.min(at.nanos());
    }

    /// When the earliest bucket comes up, in nanoseconds; `u64::MAX` when there is none.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        self.next_due
    }

    /// The earliest bucket that has come up at `now`, with its connections.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<(Tick, Vec<ConnId>)> {
        if now < self.next_due {
            return None;
        }
        let bucket = self.buckets.pop_first();
        self.next_due = self
            .buckets
            .first_key_value()
            .map_or(u64::MAX, |(tick, _)| tick.nanos());
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        for millis in [0u64, 1, 66, 67, 68, 10_000, 86_400_000] {
            for now in [0u64, 1, 999_999_999, 67_108_863, 67_108_864] {
                let due = now + millis * 1_000_000;
                let filed = Tick::after(now, Duration::from_millis(millis)).nanos();
                assert!(
                    due < filed && filed <= due + (1 << TICK_SHIFT),
                    "{millis} ms at {now}"
                );
            }
        }
    }

    #[test]
    fn never_is_later_than_anything() {
        assert_eq!(Tick::NEVER.earlier(Tick(7)), Tick(7));
        assert_eq!(Tick(7).earlier(Tick::NEVER), Tick(7));
        assert_eq!(Tick(7).earlier(Tick(3)), Tick(3));
        assert_eq!(Tick::NEVER.earlier(Tick::NEVER), Tick::NEVER);
    }

    #[test]
    fn buckets_come_up_in_order() {
        let id = |index| ConnId {
            index,
            generation: 0,
        };
        let mut deadlines = Deadlines::default();
        deadlines.file(Tick(5), id(1));
        deadlines.file(Tick(3), id(2));
        deadlines.file(Tick(5), id(3));
        assert_eq!(deadlines.next_due(), Tick(3).nanos());
        assert_eq!(
            deadlines.pop_due(Tick(4).nanos()),
            Some((Tick(3), vec![id(2)]))
        );
        assert_eq!(deadlines.pop_due(Tick(4).nanos()), None);
        assert_eq!(
            deadlines.pop_due(Tick(5).nanos()),
            Some((Tick(5), vec![id(1), id(3)]))
        );
        assert_eq!(deadlines.next_due(), u64::MAX);
    }
}
