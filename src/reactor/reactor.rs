//! The reactor, which callbacks get as `reactor`, and the types that it cannot be separated from:
//! [`Cx`], which lends it to a callback, [`Handler`], which the loop calls, and [`Users`].
//!
//! Here are the data, and the methods for messages to one connection. The other methods stand in files by
//! their purpose: `listen`, `connect`, `topics`, `schedule`, `remote`, `drain`, `admission` for limits by
//! address, `readiness` for the budget of what is read, and `role` for the methods of roles. No method calls
//! a callback: sends, closes, publications, subscriptions and ticks are queued or applied to plain data, and
//! the turn carries them out. So callbacks never nest, and a callback may borrow its own state mutably
//! without a `RefCell`.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mio::Registry;

use crate::protocol::websocket::ToMessage;
use crate::pubsub::{Subscriptions, Topics, WireFormats};

use super::addresses::Addresses;
use super::budget::Budget;
use super::child::{Children, ProcessExit, ProcessId};
use super::close::{Close, CloseCause, Deadline, Sent};
use super::config::Config;
use super::connection::Connection;
use super::connection::awaiting::Awaited;
use super::connection::deadline::Heartbeat;
use super::connection::queue::DropRule;
use super::connection::reading::Pause;
use super::connection::ready::FastMessages;
use super::connection::table::Table;
use super::datagrams::Datagrams;
use super::file_work::FileWork;
use super::handler_keys::HandlerKeys;
use super::id::{ConnId, ConnMap};
use super::log_limit::{LogLimit, LogLimits};
use super::mailbox::Mailbox;
use super::observers::Observers;
use super::outcome::{CallbackError, Outcome};
use super::panics::{Panics, drop_all_guarded, guarded};
use super::parked::Parked;
use super::pattern_filter::PatternFilters;
use super::pipes::Pipes;
use super::place::Outcomes;
use super::present::PresentConnections;
use super::protocol::Protocol;
use super::published::Published;
use super::sequence::Sequence;
use super::shutdown::Shutdown;
use super::stats::{Gauges, Stats};
use super::time::clock::Clock;
use super::time::handled::Handled;
use super::time::timers::Timers;
use super::transport::connect::Race;
use super::transport::lookup::Lookups;
use super::transport::memory::{Net, Readiness};
use super::transport::socket::Peer;
#[cfg(feature = "tls")]
use super::transport::tls::scratch::Scratch;
use super::workers::{Purpose, Workers};
use crate::pubsub::{Event, EventId, MemberChange, Occupancy};

/// An owned message of this many bytes or more is not copied where its bytes go out unchanged.
const LARGE_MESSAGE_BYTES: usize = 64 * 1024;

/// The argument of a callback that belongs to no connection: your state and the reactor.
///
/// Two fields and not two methods, so that code may loop over the state while it sends.
#[non_exhaustive]
pub struct Cx<'a, S> {
    /// Your state.
    pub state: &'a mut S,
    /// The reactor: sockets, topics and time.
    pub reactor: &'a mut Reactor<S>,
}

impl<'a, S> Cx<'a, S> {
    /// Makes one of the fields of another argument, for a function that takes a `Cx`.
    pub fn new(state: &'a mut S, reactor: &'a mut Reactor<S>) -> Cx<'a, S> {
        Cx { state, reactor }
    }
}

/// A role's answer to input that the fast path delivered.
pub struct Received {
    pub(crate) consumed_bytes: usize,
    pub(crate) heartbeat: Heartbeat,
}

impl Received {
    /// All input is consumed, and the heartbeat stays as it is.
    pub(crate) fn all(length: usize) -> Received {
        Received {
            consumed_bytes: length,
            heartbeat: Heartbeat::Unchanged,
        }
    }
}

/// A role, as the loop sees it: one object for each listener or client, kept apart from the
/// connections, so that it can be called while the reactor is borrowed mutably.
///
/// The loop calls one method at a time, and no method of [`Reactor`] calls back.
pub trait Handler<S> {
    /// Its name in log lines about a connection, such as `http 127.0.0.1:8080 GET /chat`. Formatted
    /// only when a line is logged.
    fn name(&self, connection: Option<&Connection>) -> String;

