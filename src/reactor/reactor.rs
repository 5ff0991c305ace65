//! What callbacks get as `reactor`, and the two types that it is one knot with: [`Cx`], which lends
//! it to a callback, and [`Handler`], which the loop calls.
//!
//! Here is the data. The methods stand in files by what they are for: `listen`, `connect`, `messages`,
//! `topics`, `schedule`, `remote`, `drain`, `signals`, and `role` for what roles ask. None of them calls
//! user code: sends, closes, publications, subscriptions and ticks are queued or applied to plain
//! data, and the turn carries them out; so callbacks never nest.

use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use crate::pubsub::{Topics, WireFormats};

use super::budget::Budget;
use super::close::{Close, CloseCause, Deadline};
use super::config::Config;
use super::connection::Connection;
use super::connection::table::{FastMessages, Heartbeat, Table};
use super::handler_keys::HandlerKeys;
use super::id::ConnId;
use super::mailbox::Mailbox;
use super::panics::drop_all_guarded;
use super::sequence::Sequence;
use super::shutdown::Shutdown;
use super::time::clock::Clock;
use super::time::timers::Timers;
use super::transport::connect::Race;
use super::transport::lookup::Lookups;
use super::transport::memory::Net;

/// What a callback without a connection gets: your state, and everything it may ask for.
///
/// The fields are disjoint, so that looping over your state while sending compiles.
pub struct Cx<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// Everything a callback may ask for.
    pub reactor: &'a mut Reactor<S>,
}

/// What the role says of input that the fast path delivered.
pub struct Received {
    pub(crate) consumed_bytes: usize,
    pub(crate) heartbeat: Heartbeat,
}

impl Received {
    /// Everything is consumed, and the heartbeat stays.
    pub(crate) fn all(length: usize) -> Received {
        Received {
            consumed_bytes: length,
            heartbeat: Heartbeat::Unchanged,
        }
    }
}

/// A role, as the loop sees it: one object per listener or client, beside the connections.
///
/// The loop calls these one at a time; nothing that they ask of [`Reactor`] calls back.
pub trait Handler<S> {
    /// What log lines call it for a connection, such as `http 127.0.0.1:8080 GET /chat`. Made when
    /// something is logged, and not before.
    fn name(&self, connection: Option<&Connection>) -> String;

    /// A connection was accepted or made.
    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// Bytes came. Returns how many were consumed; the rest is presented again, in front of what
    /// comes next. Must consume something when `input` is as large as the read buffer.
    fn receive(&mut self, cx: &mut Cx<'_, S>, id: ConnId, input: &mut [u8]) -> usize;

    /// As [`receive`](Self::receive), on the fast path: `messages` says which WebSocket it is.
    #[inline]
    fn receive_fast(
        &mut self,
        cx: &mut Cx<'_, S>,
        messages: FastMessages,
        input: &mut [u8],
    ) -> Received {
        Received {
            consumed_bytes: self.receive(cx, messages.id, input),
            heartbeat: Heartbeat::Unchanged,
        }
    }

    /// The peer will send no more. What came before has been consumed, or never will be.
    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// The queue fell below the low watermark after having been above the high one.
    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// The deadline it set has passed.
    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline);

    /// The connection has failed; [`closed`](Self::closed) follows, also when this panics.
    fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        let _ = (cx, id, cause);
    }

    /// The connection is done; the last call for it.
    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close);

    /// Whether the object serves one connection only and goes with it.
    fn is_single(&self) -> bool {
        false
    }
}

