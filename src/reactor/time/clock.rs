//! The clock: the kernel's monotonic clock, or that of a simulation.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::http;

/// The moment at which the clock of a simulation stops, in nanoseconds: after four years. Deadlines
/// count coarse time in 32 bits; with this limit the moment and the longest timeout can be added
/// without an overflow.
pub(crate) const SIM_NANOS_MAX: u64 = 4 * 365 * 24 * 3600 * 1_000_000_000;

/// Returns a duration in nanoseconds, at most 584 years. `Duration::as_nanos` counts in 128 bits,
/// which costs more.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

/// Counts nanoseconds since the start of the reactor.
pub(crate) enum Clock {
    /// The kernel's monotonic clock, with its value at the start.
    System(Start),
    /// A simulation's.
    Invented(SimClock),
}

/// The clock of a simulation. It stands still between calls of [`advance`](SimClock::advance) or of
/// [`Sim::advance`](crate::Sim::advance). Clones show the same time.
///
/// With a clone a callback of a test can let time pass while it runs, as a slow callback does:
///
/// ```
/// use std::time::Duration;
/// use waterwheel::Sim;
///
/// let mut sim = Sim::new((), |_| ());
/// let clock = sim.clock();
/// let listening = sim.reactor().websocket("0.0.0.0:80", move |ws| {
///     ws.on_message(move |ws, message| {
///         clock.advance(Duration::from_millis(200));
///         ws.send(message)
///     });
/// });
/// assert!(listening.is_ok());
/// let client = sim.websocket("/");
/// client.send("slow");
/// sim.settle();
/// assert_eq!(sim.reactor().stats().slow_callbacks, 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimClock(Rc<Cell<u64>>);

impl SimClock {
    /// Returns the time since the start of the simulation.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.0.get())
    }

    /// Lets time pass in one step: timers and deadlines that become due run after the step. Outside
    /// of callbacks this is like a machine that was suspended;
    /// [`Sim::advance`](crate::Sim::advance) stops at each moment at which something is due.
    ///
    /// The clock stops after four years.
    pub fn advance(&self, time: Duration) {
        self.set(self.0.get().saturating_add(nanos(time)));
    }

    pub(crate) fn set(&self, now: u64) {
        self.0.set(now.min(SIM_NANOS_MAX));
    }
}

impl Clock {
    pub(crate) fn system() -> Clock {
        Clock::System(start())
    }

    /// A clock that stands still at this moment.
    #[cfg(test)]
    pub(crate) fn invented(now: Duration) -> Clock {
        let clock = SimClock::default();
        clock.advance(now);
        Clock::Invented(clock)
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Clock::System(start) => since(start),
            Clock::Invented(clock) => clock.0.get(),
        }
    }
}

/// The time of day, from the start of the reactor on.
pub(crate) struct WallClock {
    /// Seconds since 1970 at the start of the reactor.
    started_unix: u64,
    /// Asks the system for the seconds since 1970. `None` in a simulation.
    ask: Option<fn() -> u64>,
    /// The date in a second since the start of the reactor, formatted.
    date: (u64, [u8; 29]),
}

impl WallClock {
    /// A clock that began at this time and counts with the clock of the reactor.
    pub(crate) fn new(started_unix: u64) -> WallClock {
        WallClock {
            started_unix,
            ask: None,
            date: (u64::MAX, [0; 29]),
        }
    }

    /// As [`new`](Self::new), with a [`date`](Self::date) that follows the system: its time may be set, and
    /// the clock of the reactor stands still while the machine is suspended.
    pub(crate) fn asking(started_unix: u64, ask: fn() -> u64) -> WallClock {
        WallClock {
            ask: Some(ask),
            ..WallClock::new(started_unix)
        }
    }

    /// Seconds since 1970, `now` nanoseconds after the start.
    pub(crate) fn unix_time(&self, now: u64) -> u64 {
        self.started_unix + now / 1_000_000_000
    }

    /// Seconds since 1970, `now` nanoseconds after the start, as the system says: its time may be set, and the
    /// clock of the reactor stands still while the machine is suspended.
    pub(crate) fn system_unix_time(&self, now: u64) -> u64 {
        self.ask.map_or_else(|| self.unix_time(now), |ask| ask())
    }

    /// The date for response heads, formatted once a second. Source: RFC 9110, section 5.6.7.
    pub(crate) fn date(&mut self, now: u64) -> [u8; 29] {
        let second = now / 1_000_000_000;
        if self.date.0 != second {
            self.date.0 = second;
            let unix_time = self.system_unix_time(now);
            http::format_date(unix_time, &mut self.date.1);
        }
        self.date.1
    }
}

/// Seconds since 1970, as the system says.
pub(crate) fn system_unix_time() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.unwrap_or_default().as_secs()
}

#[cfg(unix)]
type Start = u64;

#[cfg(unix)]
fn start() -> Start {
    since(&0)
}

#[cfg(unix)]
#[inline]
fn since(start: &Start) -> u64 {
    use nix::time::{ClockId, clock_gettime};

    // POSIX knows no error for this clock.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
    });
    now.saturating_sub(*start)
}

#[cfg(not(unix))]
type Start = std::time::Instant;

#[cfg(not(unix))]
fn start() -> Start {
    std::time::Instant::now()
}

#[cfg(not(unix))]
fn since(start: &Start) -> u64 {
    nanos(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward_as_the_standard_one_does() {
        let clock = Clock::system();
        let outer = std::time::Instant::now();
        let before = clock.now();
        let inner = std::time::Instant::now();
        while inner.elapsed() < Duration::from_millis(1) {}
        let least = nanos(inner.elapsed());
        let passed = clock.now() - before;
        let most = nanos(outer.elapsed());
        assert!((least..=most).contains(&passed), "{least} {passed} {most}");
    }

    #[test]
    fn the_clock_of_a_simulation_advances_by_call_and_stops_before_an_overflow() {
        let clock = SimClock::default();
        let (same, shown) = (clock.clone(), Clock::Invented(clock.clone()));
        assert_eq!((same.now(), shown.now()), (Duration::ZERO, 0));
        clock.advance(Duration::from_nanos(7));
        assert_eq!((same.now(), shown.now()), (Duration::from_nanos(7), 7));
        clock.advance(Duration::MAX);
        clock.advance(Duration::MAX);
        assert_eq!(shown.now(), SIM_NANOS_MAX);
    }

    #[test]
    fn durations_are_counted_in_nanoseconds() {
        for (duration, expected) in [
            (Duration::ZERO, 0),
            (Duration::new(1, 5), 1_000_000_005),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(nanos(duration), expected);
        }
    }
}

#[cfg(test)]
mod date_tests {
    use super::*;

    thread_local! {
        static SYSTEM: Cell<u64> = const { Cell::new(784_111_777) };
    }

    // The system's time may be set, and a suspended machine has slept.
    #[test]
    fn the_date_is_asked_from_the_system_each_second() {
        let mut clock = WallClock::asking(0, || SYSTEM.get());
        let mut date = |now_millis: u64| {
            let date = clock.date(now_millis * 1_000_000);
            String::from_utf8(date.to_vec()).unwrap()
        };
        assert_eq!(date(100), "Sun, 06 Nov 1994 08:49:37 GMT");
        SYSTEM.set(784_111_777 + 3600);
        assert_eq!(date(999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(1000), "Sun, 06 Nov 1994 09:49:37 GMT");
        SYSTEM.set(784_111_777);
        assert_eq!(date(1999), "Sun, 06 Nov 1994 09:49:37 GMT");
        assert_eq!(date(5000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
