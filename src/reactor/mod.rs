//! The event loop: the only floor that waits.
//!
//! One turn, in this order (`turn.rs`):
//!
//! ```text
//!  arrivals    closures of other threads             call.rs guards and times each call
//!  ticks       closures queued by next_tick
//!  timers      of the application
//!  accepted    requests that waited for a decision
//!  awaited     answers to requests that waited for publications
//!  flush       messages that the steps above queued
//!              (a loop that was stopped above, or has drained, ends here)
//!  memory      that a burst took and no longer needs
//!  poll        waits for readiness, or until something is due
//!  dispatch    signals; accept, read, deliver (readiness.rs); an event's own replies are written
//!              when the event ends
//!  deadlines   of connections that have passed although everything that had come is handled
//!  awaited     as above
//!  flush       messages that were queued for other connections
//!  low marks   on_drain of queues that have come below their low watermark
//!  ended       on_close of connections that have ended, then lingering or removal
//!  handlers    of closed listeners are dropped after their last connection
//!  vacated     indexes of removed sources may be taken again
//! ```
//!
//! Each step empties lists that other steps filled; a callback only adds to a list. Everything that
//! a turn may do is bounded (bytes read from a connection, accepts, ticks). The rest goes on a
//! list, and the next poll does not wait. So no connection keeps the others waiting for long.
//!
//! The files, from the bottom up; each imports only from lines above its own:
//!
//! ```text
//!  outcome                                     what callbacks may return
//!  id tls_error close close_counts config stats burst mailbox
//!                                              plain data
//!  panics handler_keys signals log_limit pool
//!  pattern_filter observers                    members by pattern of private topics; callbacks of topics
//!  memory addresses                            accounts of clients
//!  time                                        the clock, timers, coarse deadlines
//!  child                                       child processes and their ends
//!  budget  shutdown  transport  protocol       limits that need the clock; sockets; meaning of bytes
//!  connection                                  one connection, and the table of all of them
//!  published present place sequence pipes datagrams
//!  reactor                                     the data that callbacks and roles work on
//!  listen connect topics observe awaiting notices history presence posts schedule remote defer process
//!  drain role admission start_tls udp                    the methods of the reactor
//!  handlers                                    the objects that the loop calls
//!  mod                                         the EventLoop
//!  call                                        calls of user code
//!  readiness  turn                             the loop's steps
//!  sim                                         the loop without a kernel
//! ```
//!
//! The way of one echo stands in `connection/fast_path.rs`, of one publication in `topics.rs`, of
//! one end in `connection/end.rs`.

// The methods of `Reactor`, in the order in which its documentation shows them.

pub(crate) mod topics;

mod awaiting;
mod heard;
mod history;
mod notices;
mod observe;
mod pipe;
mod place;
mod pool;
mod posts;
mod presence;
mod schedule;

pub(crate) mod defer;
mod files;
pub(crate) mod remote;

pub(crate) mod process;

mod listen;

pub(crate) mod udp;

mod drain;

mod admission;

#[cfg(feature = "tls")]
pub(crate) mod start_tls;

#[expect(
    clippy::module_inception,
    reason = "the file is named after what callbacks get"
)]
pub(crate) mod reactor;

pub(crate) mod addresses;
mod budget;
mod burst;
mod call;
pub(crate) mod child;
pub(crate) mod close;
pub(crate) mod close_counts;
pub(crate) mod config;
mod connect;
pub(crate) mod connection;
pub(crate) mod datagrams;
pub(crate) mod file_work;
mod handler_keys;
mod handlers;
pub(crate) mod id;
pub(crate) mod log_limit;
mod mailbox;
mod memory;
pub(crate) mod observers;
pub(crate) mod outcome;
mod panics;
mod parked;
pub(crate) mod pattern_filter;
mod pipes;
mod present;
pub(crate) mod protocol;
pub(crate) mod published;
mod readiness;
mod role;
mod sequence;
mod shutdown;
#[cfg(all(unix, feature = "signals"))]
mod signals;
pub(crate) mod sim;
pub(crate) mod stats;
pub(crate) mod time;
pub(crate) mod tls_error;
pub(crate) mod transport;
mod turn;
#[cfg(unix)]
pub(crate) mod watch;
pub(crate) mod watched;
mod workers;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token, Waker};

use self::config::Config;
use self::connection::table::Table;
use self::handlers::Handlers;
use self::mailbox::Mailbox;
use self::reactor::{Arrival, Parts, Reactor};
use self::time::clock::Clock;

