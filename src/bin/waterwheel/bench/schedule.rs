//! When the messages of an open loop are due, whatever the server makes of the earlier ones.

use std::time::Duration;

/// A wait of the system is in whole milliseconds; what is due sooner is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_and_are_not_left_out() {
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
