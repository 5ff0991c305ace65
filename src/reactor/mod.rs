//! The loop: the only floor that waits.
//!
//! One turn, in this order:
//!
//! ```text
//! arrivals (other threads) > ticks > timers and deadlines > flush > poll > dispatch > flush > closings
//! ```
//!
//! Each step works off lists that the others filled; a callback only ever adds to them. Sends go
//! to queues, which are flushed before and after the poll, save for a connection's own replies: those
//! leave together at the end of its event, with one system call.
//!
//! Everything a turn may do is bounded (bytes read per connection, accepts, ticks), and what is
//! left over goes on a list, so that the next poll does not wait and nobody starves.

pub(crate) mod close;
pub(crate) mod config;
pub(crate) mod connection;
mod drain;
pub(crate) mod handler;
pub(crate) mod id;
#[expect(
    clippy::module_inception,
    reason = "the noun of the file is what callbacks get"
)]
pub(crate) mod reactor;
mod readiness;
pub(crate) mod remote;
#[cfg(all(unix, feature = "signals"))]
mod signals;
pub(crate) mod sim;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod transport;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token, Waker};

use crate::reactor::close::{CloseCause, Deadline};
use crate::reactor::config::Config;
use crate::reactor::connection::table::{FLUSH_NANOS_MAX, Table};
use crate::reactor::connection::{Flags, NO_HANDLER};
use crate::reactor::handler::{Cx, Handler};
use crate::reactor::id::ConnId;
use crate::reactor::reactor::{Reactor, Timer};
use crate::reactor::remote::Mailbox;
use crate::reactor::time::clock::Clock;
use crate::reactor::transport::memory::Readiness;

const WAKER: Token = Token(usize::MAX);
#[cfg(all(unix, feature = "signals"))]
const SIGNALS: Token = Token(usize::MAX - 1);

/// Readiness reports taken from the kernel at once.
const EVENTS: usize = 1024;

/// How deep ends that lead to others are followed in one turn.
const CLOSING_ROUNDS: usize = 16;

/// What a setup may return: nothing, or a result whose error ends `run` before it begins.
pub trait SetupResult {
    /// The error, where there is one.
    fn into_result(self) -> io::Result<()>;
}

impl SetupResult for () {
    fn into_result(self) -> io::Result<()> {
        Ok(())
    }
}

impl<T> SetupResult for io::Result<T> {
    fn into_result(self) -> io::Result<()> {
        self.map(drop)
    }
}

/// The whole machine: your state, the handlers, the read buffer and the loop.
///
/// Callbacks get its inner part as `reactor`: see [`Reactor`]. Most programs call [`Reactor::run`] and
/// never name this type; it is for programs that have a loop of their own.
pub struct EventLoop<S> {
    state: S,
    reactor: Reactor<S>,
    handlers: Vec<Option<Box<dyn Handler<S>>>>,
    input: Box<[u8]>,
    poll: Option<Poll>,
    /// Away while they are handed out.
    events: Option<Events>,
}

impl<S: 'static> Reactor<S> {
    /// Runs an event loop with the default [`Config`] until it is stopped, and returns your state.
    ///
    /// # Errors
    ///
    /// What `setup` returns, before anything runs; later only when the kernel's poll fails.
    pub fn run<R: SetupResult>(
        state: S,
        setup: impl FnOnce(&mut Reactor<S>) -> R,
    ) -> io::Result<S> {
        Self::run_with(Config::default(), state, setup)
    }

    /// As [`run`](Self::run), with limits of your own.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_with<R: SetupResult>(
        config: Config,
        state: S,
        setup: impl FnOnce(&mut Reactor<S>) -> R,
    ) -> io::Result<S> {
        let mut event_loop = EventLoop::new(config, state)?;
        setup(&mut event_loop.reactor).into_result()?;
        let mut goes_on = event_loop.turn(None)?;
        while goes_on {
            goes_on = event_loop.go_round(None)?;
        }
        Ok(event_loop.into_state())
    }
}

