//! Time for the application: timers, ticks, and the end of the loop.

use std::panic::Location;
use std::time::Duration;

use super::outcome::{EveryOutcome, Outcome};
use super::reactor::{Cx, QueuedTick, Reactor, Timer, TimerCall};
use super::time::clock::nanos;
use super::time::timers::TimerId;

/// # Time
impl<S: 'static> Reactor<S> {
    /// Time since the start of the reactor, as of the last reading of the clock: after the poll or
    /// after the previous callback.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.table.now())
    }

    /// Reads the clock, for a time that must also count what the turn has taken so far. Costs more
    /// than [`now`](Self::now).
    pub(crate) fn clock_now(&self) -> Duration {
        Duration::from_nanos(self.clock.now())
    }

    /// Calls `call` when the loop has ended: by [`stop`](Self::stop), at the end of a [`drain`](Self::drain), by an error
    /// of the poll, or when it is dropped. Every connection has had its `on_close` by then. Messages and closures that
    /// `call` queues are dropped. Several calls run in no particular order; one that is given during the end is not
    /// called.
    ///
    /// ```
    /// use waterwheel::{Config, EventLoop};
    ///
    /// let mut event_loop = EventLoop::new(Config::default(), Vec::new())?;
    /// event_loop.reactor().on_end(|cx| cx.state.push("saved"));
    /// event_loop.reactor().stop();
    /// assert_eq!(event_loop.into_state(), ["saved"]);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn on_end<R: Outcome>(&mut self, call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static) {
        self.at_end(move |cx| {
            let outcome = call(cx);
            cx.reactor.note_outcome(outcome);
        });
    }

    /// Has `call` called when the loop has ended, after the last `on_close`, and returns the key with which it can be
    /// forgotten. For roles whose callbacks belong to no connection.
    pub(crate) fn at_end(&mut self, call: impl FnOnce(&mut Cx<'_, S>) + 'static) -> usize {
        self.at_end.insert(Box::new(call))
    }

    /// Forgets a call at the end. It must not have been called.
    pub(crate) fn forget_at_end(&mut self, key: usize) {
        drop(self.at_end.try_remove(key));
    }

    /// Whether the calls at the end have begun: callbacks that are ordered from now on are never called.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Seconds since 1970. Read once at the start and counted by the same clock as
    /// [`now`](Self::now), so that a change of the system's time does not show here.
    pub fn unix_time(&self) -> u64 {
        self.table.unix_time()
    }

    /// Seconds since 1970, as the system says now, in a simulation as [`unix_time`](Self::unix_time).
    #[allow(dead_code, reason = "roles need it, and not every build has one")]
    pub(crate) fn system_unix_time(&self) -> u64 {
        self.table.system_unix_time()
    }

    /// Calls `call` once after `delay`, and returns the id with which it can be cancelled.
    ///
    /// Timers fire in the order of their moments, up to a millisecond late because the kernel's
    /// poll counts in milliseconds. A busy loop fires them later. No timer fires early.
    #[track_caller]
    pub fn after<R: Outcome>(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static,
    ) -> TimerId {
        let due = self.due_in(delay);
        self.timers.insert(
            due,
            Timer {
                set_at: Location::caller(),
                call: TimerCall::Once(Box::new(move |cx| {
                    let outcome = call(cx);
                    cx.reactor.note_outcome(outcome);
                })),
            },
        )
    }

    /// Calls `call` every `period`, the first time after one period, and returns the id with which
    /// it can be cancelled.
    ///
    /// The moments do not drift. When the loop is late by whole periods, those are left out. A
    /// panic in `call`, or an error that it returns, does not end the timer. A period of zero counts
    /// as one nanosecond.
    ///
    /// A callback ends its own timer by [`ControlFlow::Break`](std::ops::ControlFlow::Break):
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # use std::time::Duration;
    /// # let mut sim = waterwheel::Sim::new(0, |_| {});
    /// sim.reactor().every(Duration::from_secs(1), |cx| {
    ///     *cx.state += 1;
    ///     match *cx.state {
    ///         3 => ControlFlow::Break(()),
    ///         _ => ControlFlow::Continue(()),
    ///     }
    /// });
    /// sim.advance(Duration::from_secs(10));
    /// assert_eq!(*sim.state(), 3);
    /// ```
    #[track_caller]
    pub fn every<R: EveryOutcome>(
        &mut self,
        period: Duration,
        mut call: impl FnMut(&mut Cx<'_, S>) -> R + 'static,
    ) -> TimerId {
        let due = self.due_in(period);
        let period_nanos = nanos(period).max(1);
        self.timers.insert(
            due,
            Timer {
                set_at: Location::caller(),
                call: TimerCall::Periodic {
                    period_nanos,
                    call: Box::new(move |cx| {
                        let (outcome, goes_on) = call(cx).into_parts();
                        cx.reactor.note_outcome(outcome);
                        goes_on
                    }),
                },
            },
        )
    }

    fn due_in(&self, delay: Duration) -> u64 {
        // From the clock and not from `now`: the callback that asks may have run for a while.
        self.clock.now().saturating_add(nanos(delay))
    }

    /// Cancels a timer and drops its closure. Returns `false` when it has fired or was cancelled
    /// before.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer).is_some()
    }

    /// Calls `call` in the next turn, before the poll. Ticks run in the order in which they were
    /// queued.
    #[track_caller]
    pub fn next_tick<R: Outcome>(&mut self, call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static) {
        self.ticks.push_back(QueuedTick {
            queued_at: Location::caller(),
            call: Box::new(move |cx| {
                let outcome = call(cx);
                cx.reactor.note_outcome(outcome);
            }),
        });
    }

    /// Ends the loop after this callback. Every connection ends without a goodbye and gets its
    /// `on_close`. Other input that has come is not delivered, and connecting is refused from here
    /// on. For a polite end see [`drain`](Self::drain).
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.table.leave_fast_path_of_all();
    }
}