/// The token of the waker, by which another thread ends the wait of the poll.
const WAKER: Token = Token(usize::MAX);

/// How many reports one poll takes from the kernel at most. With more sources ready than this, the
/// next poll returns the others at once.
const EVENTS: usize = 1024;

/// Why the parts of an event loop are always there.
const IS_RUNNING: &str = "only `into_state` takes the parts, and it takes the event loop too";

/// Keeps [`SetupResult`] to the types of this file.
mod sealed {
    pub trait Setup {}
    impl Setup for () {}
    impl<T, E> Setup for Result<T, E> {}
}

/// The return type of a setup closure: `()`, or a `Result` with any error, also a `Box<dyn Error>`.
/// The error ends `run` before the loop starts; within a setup of `http`, `websocket` or `stream`
/// it is the error of that call.
///
/// `?` in a closure leaves the type of the error open: the last expression gives it, such as a call
/// of `reactor.http(..)`, or `std::io::Result::Ok(())`.
pub trait SetupResult: sealed::Setup {
    /// Returns the error of the setup, if it has one.
    ///
    /// # Errors
    ///
    /// The error that the setup returned.
    fn into_result(self) -> io::Result<()>;
}

impl SetupResult for () {
    fn into_result(self) -> io::Result<()> {
        Ok(())
    }
}

impl<T, E: Into<Box<dyn Error>>> SetupResult for Result<T, E> {
    fn into_result(self) -> io::Result<()> {
        match self {
            Ok(_) => Ok(()),
            Err(error) => Err(io_error_of(error.into())),
        }
    }
}

/// The error of a setup as the error of the kernel that it may be, or with its text and those of
/// its sources.
fn io_error_of(error: Box<dyn Error>) -> io::Error {
    let error = match error.downcast::<io::Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    io::Error::other(text)
}

/// Owns everything that runs on one thread: your state, the [`Reactor`], the callbacks, the read
/// buffer and the kernel's poll.
///
/// Callbacks get the inner part of it as `reactor`: see [`Reactor`]. Most programs call
/// [`Reactor::run`] and never name this type. A program that has a loop of its own waits for the
/// file descriptor of this one (or for [`next_wakeup`](EventLoop::next_wakeup)), and then calls
/// [`turn`](EventLoop::turn).
///
/// The end of its life is the end of its connections, as with [`Reactor::stop`]: when it is dropped
/// or taken apart by [`into_state`](Self::into_state), each gets its `on_close`.
pub struct EventLoop<S: 'static> {
    /// `None` when [`into_state`](Self::into_state) has taken it.
    running: Option<Running<S>>,
}

/// The parts of an event loop. The steps of a turn are methods of this, and not of [`EventLoop`],
/// whose `Drop` would not let the state out.
struct Running<S> {
    state: S,
    reactor: Reactor<S>,
    /// The mailbox of the reactor that belongs here. A callback gets the reactor by `&mut` and can
    /// swap it with that of another loop: see [`assert_own_reactor`](Self::assert_own_reactor).
    mailbox: Arc<Mailbox<Arrival<S>>>,
    handlers: Handlers<S>,
    /// The one read buffer. All connections share it, because only one is read at a time.
    input: Box<[u8]>,
    /// `None` in a simulation.
    poll: Option<Poll>,
    events: Events,
}

impl<S: 'static> Reactor<S> {
    /// Runs an event loop with the default [`Config`] until it is stopped or has drained, and
    /// returns your state.
    ///
    /// `setup` runs once before the first turn: it listens, connects and sets timers. A setup that
    /// needs the state, such as one that connects to each of a list in it, queues a
    /// [tick](Self::next_tick), which runs before the first poll:
    ///
    /// ```
    /// # use waterwheel::Reactor;
    /// let upstreams = vec!["127.0.0.1:9".to_owned()];
    /// Reactor::run(upstreams, |reactor| {
    ///     reactor.next_tick(|cx| {
    ///         for address in cx.state.iter() {
    ///             cx.reactor.connect_stream(address.as_str(), |stream| {
    ///                 stream.on_close(|stream, _| stream.reactor.stop());
    ///             })?;
    ///         }
    ///         std::io::Result::Ok(())
    ///     });
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of `setup`; an error of the kernel when it gives no poll, or when the poll fails
    /// later for another reason than an interrupted call.
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
    /// As [`run`](Self::run), and [`ConfigError`](crate::ConfigError) when
    /// [`Config::checked`] refuses a value.
    pub fn run_with<R: SetupResult>(
        config: Config,
        state: S,
        setup: impl FnOnce(&mut Reactor<S>) -> R,
    ) -> io::Result<S> {
        let mut event_loop = EventLoop::new(config, state)?;
        setup(event_loop.reactor()).into_result()?;
        // The setup may have taken a while, so the first turn reads the clock. Each later turn
        // starts where the one before it has read the clock.
        let mut goes_on = event_loop.turn(None)?;
        while goes_on {
            goes_on = event_loop.running_mut().run_turn(None)?;
        }
        let lag = &event_loop.reactor().stats().lag;
        log::info!(
            "stopped after {} turns: 99 % of them were busy for at most {:.1} ms, the longest for {:.1} ms",
            lag.count(),
            1e3 * lag.quantile(0.99).as_secs_f64(),
            1e3 * lag.max().as_secs_f64(),
        );
        Ok(event_loop.into_state())
    }
}

