//! The share of a turn that the handshakes of transports may have.
//!
//! The signature of one TLS handshake takes up to a millisecond. A thousand clients that come back
//! at once would otherwise use the whole time of each dispatch, and those who are connected would
//! wait behind them. A handshake for which there is no time waits on the ready list. In the next
//! turn it comes before those that the poll reports then, or newcomers would keep it waiting until
//! its deadline.

/// The time of handshakes in one turn.
pub(super) struct Handshakes {
    limit_nanos: u64,
    timeout_nanos: u64,
    spent_nanos: u64,
    /// When the step that goes on began.
    began: Option<u64>,
}

impl Handshakes {
    /// `timeout_nanos`: the time that a peer has for a handshake.
    pub(super) fn new(limit_nanos: u64, timeout_nanos: u64) -> Handshakes {
        Handshakes {
            limit_nanos,
            timeout_nanos,
            spent_nanos: 0,
            began: None,
        }
    }

    pub(super) fn begin_turn(&mut self) {
        self.spent_nanos = 0;
    }

    /// The time that a peer has for a handshake, in nanoseconds.
    pub(super) fn timeout_nanos(&self) -> u64 {
        self.timeout_nanos
    }

    pub(super) fn has_time(&self) -> bool {
        self.spent_nanos < self.limit_nanos
    }

    /// Begins a step at `now`, if there is time left in this turn.
    pub(super) fn begin_step(&mut self, now: u64) -> bool {
        let has_time = self.has_time();
        if has_time {
            self.began = Some(now);
        }
        has_time
    }

    /// Ends the step that goes on at `now`.
    pub(super) fn end_step(&mut self, now: u64) {
        if let Some(began) = self.began.take() {
            self.spent_nanos += now.saturating_sub(began);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_time_for_a_step_until_the_limit_is_used() {
        let mut handshakes = Handshakes::new(10, 0);
        for (now, has_time) in [(0, true), (9, true), (18, false), (20, false)] {
            assert_eq!(handshakes.begin_step(now), has_time, "at {now}");
            handshakes.end_step(now + 9);
        }
        handshakes.begin_turn();
        assert!(handshakes.begin_step(30));
    }
}
