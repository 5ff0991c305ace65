//! Buckets of connections by the moment at which each is looked at: eight bytes for each
//! connection.
//!
//! A connection has its deadline in a field of its own, and changes it with one store. Here it is
//! filed once, in the bucket of a moment that is not after the deadline. When the bucket comes up,
//! the connection is asked: if its deadline has been put off, it is filed anew. So a message that
//! puts off a deadline costs no work here, however many messages come. A heap or a timer wheel
//! would move an entry for each message, for deadlines of which almost none ever passes.
//!
//! Coarse time counts steps of 2^26 ns, about 67 ms: a deadline passes at most that much late, and
//! never early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::reactor::id::ConnId;
use crate::reactor::time::clock::nanos;

/// A moment, in steps of 2^26 ns since the start of the reactor; zero is "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CoarseTime(u32);

const SHIFT: u32 = 26;

impl CoarseTime {
    pub(crate) const NEVER: CoarseTime = CoarseTime(0);

    /// The first step at which `after` has passed since `now` (nanoseconds).
    pub(crate) fn after(now: u64, after: Duration) -> CoarseTime {
        CoarseTime::after_nanos(now, CoarseTime::bounded_nanos(after))
    }

    /// As [`after`](Self::after), for a time in nanoseconds from
    /// [`bounded_nanos`](Self::bounded_nanos).
    ///
    /// There is no overflow in the first four and a half years of a reactor. The clock of a
    /// simulation stops before.
    #[inline]
    pub(crate) fn after_nanos(now: u64, after: u64) -> CoarseTime {
        CoarseTime(((now + after) >> SHIFT) as u32 + 1)
    }

    /// Returns a time in nanoseconds, at most half of the time that coarse time can count.
    pub(crate) fn bounded_nanos(time: Duration) -> u64 {
        nanos(time).min(u64::from(u32::MAX) << (SHIFT - 1))
    }

    pub(crate) fn later_by_seconds(self, seconds: u32) -> CoarseTime {
        self.later_by_nanos(u64::from(seconds) * 1_000_000_000)
    }

    /// Later by whole steps; "never" stays never.
    pub(crate) fn later_by_nanos(self, nanos: u64) -> CoarseTime {
        if self == CoarseTime::NEVER {
            return self;
        }
        let steps = u32::try_from(nanos >> SHIFT).unwrap_or(u32::MAX);
        CoarseTime(self.0.saturating_add(steps))
    }

    pub(crate) fn nanos(self) -> u64 {
        u64::from(self.0) << SHIFT
    }

    /// The earlier of two, where "never" is later than anything.
    pub(crate) fn earlier(self, other: CoarseTime) -> CoarseTime {
        if self.0.wrapping_sub(1) <= other.0.wrapping_sub(1) {
            self
        } else {
            other
        }
    }
}

pub(crate) struct Buckets {
    buckets: BTreeMap<CoarseTime, Vec<ConnId>>,
    /// How many connections are in them.
    count: usize,
    /// When the earliest comes up, in nanoseconds; `u64::MAX` without any. Asked every turn.
    next_due: u64,
}

impl Default for Buckets {
    fn default() -> Self {
        Buckets {
            buckets: BTreeMap::new(),
            count: 0,
            next_due: u64::MAX,
        }
    }
}

impl Buckets {
    pub(crate) fn file(&mut self, at: CoarseTime, id: ConnId) {
        self.buckets.entry(at).or_default().push(id);
        self.count += 1;
        self.next_due = self.next_due.min(at.nanos());
    }

    /// When the earliest bucket comes up, in nanoseconds; `u64::MAX` when there is none.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        self.next_due
    }

    /// The earliest bucket that has come up at `now`, with its connections.
    #[inline]
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<(CoarseTime, Vec<ConnId>)> {
        if now < self.next_due {
            return None;
        }
        let bucket = self.buckets.pop_first();
        self.count -= bucket.as_ref().map_or(0, |(_, ids)| ids.len());
        self.find_next_due();
        bucket
    }

    /// How many connections are filed, those that have gone or were filed anew included.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Keeps the entries for which `is_wanted` returns `true`.
    pub(crate) fn sweep(&mut self, is_wanted: impl Fn(CoarseTime, ConnId) -> bool) {
        self.buckets.retain(|at, ids| {
            ids.retain(|id| is_wanted(*at, *id));
            ids.shrink_to_fit();
            !ids.is_empty()
        });
        self.count = self.buckets.values().map(Vec::len).sum();
        self.find_next_due();
    }

    fn find_next_due(&mut self) {
        let first = self.buckets.first_key_value();
        self.next_due = first.map_or(u64::MAX, |(at, _)| at.nanos());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::time::clock::Clock;

    #[test]
    fn never_early_and_at_most_a_step_late() {
        for millis in [0u64, 1, 66, 67, 68, 10_000, 86_400_000] {
            for now in [0u64, 1, 999_999_999, 67_108_863, 67_108_864] {
                let due = now + millis * 1_000_000;
                let filed = CoarseTime::after(now, Duration::from_millis(millis)).nanos();
                assert!(
                    due < filed && filed <= due + (1 << SHIFT),
                    "{millis} ms at {now}"
                );
            }
        }
    }

    #[test]
    fn the_longest_time_after_the_last_moment_of_a_simulation() {
        let clock = Clock::invented(Duration::MAX);
        let last = CoarseTime::after(clock.now(), Duration::MAX);
        assert!(last.nanos() - clock.now() > clock.now());
        assert_eq!(last.later_by_seconds(u32::MAX), CoarseTime(u32::MAX));
    }

    #[test]
    fn never_is_later_than_anything() {
        assert_eq!(CoarseTime::NEVER.earlier(CoarseTime(7)), CoarseTime(7));
        assert_eq!(CoarseTime(7).earlier(CoarseTime::NEVER), CoarseTime(7));
        assert_eq!(CoarseTime(7).earlier(CoarseTime(3)), CoarseTime(3));
        assert_eq!(
            CoarseTime::NEVER.earlier(CoarseTime::NEVER),
            CoarseTime::NEVER
        );
    }

    #[test]
    fn buckets_come_up_in_order() {
        let id = |index| ConnId {
            index,
            generation: 0,
        };
        let mut buckets = Buckets::default();
        buckets.file(CoarseTime(5), id(1));
        buckets.file(CoarseTime(3), id(2));
        buckets.file(CoarseTime(5), id(3));
        assert_eq!(buckets.next_due(), CoarseTime(3).nanos());
        assert_eq!(
            buckets.pop_due(CoarseTime(4).nanos()),
            Some((CoarseTime(3), vec![id(2)]))
        );
        assert_eq!(buckets.pop_due(CoarseTime(4).nanos()), None);
        assert_eq!(
            buckets.pop_due(CoarseTime(5).nanos()),
            Some((CoarseTime(5), vec![id(1), id(3)]))
        );
        assert_eq!(buckets.next_due(), u64::MAX);
    }
}