impl<S: 'static> EventLoop<S> {
    /// An event loop that runs a turn each time somebody calls [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// When the kernel gives no poll.
    pub fn new(config: Config, state: S) -> io::Result<EventLoop<S>> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let table = Table::new(config, Some(registry), started.as_secs());
        // Ids of an earlier run are not mistaken for ours.
        let epoch = started.as_micros() as u64;
        let reactor = Reactor::new(
            table,
            Mailbox::new(Some(waker)),
            Clock::system(),
            None,
            epoch,
        );
        Ok(Self::assemble(state, reactor, Some(poll)))
    }

    fn assemble(state: S, reactor: Reactor<S>, poll: Option<Poll>) -> EventLoop<S> {
        let input =
            vec![0; reactor.table.config.read_buffer_bytes.max(64 * 1024)].into_boxed_slice();
        EventLoop {
            state,
            reactor,
            handlers: Vec::new(),
            input,
            poll,
            events: Some(Events::with_capacity(EVENTS)),
        }
    }

    /// Your state.
    pub fn state(&mut self) -> &mut S {
        &mut self.state
    }

    /// What callbacks get as `reactor`: to set up, and between turns.
    pub fn reactor(&mut self) -> &mut Reactor<S> {
        &mut self.reactor
    }

    /// Your state and the reactor at once.
    pub fn parts(&mut self) -> (&mut S, &mut Reactor<S>) {
        (&mut self.state, &mut self.reactor)
    }

    /// Ends the reactor and returns your state. Connections are closed without goodbyes.
    pub fn into_state(self) -> S {
        self.state
    }

    /// How long a poll may wait: `None` for ever, zero while there is something to do. For loops
    /// that wait for several things.
    pub fn next_wakeup(&self) -> Option<Duration> {
        self.wait_from(self.reactor.clock.now())
    }

    fn wait_from(&self, now: u64) -> Option<Duration> {
        let reactor = &self.reactor;
        let table = &reactor.table;
        let busy = reactor.stopped
            || !reactor.ticks.is_empty()
            || !reactor.arrivals.is_empty()
            || reactor.mailbox.has_arrivals()
            || !table.dirty.is_empty()
            || !table.still_ready.is_empty()
            || !table.drained.is_empty()
            || !table.closings.is_empty()
            || reactor.is_drained()
            || reactor.net.as_ref().is_some_and(|net| !net.is_quiet());
        if busy {
            return Some(Duration::ZERO);
        }
        match reactor.timers.next_due().min(table.deadlines.next_due()) {
            u64::MAX => None,
            due => Some(Duration::from_nanos(due.saturating_sub(now))),
        }
    }

    /// One round of the loop, waiting at most `timeout` for readiness. `false` when the reactor
    /// was stopped or has drained.
    ///
    /// # Errors
    ///
    /// When the kernel's poll fails, other than by an interrupted call.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        self.reactor.table.now = self.reactor.clock.now();
        self.go_round(timeout)
    }

    // As `turn`, where no time has passed since the end of the last one. The clock is read after
    // the poll and after each callback, and nowhere else: on a small message it would be the
    // largest cost.
    fn go_round(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let began = self.reactor.table.now;
        self.run_arrivals();
        self.run_ticks();
        self.run_timers();
        self.run_deadlines();
        self.flush();
        if self.reactor.stopped || self.reactor.is_drained() {
            self.end_all();
            return Ok(false);
        }
        let before_poll = self.reactor.table.now;
        if before_poll != began {
            self.reactor.table.stats.lag.record(before_poll - began);
        }
        let wait = match (self.wait_from(before_poll), timeout) {
            (wakeup, None) => wakeup,
            (Some(wakeup), Some(timeout)) => Some(wakeup.min(timeout)),
            (None, timeout) => timeout,
        };
        self.reactor.table.give_back_memory();
        self.poll_sources(wait)?;
        let woke = self.reactor.clock.now();
        self.reactor.table.now = woke;
        self.reactor.table.woke = woke;
        self.dispatch();
        self.reactor.table.flush_nanos = 0;
        self.flush();
        if !self.reactor.table.drained.is_empty() {
            self.run_drained();
        }
        self.run_closings();
        self.reactor.table.free_vacated();
        self.reactor
            .table
            .stats
            .lag
            .record(self.reactor.table.now - woke);
        if self.reactor.stopped {
            self.end_all();
        }
        Ok(!self.reactor.stopped)
    }

    /// The loop ends: `on_close` is owed to everybody who is still there.
    fn end_all(&mut self) {
        let reason = match self.reactor.is_draining() {
            true => CloseCause::Drained,
            false => CloseCause::Local,
        };
        self.reactor.table.end_all(reason);
        // Nobody can connect any more, so that this has an end.
        while !self.reactor.table.closings.is_empty() {
            self.run_closings();
        }
    }

    // ── the steps of a turn ──────────────────────────────────────────────────────────────────

    fn flush(&mut self) {
        if !self.reactor.table.dirty.is_empty() {
            let before = self.reactor.table.now;
            self.reactor.table.flush_dirty();
            let now = self.reactor.clock.now();
            self.reactor.table.now = now;
            let flush_nanos = self.reactor.table.flush_nanos + (now - before);
            self.reactor.table.flush_nanos = flush_nanos.min(FLUSH_NANOS_MAX);
        }
    }

    fn run_arrivals(&mut self) {
        if self.reactor.mailbox.has_arrivals() {
            self.reactor.arrivals.extend(self.reactor.mailbox.take());
        }
        for _ in 0..self
            .reactor
            .arrivals
            .len()
            .min(self.reactor.table.config.ticks_per_turn)
        {
            let Some(arrival) = self.reactor.arrivals.pop_front() else {
                return;
            };
            self.call("arrival", arrival);
            if self.reactor.stopped {
                return;
            }
        }
    }

    fn run_ticks(&mut self) {
        // Those that are queued meanwhile wait for the next turn, so a tick that queues itself for
        // ever starves nobody.
        for _ in 0..self
            .reactor
            .ticks
            .len()
            .min(self.reactor.table.config.ticks_per_turn)
        {
            let Some(tick) = self.reactor.ticks.pop_front() else {
                return;
            };
            self.call("tick", tick);
            if self.reactor.stopped {
                return;
            }
        }
    }

    fn run_timers(&mut self) {
        let now = self.reactor.table.now;
        if now < self.reactor.timers.next_due() {
            return;
        }
        // A timer that is set meanwhile waits for the next turn, also when it is due at once.
        let mark = self.reactor.timers.mark();
        loop {
            let Some((id, due)) = self.reactor.timers.peek_due(now, mark) else {
                return;
            };
            let Some(timer) = self.reactor.timers.get_mut(id) else {
                return;
            };
            match std::mem::replace(timer, Timer::Running) {
                Timer::Once(callback) => {
                    self.reactor.timers.cancel(id);
                    self.call("timer", callback);
                }
                Timer::Periodic { period, mut call } => {
                    let late = now.saturating_sub(due) / period;
                    let behind = (late + 1).saturating_mul(period);
                    self.reactor
                        .timers
                        .reschedule(id, due.saturating_add(behind));
                    self.call("timer", |cx| call(cx));
                    // It may have cancelled itself.
                    if let Some(timer) = self.reactor.timers.get_mut(id) {
                        *timer = Timer::Periodic { period, call };
                    }
                }
                Timer::Running => return,
            }
            if self.reactor.stopped {
                return;
            }
        }
    }

    fn run_deadlines(&mut self) {
        while let Some((tick, ids)) = self.reactor.table.deadlines.pop_due(self.reactor.table.now) {
            for id in ids {
                if self.reactor.stopped {
                    return;
                }
                match self.reactor.table.due(id, tick) {
                    None => {}
                    Some(deadline @ (Deadline::Write | Deadline::Close | Deadline::Connect)) => {
                        self.reactor.table.abort(id, CloseCause::TimedOut(deadline))
                    }
                    Some(deadline) => {
                        self.handle(id, "due", |handler, cx| handler.due(cx, id, deadline))
                    }
                }
            }
        }
    }

    fn poll_sources(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let Some(poll) = &mut self.poll else {
            return Ok(());
        };
        let events = self
            .events
            .get_or_insert_with(|| Events::with_capacity(EVENTS));
        match poll.poll(events, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn dispatch(&mut self) {
        let again = if self.reactor.table.still_ready.is_empty() {
            Vec::new()
        } else {
            std::mem::take(&mut self.reactor.table.still_ready)
        };
        let Some(events) = self.events.take() else {
            return;
        };
        for event in &events {
            if self.reactor.stopped {
                break;
            }
            match event.token() {
                WAKER => {}
                #[cfg(all(unix, feature = "signals"))]
                SIGNALS => self.reactor.take_signals(),
                Token(index) => {
                    let readiness = Readiness {
                        readable: event.is_readable(),
                        writable: event.is_writable(),
                        read_closed: event.is_read_closed() || event.is_error(),
                    };
                    self.ready(index, readiness);
                }
            }
        }
        self.events = Some(events);
        // In a simulation, what happens meanwhile is for the next turn, as with the kernel.
        let reports = self.reactor.net.as_ref().map_or(0, |net| net.len());
        for _ in 0..reports {
            if self.reactor.stopped {
                break;
            }
            if let Some((index, readiness)) = self.reactor.net.as_ref().and_then(|net| net.pop()) {
                self.ready(index, readiness);
            }
        }
        for index in again {
            if self.reactor.stopped {
                break;
            }
            self.ready_again(index);
        }
    }

    fn run_drained(&mut self) {
        let drained = std::mem::take(&mut self.reactor.table.drained);
        for id in drained {
            if self.reactor.stopped {
                return;
            }
            if self
                .reactor
                .table
                .open_mut(id)
                .is_some_and(|connection| connection.flags.take(Flags::DRAINED))
            {
                self.handle(id, "on_drain", |handler, cx| handler.drained(cx, id));
            }
        }
    }

    fn run_closings(&mut self) {
        // A callback may end others; they get theirs in the same turn. Not without end: who
        // connects again at once, in vain, does not hold the loop.
        for _ in 0..CLOSING_ROUNDS {
            if self.reactor.table.closings.is_empty() {
                return;
            }
            for id in std::mem::take(&mut self.reactor.table.closings) {
                self.finish(id);
            }
        }
    }

    fn finish(&mut self, id: ConnId) {
        let Some(connection) = self.reactor.table.connection_mut(id) else {
            return;
        };
        let Some(close) = connection.close.take() else {
            return;
        };
        let key = connection.handler;
        let mut subscriptions = connection.subscriptions;
        self.reactor
            .topics
            .leave_all(id.to_bits(), &mut subscriptions);
        if let Some(connection) = self.reactor.table.connection_mut(id) {
            connection.subscriptions = subscriptions;
        }
        if log::log_enabled!(log::Level::Debug) {
            let (peer, close) = (self.reactor.peer(id), close.without_reason());
            log::debug!("conn {id} {peer}: ended: {close}");
        }
        self.handle_owed(id, "on_close", |handler, cx| handler.closed(cx, id, &close));
        for call in self.reactor.on_close.remove(&id).unwrap_or_default() {
            self.call_owed("on_close", |cx| call(cx, &close));
        }
        self.reactor.end_race(id, u32::MAX);
        if key != NO_HANDLER
            && self
                .handlers
                .get(key as usize)
                .is_some_and(|handler| handler.as_ref().is_some_and(|handler| handler.is_single()))
        {
            self.handlers[key as usize] = None;
            self.reactor.free_handler(key);
        }
        self.reactor.table.stats.closed += 1;
        self.reactor.table.settle(id);
    }

    // ── calling out ──────────────────────────────────────────────────────────────────────────

    /// Calls the handler of a connection, unless a callback has stopped the loop.
    fn handle(
        &mut self,
        id: ConnId,
        event: &'static str,
        call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
    ) {
        if !self.reactor.stopped {
            self.handle_owed(id, event, call);
        }
    }

    /// As [`handle`](Self::handle), whatever has happened: `on_close` is owed.
    fn handle_owed(
        &mut self,
        id: ConnId,
        event: &'static str,
        call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
    ) {
        let Some(connection) = self.reactor.table.connection(id) else {
            return;
        };
        let key = connection.handler;
        Self::handle_with(
            &mut self.handlers,
            &mut self.reactor,
            &mut self.state,
            (id, key),
            event,
            call,
        );
    }

    /// Calls the handler of a connection; a panic ends the connection and nothing else.
    #[inline(always)]
    fn handle_with(
        handlers: &mut Vec<Option<Box<dyn Handler<S>>>>,
        reactor: &mut Reactor<S>,
        state: &mut S,
        (id, key): (ConnId, u32),
        event: &'static str,
        call: impl FnOnce(&mut dyn Handler<S>, &mut Cx<'_, S>),
    ) {
        if !reactor.new_handlers.is_empty() {
            adopt_handlers(handlers, reactor);
        }
        let Some(Some(handler)) = handlers.get_mut(key as usize) else {
            return;
        };
        reactor.callback = event;
        let before = reactor.table.now;
        let outcome = {
            let mut cx = Cx {
                state,
                reactor: reactor,
            };
            catch_unwind(AssertUnwindSafe(|| call(handler.as_mut(), &mut cx)))
        };
        // By value: nothing is left to be dropped on the way that all take.
        if let Err(_panic) = outcome {
            reactor.table.stats.panics += 1;
            log::error!(
                "conn {id} {}: {}: {} panicked",
                reactor.peer(id),
                handler.name(reactor.table.connection(id)),
                reactor.callback
            );
            reactor.table.fail(id, CloseCause::Panicked);
        }
        if let Some(took) = reactor.slow_since(before) {
            reactor.note_slow(took, &handler.name(reactor.table.connection(id)));
        }
    }

    /// Calls a closure that belongs to no connection, unless a callback has stopped the loop.
    fn call(&mut self, event: &'static str, call: impl FnOnce(&mut Cx<'_, S>)) {
        if !self.reactor.stopped {
            self.call_owed(event, call);
        }
    }

    /// As [`call`](Self::call), whatever has happened.
    fn call_owed(&mut self, event: &'static str, call: impl FnOnce(&mut Cx<'_, S>)) {
        let reactor = &mut self.reactor;
        reactor.callback = event;
        let before = reactor.table.now;
        let mut cx = Cx {
            state: &mut self.state,
            reactor: reactor,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut cx)));
        if outcome.is_err() {
            self.reactor.table.stats.panics += 1;
            log::error!("a {event} panicked");
        }
        if let Some(took) = self.reactor.slow_since(before) {
            self.reactor.note_slow(took, "reactor");
        }
    }
}

