//! How many events a client may send to others.

use std::time::Duration;

/// The events that a connection may send in a second, and at once after a rest.
const EVENTS_PER_SECOND: u32 = 10;

/// How many events a connection has sent lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventRate {
    /// When the connection may send as many at once as ever.
    rested_at: Duration,
}

impl EventRate {
    /// Counts an event, unless there were too many.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        let interval = Duration::from_secs(1) / EVENTS_PER_SECOND;
        let rested_at = self.rested_at.max(now) + interval;
        let is_allowed = rested_at <= now + interval * EVENTS_PER_SECOND;
        if is_allowed {
            self.rested_at = rested_at;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_events_a_second_and_ten_at_once() {
        let mut rate = EventRate::default();
        let at = |millis| Duration::from_millis(millis);
        let allowed = (0..20).filter(|_| rate.allows(at(5000))).count();
        assert_eq!(allowed, 10);
        assert!(!rate.allows(at(5099)));
        assert!(rate.allows(at(5100)));
        assert!(!rate.allows(at(5100)));
        let allowed = (0..20).filter(|_| rate.allows(at(60_000))).count();
        assert_eq!(allowed, 10);
    }
}
