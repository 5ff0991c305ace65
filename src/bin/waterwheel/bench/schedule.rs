//! When the next may go: messages of an open loop, whatever the server makes of the earlier ones,
//! and connections of which only so many a second may be begun.

use std::time::Duration;

/// A wait of the system is in whole milliseconds; what is due sooner is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

/// What is late by no more than this, in nanoseconds, is made up for at once.
const SLACK_NANOS: u64 = 20_000_000;

/// So many a second from a moment on, evenly.
#[derive(Debug)]
pub struct Schedule {
    rate: f64,
    begun_at: u64,
    next: u64,
    /// How long after it was due a message was handed over at the worst, in nanoseconds.
    pub late_max: u64,
}

/// What to do until the next is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    Awake,
    Asleep(Duration),
}

impl Schedule {
    pub fn new(rate: f64) -> Schedule {
        Schedule {
            rate,
            begun_at: 0,
            next: 0,
            late_max: 0,
        }
    }

    pub fn begin(&mut self, now: u64) {
        self.begun_at = now;
    }

    /// When the message of this index is due, in nanoseconds.
    #[inline]
    pub fn due(&self, index: u64) -> u64 {
        self.begun_at + (index as f64 * 1e9 / self.rate) as u64
    }

    /// The next message that is due, with its time.
    #[inline]
    pub fn take(&mut self, now: u64) -> Option<(u64, u64)> {
        let due = self.due(self.next);
        if now < due {
            return None;
        }
        self.late_max = self.late_max.max(now - due);
        self.next += 1;
        Some((self.next - 1, due))
    }

    pub fn wait(&self, now: u64) -> Wait {
        let wait = Duration::from_nanos(self.due(self.next).saturating_sub(now));
        match wait.checked_sub(AWAKE) {
            Some(wait) => Wait::Asleep(wait),
            None => Wait::Awake,
        }
    }
}

/// So many a second at the most, evenly.
///
/// What a late timer kept back is made up for, so that the rate is kept. What a stall kept back is
/// left out, so that no flood follows it: in any time there are at most as many as the rate allows
/// in that time and 20 ms, and one.
#[derive(Debug)]
pub struct Pace {
    rate: f64,
    /// Those that were taken since then are counted; the first sets it.
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

    /// Takes the next, when it is due. Whether it was.
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
        // What is due in 20 ms, and the one that is due now.
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
            Wait::Asleep(Duration::from_millis(8))
        );
        assert_eq!(schedule.wait(9_500_000), Wait::Awake);
        // Late by two: all are sent, and count from when they were due.
        let due: Vec<_> = std::iter::from_fn(|| schedule.take(31_000_000)).collect();
        assert_eq!(due, [(1, 11_000_000), (2, 21_000_000), (3, 31_000_000)]);
        assert_eq!(schedule.late_max, 20_000_000);
    }
}