fn adopt_handlers<S>(handlers: &mut Vec<Option<Box<dyn Handler<S>>>>, reactor: &mut Reactor<S>) {
    for (key, handler) in reactor.new_handlers.drain(..) {
        let key = key as usize;
        if handlers.len() <= key {
            handlers.resize_with(key + 1, || None);
        }
        handlers[key] = Some(handler);
    }
}

impl<S: 'static> Reactor<S> {
    /// The time passes on; how much since `before`, where it is more than a callback may take.
    #[inline]
    fn slow_since(&mut self, before: u64) -> Option<Duration> {
        let now = self.clock.now();
        self.table.now = now;
        let took = now - before;
        (self.table.slow_callback_nanos < took).then(|| Duration::from_nanos(took))
    }

    #[cold]
    fn note_slow(&mut self, took: Duration, name: &str) {
        self.table.stats.slow_callbacks += 1;
        log::warn!("{name}: {} took {took:?}", self.callback);
    }
}

#[cfg(unix)]
impl<S> std::os::fd::AsRawFd for EventLoop<S> {
    /// The descriptor that becomes readable when there is something to do; with
    /// [`next_wakeup`](EventLoop::next_wakeup) this is all that another loop needs.
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.poll
            .as_ref()
            .map_or(-1, std::os::fd::AsRawFd::as_raw_fd)
    }
}

#[cfg(unix)]
impl<S> std::os::fd::AsFd for EventLoop<S> {
    /// As [`as_raw_fd`](std::os::fd::AsRawFd::as_raw_fd), for loops that want to know that the descriptor stays open, such as
    /// tokio's `AsyncFd`.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let poll = self.poll.as_ref();
        poll.expect("only a simulation has no poll, and it hands out no event loop")
            .registry()
            .as_fd()
    }
}