impl<S: 'static> EventLoop<S> {
    /// Returns an event loop that runs one turn for each call of [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// [`ConfigError`](crate::ConfigError), as an error of kind
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), when [`Config::checked`] refuses a value; the
    /// kernel's error when it gives no poll.
    pub fn new(config: Config, state: S) -> io::Result<EventLoop<S>> {
        let config = config.checked()?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let table = Table::new(&config, Some(registry), started.as_secs());
        // Event ids carry the epoch, so that a client that comes back after a restart does not
        // mistake an id of the earlier run for one of this run.
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
            running: Some(Running {
                state,
                mailbox: Arc::clone(&reactor.mailbox),
                reactor,
                handlers: Handlers::new(),
                input,
                poll,
                events: Events::with_capacity(EVENTS),
            }),
        }
    }

    fn running(&self) -> &Running<S> {
        self.running.as_ref().expect(IS_RUNNING)
    }

    fn running_mut(&mut self) -> &mut Running<S> {
        self.running.as_mut().expect(IS_RUNNING)
    }

    /// Your state.
    pub fn state(&mut self) -> &mut S {
        &mut self.running_mut().state
    }

    /// The reactor that callbacks get as `reactor`: to set up, and for calls between turns.
    pub fn reactor(&mut self) -> &mut Reactor<S> {
        &mut self.running_mut().reactor
    }

    /// Your state and the reactor at once.
    pub fn parts(&mut self) -> (&mut S, &mut Reactor<S>) {
        let running = self.running_mut();
        (&mut running.state, &mut running.reactor)
    }

    /// Ends the loop and returns your state. Connections are closed as by [`Reactor::stop`]: queued
    /// messages are offered to the kernel, there is no goodbye, and `on_close` is called for each.
    pub fn into_state(mut self) -> S {
        let mut running = self.running.take().expect(IS_RUNNING);
        running.end();
        running.state
    }

    /// Returns how long a poll may wait from now on: `None` for ever, zero while there is something
    /// to do. For loops that wait for several things.
    pub fn next_wakeup(&self) -> Option<Duration> {
        let running = self.running();
        running.wait_from(running.reactor.clock.now())
    }

    /// Runs one turn of the loop and returns whether to go on: `false` when the reactor was stopped
    /// or has drained.
    ///
    /// Waits at most `timeout` for readiness; `None` waits until something is due, or for ever.
    ///
    /// # Errors
    ///
    /// The kernel's error when its poll fails, other than by an interrupted call.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let running = self.running_mut();
        running.reactor.read_clock();
        running.run_turn(timeout)
    }
}

impl<S: 'static> Drop for EventLoop<S> {
    // Each call of `on_close` has a guard of its own, so a panic in one does not leave this, also
    // when the thread is panicking already.
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            running.end();
        }
    }
}

#[cfg(unix)]
impl<S: 'static> std::os::fd::AsRawFd for EventLoop<S> {
    /// The file descriptor of the poll (epoll or kqueue), which becomes readable when a source is
    /// ready. Deadlines do not make it readable: see [`next_wakeup`](EventLoop::next_wakeup).
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        let poll = self.running().poll.as_ref();
        poll.map_or(-1, std::os::fd::AsRawFd::as_raw_fd)
    }
}

#[cfg(unix)]
impl<S: 'static> std::os::fd::AsFd for EventLoop<S> {
    /// As [`as_raw_fd`](std::os::fd::AsRawFd::as_raw_fd), with a borrow that keeps the descriptor
    /// open, as tokio's `AsyncFd` wants.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let poll = self.running().poll.as_ref();
        poll.expect("only a simulation has no poll, and `Sim` keeps its event loop private")
            .registry()
            .as_fd()
    }
}
