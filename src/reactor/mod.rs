//! The event loop: the only floor that waits.
//!
//! One turn, in this order (`turn.rs`):
//!
//! ```text
//!  arrivals    closures of other threads                       call.rs guards and times each call
//!  ticks       closures queued by next_tick
//!  timers      of the application
//!  deadlines   of connections that have come up
//!  flush       what the steps above queued
//!  poll        waits for readiness, or until something is due
//!  dispatch    accept, read, deliver (readiness.rs); replies of each event leave with it
//!  flush       what was queued for other connections
//!  low marks   on_drain of queues that have come below their low watermark
//!  ended       on_close of what has ended, then lingering or removal
//!  vacated     indexes of removed sources may be taken again
//! ```
//!
//! Each step works off lists that the others filled; a callback only ever adds to them. Everything
//! that a turn may do is bounded (bytes read from a connection, accepts, ticks), and what is left over
//! goes on a list, so that the next poll does not wait and nothing starves.
//!
//! The files, from the bottom up; each imports only from those before it:
//!
//! ```text
//!  id close config stats burst budget mailbox panics shutdown      plain data
//!  time  transport  protocol                                       the clock; what carries bytes; what they mean
//!  connection                                                      one connection, the table of all of them
//!  reactor  listen connect messages topics schedule remote drain role    what callbacks and roles get
//!  handlers  mod (EventLoop)  call readiness turn                            the loop
//!  sim                                                             the loop without a kernel
//! ```

mod budget;
mod burst;
mod call;
pub(crate) mod close;
pub(crate) mod config;
mod connect;
pub(crate) mod connection;
mod drain;
mod handlers;
pub(crate) mod id;
mod listen;
mod mailbox;
mod messages;
mod panics;
pub(crate) mod protocol;
#[expect(
    clippy::module_inception,
    reason = "the file is named after what callbacks get"
)]
pub(crate) mod reactor;
mod readiness;
pub(crate) mod remote;
mod role;
mod schedule;
mod sequence;
mod shutdown;
#[cfg(all(unix, feature = "signals"))]
mod signals;
pub(crate) mod sim;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod topics;
pub(crate) mod transport;
mod turn;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token, Waker};

use self::config::Config;
use self::connection::table::Table;
use self::handlers::Handlers;
use self::mailbox::Mailbox;
use self::reactor::{Parts, Reactor};
use self::time::clock::Clock;

/// What the poll reports a bell by that another thread has rung.
const WAKER: Token = Token(usize::MAX);

/// Readiness reports taken from the kernel at once.
const EVENTS: usize = 1024;

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
    handlers: Handlers<S>,
    /// The one read buffer.
    input: Box<[u8]>,
    /// `None` in a simulation.
    poll: Option<Poll>,
    events: Events,
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
            goes_on = event_loop.run_turn(None)?;
        }
        Ok(event_loop.into_state())
    }
}

impl<S: 'static> EventLoop<S> {
    /// An event loop that runs a turn each time somebody calls [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// When a value of `config` cannot be, which the message names, or the kernel gives no poll.
    pub fn new(config: Config, state: S) -> io::Result<EventLoop<S>> {
        let config = config.checked()?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let table = Table::new(config.options.clone(), Some(registry), started.as_secs());
        // Ids of an earlier run are not mistaken for ours.
        let epoch = started.as_micros() as u64;
        let parts = Parts {
            table,
            mailbox: Mailbox::new(Some(waker)),
            clock: Clock::system(),
            net: None,
            epoch,
        };
        let reactor = Reactor::new(config, parts);
        Ok(Self::assemble(state, reactor, Some(poll)))
    }

    fn assemble(state: S, reactor: Reactor<S>, poll: Option<Poll>) -> EventLoop<S> {
        let input = vec![0; reactor.config.read_buffer_bytes].into_boxed_slice();
        EventLoop {
            state,
            reactor,
            handlers: Handlers::new(),
            input,
            poll,
            events: Events::with_capacity(EVENTS),
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

    /// One turn of the loop, waiting at most `timeout` for readiness. `false` when the reactor was
    /// stopped or has drained.
    ///
    /// # Errors
    ///
    /// When the kernel's poll fails, other than by an interrupted call.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let now = self.reactor.clock.now();
        self.reactor.table.set_now(now);
        self.run_turn(timeout)
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