    /// A connection was accepted or made.
    fn open(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// A connection was accepted that is not opened, because its address has too many. Ends it. A protocol that
    /// has words for the refusal sends them.
    fn refuse(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let table = &mut cx.reactor.table;
        table.set_protocol(id, Protocol::Unopened, None);
        table.abort(id, CloseCause::AddressLimit);
    }

    /// The handshake that `start_tls` began is done.
    fn secured(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let _ = (cx, id);
    }

    /// Bytes came. Returns how many were consumed. The rest is presented again, in front of the
    /// next bytes. Must consume some when `input` is as large as the read buffer, because no more
    /// would fit behind it and the connection would wait until a deadline passes.
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

    /// The peer will send no more. Earlier bytes have been consumed, or are an unfinished
    /// beginning.
    fn end(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// The queue has come below the low watermark after it was full: `on_drain`.
    fn below_low_mark(&mut self, cx: &mut Cx<'_, S>, id: ConnId);

    /// A deadline that the role has set has passed.
    fn due(&mut self, cx: &mut Cx<'_, S>, id: ConnId, deadline: Deadline);

    /// The connection has failed; [`closed`](Self::closed) follows, also when this panics.
    fn failed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, cause: &CloseCause) {
        let _ = (cx, id, cause);
    }

    /// A request of the connection that waited for a decision was accepted; see
    /// [`Reactor::continue_accepted`].
    fn accepted(&mut self, cx: &mut Cx<'_, S>, id: ConnId) {
        let _ = (cx, id);
    }

    /// The connection is done; the last call for it.
    fn closed(&mut self, cx: &mut Cx<'_, S>, id: ConnId, close: &Close);

    /// Whether the object serves one connection only, and is dropped with it.
    fn is_single(&self) -> bool {
        false
    }
}

/// The next step of a source that is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// It waits for the next report of the poll.
    Wait,
    /// It ends.
    End,
}

/// A source that is no connection, with its callbacks: a watched descriptor, or a UDP socket.
pub(crate) trait Watched<S> {
    /// Its kind and the place in the program where it was made, for the log.
    fn made_at(&self) -> (&'static str, &'static Location<'static>);

    /// The poll has reported it.
    fn ready(&mut self, cx: &mut Cx<'_, S>, id: ConnId, readiness: Readiness) -> NextStep;

    /// Returns the next step after a callback has panicked.
    fn after_panic(&mut self, reactor: &mut Reactor<S>, id: ConnId) -> NextStep;

    /// Takes it out of the poll, before it is dropped or given back.
    fn deregister(&mut self, registry: &Registry);

    /// For the owner, who knows its type.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// The users of connections, as a role knows them.
///
/// A call of the back end is about a user on all reactors of a group. It comes to each of them as a closure of another
/// thread, which can hold nothing of theirs, so those who know users are registered with their reactor.
#[allow(dead_code, reason = "roles need it, and not every build has one")]
pub(crate) trait Users<S> {
    /// The connections of a user, in no order.
    fn connections_of(&self, user: &str) -> Vec<ConnId>;

    /// Closes such a connection. Returns whether it was open.
    fn disconnect(&self, reactor: &mut Reactor<S>, id: ConnId) -> bool;

    /// Ends the subscription of such a connection to a topic or pattern, and tells it. Returns whether there was one.
    fn unsubscribe(&self, reactor: &mut Reactor<S>, id: ConnId, name: &str) -> bool;
}

/// Called with a topic and each publication to it, when the connections of the reactor have got it.
pub(crate) type Observe<S> = Rc<dyn Fn(&mut Reactor<S>, &str, EventId, &Event<'_>)>;

pub(super) type OnOccupancy<S> = Rc<dyn Fn(&mut Reactor<S>, Vec<Occupancy>)>;

pub(super) type OnMemberChanges<S> = Rc<dyn Fn(&mut Reactor<S>, Vec<MemberChange>)>;

type Once<S> = Box<dyn FnOnce(&mut Cx<'_, S>)>;
pub(super) type OnClose<S> = Box<dyn FnOnce(&mut Cx<'_, S>, &Close)>;

/// The last call of a child process.
pub(crate) type OnExit<S> = Box<dyn FnOnce(&mut Cx<'_, S>, ProcessId, ProcessExit)>;

pub(super) type OnDrain<S> = Box<dyn FnOnce(&mut Cx<'_, S>)>;

pub(super) type ParkedCall<S> = Box<dyn FnOnce(&mut Reactor<S>, usize)>;

/// Starts an operation on a file that has waited for its place.
pub(super) type StartFileWork<S> = Box<dyn FnOnce(&mut Reactor<S>)>;

pub(super) type OnAwaited<S> = Box<dyn FnOnce(&mut Cx<'_, S>, &Awaited)>;

/// The method by which a closure came from another thread, for the log.
#[derive(Clone, Copy)]
pub(super) enum ArrivalKind {
    Run,
    Call,
    /// The `done` of an operation of [`Reactor::defer`].
    Deferred,
}

/// A closure of another thread, with the place in its source, for the log.
pub(super) struct Arrival<S> {
    pub(super) queued_at: &'static Location<'static>,
    pub(super) kind: ArrivalKind,
    pub(super) call: Box<dyn FnOnce(&mut Cx<'_, S>) + Send>,
}

/// A closure for the next turn, with the place in the source where it was queued, for the log.
pub(super) struct QueuedTick<S> {
    pub(super) queued_at: &'static Location<'static>,
    pub(super) call: Once<S>,
}

/// A closure for the outcome of a publication, with the place in the source where it was published, for the log.
pub(super) struct QueuedDone<S> {
    pub(super) queued_at: &'static Location<'static>,
    pub(super) call: Box<dyn FnOnce(&mut Cx<'_, S>, Published)>,
}

/// A timer of the application, with the place in the source where it was set, for the log.
pub(super) struct Timer<S> {
    pub(super) set_at: &'static Location<'static>,
    pub(super) call: TimerCall<S>,
}

pub(super) enum TimerCall<S> {
    Once(Once<S>),
    Periodic {
        period_nanos: u64,
        /// Returns whether the timer goes on.
        call: Box<dyn FnMut(&mut Cx<'_, S>) -> bool>,
    },
    /// The callback of a periodic timer is being called, and has been taken out for it.
    Running,
}

/// Listens, connects, sends, publishes and keeps time: the object that every callback gets as
/// `reactor`.
///
/// It belongs to one thread and is not `Send`; other threads use a [`Remote`](crate::Remote). No
/// method blocks, and no method calls one of your callbacks: messages are queued, and the callbacks
/// run later in the turn.
///
/// The methods come in four groups: *listen* ([`http`](Self::http), [`websocket`](Self::websocket),
/// [`stream`](Self::stream)), *connect* ([`connect_websocket`](Self::connect_websocket),
/// [`connect_stream`](Self::connect_stream), [`http_client`](Self::http_client)), *send and publish* ([`send`](Self::send),
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
    /// Closures of other threads that were taken from the mailbox and not run yet.
    pub(super) arrivals: VecDeque<Arrival<S>>,
    pub(super) clock: Clock,
    /// The simulated kernel. `None` on real sockets.
    pub(super) net: Option<Rc<Net>>,
    pub(super) races: HashMap<ConnId, Race>,
    pub(super) lookups: Lookups,
    /// The buffers that all TLS streams share.
    #[cfg(feature = "tls")]
    pub(super) tls_scratch: Rc<Scratch>,
    pub(super) new_handlers: Vec<(u32, Box<dyn Handler<S>>)>,
    pub(super) handler_keys: HandlerKeys,
    /// The peers of accepted connections, kept for log lines while those are written: the kernel forgets the
    /// peer of a socket that was reset.
    pub(super) peers: HashMap<ConnId, Peer>,
    pub(super) on_close: HashMap<ConnId, Vec<OnClose<S>>>,
    pub(super) on_drain: HashMap<ConnId, Vec<OnDrain<S>>>,
    /// Connections whose request was accepted later, for the next turn.
    pub(super) accepted: VecDeque<ConnId>,
    /// Callbacks for the end of a connection that comes before the answer to its request.
    pub(super) on_gone: HashMap<ConnId, Vec<OnClose<S>>>,
    /// Callbacks for what has come for requests that wait for publications.
    pub(super) on_awaited: HashMap<ConnId, OnAwaited<S>>,
    pub(super) is_stopped: bool,
    /// All connections have got their `on_close`, and those whose callbacks belong to none are told.
    pub(super) has_ended: bool,
    pub(super) at_end: slab::Slab<Once<S>>,
    pub(super) shutdown: Option<Shutdown>,
    /// Connections to which a drain says no goodbye.
    pub(super) lasting: Vec<ConnId>,
    /// The name of the callback that is being called, for log lines about slow callbacks and
    /// panics.
    pub(super) callback: &'static str,
    pub(super) panics: Panics,
    /// The errors that the callbacks of the call that is under way have returned, each with the name of
    /// its callback.
    pub(super) errors: Vec<(&'static str, String)>,
    /// Log lines about these, by the name of the callback with that of its route.
    pub(super) error_lines: LogLimits,
    pub(super) budget: Budget,
    /// The moment as of which deadlines are judged.
    pub(super) handled: Handled,
    pub(super) slow_callback_nanos: u64,
    /// Log lines about slow callbacks, by the kind of the callback: a client may be able to cause one with
    /// each message.
    pub(super) slow_lines: HashMap<&'static str, LogLimit>,
    /// Clients by their address, for the limits on one address.
    pub(super) addresses: Addresses,
    /// The peers that proxies have named by the PROXY protocol.
    pub(super) proxied_peers: ConnMap<Peer>,
    /// Log lines about connections without a header of the PROXY protocol.
    pub(super) proxy_header_lines: LogLimit,
    /// About forwarding headers that cannot be believed.
    pub(super) forwarding_lines: LogLimit,
    /// Buffers of large WebSocket messages that have been delivered, for the next ones.
    pub(super) spare: crate::protocol::websocket::Spare,
    pub(super) wire_formats: WireFormats,
    pub(super) pattern_filters: PatternFilters,
    pub(super) observers: Observers<Observe<S>>,
    pub(super) users: Vec<Rc<dyn Users<S>>>,
    pub(super) sequence: Sequence,
    pub(super) present: PresentConnections,
    pub(super) on_member_changes: Option<OnMemberChanges<S>>,
    pub(super) on_occupancy: Option<OnOccupancy<S>>,
    /// A timer is set for the age of what the history keeps.
    pub(super) has_expiry_timer: bool,
    /// Publications whose outcome in the group is not known yet.
    pub(super) outcomes: Outcomes<QueuedDone<S>>,
    pub(super) parked: Parked<ParkedCall<S>>,
    pub(super) pipes: Pipes,
    pub(super) workers: Workers,
    pub(super) file_workers: Workers,
    /// Sources that are no connections, by their index.
    pub(super) watched: HashMap<u32, Box<dyn Watched<S>>>,
    pub(super) datagrams: Datagrams,
    pub(super) files: FileWork<StartFileWork<S>>,
    pub(super) children: Children<(&'static Location<'static>, OnExit<S>)>,
    /// The number of the last publication. Each member keeps the mark of the last one that was
    /// queued to it, and so gets each publication once.
    pub(super) publication_mark: u64,
    /// The state of the generator of a simulation.
    pub(super) random: u64,
    #[cfg(all(unix, feature = "signals"))]
    pub(super) signals: Option<super::signals::Signals>,
}

/// The parts of a reactor in which a simulation differs from real sockets.
pub(super) struct Parts<S> {
    pub(super) table: Table,
    pub(super) mailbox: Mailbox<Arrival<S>>,
    pub(super) clock: Clock,
    pub(super) net: Option<Rc<Net>>,
    /// The run of the sequence that ids of publications belong to.
    pub(super) epoch: u64,
}

impl<S: 'static> Reactor<S> {
    pub(super) fn new(config: Config, parts: Parts<S>) -> Reactor<S> {
        let topics = Topics::new();
        let sequence = Sequence::new(parts.epoch, topics.hasher().clone());
        let datagrams = Datagrams::new(parts.net.as_ref());
        let wire_formats = WireFormats::new();
        #[cfg(feature = "deflate")]
        let wire_formats = wire_formats.with_deflate_bytes_min(config.deflate_bytes_min);
        Reactor {
            table: parts.table,
            topics,
            timers: Timers::new(),
            ticks: VecDeque::new(),
            mailbox: Arc::new(parts.mailbox),
            arrivals: VecDeque::new(),
            clock: parts.clock,
            net: parts.net,
            races: HashMap::new(),
            lookups: Lookups::default(),
            #[cfg(feature = "tls")]
            tls_scratch: Rc::default(),
            new_handlers: Vec::new(),
            handler_keys: HandlerKeys::default(),
            peers: HashMap::new(),
            on_close: HashMap::new(),
            on_drain: HashMap::new(),
            accepted: VecDeque::new(),
            on_gone: HashMap::new(),
            on_awaited: HashMap::new(),
            is_stopped: false,
            has_ended: false,
            at_end: slab::Slab::new(),
            shutdown: None,
            lasting: Vec::new(),
            callback: "",
            panics: Panics::default(),
            errors: Vec::new(),
            error_lines: LogLimits::default(),
            budget: Budget::new(&config),
            handled: Handled::default(),
            slow_callback_nanos: super::time::clock::nanos(config.slow_callback),
            spare: crate::protocol::websocket::Spare::new(),
            slow_lines: HashMap::new(),
            addresses: Addresses::default(),
            proxied_peers: ConnMap::default(),
            proxy_header_lines: LogLimit::default(),
            forwarding_lines: LogLimit::default(),
            wire_formats,
            pattern_filters: PatternFilters::default(),
            observers: Observers::default(),
            users: Vec::new(),
            sequence,
            present: PresentConnections::default(),
            on_member_changes: None,
            on_occupancy: None,
            has_expiry_timer: false,
            outcomes: Outcomes::default(),
            parked: Parked::default(),
            pipes: Pipes::default(),
            workers: Workers::new(Purpose::Application),
            file_workers: Workers::new(Purpose::Files),
            watched: HashMap::new(),
            datagrams,
            files: FileWork::default(),
            children: Children::default(),
            publication_mark: 0,
            random: 1,
            #[cfg(all(unix, feature = "signals"))]
            signals: None,
            config,
        }
    }

    /// Notes the error of a callback that ends no connection. The call that is under way logs it with
    /// its name.
    pub(crate) fn note_outcome(&mut self, outcome: impl Outcome) {
        if let Some(error) = outcome.into_error() {
            self.note_error(&*error);
        }
    }

    #[cold]
    pub(crate) fn note_error(&mut self, error: &dyn CallbackError) {
        self.table.stats_mut().callback_errors += 1;
        self.errors.push((self.callback, error.to_string()));
    }

    /// Returns the counters since the start of the reactor.
    pub fn stats(&self) -> &Stats {
        self.table.stats()
    }

    /// Whether this reactor runs in a [`Sim`](crate::Sim).
    pub fn is_simulated(&self) -> bool {
        self.net.is_some()
    }

    /// Returns what this reactor holds now. Takes the same time however many connections there are.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.table.connection_counts(),
            queued_bytes: self.table.queued_memory(),
            topics: self.topics.topic_count(),
            subscriptions: self.topics.subscription_count(),
        }
    }

    /// Returns the limits and deadlines of this reactor.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// # Send and publish
impl<S: 'static> Reactor<S> {
    /// Queues a message for a connection: a WebSocket message, the data of an event, a chunk of a
    /// streamed body, or plain bytes, as the connection's protocol demands.
    ///
    /// The queue is bounded: above its high watermark the route's [`Overflow`](crate::Overflow)
    /// policy decides. The bytes leave at the end of the event or of the turn, so many small
    /// messages cost one system call. A protocol that cannot carry the message refuses it as
    /// [`Sent::Gone`]: binary data on an event stream, a body when no answer is being streamed.
    #[inline]
    pub fn send<M: ToMessage>(&mut self, id: ConnId, message: M) -> Sent {
        // `is_owned` is known at compile time, so a borrowed message pays nothing for the question.
        if M::is_owned() && LARGE_MESSAGE_BYTES <= message.to_message().as_bytes().len() {
            return self.send_large(id, message);
        }
        self.table.send(id, message.to_message(), DropRule::Allowed)
    }

    /// Queues a large message that is owned. On a raw connection, and in a body of known length, its bytes are not
    /// copied.
    #[inline(never)]
    fn send_large(&mut self, id: ConnId, message: impl ToMessage) -> Sent {
        let message_bytes = message.to_message().as_bytes().len();
        let protocol = self.protocol(id);
        let goes_unframed = protocol.is_some_and(|it| it.sends_unframed(message_bytes));
        let owned = match goes_unframed {
            true => message.into_bytes(),
            false => Err(message),
        };
        match owned {
            Ok(bytes) => self.table.send_owned(id, bytes),
            Err(message) => self.table.send(id, message.to_message(), DropRule::Allowed),
        }
    }

    /// As [`send`](Self::send), with a key for the policy
    /// [`Overflow::LatestPerKey`](crate::Overflow::LatestPerKey): in a full queue the message takes
    /// the place of an older one of the same key. Other policies ignore the key.
    pub fn send_keyed(&mut self, id: ConnId, key: u64, message: impl ToMessage) -> Sent {
        self.table
            .send(id, message.to_message(), DropRule::ByKey(key))
    }

    /// Closes a connection with its protocol's goodbye, after everything that is queued. Returns
    /// [`Sent::Gone`] when it is closing or gone already.
    pub fn close(&mut self, id: ConnId) -> Sent {
        self.close_with(id, 1000, "")
    }

    /// Closes a WebSocket with a code and a reason of at most 123 bytes, after everything that is
    /// queued. A longer reason is cut at a character. Other protocols ignore both.
    ///
    /// Codes that an application may use are 1000 to 1003, 1007 to 1014 and 3000 to 4999; any other
    /// is sent as 1000. Source: RFC 6455, section 7.4.
    pub fn close_with(&mut self, id: ConnId, code: u16, reason: &str) -> Sent {
        self.table.close(id, CloseCause::Local, code, reason)
    }

    /// Ends our side of a raw stream behind what is queued (half close). The peer gets an end of stream, and
    /// its bytes still come: `on_data`, and then `on_end`. From here on `send` returns [`Sent::Gone`].
    ///
    /// `Gone` for a stream that is not open, and for other protocols, which end with a goodbye of their own.
    pub fn finish_sending(&mut self, id: ConnId) -> Sent {
        match self.table.finish_sending(id) {
            true => Sent::Queued,
            false => Sent::Gone,
        }
    }

    /// Ends a connection at once, without a goodbye and without flushing. The peer sees a reset (on
    /// a Unix socket an end of stream). `on_close` is called at the end of the turn.
    pub fn reset(&mut self, id: ConnId) {
        self.table.abort(id, CloseCause::Local);
        self.reset_piped(id);
    }

    /// Stops reading from a connection: back-pressure. Its bytes stay in the kernel's buffer, and
    /// when that is full the peer cannot send.
    ///
    /// A program that passes bytes on pauses their source while the sink is behind, and resumes it in the sink's
    /// `on_drain`; [`pipe`](Self::pipe) does it for raw streams.
    /// Replies to a connection itself do not need this: with the policy
    /// [`Overflow::Close`](crate::Overflow::Close) a connection is not read while its queue is
    /// above the high watermark.
    pub fn pause(&mut self, id: ConnId) {
        if let Some(exchange) = self.exchange(id) {
            exchange.note_pause();
        }
        self.table.pause(id, Pause::Application);
    }

    /// Reads from a connection again after [`pause`](Self::pause). Does nothing if it was not
    /// paused.
    pub fn resume(&mut self, id: ConnId) {
        self.table.resume(id, Pause::Application);
    }

    /// Limits frames and messages that a WebSocket receives below the limits of its route, in bytes; `None`
    /// lifts this limit. For clients that are not known yet, who need little. Messages of up to 125 bytes are
    /// always accepted; a longer one than the limit closes the connection with 1009. Other protocols, and a
    /// stale id, are left as they are.
    pub fn set_message_bytes_max(&mut self, id: ConnId, bytes: Option<u32>) {
        if let Some(parser) = self.websocket_parser(id) {
            parser.machine.set_message_bytes_max(bytes);
        }
    }

    /// Whether a connection still takes messages.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.table.is_open(id)
    }

    /// Bytes that wait for a connection's socket. Each message counts
    /// [`QUEUED_MESSAGE_BYTES`](crate::QUEUED_MESSAGE_BYTES) more than it has. Zero for a stale id.
    pub fn queued_bytes(&self, id: ConnId) -> usize {
        self.table.queued_bytes(id)
    }

    /// Whether a connection is open and its queue is not above its low watermark: a producer sends while there
    /// is room, and then waits for [`on_drain`](Self::on_drain).
    pub fn has_room(&self, id: ConnId) -> bool {
        let options = self.table.options_of(id);
        self.table.is_open(id)
            && options.is_some_and(|options| self.queued_bytes(id) <= options.queue_low_bytes)
    }

    /// How many connections there are: of every protocol, also those that connect or linger.
    pub fn connection_count(&self) -> usize {
        self.table.sources().connection_count()
    }

    /// The bytes that connections make the reactor hold, as
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max) counts them; with those of the other reactors
    /// that share the limit, as of the end of the last turn.
    pub fn memory_bytes(&self) -> usize {
        match self.config.memory_bytes_max {
            Some(_) => self.table.memory_bytes(),
            None => self.table.memory_bytes() + self.subscription_bytes(),
        }
    }

    /// Shares the limit of memory with the other reactors that add to this sum: each with the same
    /// [`memory_bytes_max`](crate::Config::memory_bytes_max), which holds for all of them together. The
    /// reactors of a `ReactorGroup` do this by themselves.
    pub fn share_memory(&mut self, sum: Arc<AtomicUsize>) {
        self.table.share_memory(sum);
    }

    /// Ends the connections that hold most memory, until a quarter of the limit is free.
    #[inline(never)]
    pub(super) fn release_memory(&mut self) {
        // Buffers that wait for the next large message are of less use now.
        self.spare = crate::protocol::websocket::Spare::new();
        let Reactor {
            table,
            topics,
            present,
            ..
        } = self;
        table.release_memory(subscription_bytes(topics, present));
    }

    /// The memory of all subscriptions, and of the users of connections, in bytes.
    fn subscription_bytes(&self) -> usize {
        self.topics.counted_bytes() + self.present.counted_bytes()
    }

    /// Ends a turn: reads the sum of all reactors, and ends the connections that hold most if the limit is
    /// passed.
    #[inline]
    pub(super) fn end_memory_turn(&mut self) {
        if self.config.memory_bytes_max.is_some() {
            self.share_turn_memory();
        }
    }

    #[inline(never)]
    fn share_turn_memory(&mut self) {
        self.table.set_subscription_bytes(self.subscription_bytes());
        // Connections whose `on_close` waits for the next turn hold theirs until then.
        let of_each = subscription_bytes(&self.topics, &self.present);
        let releasing_bytes = self.table.ended_bytes(of_each);
        self.table.end_memory_turn(releasing_bytes);
        if self.table.is_over_memory() {
            self.release_memory();
        }
    }

    /// Calls `call` once when a connection has ended, after the route's own `on_close`.
    ///
    /// It is never called when the connection has ended already, or for a stale id. A connection that
    /// sends its last answer has not ended. For a request that is answered later see
    /// [`on_gone`](Self::on_gone), which the answer drops: a kept-alive connection would collect a callback
    /// of `on_close` with each request.
    pub fn on_close<R: Outcome>(
        &mut self,
        id: ConnId,
        call: impl FnOnce(&mut Cx<'_, S>, &Close) -> R + 'static,
    ) {
        let owes_on_close = self
            .table
            .connection(id)
            .is_some_and(Connection::owes_on_close);
        if owes_on_close {
            self.on_close
                .entry(id)
                .or_default()
                .push(Box::new(move |cx, close| {
                    let outcome = call(cx, close);
                    cx.reactor.note_outcome(outcome);
                }));
        }
    }
}

impl<S> Reactor<S> {
    /// Closes the mailbox, which makes `Remote::run` return an error from here on, and drops the
    /// closures that will not run any more. One by one, because dropping the values that they
    /// captured may panic.
    pub(super) fn drop_queued(&mut self) {
        let arrivals = "a closure of another thread that was not run";
        drop_all_guarded(&arrivals, self.mailbox.close());
        drop_all_guarded(&arrivals, self.arrivals.drain(..));
        drop_all_guarded(&"a tick that was not run", self.ticks.drain(..));
        drop_all_guarded(&"a done that was not called", self.outcomes.take_all());
        for workers in [&mut self.workers, &mut self.file_workers] {
            drop_all_guarded(&"an operation that has not begun", workers.close());
            drop_all_guarded(&"a done that was not called", workers.take_dones());
        }
        drop_all_guarded(&"a file that waited to be read", self.files.take_all());
        drop_all_guarded(&"a watch", self.watched.drain().map(|(_, watched)| watched));
        self.sequence.end(self.topics.hasher().clone());
        self.present.clear();
    }
}

impl<S: 'static> Reactor<S> {
    /// Calls `call` once when the queue of a connection has come to its low watermark, after the route's own
    /// `on_drain`; in the next turn if it is not above that mark.
    ///
    /// So an answer that is sent piece by piece goes on as fast as its client reads. It is never called when
    /// the connection has ended, or the body is finished, before. A callback that registers itself again
    /// without having filled the queue is called in each turn. A panic or an error of `call` ends the connection.
    ///
    /// ```
    /// # use waterwheel::{ConnId, Reactor, Sim};
    /// fn send_more(reactor: &mut Reactor<()>, id: ConnId, mut pieces: u32) {
    ///     while 0 < pieces && reactor.has_room(id) {
    ///         reactor.send(id, vec![b'x'; 16 * 1024]);
    ///         pieces -= 1;
    ///     }
    ///     if pieces == 0 {
    ///         reactor.finish_body(id);
    ///     } else {
    ///         reactor.on_drain(id, move |cx| send_more(cx.reactor, id, pieces));
    ///     }
    /// }
    ///
    /// let mut sim = Sim::new((), |reactor| {
    ///     reactor.http("0.0.0.0:80", |http| {
    ///         http.get("/download", |request| {
    ///             let id = request.stream("application/octet-stream");
    ///             send_more(request.reactor, id, 100);
    ///         });
    ///     })
    /// });
    /// # let client = sim.connect();
    /// # client.write("GET /download HTTP/1.1\r\nHost: h\r\n\r\n");
    /// # let mut count = 0;
    /// # loop {
    /// #     sim.settle();
    /// #     let bytes = client.read();
    /// #     if bytes.is_empty() { break }
    /// #     count += bytes.len();
    /// # }
    /// # assert!(1_600_000 < count);
    /// ```
    #[track_caller]
    pub fn on_drain<R: Outcome>(
        &mut self,
        id: ConnId,
        call: impl FnOnce(&mut Cx<'_, S>) -> R + 'static,
    ) {
        if !self.table.is_open(id) {
            return;
        }
        let calls = self.on_drain.entry(id).or_default();
        calls.push(Box::new(move |cx| match guarded(|| call(cx)) {
            Ok(outcome) => cx.reactor.end_if_error(id, outcome),
            Err(panicked) => cx.reactor.end_after_panic(id, "on_drain", panicked),
        }));
        if !self.table.watch_low_mark(id) {
            self.next_tick(move |cx| {
                // The callback that registered may have sent more since.
                if cx.reactor.table.watch_low_mark(id) {
                    return;
                }
                let calls = cx.reactor.on_drain.remove(&id).unwrap_or_default();
                calls.into_iter().for_each(|call| call(cx));
            });
        }
    }

    /// Drops the callbacks of [`on_drain`](Self::on_drain): the body is finished.
    pub(crate) fn drop_on_drain(&mut self, id: ConnId) {
        self.on_drain.remove(&id);
    }
}

/// The memory of the subscriptions of a connection, in bytes: its share in that of all subscriptions, and what it
/// holds as a user that is present.
fn subscription_bytes(
    topics: &Topics,
    present: &PresentConnections,
) -> impl Fn(ConnId, Subscriptions) -> usize {
    let count = topics.subscription_count().max(1);
    let each_bytes = topics.counted_bytes() / count;
    move |id, subscriptions| {
        let topic_bytes = match subscriptions.is_empty() {
            true => 0,
            false => topics.subscription_count_of(id.to_bits(), subscriptions) * each_bytes,
        };
        topic_bytes + present.bytes_of(id)
    }
}

impl<S> Drop for Reactor<S> {
    fn drop(&mut self) {
        self.drop_queued();
        drop_all_guarded(&"a handler", self.new_handlers.drain(..));
        for (_, calls) in self.on_close.drain().chain(self.on_gone.drain()) {
            drop_all_guarded(&"an on_close or on_gone that was not called", calls);
        }
        let awaited = self.on_awaited.drain().map(|(_, call)| call);
        drop_all_guarded(&"an answer that was not given", awaited);
        for (_, calls) in self.on_drain.drain() {
            drop_all_guarded(&"an on_drain that was not called", calls);
        }
        let exits = self.children.take_all();
        drop_all_guarded(&"an on_exit that was not called", exits);
        drop_all_guarded(&"a timer", self.timers.drain());
        let wire_formats = std::mem::take(&mut self.wire_formats);
        drop_all_guarded(&"a wire format", [wire_formats]);
    }
}
