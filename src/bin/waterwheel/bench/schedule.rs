//! When the next message or connection is due: messages of an open loop, which do not wait for
//! replies, and connections of which only so many may be started per second.

use std::time::Duration;

/// Shorter waits are spent in the loop: the system sleeps in whole milliseconds.
const SLEEP_MIN: Duration = Duration::from_millis(2);

/// A delay up to this, in nanoseconds, is made up for at once.
const SLACK_NANOS: u64 = 20_000_000;

/// Messages at an even rate from a moment on.
#[derive(Debug)]
pub struct Schedule {
    rate: f64,
    begun_at: u64,
    next: u64,
    /// The longest time between when a message was due and when it was sent, in nanoseconds.
    pub late_max: u64,
    /// Messages that were due before this do not count for it.
    measured_from: u64,
}

/// How to wait until the next is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    InLoop,
    Sleep(Duration),
}

impl Schedule {
    pub fn new(rate: f64) -> Schedule {
        Schedule {
            rate,
            begun_at: 0,
            next: 0,
            late_max: 0,
            measured_from: 0,
        }
    }

    /// Forgets how late earlier messages were, also those that are due before `now` and not sent yet.
    pub fn measure_from(&mut self, now: u64) {
        self.late_max = 0;
        self.measured_from = now;
    }

    pub fn begin(&mut self, now: u64) {
        self.begun_at = now;
    }

    /// When the message of this index is due, in nanoseconds.
    #[inline]
    pub fn due(&self, index: u64) -> u64 {
        self.begun_at + (index as f64 * 1e9 / self.rate) as u64
    }

    /// The index and the time of the next message, if it is due.
    #[inline]
    pub fn take(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.due(self.next);
        if now < due {
            return None;
        }
        if self.measured_from <= due {
            self.late_max = self.late_max.max(now - due);
        }
        self.next += 1;
        Some((self.next - 1, due))
    }

    pub fn wait(&self, now: u64) -> Wait {
        let wait = Duration::from_nanos(self.due(self.next).saturating_sub(now));
        match wait.checked_sub(SLEEP_MIN) {
            Some(wait) => Wait::Sleep(wait),
            None => Wait::InLoop,
        }
    }
}

/// At most so many per second, evenly.
///
/// Delays of a late timer are made up for, so that the rate is kept. Longer delays are not, so that
/// no flood follows a stall: in any time there are at most as many as the rate allows in that time
/// plus 20 ms, and one.
#[derive(Debug)]
pub struct Pace {
    rate: f64,
    /// The time from which `taken` counts, in nanoseconds. Set when the first is taken.
    since: Option<u64>,
    taken: u64,
}

impl Pace {
    pub fn new(rate: f64) -> Pace {
        Pace {
            rate,
            since: None,
            taken: 0,
        }
    }

    /// Takes the next if it is due. Returns whether it was.
    pub fn take(&mut self, now: u64) -> bool {
        let due = self.due(now);
        if now < due {
            return false;
        }
        if SLACK_NANOS < now - due {
            self.since = Some(now - SLACK_NANOS);
            self.taken = 0;
        }
        self.since.get_or_insert(now);
        self.taken += 1;
        true
    }

    /// How long until the next is due.
    pub fn wait(&self, now: u64) -> Duration {
        Duration::from_nanos(self.due(now).saturating_sub(now))
    }

    fn due(&self, now: u64) -> u64 {
        self.since.unwrap_or(now) + (self.taken as f64 * 1e9 / self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// How many are taken at a time.
    fn taken(pace: &mut Pace, now: u64) -> usize {
        std::iter::from_fn(|| pace.take(now).then_some(())).count()
    }

    #[test]
    fn late_timers_keep_the_exact_pace() {
        let mut pace = Pace::new(300.0);
        let (begun, mut now, mut count) = (7 * MILLI, 7 * MILLI, 0);
        assert_eq!(taken(&mut pace, now), 1);
        while now < begun + 1000 * MILLI {
            // Each wakes up to 12 ms after the next is due.
            now += pace.wait(now).as_nanos() as u64 + count * 5 % 13 * MILLI;
            now = now.min(begun + 1000 * MILLI);
            count += taken(&mut pace, now) as u64;
        }
        assert_eq!(count, 300);
        assert!(!pace.take(now));
        assert!(Duration::from_millis(3) < pace.wait(now));
    }

    #[test]
    fn a_stall_is_not_followed_by_a_burst() {
        let mut pace = Pace::new(1000.0);
        assert_eq!(taken(&mut pace, 0), 1);
        assert_eq!(taken(&mut pace, 20 * MILLI), 20);
        // Twenty that are due in 20 ms, and the one that is due now.
        assert_eq!(taken(&mut pace, 60_000 * MILLI), 21);
        assert_eq!(pace.wait(60_000 * MILLI), Duration::from_millis(1));
        assert_eq!(taken(&mut pace, 60_001 * MILLI), 1);
    }

    #[test]
    fn a_slow_pace_allows_one_message_after_any_pause() {
        let mut pace = Pace::new(0.5);
        for now in [0, 2000, 5000, 60_000] {
            assert_eq!(taken(&mut pace, now * MILLI), 1, "{now}");
        }
        assert_eq!(pace.wait(60_000 * MILLI), Duration::from_millis(1980));
    }

    #[test]
    fn messages_are_due_evenly_and_none_is_skipped() {
        let mut schedule = Schedule::new(100.0);
        schedule.begin(1_000_000);
        assert_eq!(schedule.take(1_000_000), Some((0, 1_000_000)));
        assert_eq!(schedule.take(1_000_001), None);
        assert_eq!(
            schedule.wait(1_000_000),
            Wait::Sleep(Duration::from_millis(8))
        );
        assert_eq!(schedule.wait(9_500_000), Wait::InLoop);
        // Two are late: all are sent, with the times at which they were due.
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(31_000_000)).collect();
        assert_eq!(due, [(1, 11_000_000), (2, 21_000_000), (3, 31_000_000)]);
        assert_eq!(schedule.late_max, 20_000_000);
        // The fifth was due in the warm-up, the sixth while measuring.
        schedule.measure_from(45_000_000);
        assert_eq!(schedule.take(55_000_000), Some((4, 41_000_000)));
        assert_eq!(schedule.late_max, 0);
        assert_eq!(schedule.take(55_000_000), Some((5, 51_000_000)));
        assert_eq!(schedule.late_max, 4_000_000);
    }
}
