//! How many messages and control frames a WebSocket peer may send in a second.
//!
//! Messages are counted by a token bucket that holds one second's worth: after a rest a peer may send as many
//! at once, then one in each interval. Above that reading pauses until the next one is allowed; the bytes wait
//! in the kernel, so none is lost and the peer is slowed down. Control frames are counted by the second, and
//! too many of them end the connection: a peer that floods with pings has no use for an answer.
//!
//! The numbers take eight bytes of each connection, so time is counted in steps of 256 ns modulo 2^32, which is
//! 18 minutes.

use crate::reactor::config::ConnectionOptions;

/// One step of time is 2^8 ns.
const SHIFT: u32 = 8;

/// The bits of the number of control frames; the second has the others.
const COUNT_BITS: u32 = 20;

/// The limit of one set of options.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    /// The steps from one message to the next; 0 for no limit.
    interval: u32,
    /// The steps that a full bucket stands for.
    burst: u32,
    /// The limit, in messages a second.
    per_second: u32,
}

impl RateLimit {
    pub(super) fn new(options: &ConnectionOptions) -> RateLimit {
        let per_second = options.messages_per_second_max.unwrap_or(0);
        let second = 1_000_000_000 >> SHIFT;
        // Rounded up, so that rounding never allows more than the limit.
        let interval = match per_second {
            0 => 0,
            _ => u32::div_ceil(second, per_second),
        };
        RateLimit {
            interval,
            burst: interval * per_second,
            per_second,
        }
    }

    /// Whether there is a limit.
    #[inline]
    pub(super) fn is_some(self) -> bool {
        self.interval != 0
    }

    /// The limit, in messages a second; 0 for none.
    pub(super) fn per_second(self) -> u32 {
        self.per_second
    }
}

/// The messages and control frames that one connection has sent.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// The step at which the bucket is full. After a rest of 18 minutes it may seem to lie ahead: then the peer
    /// is paused once for a second at most.
    full_at: u32,
    /// The second of the last control frame, and the number of those in it.
    control_second: u32,
}

impl Rate {
    /// Counts a message at `now`, in nanoseconds. Returns the moment from which on the next one is allowed, if
    /// it is not allowed now.
    pub(super) fn count_message(&mut self, limit: RateLimit, now: u64) -> Option<u64> {
        if !limit.is_some() {
            return None;
        }
        let step = (now >> SHIFT) as u32;
        // How far the bucket is from full. A moment that is further ahead than a bucket may be has passed.
        let missing = match self.full_at.wrapping_sub(step) {
            ahead if ahead <= limit.burst => ahead,
            _ => 0,
        };
        // A message that came in the same read as one that emptied the bucket is delivered only if reading goes
        // on for another reason; the bucket is never below empty.
        let missing = (missing + limit.interval).min(limit.burst);
        self.full_at = step.wrapping_add(missing);
        let excess = (missing + limit.interval).saturating_sub(limit.burst);
        (excess != 0).then(|| now + (u64::from(excess) << SHIFT))
    }

    /// Counts a control frame at `now`, in nanoseconds. Returns whether it is allowed.
    pub(super) fn count_control(&mut self, limit: RateLimit, now: u64) -> bool {
        if !limit.is_some() {
            return true;
        }
        let second = ((now / 1_000_000_000) as u32) << COUNT_BITS;
        let count_mask = (1 << COUNT_BITS) - 1;
        let count = match self.control_second & !count_mask == second {
            true => self.control_second & count_mask,
            false => 0,
        };
        let count = (count + 1).min(count_mask);
        self.control_second = second | count;
        count <= limit.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(per_second: u32) -> RateLimit {
        RateLimit::new(&ConnectionOptions {
            messages_per_second_max: Some(per_second),
            ..ConnectionOptions::default()
        })
    }

    /// How many messages are allowed from `now` to `until`, by a peer that sends as soon as it may.
    fn allowed(rate: &mut Rate, limit: RateLimit, mut now: u64, until: u64) -> u32 {
        let mut count = 0;
        while now < until {
            count += 1;
            now = rate.count_message(limit, now).unwrap_or(now);
        }
        count
    }

    #[test]
    fn one_second_of_messages_at_once_and_then_the_rate() {
        for per_second in [1, 3, 500, 10_000, 100_000] {
            let limit = limit(per_second);
            let mut rate = Rate::default();
            let mut burst = 0;
            let next = loop {
                burst += 1;
                if let Some(next) = rate.count_message(limit, SECOND) {
                    break next;
                }
            };
            assert_eq!(burst, per_second);
            // As many in each second that follows.
            let count = allowed(&mut rate, limit, next, 11 * SECOND);
            let expected = 10 * per_second;
            assert!(
                count.abs_diff(expected) <= 2 + expected / 40,
                "{count} of {expected}"
            );
            // A rest fills the bucket, and no more than that.
            let count = allowed(&mut rate, limit, 100 * SECOND, 100 * SECOND + 1);
            assert_eq!(count, per_second);
        }
    }

    #[test]
    fn the_time_of_a_pause_is_the_interval() {
        let limit = limit(4);
        let mut rate = Rate::default();
        for _ in 0..3 {
            assert_eq!(rate.count_message(limit, SECOND), None);
        }
        let next = rate.count_message(limit, SECOND).unwrap();
        assert!(
            (250_000_000..251_000_000).contains(&(next - SECOND)),
            "{next}"
        );
    }

    #[test]
    fn control_frames_are_counted_by_the_second() {
        let limit = limit(2);
        let mut rate = Rate::default();
        for second in [0, 1, 5000] {
            let now = second * SECOND;
            assert_eq!(
                [(); 4].map(|()| rate.count_control(limit, now)),
                [true, true, false, false]
            );
        }
    }

    #[test]
    fn without_a_limit_everything_is_allowed() {
        let none = RateLimit::new(&ConnectionOptions::default());
        let mut rate = Rate::default();
        for _ in 0..1000 {
            assert_eq!(rate.count_message(none, 0), None);
            assert!(rate.count_control(none, 0));
        }
        assert!(!none.is_some());
    }
}