type Once<S> = Box<dyn FnOnce(&mut Cx<'_, S>)>;
pub(super) type OnClose<S> = Box<dyn FnOnce(&mut Cx<'_, S>, &Close)>;

/// A closure of another thread, with where it was handed over.
pub(super) struct Arrival<S> {
    pub(super) handed_over_at: &'static Location<'static>,
    pub(super) call: Box<dyn FnOnce(&mut Cx<'_, S>) + Send>,
}

/// A closure for the next turn, with where it was queued.
pub(super) struct QueuedTick<S> {
    pub(super) queued_at: &'static Location<'static>,
    pub(super) call: Once<S>,
}

/// A timer of the application, with where it was set.
pub(super) struct Timer<S> {
    pub(super) set_at: &'static Location<'static>,
    pub(super) call: TimerCall<S>,
}

pub(super) enum TimerCall<S> {
    Once(Once<S>),
    Periodic {
        period_nanos: u64,
        call: Box<dyn FnMut(&mut Cx<'_, S>)>,
    },
    /// Its callback is being called.
    Running,
}

/// Everything a callback may ask for: listen, connect, send, publish, subscribe, timers, ticks.
///
/// The methods come in four groups: *listen* ([`http`](Self::http), [`websocket`](Self::websocket),
/// [`stream`](Self::stream)), *connect* ([`connect_websocket`](Self::connect_websocket),
/// [`connect_stream`](Self::connect_stream)), *send and publish* ([`send`](Self::send),
/// [`close`](Self::close), [`publish`](Self::publish), [`subscribe`](Self::subscribe)), and *time*
/// ([`after`](Self::after), [`every`](Self::every), [`next_tick`](Self::next_tick),
/// [`remote`](Self::remote), [`stop`](Self::stop)).
pub struct Reactor<S> {
    pub(super) config: Config,
    pub(super) table: Table,
    pub(super) topics: Topics,
    pub(super) timers: Timers<Timer<S>>,
    pub(super) ticks: VecDeque<QueuedTick<S>>,
    pub(super) mailbox: Arc<Mailbox<Arrival<S>>>,
    /// What came from other threads and waits for its turn.
    pub(super) arrivals: VecDeque<Arrival<S>>,
    pub(super) clock: Clock,
    /// `None` where the kernel is the real one.
    pub(super) net: Option<Rc<Net>>,
    pub(super) races: HashMap<ConnId, Race>,
    pub(super) lookups: Lookups,
    pub(super) new_handlers: Vec<(u32, Box<dyn Handler<S>>)>,
    pub(super) handler_keys: HandlerKeys,
    pub(super) on_close: HashMap<ConnId, Vec<OnClose<S>>>,
    pub(super) is_stopped: bool,
    pub(super) shutdown: Option<Shutdown>,
    /// What is being called, for the log lines about slow callbacks and panics.
    pub(super) callback: &'static str,
    pub(super) budget: Budget,
    pub(super) slow_callback_nanos: u64,
    /// Buffers of large WebSocket messages, for the next ones.
    pub(super) spare: crate::protocol::websocket::Spare,
    pub(super) wire_formats: WireFormats,
    pub(super) sequence: Sequence,
    /// Tells this publication from the one before, with each member that it was queued to.
    pub(super) publication_mark: u64,
    pub(super) hasher: RandomState,
    #[cfg(all(unix, feature = "signals"))]
    pub(super) signals: Option<super::signals::Signals>,
}

/// What a reactor is made of beside its configuration.
pub(super) struct Parts<S> {
    pub(super) table: Table,
    pub(super) mailbox: Mailbox<Arrival<S>>,
    pub(super) clock: Clock,
    pub(super) net: Option<Rc<Net>>,
    /// Which run the ids of publications belong to.
    pub(super) epoch: u64,
}

impl<S: 'static> Reactor<S> {
    pub(super) fn new(config: Config, parts: Parts<S>) -> Reactor<S> {
        Reactor {
            table: parts.table,
            topics: Topics::new(),
            timers: Timers::new(),
            ticks: VecDeque::new(),
            mailbox: Arc::new(parts.mailbox),
            arrivals: VecDeque::new(),
            clock: parts.clock,
            net: parts.net,
            races: HashMap::new(),
            lookups: Lookups::default(),
            new_handlers: Vec::new(),
            handler_keys: HandlerKeys::default(),
            on_close: HashMap::new(),
            is_stopped: false,
            shutdown: None,
            callback: "",
            budget: Budget::new(config.read_time_budget),
            slow_callback_nanos: super::time::clock::nanos(config.slow_callback),
            spare: crate::protocol::websocket::Spare::new(),
            wire_formats: WireFormats::new(),
            sequence: Sequence::new(parts.epoch),
            publication_mark: 0,
            hasher: RandomState::new(),
            #[cfg(all(unix, feature = "signals"))]
            signals: None,
            config,
        }
    }

    /// What the loop has counted.
    pub fn stats(&self) -> &super::stats::Stats {
        self.table.stats()
    }

    /// The limits in force.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl<S> Drop for Reactor<S> {
    // However the reactor ends, threads that still hold a `Remote` are told. What was not run is
    // dropped one by one, since dropping what the application captured may panic.
    fn drop(&mut self) {
        let arrivals = "a closure of another thread that was not run";
        drop_all_guarded(&arrivals, self.mailbox.close());
        drop_all_guarded(&arrivals, self.arrivals.drain(..));
        drop_all_guarded(&"a tick that was not run", self.ticks.drain(..));
        drop_all_guarded(&"a handler", self.new_handlers.drain(..));
        for (_, calls) in self.on_close.drain() {
            drop_all_guarded(&"an on_close that was not called", calls);
        }
        drop_all_guarded(&"a timer", self.timers.drain());
    }
}
