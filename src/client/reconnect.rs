//! The pauses between attempts to connect: a random part of a limit that doubles (full jitter).
//!
//! Pure: the caller keeps the time. Clients that a server has lost together draw different pauses, so they do not
//! come back together, and the load of those that fail is spread over the whole limit.
//!
//! Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::io;
use std::time::Duration;

/// The shortest base that is accepted. A shorter one would let a client try as fast as it can.
const BASE_MIN: Duration = Duration::from_millis(1);

/// The pauses of a client that connects again: how long they are, how many there are, and when they begin again.
///
/// The pause before attempt *n*, counted from 1, is a random part of `base` times 2^(*n*-1), or of `max` where that
/// is less. The count begins again after a connection that was open for `stable_after`. A server that accepts and
/// ends each connection at once is so not connected to at full speed.
///
/// ```
/// use std::time::Duration;
///
/// use waterwheel::Backoff;
///
/// let backoff = Backoff {
///     attempts_max: Some(10),
///     ..Backoff::default()
/// };
/// assert_eq!(backoff.base, Duration::from_millis(500));
/// assert_eq!(backoff.max, Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The limit of the first pause, at least one millisecond. 500 ms by default.
    pub base: Duration,
    /// The limit of later pauses, at least `base`. 30 s by default.
    pub max: Duration,
    /// The attempts in a row after which the client gives up. `None`, the default, for no limit.
    pub attempts_max: Option<u32>,
    /// How long a connection must have been open so that the next pause is a short one again, more than zero. 10 s by
    /// default.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            base: Duration::from_millis(500),
            max: Duration::from_secs(30),
            attempts_max: None,
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// Returns these values if they are possible together.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, when `base` is below one millisecond or above `max`, and when `stable_after` is zero.
    pub(crate) fn checked(self) -> io::Result<Backoff> {
        let error = if self.base < BASE_MIN {
            "the base of a backoff must be at least 1 ms"
        } else if self.max < self.base {
            "the maximum of a backoff must not be below its base"
        } else if self.stable_after.is_zero() {
            // Each attempt that fails would count as a connection that lasted, and the pauses would not grow.
            "the stable_after of a backoff must be more than zero"
        } else {
            return Ok(self);
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}

/// The attempts of one client.
pub(crate) struct Pauses {
    backoff: Backoff,
    /// Those that were made since the last connection that lasted.
    attempts: u32,
    random: u64,
}

impl Pauses {
    /// `random` is any number.
    pub(crate) fn new(backoff: Backoff, random: u64) -> Pauses {
        Pauses {
            backoff,
            attempts: 0,
            random: random | 1,
        }
    }

    /// Notes that a connection has ended that was open for so long: after one that lasted, the pauses begin again.
    pub(crate) fn note_connection(&mut self, lasted: Duration) {
        if self.backoff.stable_after <= lasted {
            self.begin_again();
        }
    }

    /// Begins again with the shortest pause.
    pub(crate) fn begin_again(&mut self) {
        self.attempts = 0;
    }

    /// The pause before the next attempt; `None` when there were as many attempts as there may be.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        self.next_within(self.backoff.max)
    }

    /// As [`next`](Self::next), with another maximum for this pause.
    pub(crate) fn next_within(&mut self, max: Duration) -> Option<Duration> {
        let attempts_max = self.backoff.attempts_max;
        if attempts_max.is_some_and(|attempts_max| attempts_max <= self.attempts) {
            return None;
        }
        let doubled = self
            .backoff
            .base
            .saturating_mul(1_u32 << self.attempts.min(31));
        self.attempts = self.attempts.saturating_add(1);
        Some(doubled.min(max).mul_f64(self.next_random()))
    }

    /// As [`next`](Self::next), after a time that the server has asked for. Of that time as much is kept as `max`
    /// allows. The random part comes on top of it: the server has asked many clients for the same time.
    pub(crate) fn next_after(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let asked = asked.unwrap_or_default().min(self.backoff.max);
        self.next().map(|pause| asked.saturating_add(pause))
    }

    /// The attempts since the last connection that lasted.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// A number from 0 to 1.
    fn next_random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn impossible_values_are_refused() {
        let with = |base, max| Backoff {
            base: MILLIS(base),
            max: MILLIS(max),
            ..Backoff::default()
        };
        let cases = [
            (with(1, 1), true),
            (with(1, 10), true),
            (with(0, 10), false),
            (with(11, 10), false),
        ];
        let never_stable = Backoff {
            stable_after: Duration::ZERO,
            ..Backoff::default()
        };
        for (backoff, is_possible) in cases.into_iter().chain([(never_stable, false)]) {
            assert_eq!(backoff.checked().is_ok(), is_possible, "{backoff:?}");
        }
    }

    #[test]
    fn pauses_are_random_parts_of_a_limit_that_doubles() {
        let backoff = Backoff {
            base: MILLIS(100),
            max: MILLIS(1000),
            ..Backoff::default()
        };
        let limits = [100, 200, 400, 800, 1000, 1000];
        let mut sums = [Duration::ZERO; 6];
        for seed in 1..=1000_u64 {
            let mut pauses = Pauses::new(backoff, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for (sum, limit) in sums.iter_mut().zip(limits) {
                let pause = pauses.next().unwrap();
                assert!(pause <= MILLIS(limit), "{pause:?} of {limit}");
                *sum += pause;
            }
        }
        for (sum, limit) in sums.iter().zip(limits) {
            let (mean, half) = (*sum / 1000, MILLIS(limit) / 2);
            assert!(half.abs_diff(mean) < half / 10, "{mean:?} of {limit}");
        }
    }

    #[test]
    fn attempts_have_a_limit_and_begin_again_after_a_connection_that_lasted() {
        let backoff = Backoff {
            attempts_max: Some(2),
            stable_after: MILLIS(1000),
            ..Backoff::default()
        };
        let mut pauses = Pauses::new(backoff, 7);
        assert!(pauses.next().is_some() && pauses.next().is_some());
        assert_eq!(pauses.next(), None);
        pauses.note_connection(MILLIS(999));
        assert_eq!(pauses.next(), None);
        pauses.note_connection(MILLIS(1000));
        assert!(pauses.next().is_some_and(|pause| pause <= backoff.base));
        assert_eq!(pauses.attempts(), 1);
    }

    #[test]
    fn a_time_that_the_server_asks_for_is_kept_up_to_the_maximum() {
        let backoff = Backoff {
            base: MILLIS(10),
            max: MILLIS(1000),
            ..Backoff::default()
        };
        for (asked, at_least, at_most) in [(0, 0, 10), (200, 200, 210), (5000, 1000, 1010)] {
            let mut pauses = Pauses::new(backoff, 7);
            let pause = pauses.next_after(Some(MILLIS(asked))).unwrap();
            assert!(
                MILLIS(at_least) <= pause && pause <= MILLIS(at_most),
                "{asked}: {pause:?}"
            );
        }
    }

    #[test]
    fn many_attempts_do_not_overflow() {
        let backoff = Backoff {
            base: Duration::MAX,
            max: Duration::MAX,
            ..Backoff::default()
        };
        let mut pauses = Pauses::new(backoff, 7);
        for _ in 0..100 {
            assert!(pauses.next_after(Some(Duration::MAX)).is_some());
        }
    }
}
